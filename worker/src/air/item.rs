//! An item on the air: where it stands, what it has in hand, and how it ended.

use crate::circuit::Failure;
use crate::fallback::TAIL_MS;
use crate::source::buffer::{End, HIGH_MS, MAX_IDR_DISTANCE_MS};
use crate::source::feed::Feed;
use crate::source::open::Opened;
use crate::source::probe::MediaInfo;
use crate::source::recipe::Recipe;
use crate::splice;
use crate::stall::InHand;
use state::wire::{Cursor, ItemSeen, ItemSpec, Making};
use std::sync::Arc;

/// An item that ends this much before its probed length ended early, ms.
const EARLY_MS: u64 = 1_000;

/// An item on the air, or one that has made way for the fallback.
#[derive(Debug)]
pub(super) struct OnItem {
    pub(super) item: ItemSpec,
    pub(super) feed: Arc<Feed>,
    info: MediaInfo,
    recipe: Recipe,
    pub(super) from_ms: u64,
    source: &'static str,
}

/// Why an item is left before its end.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Reason {
    pub(super) words: String,
    pub(super) failure: Failure,
}

impl OnItem {
    pub(super) fn new(opened: Opened) -> Self {
        let Opened { item, feed, info, recipe, from_ms, source, .. } = opened;
        Self { item, feed: Arc::new(feed), info, recipe, from_ms, source }
    }

    /// Whether everything was read, or nothing more will come.
    pub(super) fn has_ended(&self) -> bool {
        self.feed.buffer().end.is_some()
    }

    /// Whether what follows should be opened: everything was read, or little is left.
    pub(super) fn is_near_its_end(&self) -> bool {
        self.feed.buffer().left_ms().is_some_and(|left| left <= HIGH_MS) || self.has_ended()
    }

    /// Whether everything was read, to its end.
    pub(super) fn is_complete(&self) -> bool {
        self.feed.buffer().end == Some(End::Complete)
    }

    /// What it needs besides: its picture must not be copied again, and why.
    pub(super) fn against_copying(&self) -> Option<String> {
        let widest = self.feed.buffer().idr().widest_ms;
        let too_wide = self.recipe.video == Making::Copy && widest > MAX_IDR_DISTANCE_MS;
        too_wide.then(|| format!("IDR pictures are {:.1} s apart", widest as f64 / 1000.0))
    }

    /// While it is paused: what lies before the next IDR picture is left out where that is not in hand, because it goes
    /// on there. The last sounds are still sent at first.
    pub(super) fn keep_ready(&self, paused_for_ms: i64) {
        let mut buffer = self.feed.buffer();
        let stuck = buffer.end.is_none() && buffer.is_full() && buffer.after_idr_ms().is_none();
        if paused_for_ms >= TAIL_MS && stuck {
            buffer.wait_for_idr();
        }
        drop(buffer);
        self.feed.taken();
    }

    pub(super) fn seen(&self, position_ms: u64) -> ItemSeen {
        ItemSeen {
            id: self.item.id.clone(),
            key: self.item.key.clone(),
            position_ms,
            duration_ms: self.info.duration_ms,
            video: self.recipe.video,
            audio: self.recipe.audio,
            reason: self.recipe.reason.clone(),
            source: self.source.to_owned(),
        }
    }

    pub(super) fn cursor(&self, position_ms: u64) -> Cursor {
        Cursor { item: self.item.id.clone(), key: self.item.key.clone(), offset_ms: position_ms }
    }

    /// It gave nothing for too long.
    pub(super) fn stalled(&self) -> Reason {
        let buffer = self.feed.buffer();
        let ended = match &buffer.end {
            Some(End::Broken(why)) => Some(why),
            _ => buffer.trouble.as_ref(),
        };
        let why = ended.map(|why| format!(": {why}")).unwrap_or_default();
        let failure = if buffer.away { Failure::Away } else { Failure::Item };
        Reason { words: format!("stalled, no picture came in time{why}"), failure }
    }

    /// It ended at this position; the reason if that was too early or an error.
    pub(super) fn ended_early(&self, position_ms: u64) -> Option<Reason> {
        let expected = self.info.video.as_ref().filter(|_| self.info.indexed).and_then(|v| v.duration_ms);
        let short = expected.is_some_and(|length| position_ms + EARLY_MS < length);
        let played =
            || format!("{:.1} of {:.1} s", position_ms as f64 / 1e3, expected.unwrap_or(0) as f64 / 1e3);
        let words = match splice::broken(&self.feed) {
            Some(why) if short => format!("ended early after {}: {why}", played()),
            Some(why) => format!("ended with an error: {why}"),
            None if short => format!("ended early after {}", played()),
            None => return None,
        };
        let failure = if self.feed.buffer().away { Failure::Away } else { Failure::Item };
        Some(Reason { words, failure })
    }
}

/// What a feed has in hand; `None` while there is no place where it could be entered.
pub(super) fn in_hand(feed: &Feed) -> Option<InHand> {
    let buffer = feed.buffer();
    let all = buffer.end.is_some() || buffer.is_full();
    buffer.after_idr_ms().map(|ms| InHand { ms, all })
}
