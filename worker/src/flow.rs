//! What leaves the timeline, measured: pictures and bits per second, and what was lost lately. Pure: the time is
//! passed in, in milliseconds.

use crate::media::{Tag, Track};
use state::wire::{DestinationSeen, Flow};
use std::collections::VecDeque;

/// Time over which rates are taken, ms.
const RATE_WINDOW_MS: u64 = 5_000;
/// How long a loss counts as a late one, ms.
const LATELY_MS: u64 = 60_000;
/// Marks are at least this far apart, ms: heartbeats may come in a burst.
const MARK_EVERY_MS: u64 = 500;

/// Counts since the run began, at one moment.
#[derive(Debug, Clone, Copy, Default)]
struct Mark {
    at_ms: u64,
    pictures: u64,
    bytes: u64,
    dropped: u64,
    reconnects: u64,
}

/// Counts what is sent.
#[derive(Debug, Default)]
pub struct FlowMeter {
    pictures: u64,
    bytes: u64,
    /// Oldest first; covers about [`LATELY_MS`].
    marks: VecDeque<Mark>,
}

impl FlowMeter {
    /// Counts tags that go out.
    pub fn sent(&mut self, tags: &[Tag]) {
        self.pictures += tags.iter().filter(|tag| tag.track == Track::Video).count() as u64;
        self.bytes += tags.iter().map(|tag| tag.body.len() as u64).sum::<u64>();
    }

    /// The figures of this moment.
    pub fn measure(&mut self, now_ms: u64, destinations: &[DestinationSeen], ahead_ms: Option<u64>) -> Flow {
        let sum = |of: fn(&DestinationSeen) -> u64| destinations.iter().map(of).sum();
        let now = Mark {
            at_ms: now_ms,
            pictures: self.pictures,
            bytes: self.bytes,
            dropped: sum(|seen| seen.dropped),
            reconnects: sum(|seen| seen.reconnects),
        };
        self.remember(now);
        let since =
            |window: u64| self.marks.iter().find(|mark| now_ms - mark.at_ms <= window).unwrap_or(&now);
        let (recent, lately) = (since(RATE_WINDOW_MS), since(LATELY_MS));
        let ms = (now_ms - recent.at_ms).max(1);
        Flow {
            fps: ((now.pictures - recent.pictures) as f64 * 10_000.0 / ms as f64).round() / 10.0,
            kbps: u32::try_from((now.bytes - recent.bytes) * 8 / ms).unwrap_or(u32::MAX),
            ahead_ms,
            dropped_lately: now.dropped.saturating_sub(lately.dropped),
            reconnects_lately: now.reconnects.saturating_sub(lately.reconnects),
        }
    }

    fn remember(&mut self, now: Mark) {
        if self.marks.back().is_none_or(|last| now.at_ms >= last.at_ms + MARK_EVERY_MS) {
            self.marks.push_back(now);
        }
        while self.marks.front().is_some_and(|mark| mark.at_ms + LATELY_MS < now.at_ms) {
            self.marks.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use state::wire::DestinationState;

    #[test]
    fn rates_are_those_of_the_last_seconds_and_losses_those_of_the_last_minute() {
        let mut meter = FlowMeter::default();
        let mut flow = Flow::default();
        for second in 0..100u64 {
            let rate = if second < 50 { 10 } else { 25 };
            meter.pictures += rate;
            meter.bytes += rate * 500;
            let mut seen = DestinationSeen::new("a".parse().unwrap(), DestinationState::Live, state::now());
            (seen.dropped, seen.reconnects) = (second, u64::from(second > 20));
            flow = meter.measure(second * 1000, &[seen], Some(800));
        }
        assert_eq!((flow.fps, flow.kbps, flow.ahead_ms), (25.0, 100, Some(800)));
        assert_eq!((flow.dropped_lately, flow.reconnects_lately), (60, 0));
        assert!(meter.marks.len() <= 61);
    }
}
