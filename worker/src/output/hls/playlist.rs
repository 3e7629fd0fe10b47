//! The media playlist: which segments are in the window, their numbers and times, and how it is written down.
//! Rules only (RFC 8216, 6.2.1 and 6.2.2); the files are elsewhere.

use serde::{Deserialize, Serialize};
use state::Timestamp;
use std::collections::VecDeque;
use std::fmt::Write;
use std::time::{Duration, Instant};

/// Fewest segments in the window, whatever was asked for.
const FEWEST: usize = 6;
/// The window never lasts less than this many target durations (RFC 8216, 6.2.2).
const FEWEST_TARGETS: u64 = 3;
/// The wall clock may be ahead of programme time by this much before a discontinuity corrects it.
const DRIFT_MS: i64 = 1000;

/// A segment that is complete on disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Segment {
    /// File name.
    pub(super) name: String,
    /// Length in ms, at least 1.
    pub(super) duration_ms: u64,
    /// Wall time of its start, ms since 1970.
    pub(super) at_ms: i64,
    /// It does not follow on from the one before.
    pub(super) discontinuity: bool,
    /// Its first picture is an IDR.
    pub(super) independent: bool,
    /// Size of the file.
    pub(super) bytes: u64,
}

/// A finished segment on its way into the playlist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Finished {
    /// Start in ms of channel time.
    pub(super) start_ms: i64,
    pub(super) duration_ms: u64,
    /// Wall clock when its first tag was sent, ms since 1970.
    pub(super) wall_ms: i64,
    pub(super) discontinuity: bool,
    pub(super) independent: bool,
    pub(super) bytes: u64,
}

/// The window, and what must survive a restart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Playlist {
    target_s: u32,
    /// Number of the first segment.
    media_sequence: u64,
    /// Discontinuities that have left the window.
    discontinuity_sequence: u64,
    segments: VecDeque<Segment>,
    /// Wall time at which the newest segment ends, ms since 1970.
    ends_ms: Option<i64>,
    /// Longest window that was ever published, ms.
    longest_ms: u64,
    /// Segments to keep, of this run.
    #[serde(skip)]
    window: usize,
    /// Wall time of channel time 0, of this run, ms since 1970.
    #[serde(skip)]
    anchor_ms: i64,
}

impl Playlist {
    /// A playlist whose first segment has this number.
    ///
    /// What number of discontinuities came before is not known then; there cannot have been more of them
    /// than segments, so counting on from there never goes back.
    pub(super) fn new(target_s: u32, sequence: u64) -> Self {
        Self {
            target_s,
            media_sequence: sequence,
            discontinuity_sequence: sequence,
            segments: VecDeque::new(),
            ends_ms: None,
            longest_ms: 0,
            window: FEWEST,
            anchor_ms: 0,
        }
    }

    /// Takes up the playlist of an earlier run. Segments leave it from the head only, so one that is gone takes
    /// those before it along, and a new target duration takes all. Returns those that left.
    pub(super) fn resume(&mut self, target_s: u32, exists: impl Fn(&str) -> bool) -> Vec<Segment> {
        let keep = match self.target_s == target_s {
            true => self.segments.iter().rev().take_while(|segment| exists(&segment.name)).count(),
            false => 0,
        };
        self.target_s = target_s;
        self.remove(self.segments.len() - keep)
    }

    /// Jumps to a higher number while there is nothing in the window.
    pub(super) fn skip_to(&mut self, sequence: u64) {
        if self.segments.is_empty() && sequence > self.media_sequence {
            self.media_sequence = sequence;
        }
    }

    /// Says what holds for this run: how many segments to keep, and the wall time of channel time 0.
    pub(super) fn set_run(&mut self, window: usize, anchor_ms: i64) {
        self.window = window.max(FEWEST);
        self.anchor_ms = anchor_ms;
    }

    /// Number of the segment to come.
    pub(super) fn next_sequence(&self) -> u64 {
        self.media_sequence.saturating_add(self.segments.len() as u64)
    }

    /// Wall time at which the newest segment ends, ms since 1970.
    pub(super) fn ends_ms(&self) -> Option<i64> {
        self.ends_ms
    }

    /// Whether any segment ever came before the one to come.
    pub(super) fn has_past(&self) -> bool {
        self.next_sequence() > 0
    }

    /// Segments in the window.
    pub(super) fn segments(&self) -> impl ExactSizeIterator<Item = &Segment> {
        self.segments.iter()
    }

    /// Puts a segment at the end.
    pub(super) fn append(&mut self, name: String, new: Finished) {
        let at_ms = self.place(&new);
        self.anchor_ms = at_ms.saturating_sub(new.start_ms);
        self.ends_ms = Some(at_ms.saturating_add_unsigned(new.duration_ms));
        self.segments.push_back(Segment {
            name,
            duration_ms: new.duration_ms,
            at_ms,
            discontinuity: new.discontinuity,
            independent: new.independent,
            bytes: new.bytes,
        });
    }

    /// Wall time of a segment: right after the one before. At a discontinuity it may jump, forward only.
    fn place(&self, new: &Finished) -> i64 {
        match self.ends_ms {
            Some(end) if !new.discontinuity => end,
            end => {
                let planned = self.anchor_ms.saturating_add(new.start_ms);
                let late = new.wall_ms.saturating_sub(planned) > DRIFT_MS;
                let at = if late { new.wall_ms } else { planned };
                at.max(end.unwrap_or(i64::MIN))
            }
        }
    }

    /// Takes from the head what the window no longer needs; the rest is what is published next.
    pub(super) fn trim(&mut self) -> Vec<Segment> {
        let mut left = self.duration_ms();
        let least = FEWEST_TARGETS * u64::from(self.target_s) * 1000;
        let surplus = self.segments.len().saturating_sub(self.window);
        let gone = self.segments.iter().take(surplus).take_while(|segment| {
            left = left.saturating_sub(segment.duration_ms);
            left >= least
        });
        let gone = gone.count();
        let removed = self.remove(gone);
        self.longest_ms = self.longest_ms.max(self.duration_ms());
        removed
    }

    fn remove(&mut self, count: usize) -> Vec<Segment> {
        let removed: Vec<_> = self.segments.drain(..count).collect();
        self.media_sequence = self.media_sequence.saturating_add(count as u64);
        let gone = removed.iter().filter(|segment| segment.discontinuity).count();
        self.discontinuity_sequence = self.discontinuity_sequence.saturating_add(gone as u64);
        removed
    }

    fn duration_ms(&self) -> u64 {
        self.segments.iter().map(|segment| segment.duration_ms).sum()
    }

    /// How long a segment must stay readable after it left the window, ms (RFC 8216, 6.2.2).
    pub(super) fn afterlife_ms(&self, segment: &Segment) -> u64 {
        segment.duration_ms + self.longest_ms
    }

    /// The playlist file.
    pub(super) fn render(&self) -> String {
        let mut text = format!(
            "#EXTM3U\n#EXT-X-VERSION:6\n#EXT-X-TARGETDURATION:{}\n#EXT-X-MEDIA-SEQUENCE:{}\n\
             #EXT-X-DISCONTINUITY-SEQUENCE:{}\n",
            self.target_s, self.media_sequence, self.discontinuity_sequence
        );
        if self.segments.iter().all(|segment| segment.independent) {
            text.push_str("#EXT-X-INDEPENDENT-SEGMENTS\n");
        }
        for segment in &self.segments {
            segment.render(&mut text);
        }
        text
    }
}

impl Segment {
    fn render(&self, text: &mut String) {
        if self.discontinuity {
            text.push_str("#EXT-X-DISCONTINUITY\n");
        }
        // Writing to a String cannot fail.
        if let Ok(at) = Timestamp::from_millisecond(self.at_ms) {
            let _ = writeln!(text, "#EXT-X-PROGRAM-DATE-TIME:{at:.3}");
        }
        let (seconds, ms) = (self.duration_ms / 1000, self.duration_ms % 1000);
        let _ = writeln!(text, "#EXTINF:{seconds}.{ms:03},\n{}", self.name);
    }
}

/// When the next version may be published: half a target duration after the last one (RFC 8216, 6.2.2).
pub(super) fn due(last: Option<Instant>, target_s: u32, now: Instant) -> Instant {
    last.map_or(now, |last| last + Duration::from_millis(u64::from(target_s) * 500))
}

#[cfg(test)]
#[path = "playlist_rules.rs"]
mod rules;
