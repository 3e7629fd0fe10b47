//! Whether a peer takes what it is sent: judged from samples of its acknowledged bytes. Pure; `now` is passed in.

use super::tuning::Tuning;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Time over which the bitrate is taken.
const RATE_WINDOW: Duration = Duration::from_secs(5);

/// What the samples say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// Nothing acknowledged yet, or not lately.
    Quiet,
    /// Acknowledged bytes advance.
    Advancing,
    /// Data has been waiting for too long without one byte being acknowledged.
    Stalled,
}

/// The acknowledged bytes of one connection over time.
#[derive(Debug)]
pub(super) struct Progress {
    /// When and how many bytes; covers about [`RATE_WINDOW`], never empty.
    samples: VecDeque<(Instant, u64)>,
    acked: u64,
    grew_at: Option<Instant>,
    waiting_since: Option<Instant>,
}

impl Progress {
    pub(super) fn new(now: Instant) -> Self {
        Self { samples: VecDeque::from([(now, 0)]), acked: 0, grew_at: None, waiting_since: None }
    }

    /// Takes a sample: bytes acknowledged since the connection began, and whether any are outstanding.
    pub(super) fn sample(
        &mut self,
        now: Instant,
        acked: u64,
        outstanding: bool,
        tuning: &Tuning,
    ) -> Standing {
        let grew = acked > self.acked;
        self.acked = self.acked.max(acked);
        if grew {
            self.grew_at = Some(now);
        }
        self.waiting_since = match self.waiting_since {
            _ if !outstanding => None,
            Some(since) if !grew => Some(since),
            _ => Some(now),
        };
        self.remember(now);
        self.standing(now, tuning)
    }

    /// Bytes acknowledged on this connection.
    pub(super) fn acked(&self) -> u64 {
        self.acked
    }

    /// Acknowledged kbit/s over the last seconds.
    pub(super) fn kbps(&self) -> u32 {
        let (Some((from, first)), Some((to, last))) = (self.samples.front(), self.samples.back()) else {
            return 0;
        };
        let ms = to.duration_since(*from).as_millis().max(1) as u64;
        u32::try_from((last - first) * 8 / ms).unwrap_or(u32::MAX)
    }

    fn remember(&mut self, now: Instant) {
        self.samples.push_back((now, self.acked));
        while self.samples.len() > 2 && now.duration_since(self.samples[1].0) >= RATE_WINDOW {
            self.samples.pop_front();
        }
    }

    fn standing(&self, now: Instant, tuning: &Tuning) -> Standing {
        let age = |at: Option<Instant>| at.map(|at| now.duration_since(at));
        if age(self.waiting_since).is_some_and(|age| age >= tuning.stalled) {
            Standing::Stalled
        } else if age(self.grew_at).is_some_and(|age| age < tuning.fading) {
            Standing::Advancing
        } else {
            Standing::Quiet
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Standings at the given seconds, each with the bytes acknowledged by then and whether more are outstanding.
    fn standings(samples: &[(u64, u64, bool)]) -> Vec<Standing> {
        let start = Instant::now();
        let mut progress = Progress::new(start);
        let mut at = |&(s, acked, outstanding): &(u64, u64, bool)| {
            progress.sample(start + Duration::from_secs(s), acked, outstanding, &Tuning::default())
        };
        samples.iter().map(&mut at).collect()
    }

    #[test]
    fn live_is_when_acknowledged_bytes_advance() {
        use Standing::{Advancing, Quiet, Stalled};
        let seen = standings(&[(1, 0, true), (2, 900, true), (6, 900, true), (7, 900, true), (8, 901, true)]);
        assert_eq!(seen, [Quiet, Advancing, Advancing, Quiet, Advancing]);
        assert_eq!(standings(&[(1, 5, true), (15, 5, true), (16, 5, true)]), [Advancing, Quiet, Stalled]);
        assert_eq!(standings(&[(1, 0, true), (15, 0, true), (16, 0, true)]), [Quiet, Quiet, Stalled]);
    }

    #[test]
    fn silence_with_nothing_to_acknowledge_is_no_stall() {
        let seen = standings(&[(1, 5, true), (2, 5, false), (60, 5, false), (61, 5, true), (75, 5, true)]);
        assert!(!seen.contains(&Standing::Stalled), "{seen:?}");
    }

    #[test]
    fn the_rate_is_that_of_the_last_five_seconds() {
        let start = Instant::now();
        let mut progress = Progress::new(start);
        for second in 1..=20u64 {
            let acked = if second <= 10 { 0 } else { (second - 10) * 125_000 };
            progress.sample(start + Duration::from_secs(second), acked, true, &Tuning::default());
        }
        assert_eq!(progress.kbps(), 1000);
        assert_eq!(progress.acked(), 1_250_000);
    }
}
