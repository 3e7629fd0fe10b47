//! What is on the air: the item, or the slate while there is none, and the rules by which one follows the other.

use crate::media::Tag;
use crate::programme::Programme;
use crate::source::buffer::{End, MAX_IDR_DISTANCE_MS};
use crate::source::feed::Feed;
use crate::source::open::Opened;
use crate::source::probe::MediaInfo;
use crate::source::recipe::Recipe;
use crate::source::slate::Slate;
use crate::splice::{self, Advance, Group};
use state::profile::Profile;
use state::wire::{Cursor, ItemSeen, ItemSpec, Making, Playing};
use std::sync::Arc;

/// A stalled item is left for the next one after this long without a picture, ms.
const PATIENCE_MS: i64 = 2_000;
/// A stalled item comes back when this much of it is in hand, ms.
const ENOUGH_MS: i64 = 1_000;
/// Most changes of feed in one moment.
const MOST_SWITCHES: u32 = 32;
/// An item that ends this much before its probed length ended early, ms.
const EARLY_MS: u64 = 1_000;

/// An item on the air.
#[derive(Debug)]
struct OnItem {
    item: ItemSpec,
    feed: Arc<Feed>,
    info: MediaInfo,
    recipe: Recipe,
    from_ms: u64,
    source: &'static str,
    /// Where it stood when the slate took its place, ms of the item.
    left_at: Option<u64>,
}

#[derive(Debug)]
enum On {
    Nothing,
    Item(OnItem),
    /// The slate, since this time of the channel; perhaps with an item that stalled and may come back.
    Slate {
        paused: Option<OnItem>,
        since_ms: i64,
        why: String,
    },
}

/// What came of a moment.
#[derive(Debug, PartialEq, Eq)]
pub enum Moment {
    /// The next tag is due at this ms of channel time.
    Due(i64),
    /// Everything has been played.
    Finished,
    /// The item has been played to its end, and the next one is somebody else's.
    GaveWay,
}

/// What happened, for events and logs.
#[derive(Debug, PartialEq, Eq)]
pub enum Happened {
    /// An item went on the air at this ms of channel time.
    Started(String, i64),
    /// An item was left at this position of its own, ms; the words say why it was not played to its end.
    Ended(String, u64, Option<String>),
    /// The slate went on the air.
    Fallback(String),
}

/// The group and what it plays.
#[derive(Debug)]
pub struct Air {
    group: Group,
    on: On,
    slate: Option<Arc<Slate>>,
    skip: bool,
    /// Another worker waits for the next boundary.
    gives_way: bool,
    /// Silence was sent because the item had nothing and there was no slate.
    starved: bool,
    happened: Vec<Happened>,
}

impl Air {
    /// Nothing on the air yet, in this profile.
    pub fn new(profile: &Profile) -> Self {
        let group = Group::new(profile);
        Self {
            group,
            on: On::Nothing,
            slate: None,
            skip: false,
            gives_way: false,
            starved: false,
            happened: Vec::new(),
        }
    }

    /// The slate is there from now on.
    pub fn take_slate(&mut self, slate: Slate) {
        self.slate = Some(Arc::new(slate));
    }

    /// Whether there is something to send, so that time may begin.
    pub fn can_begin(&self, programme: &Programme) -> bool {
        programme.has_ready() || (self.slate.is_some() && programme.trouble().is_some())
    }

    /// Leave the item on the air for the next one as soon as that is ready.
    pub fn skip(&mut self) {
        self.skip = matches!(self.on, On::Item(_));
    }

    /// Ends with the item on the air: the next one is somebody else's.
    pub fn give_way(&mut self) {
        self.gives_way = true;
    }

    /// Whether somebody else may go on here: nothing waits to be continued, and something follows.
    fn is_free(&self, programme: &Programme) -> bool {
        let between = matches!(self.on, On::Nothing | On::Slate { paused: None, .. });
        self.gives_way && between && programme.next_cursor().is_some()
    }

    /// Whether the next item should be opened: nothing more will be read of the one on the air.
    pub fn needs_next(&self) -> bool {
        match &self.on {
            On::Item(on) => self.skip || on.feed.buffer().end.is_some(),
            On::Nothing | On::Slate { .. } => true,
        }
    }

    /// Sends what is due up to `until`, ms of channel time.
    pub fn moment(&mut self, until: i64, programme: &mut Programme, out: &mut Vec<Tag>) -> Moment {
        self.come_back(until, programme);
        if matches!(self.on, On::Slate { paused: None, .. }) && programme.is_finished() {
            return Moment::Finished;
        }
        if self.is_free(programme) {
            return Moment::GaveWay;
        }
        let moment = self.send(until, programme, out);
        if let Some(feed) = self.group.on_air() {
            feed.taken();
        }
        if let On::Slate { paused: Some(item), .. } = &self.on {
            item.feed.taken();
        }
        moment
    }

    fn send(&mut self, until: i64, programme: &mut Programme, out: &mut Vec<Tag>) -> Moment {
        for _ in 0..MOST_SWITCHES {
            match self.group.advance(until, out) {
                Advance::Reached(at) => return Moment::Due(at),
                Advance::Ended(due) if self.gives_way && programme.next_cursor().is_some() => {
                    if due > until {
                        return Moment::Due(due);
                    }
                    // The sound that belongs to the last picture.
                    self.group.advance(self.group.end_ms(), out);
                    self.end_item(programme);
                    return Moment::GaveWay;
                }
                Advance::Ended(due) => {
                    if self.put_next_on(programme) {
                        continue;
                    }
                    if programme.is_finished() && due <= until {
                        self.end_item(programme);
                        return Moment::Finished;
                    }
                    if due > until {
                        return Moment::Due(due);
                    }
                    self.end_item(programme);
                    let why = programme.trouble().unwrap_or_else(|| "the next item is not ready".to_owned());
                    if !self.fall_back(None, until, why) {
                        self.group.fill(until, out);
                        return Moment::Due(until);
                    }
                }
                Advance::Dry(due) if due > until => return Moment::Due(due),
                Advance::Dry(_) => {
                    if !self.pause_item(until) {
                        self.group.fill(until, out);
                        self.starved = true;
                        return Moment::Due(until);
                    }
                }
            }
        }
        // Feeds that have nothing to give take turns: the clock goes on without them.
        self.group.fill(until, out);
        Moment::Due(until)
    }

    /// From the slate to an item, or from an item that is to be skipped to the next one.
    fn come_back(&mut self, until: i64, programme: &mut Programme) {
        if self.starved {
            self.starved = !self.group.resume();
        }
        match &mut self.on {
            On::Slate { paused, since_ms, .. } => {
                // While nothing else is there, the item may come back as late as it likes.
                let patience_is_over = until - *since_ms > PATIENCE_MS && programme.has_ready();
                if self.group.may_leave()
                    && let Some(item) = paused.take_if(|item| is_back(item))
                {
                    self.group.switch(&item.feed);
                    self.on = On::Item(OnItem { left_at: None, ..item });
                } else if let Some(item) =
                    paused.take_if(|i| patience_is_over || i.feed.buffer().end.is_some())
                {
                    let why = stalled(&item);
                    self.leave(item, Some(why), programme);
                } else if paused.is_none() && programme.has_ready() && self.group.may_leave() {
                    self.put_next_on(programme);
                }
            }
            On::Item(_) if self.skip && programme.has_ready() && self.group.may_leave() => {
                self.put_next_on(programme);
            }
            On::Item(_) | On::Nothing => {}
        }
    }

    fn put_next_on(&mut self, programme: &mut Programme) -> bool {
        let Some(Opened { item, feed, info, recipe, from_ms, source }) = programme.take() else {
            return false;
        };
        self.end_item(programme);
        let feed = Arc::new(feed);
        let at = self.group.switch(&feed);
        self.happened.push(Happened::Started(item.key.clone(), at));
        self.on = On::Item(OnItem { item, feed, info, recipe, from_ms, source, left_at: None });
        (self.skip, self.starved) = (false, false);
        true
    }

    fn fall_back(&mut self, paused: Option<OnItem>, until: i64, why: String) -> bool {
        let Some(slate) = &self.slate else { return false };
        self.starved = false;
        let feed = Arc::new(Feed::of_slate(Arc::clone(slate)));
        self.group.switch(&feed);
        self.happened.push(Happened::Fallback(why.clone()));
        self.on = On::Slate { paused, since_ms: until, why };
        true
    }

    fn pause_item(&mut self, until: i64) -> bool {
        // The slate is never dry; if it were, there would be nothing to put in its place.
        if self.slate.is_none() || matches!(self.on, On::Slate { .. }) {
            return false;
        }
        let paused = match std::mem::replace(&mut self.on, On::Nothing) {
            On::Item(mut item) => {
                item.left_at = Some(self.position_of(&item));
                Some(item)
            }
            On::Nothing | On::Slate { .. } => None,
        };
        self.fall_back(paused, until, "the item has stalled".to_owned())
    }

    fn end_item(&mut self, programme: &mut Programme) {
        if let On::Item(item) = std::mem::replace(&mut self.on, On::Nothing) {
            let why = if self.skip { None } else { ended_early(&item, self.position_of(&item)) };
            self.leave(item, why, programme);
        }
    }

    fn leave(&mut self, item: OnItem, why: Option<String>, programme: &mut Programme) {
        let widest = item.feed.buffer().idr().widest_ms;
        if item.recipe.video == Making::Copy && widest > MAX_IDR_DISTANCE_MS {
            let why = format!("IDR pictures are {:.1} s apart", widest as f64 / 1000.0);
            programme.conform_from_now_on(item.item.key.clone(), why);
        }
        let position = self.position_of(&item);
        self.happened.push(Happened::Ended(item.item.key, position, why));
    }

    fn position_of(&self, item: &OnItem) -> u64 {
        let now = || item.from_ms + u64::try_from(self.group.position_ms()).unwrap_or(0);
        item.left_at.unwrap_or_else(now)
    }

    /// What happened since the last call.
    pub fn happened(&mut self) -> Vec<Happened> {
        std::mem::take(&mut self.happened)
    }

    /// What is being sent, and why if it is not the programme.
    pub fn playing(&self) -> (Playing, Option<String>) {
        match &self.on {
            On::Nothing => (Playing::Nothing, None),
            On::Item(_) => (Playing::Programme, None),
            On::Slate { why, .. } => (Playing::Fallback, Some(why.clone())),
        }
    }

    /// The item on the air.
    pub fn item_seen(&self) -> Option<ItemSeen> {
        let On::Item(on) = &self.on else { return None };
        Some(ItemSeen {
            id: on.item.id.clone(),
            key: on.item.key.clone(),
            position_ms: self.position_of(on),
            duration_ms: on.info.duration_ms,
            video: on.recipe.video,
            audio: on.recipe.audio,
            reason: on.recipe.reason.clone(),
            source: on.source.to_owned(),
        })
    }

    /// Where a new run should go on.
    pub fn cursor(&self) -> Option<Cursor> {
        let (On::Item(on) | On::Slate { paused: Some(on), .. }) = &self.on else { return None };
        Some(Cursor { item: on.item.id.clone(), key: on.item.key.clone(), offset_ms: self.position_of(on) })
    }

    /// The timeline.
    pub fn group(&mut self) -> &mut Group {
        &mut self.group
    }
}

/// Whether a stalled item has enough in hand again; its buffer then begins with an IDR picture.
fn is_back(item: &OnItem) -> bool {
    let mut buffer = item.feed.buffer();
    let after_idr =
        buffer.video.iter().find(|t| t.idr).zip(buffer.video.back()).map(|(idr, last)| last.dts - idr.dts);
    let enough = after_idr.is_some_and(|ms| ms >= ENOUGH_MS || buffer.end.is_some());
    enough && buffer.enter_at_idr(i64::MIN)
}

fn stalled(item: &OnItem) -> String {
    let buffer = item.feed.buffer();
    let ended = match &buffer.end {
        Some(End::Broken(why)) => Some(why),
        _ => buffer.trouble.as_ref(),
    };
    let why = ended.map(|why| format!(": {why}")).unwrap_or_default();
    format!("stalled, no picture came in time{why}")
}

fn ended_early(item: &OnItem, position_ms: u64) -> Option<String> {
    let expected = item.info.video.as_ref().and_then(|v| v.duration_ms);
    let short = expected.is_some_and(|length| position_ms + EARLY_MS < length);
    let played = || format!("{:.1} of {:.1} s", position_ms as f64 / 1e3, expected.unwrap_or(0) as f64 / 1e3);
    match splice::broken(&item.feed) {
        Some(why) if short => Some(format!("ended early after {}: {why}", played())),
        Some(why) => Some(format!("ended with an error: {why}")),
        None => short.then(|| format!("ended early after {}", played())),
    }
}
