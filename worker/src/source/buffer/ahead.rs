//! How much is in hand, how much suffices, and how much is left.

use super::{Buffer, HIGH_MS, SourceTag};
use crate::media::Shape;
use std::collections::VecDeque;

/// Read ahead of a file that is read in order, ms, and this many pictures: more than the splice looks ahead. A disk
/// that is slow for longer is not noticed either, because the kernel has been told what comes.
const LEAST_MS: i64 = 600;
const LEAST_PICTURES: usize = 10;
/// A track that has nothing over this much of the other one has a hole there, ms: FFmpeg writes both in order of time,
/// but not exactly.
const LONGEST_SKEW_MS: i64 = 1_000;
/// Where the order is exact, and two pictures more, ms.
const LEAST_SKEW_MS: f64 = 300.0;

impl Buffer {
    /// A track of which nothing has come over this much of the other one has a hole, ms.
    pub fn skew_ms(&self) -> i64 {
        if !self.in_order {
            return LONGEST_SKEW_MS;
        }
        LONGEST_SKEW_MS.min((LEAST_SKEW_MS + 2.0 * self.frame_ms()) as i64)
    }

    /// Whether what is in hand of a file that is read in order suffices: more would only be memory. Of few pictures more
    /// is read, because the splice keeps some back, and the first IDR picture is searched for longer.
    pub(in crate::source) fn has_enough_of_file(&self) -> bool {
        let least = LEAST_MS + (LEAST_PICTURES as f64 * self.frame_ms()) as i64;
        let few = self.video.len() < LEAST_PICTURES && self.sound_ahead_ms() < self.skew_ms();
        let mark = if few || self.idr.count == 0 { HIGH_MS } else { least.min(HIGH_MS) };
        self.is_above(mark.max(self.high_ms))
    }

    /// It fell behind once: from now on at least this much is read ahead, ms.
    pub fn read_further(&mut self, ms: i64) {
        if self.in_order {
            self.high_ms = self.high_ms.max(ms);
        }
    }

    /// Says where its last picture ends, ms of the feed. Where nobody knows, the end of a file is looked for in time to
    /// open what follows.
    pub fn ends_at(&mut self, pictures_end_ms: Option<i64>) {
        self.pictures_end_ms = pictures_end_ms;
        if pictures_end_ms.is_none() {
            self.read_further(HIGH_MS + 500);
        }
    }

    pub(super) fn frame_ms(&self) -> f64 {
        match self.shape {
            Shape::Video { fps, .. } => 1000.0 / fps.max(1.0),
            Shape::Audio { .. } => 0.0,
        }
    }

    /// Whether this much is in hand, ms.
    pub fn is_above(&self, mark_ms: i64) -> bool {
        let span = |tags: &VecDeque<SourceTag>| match (tags.front(), tags.back()) {
            (Some(first), Some(last)) => last.dts - first.dts,
            _ => 0,
        };
        span(&self.video).max(span(&self.audio)) >= mark_ms
    }

    /// What is left to be played, ms: in hand when everything was read, in hand or not of a file that is read in order.
    /// `None` where nobody knows, and while a child is at work: the next one is started after it, not beside it.
    pub fn left_ms(&self) -> Option<i64> {
        if self.end.is_some() {
            return Some(self.ahead_ms());
        }
        let at = self.video.front().map(|first| first.dts).or(self.reached.shown).unwrap_or(0);
        self.pictures_end_ms.filter(|_| self.in_order).map(|end| (end - at).max(0))
    }
}
