//! The splice: feeds in their own time go in, one endless timeline comes out. No clock, no I/O, no FFmpeg here;
//! the caller says up to which millisecond of channel time it wants tags.
//!
//! Times of the channel are i64 milliseconds; sound is counted in samples. One offset per feed serves both of its
//! tracks, so picture and sound cannot drift apart.

mod audio;
mod lateness;
mod video;

use crate::media::{Shape, Tag};
use crate::source::buffer::{Buffer, End, SourceTag};
use crate::source::feed::Feed;
use audio::AudioLane;
use lateness::Lateness;
use state::profile::Profile;
use state::wire::Counts;
use std::sync::Arc;
use video::{Next, VideoLane};

/// The delay between decoding and presentation that every feed is given, ms. A feed that brings another one is
/// shifted, so that decoding times run on evenly from one feed into the next.
pub const HOUSE_DELAY_MS: i64 = 100;
/// Sound that begins up to this much before the first picture is trimmed, ms (AAC priming and the like).
/// If it begins earlier the picture is late: the sound is played and the previous picture stays.
const LONGEST_TRIM_MS: i64 = 150;
/// The earliest that sound may begin before a late picture, ms.
const LATEST_PICTURE_MS: i64 = 10_000;

/// A feed in its place on the timeline.
#[derive(Debug, Clone)]
struct Placed {
    feed: Arc<Feed>,
    /// Channel time = time of the feed + this.
    offset: i64,
}

/// One output group: its lanes, and all outputs that see the same timeline.
#[derive(Debug)]
pub struct Group {
    video: VideoLane,
    audio: AudioLane,
    counts: Counts,
    late: Lateness,
}

/// Why [`Group::advance`] came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Advance {
    /// Everything up to the wanted time is out; the next tag is due at this time.
    Reached(i64),
    /// The feed on the air has given its last picture. What follows it is due at this time.
    Ended(i64),
    /// The feed on the air has nothing in hand although it has not ended; its next picture was due at this time.
    Dry(i64),
}

impl Group {
    /// An empty timeline with the sound of this profile.
    pub fn new(profile: &Profile) -> Self {
        Self {
            video: VideoLane::new(profile.fps.frame_ms()),
            audio: AudioLane::new(profile, HOUSE_DELAY_MS),
            counts: Counts::default(),
            late: Lateness::default(),
        }
    }

    /// Puts `feed` on the air in both lanes, right after what has been sent (append), and returns the time of its
    /// start. What is left of the outgoing feed is not sent; its owner may keep it and come back to it later.
    ///
    /// The feed's buffer must begin with an IDR picture.
    pub fn switch(&mut self, feed: &Arc<Feed>) -> i64 {
        let at = self.video.end().max(self.audio.end_if_ahead(self.video.end()));
        let (offset, shift, frame_ms) = {
            let buffer = feed.buffer();
            let start = start_of(&buffer);
            let delay = buffer.video.front().map_or(HOUSE_DELAY_MS, |t| i64::from(t.cts));
            (at - start, delay - HOUSE_DELAY_MS, frame_ms(&buffer))
        };
        let placed = Placed { feed: Arc::clone(feed), offset };
        if self.video.switch(placed.clone(), shift, frame_ms) {
            self.counts.boundaries += 1;
        }
        self.audio.switch(placed, at);
        at
    }

    /// Goes on with the feed on the air where it stood, now: what silence has covered is not caught up with.
    /// Returns whether there was something to go on with.
    pub fn resume(&mut self) -> bool {
        let at = self.audio.end_if_ahead(self.video.end());
        match self.video.resume(at) {
            Some(placed) => {
                self.audio.switch(placed, at);
                true
            }
            None => false,
        }
    }

    /// Sends everything that is due up to `until`, ms of channel time, in order of decoding time.
    pub fn advance(&mut self, until: i64, out: &mut Vec<Tag>) -> Advance {
        loop {
            let picture = self.video.next();
            let limit = if picture == Next::Ended { Some(self.video.end()) } else { None };
            let sound = self.audio.next(limit, &mut self.counts);
            match (picture, sound) {
                (Next::At(dts), sound) => {
                    let first = sound.map_or(dts, |at| at.min(dts));
                    if first > until {
                        return Advance::Reached(first);
                    }
                    if first < dts { self.audio.emit(out, &mut self.counts) } else { self.video.emit(out) }
                }
                (_, Some(at)) if at <= until => self.audio.emit(out, &mut self.counts),
                // The picture stays while the sound goes on.
                (Next::Still, Some(at)) => return Advance::Reached(at),
                (Next::Ended, _) => return Advance::Ended(self.video.end() - HOUSE_DELAY_MS),
                (Next::Dry | Next::Still, _) => return Advance::Dry(self.video.expected()),
            }
        }
    }

    /// Sends silence up to `until`: nothing else is there, and a connection must not fall quiet.
    pub fn fill(&mut self, until: i64, out: &mut Vec<Tag>) {
        while self.audio.clock_ms() <= until {
            self.audio.emit_silence(out, &mut self.counts);
        }
    }

    /// Whether the outgoing stream may be left here: every picture that was sent is shown before every picture
    /// that would follow.
    pub fn may_leave(&self) -> bool {
        self.video.may_leave()
    }

    /// The feed on the air.
    pub fn on_air(&self) -> Option<&Arc<Feed>> {
        self.video.feed()
    }

    /// Time of the feed on the air that has been sent, ms.
    pub fn position_ms(&self) -> i64 {
        self.video.position_ms()
    }

    /// Which ms of the feed on the air is shown at `at`, ms of channel time.
    pub fn feed_ms(&self, at: i64) -> i64 {
        self.video.feed_ms(at)
    }

    /// End of what has been sent, ms of channel time.
    pub fn end_ms(&self) -> i64 {
        self.video.end()
    }

    /// Figures.
    pub fn counts(&self) -> Counts {
        Counts { late_p99_ms: self.late.p99_ms(), ..self.counts }
    }

    /// Notes how late a tag was sent, ms.
    pub fn note_late(&mut self, ms: u64) {
        self.counts.max_late_ms = self.counts.max_late_ms.max(ms);
        self.late.note(ms);
    }
}

/// Where a feed starts, in its own time: at its first picture, or at its sound where the picture is late.
fn start_of(buffer: &Buffer) -> i64 {
    let Some(picture) = buffer.video.front().map(SourceTag::pts) else { return 0 };
    // Sound before zero is priming that an edit list cuts off.
    let sound = buffer.audio.iter().map(|t| t.dts).find(|&at| at > -LONGEST_TRIM_MS);
    match sound {
        Some(at) if picture - at > LONGEST_TRIM_MS && picture - at < LATEST_PICTURE_MS => {
            at.max(0).min(picture)
        }
        _ => picture,
    }
}

fn frame_ms(buffer: &Buffer) -> Option<f64> {
    match buffer.video.front()?.config.as_ref()?.shape {
        Shape::Video { fps, .. } if fps > 0.5 => Some(1000.0 / fps),
        _ => None,
    }
}

/// Whether a feed broke off, and why.
pub fn broken(feed: &Feed) -> Option<String> {
    match &feed.buffer().end {
        Some(End::Broken(why)) => Some(why.clone()),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
