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

/// For a playlist of which nothing can be played because the bucket is out of reach, in seconds. One item is tried
/// each time, and all as soon as it works.
const AWAY_S: [u64; 4] = [1, 2, 5, 10];

/// The wait after so many rounds in a row without a bucket.
pub fn bucket_away(failures: u32) -> Duration {
    let place = (failures.max(1) as usize - 1).min(AWAY_S.len() - 1);
    Duration::from_secs(AWAY_S[place])
}

/// For a slate that cannot be made and a fallback video that cannot be had: 30, 60 and 120 s.
pub fn no_fallback(failures: u32) -> Duration {
    Duration::from_secs(match failures {
        0 | 1 => 30,
        2 => 60,
        _ => 120,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_that_is_away_is_asked_every_ten_seconds_at_last() {
        let all: Vec<_> = (0..7).map(|n| bucket_away(n).as_secs()).collect();
        assert_eq!(all, [1, 1, 2, 5, 10, 10, 10]);
    }

    #[test]
    fn the_first_retry_is_at_once_and_the_rest_are_bounded() {
        let middle: Vec<_> = (1..6).map(|n| nothing_playable(n, 0.5).as_secs()).collect();
        assert_eq!(middle, [0, 30, 60, 120, 120]);
        assert_eq!(nothing_playable(9, 0.0).as_secs(), 108);
        assert_eq!(nothing_playable(9, 1.0).as_secs(), 132);
    }
}
