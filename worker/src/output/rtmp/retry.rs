//! When to try again: a pure function, so that the table can be read and tested.

use super::failure::Kind;
use std::time::Duration;

/// Seconds to wait after the second, third, … failure in a row; the last one stays.
const NETWORK: [u64; 5] = [1, 2, 5, 10, 30];
const REFUSED: [u64; 3] = [30, 60, 120];
/// A server needs a while to notice that our earlier connection is gone.
const BUSY: Duration = Duration::from_secs(3);

/// How long after our own disconnect a busy key is taken for our own shadow.
pub(super) const SHADOW: Duration = Duration::from_secs(90);

/// The wait before the next try. `attempt` counts the failures in a row, from 1; the first is retried at once.
/// `random` is in 0..1 and spreads the wait by ±10 %, so that many channels do not come back in step.
pub(super) fn delay(kind: Kind, attempt: u32, random: f64) -> Duration {
    let table: &[u64] = match kind {
        Kind::Busy => return BUSY,
        Kind::Network => &NETWORK,
        Kind::Refused => &REFUSED,
    };
    let Some(step) = attempt.checked_sub(2) else { return Duration::ZERO };
    let seconds = table[(step as usize).min(table.len() - 1)];
    Duration::from_secs(seconds).mul_f64(0.9 + 0.2 * random.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waits(kind: Kind, attempts: std::ops::RangeInclusive<u32>) -> Vec<u64> {
        attempts.map(|n| delay(kind, n, 0.5).as_secs()).collect()
    }

    #[test]
    fn the_first_failure_is_retried_at_once_and_then_ever_later() {
        assert_eq!(waits(Kind::Network, 1..=8), [0, 1, 2, 5, 10, 30, 30, 30]);
        assert_eq!(waits(Kind::Refused, 1..=5), [0, 30, 60, 120, 120]);
        assert_eq!(waits(Kind::Network, u32::MAX..=u32::MAX), [30]);
    }

    #[test]
    fn our_own_shadow_is_asked_again_every_three_seconds() {
        assert_eq!(waits(Kind::Busy, 1..=3), [3, 3, 3]);
    }

    #[test]
    fn waits_spread_by_a_tenth() {
        assert_eq!(delay(Kind::Refused, 2, 0.0), Duration::from_secs(27));
        assert_eq!(delay(Kind::Refused, 2, 1.0), Duration::from_secs(33));
        assert_eq!(delay(Kind::Refused, 2, 7.0), Duration::from_secs(33));
    }
}
