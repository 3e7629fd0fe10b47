//! A limit on bytes per second.

use std::time::{Duration, Instant};

/// Sleeping less than this is not worth it.
const SHORTEST: Duration = Duration::from_millis(5);

/// Spreads bytes over time. Unused time is not saved up.
#[derive(Debug, Clone)]
pub struct Speed {
    /// 0 is no limit.
    bytes_per_s: u64,
    /// When the bytes so far are due.
    due: Option<Instant>,
}

impl Speed {
    /// At most `bytes_per_s`; 0 is no limit.
    pub fn new(bytes_per_s: u64) -> Self {
        Self { bytes_per_s, due: None }
    }

    /// How long to wait after `bytes` have come.
    pub fn after(&mut self, bytes: usize, now: Instant) -> Duration {
        if self.bytes_per_s == 0 {
            return Duration::ZERO;
        }
        let took = Duration::from_secs_f64(bytes as f64 / self.bytes_per_s as f64);
        let due = self.due.map_or(now, |due| due.max(now)) + took;
        self.due = Some(due);
        Some(due - now).filter(|wait| *wait >= SHORTEST).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_take_their_time_and_a_pause_earns_nothing() {
        let start = Instant::now();
        let mut speed = Speed::new(1_000);
        assert_eq!(speed.after(500, start), Duration::from_millis(500));
        assert_eq!(speed.after(500, start), Duration::from_secs(1));
        let later = start + Duration::from_secs(60);
        assert_eq!(speed.after(250, later), Duration::from_millis(250));
        assert_eq!(speed.after(1, later), Duration::from_millis(251));
        assert_eq!(Speed::new(0).after(1 << 30, start), Duration::ZERO);
    }
}
