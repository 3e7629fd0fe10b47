//! The wall clock of the timeline: which millisecond of channel time is due now, and when to look again.

use std::time::Duration;
use tokio::time::Instant;

/// Shortest time between two wake-ups. Sending a few tags at once costs a third of sending each at its own time,
/// and no receiver can tell 20 ms.
const COALESCE: Duration = Duration::from_millis(20);
/// Longest time between two wake-ups.
const LONGEST: Duration = Duration::from_millis(250);

/// Later than this is not caught up with, ms.
const MOST_LATE_MS: u64 = 2_000;

/// Maps channel time to the monotonic clock.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    zero: Instant,
}

impl Pace {
    /// Channel time 0 is now.
    pub fn start(now: Instant) -> Self {
        Self { zero: now }
    }

    /// Channel time that is due, ms.
    pub fn due_ms(&self, now: Instant) -> i64 {
        i64::try_from(now.saturating_duration_since(self.zero).as_millis()).unwrap_or(i64::MAX)
    }

    /// Leaves out what was slept through: if the clock is more than two seconds past `next_ms`, the time of the
    /// next tag, that tag is due now. Whoever was held up, by a paused machine for example, goes on from there
    /// instead of sending everything at once. Returns how much was left out, ms.
    pub fn forgive(&mut self, now: Instant, next_ms: i64) -> Option<u64> {
        let late = u64::try_from(self.due_ms(now) - next_ms).ok().filter(|late| *late > MOST_LATE_MS)?;
        self.zero += Duration::from_millis(late);
        Some(late)
    }

    /// When to send again if the next tag is due at `at_ms` of channel time.
    pub fn wake(&self, now: Instant, at_ms: i64) -> Instant {
        let due = self.zero + Duration::from_millis(u64::try_from(at_ms).unwrap_or(0));
        due.clamp(now + COALESCE, now + LONGEST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wake_ups_are_neither_hectic_nor_lazy() {
        let zero = Instant::now();
        let pace = Pace::start(zero);
        let at = |ms| zero + Duration::from_millis(ms);
        assert_eq!(pace.due_ms(at(1234)), 1234);
        assert_eq!(pace.wake(at(1000), 1005), at(1020));
        assert_eq!(pace.wake(at(1000), 1033), at(1033));
        assert_eq!(pace.wake(at(1000), 9000), at(1250));
    }

    #[test]
    fn what_was_slept_through_is_left_out() {
        let zero = Instant::now();
        let mut pace = Pace::start(zero);
        let at = |ms| zero + Duration::from_millis(ms);
        assert_eq!(pace.forgive(at(3000), 1500), None);
        assert_eq!(pace.forgive(at(31_000), 1000), Some(30_000));
        assert_eq!(pace.due_ms(at(31_000)), 1000);
    }
}
