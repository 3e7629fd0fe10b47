//! How long to wait before a worker is started again. The supervisor owns this retry and nobody else does.

use std::time::Duration;

/// A life that played this long forgets the failures before it.
pub const STABLE: Duration = Duration::from_secs(60);

/// Failures in a row that someone should know about.
pub const ALERT_AFTER: u32 = 3;

/// The wait after `failures` in a row: none after the first, then 30, 60, 120 s for good, each ±10 %.
///
/// `jitter` is −1 to 1.
pub fn delay(failures: u32, jitter: f64) -> Duration {
    let seconds = match failures {
        0 | 1 => return Duration::ZERO,
        2 => 30.0,
        3 => 60.0,
        _ => 120.0,
    };
    Duration::from_secs_f64(seconds * (1.0 + 0.1 * jitter.clamp(-1.0, 1.0)))
}

/// A random number from −1 to 1.
pub fn jitter() -> f64 {
    let mut bytes = [0u8; 2];
    state::ids::fill_random(&mut bytes);
    f64::from(u16::from_ne_bytes(bytes)) / 32767.5 - 1.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_failure_is_retried_at_once_then_slower_and_never_given_up() {
        let seconds: Vec<_> = (1..=6).map(|n| delay(n, 0.0).as_secs()).collect();
        assert_eq!(seconds, [0, 30, 60, 120, 120, 120]);
        assert_eq!(delay(u32::MAX, 0.0).as_secs(), 120);
        assert_eq!((delay(2, -1.0).as_secs(), delay(2, 1.0).as_secs()), (27, 33));
        assert!((-1.0..=1.0).contains(&jitter()));
    }
}
