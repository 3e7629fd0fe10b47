//! How often and how soon a channel's worker is started again after it failed.

use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Most waits in one policy.
const MOST_DELAYS: usize = 20;

/// Longest wait, in seconds: a day.
const LONGEST_S: u32 = 86_400;

/// What is done when the worker of a wanted channel fails.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restart {
    /// Whether it is started again at all.
    #[serde(default = "yes")]
    pub auto: bool,
    /// Restarts in a row, without a stable minute in between, after which it is left alone until somebody starts
    /// it; `None` never gives up.
    #[serde(default)]
    pub max_attempts: Option<u32>,
    /// The wait before each restart in a row, in seconds; the last one is repeated.
    #[serde(default = "delays")]
    pub delays_s: Vec<u32>,
}

impl Default for Restart {
    fn default() -> Self {
        Self { auto: true, max_attempts: None, delays_s: delays() }
    }
}

fn yes() -> bool {
    true
}

fn delays() -> Vec<u32> {
    vec![0, 30, 60, 120]
}

impl Restart {
    /// The wait after so many failures in a row (from 1), or `None` where it is left alone.
    ///
    /// `jitter` from −1 to 1 moves the wait by up to 10 % either way, so that a hundred channels do not come back
    /// in the same second.
    pub fn delay(&self, failures: u32, jitter: f64) -> Option<Duration> {
        if !self.auto || self.max_attempts.is_some_and(|most| failures > most) {
            return None;
        }
        let at = usize::try_from(failures.saturating_sub(1)).unwrap_or(usize::MAX);
        let seconds = self.delays_s.get(at).or(self.delays_s.last()).copied().unwrap_or(0);
        Some(Duration::from_secs_f64(f64::from(seconds) * (1.0 + 0.1 * jitter.clamp(-1.0, 1.0))))
    }

    /// The longest wait that this policy can ask for.
    pub fn longest(&self) -> Duration {
        let seconds = self.delays_s.iter().max().copied().unwrap_or(0);
        Duration::from_secs_f64(f64::from(seconds) * 1.1)
    }

    /// What is wrong with it: a pointer below the policy, and words.
    pub fn problems(&self) -> Vec<(String, String)> {
        let mut found = Vec::new();
        if self.max_attempts == Some(0) {
            let words = "must be 1 or more; null never gives up, and \"auto\": false never restarts";
            found.push(("/max_attempts".to_owned(), words.to_owned()));
        }
        if self.delays_s.is_empty() || self.delays_s.len() > MOST_DELAYS {
            found.push(("/delays_s".to_owned(), format!("must hold 1 to {MOST_DELAYS} waits in seconds")));
        }
        for (i, _) in self.delays_s.iter().enumerate().filter(|(_, wait)| **wait > LONGEST_S) {
            found.push((format!("/delays_s/{i}"), format!("must not be more than {LONGEST_S} seconds")));
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_failure_is_retried_at_once_then_slower_and_never_given_up() {
        let usual = Restart::default();
        let seconds = |n| usual.delay(n, 0.0).unwrap().as_secs();
        assert_eq!((1..=6).map(seconds).collect::<Vec<_>>(), [0, 30, 60, 120, 120, 120]);
        assert_eq!(seconds(u32::MAX), 120);
        let spread = |jitter| usual.delay(2, jitter).unwrap().as_secs();
        assert_eq!((spread(-1.0), spread(1.0), spread(9.0)), (27, 33, 33));
    }

    #[test]
    fn a_policy_may_give_up_or_never_begin() {
        let twice = Restart { max_attempts: Some(2), delays_s: vec![5], ..Restart::default() };
        assert_eq!(
            (1..=4).map(|n| twice.delay(n, 0.0).is_some()).collect::<Vec<_>>(),
            [true, true, false, false]
        );
        assert_eq!(Restart { auto: false, ..Restart::default() }.delay(1, 0.0), None);
    }

    #[test]
    fn a_policy_that_cannot_be_is_named_by_its_place() {
        assert!(Restart::default().problems().is_empty());
        let wrong = Restart { auto: true, max_attempts: Some(0), delays_s: vec![0, 90_000] };
        let places: Vec<_> = wrong.problems().into_iter().map(|(place, _)| place).collect();
        assert_eq!(places, ["/max_attempts", "/delays_s/1"]);
        assert_eq!(Restart { delays_s: vec![], ..Restart::default() }.problems().len(), 1);
    }
}
