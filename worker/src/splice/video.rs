//! The picture lane: decoding times that only grow, and the places where a stream may be left.

use super::{HOUSE_DELAY_MS, LATEST_PICTURE_MS, Placed};
use crate::media::{Tag, Track};
use crate::source::buffer::{Buffer, SourceTag};
use crate::source::feed::Feed;
use crate::source::flv::NextIdr;
use std::sync::Arc;

/// Pictures that are looked at before one is sent, to know whether the stream may be left after it. Deeper
/// reordering than this is not used by any encoder in the field.
const LOOK_AHEAD: usize = 8;

/// What the lane has to offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// A picture, due at this decoding time.
    At(i64),
    /// The feed has no more pictures.
    Ended,
    /// The feed has none in hand.
    Dry,
    /// The feed has a hole in its pictures; its sound goes on.
    Still,
}

#[derive(Debug)]
pub(super) struct VideoLane {
    on: Option<OnAir>,
    last_dts: i64,
    /// Latest presentation time that was sent.
    max_pts: i64,
    /// End of the picture shown last.
    end: i64,
    frame_ms: f64,
}

#[derive(Debug)]
struct OnAir {
    placed: Placed,
    /// Added to decoding times, so that the feed's delay becomes the house's.
    shift: i64,
}

impl OnAir {
    /// Decoding time of a picture on the timeline, before it is held against the pictures around it.
    fn natural_dts(&self, tag: &SourceTag) -> i64 {
        tag.dts + self.placed.offset + self.shift
    }
}

impl VideoLane {
    pub(super) fn new(frame_ms: f64) -> Self {
        Self { on: None, last_dts: -1, max_pts: HOUSE_DELAY_MS - 1, end: HOUSE_DELAY_MS, frame_ms }
    }

    /// Returns whether there was a feed before.
    pub(super) fn switch(&mut self, placed: Placed, shift: i64, frame_ms: Option<f64>) -> bool {
        self.frame_ms = frame_ms.unwrap_or(self.frame_ms);
        self.on.replace(OnAir { placed, shift }).is_some()
    }

    pub(super) fn feed(&self) -> Option<&Arc<Feed>> {
        self.on.as_ref().map(|on| &on.placed.feed)
    }

    pub(super) fn end(&self) -> i64 {
        self.end
    }

    /// When the next picture is due if it comes at the feed's rate.
    pub(super) fn expected(&self) -> i64 {
        self.last_dts + self.frame_ms.round() as i64
    }

    pub(super) fn position_ms(&self) -> i64 {
        self.on.as_ref().map_or(0, |on| (self.end - on.placed.offset).max(0))
    }

    /// Which ms of the feed on the air is shown at `at`.
    pub(super) fn feed_ms(&self, at: i64) -> i64 {
        self.on.as_ref().map_or(0, |on| at - on.placed.offset)
    }

    pub(super) fn next(&self) -> Next {
        let Some(on) = &self.on else { return Next::Ended };
        let buffer = on.placed.feed.buffer();
        let hole = buffer.sound_ahead_ms() >= buffer.skew_ms();
        let Some(first) = buffer.video.front() else {
            return match hole {
                _ if buffer.has_all_pictures() || buffer.sound_ahead_ms() >= LATEST_PICTURE_MS => Next::Ended,
                true => Next::Still,
                false => Next::Dry,
            };
        };
        // The last pictures in hand are kept back only at a place where the stream may be left.
        let few = buffer.video.len() <= LOOK_AHEAD && !buffer.has_all_pictures() && !hole;
        if few && self.clean(on, &buffer) {
            return Next::Dry;
        }
        Next::At(self.dts_of(on, first, &buffer))
    }

    /// Moves the feed on the air to `at` if it has a picture to send; its delay stays what it is.
    pub(super) fn resume(&mut self, at: i64) -> Option<Placed> {
        if !matches!(self.next(), Next::At(_)) {
            return None;
        }
        let on = self.on.as_mut()?;
        let coming = on.placed.feed.buffer().video.iter().take(LOOK_AHEAD).map(SourceTag::pts).min()?;
        on.placed.offset = at - coming;
        Some(on.placed.clone())
    }

    pub(super) fn may_leave(&self) -> bool {
        self.on.as_ref().is_none_or(|on| self.clean(on, &on.placed.feed.buffer()))
    }

    fn clean(&self, on: &OnAir, buffer: &Buffer) -> bool {
        let coming = buffer.video.iter().take(LOOK_AHEAD).map(|t| t.pts() + on.placed.offset).min();
        coming.is_none_or(|pts| self.max_pts < pts)
    }

    /// Decoding time of the first picture in hand: so early that it and those after it, half a frame apart at least,
    /// are decoded before they are shown, and always after the picture before. Only feeds that reorder over more
    /// than the house delay need the former.
    fn dts_of(&self, on: &OnAir, first: &SourceTag, buffer: &Buffer) -> i64 {
        let apart = self.frame_ms / 2.0;
        let latest = |(n, tag): (usize, &SourceTag)| tag.pts() + on.placed.offset - (n as f64 * apart) as i64;
        let latest = buffer.video.iter().take(LOOK_AHEAD).enumerate().map(latest).min();
        on.natural_dts(first).min(latest.unwrap_or(i64::MAX)).max(self.last_dts + 1)
    }

    pub(super) fn emit(&mut self, out: &mut Vec<Tag>) {
        let Some(on) = &self.on else { return };
        let mut buffer = on.placed.feed.buffer();
        let Some(dts) = buffer.video.front().map(|first| self.dts_of(on, first, &buffer)) else { return };
        let Some(mut picture) = buffer.video.pop_front() else { return };
        let pts = (picture.pts() + on.placed.offset).max(dts);
        let Some(config) = picture.config.take() else { return };
        let next_idr = if picture.idr { self.next_idr(on, &buffer, pts, picture.next_idr) } else { None };
        let cts = (pts - dts).min(0x7F_FFFF) as i32;
        picture.body[2..5].copy_from_slice(&cts.to_be_bytes()[1..]);
        let body = picture.body.freeze();
        out.push(Tag { track: Track::Video, dts, cts, idr: picture.idr, next_idr, body, config });
        drop(buffer);
        self.last_dts = dts;
        self.max_pts = self.max_pts.max(pts);
        self.end = self.end.max(pts + self.frame_ms.round() as i64);
    }

    /// Decoding time of the next IDR picture: of this feed, or of whatever follows its end.
    fn next_idr(&self, on: &OnAir, buffer: &Buffer, pts: i64, known: Option<NextIdr>) -> Option<i64> {
        let end = buffer.pictures_end_ms.map(|end| end + on.placed.offset - HOUSE_DELAY_MS);
        match (known, end) {
            (Some(NextIdr::At(dts)), _) => return Some(dts + on.placed.offset + on.shift),
            (Some(NextIdr::None { .. }), Some(end)) => return Some(end),
            (Some(NextIdr::None { .. }) | None, _) => {}
        }
        let of_feed = buffer.video.iter().find(|t| t.idr).map(|t| on.natural_dts(t));
        of_feed.or_else(|| {
            let last = buffer.video.iter().map(|t| t.pts() + on.placed.offset).max().unwrap_or(pts);
            buffer.end.is_some().then(|| last + self.frame_ms.round() as i64 - HOUSE_DELAY_MS)
        })
    }
}
