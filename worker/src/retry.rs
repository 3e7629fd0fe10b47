//! How long to wait before the next try: pure functions of how often it failed.

use std::time::Duration;

/// For a playlist of which nothing can be played: at once, then 30, 60 and 120 s.
///
/// `failures` counts whole rounds without success, from 1. `spread` in 0..1 moves the time by up to 10 % either
/// way, so that a hundred channels do not come back in the same second.
pub fn nothing_playable(failures: u32, spread: f64) -> Duration {
    let seconds = match failures {
        0 | 1 => return Duration::ZERO,
        2 => 30.0,
        3 => 60.0,
        _ => 120.0,
    };
    Duration::from_secs_f64(seconds * (0.9 + 0.2 * spread.clamp(0.0, 1.0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_retry_is_at_once_and_the_rest_are_bounded() {
        let middle: Vec<_> = (1..6).map(|n| nothing_playable(n, 0.5).as_secs()).collect();
        assert_eq!(middle, [0, 30, 60, 120, 120]);
        assert_eq!(nothing_playable(9, 0.0).as_secs(), 108);
        assert_eq!(nothing_playable(9, 1.0).as_secs(), 132);
    }
}
