//! Faults by name: each is done to the real programs, and each promise is measured at the sinks.
//!
//! Here live the list of all faults and how one is tried. What is done to what lives in the rooms below. Nothing here
//! decides how the product behaves.

mod changes;
mod destinations;
mod host;
mod items;
mod programs;
pub mod report;
mod scene;
mod slates;
mod time;
mod ways;

use anyhow::Result;
use std::time::Duration;

/// A promise and how it is tried.
#[derive(Debug, Clone, Copy)]
pub struct Fault {
    /// A short name to ask for it by.
    pub name: &'static str,
    /// What is hit: `item`, `destination`, `program`, `host` or `time`.
    pub group: &'static str,
    /// What is promised, in words.
    pub promise: &'static str,
    /// Whether it belongs to the short set.
    pub short: bool,
    /// Does it. An error is a broken promise.
    pub run: fn(&Scale) -> Result<Measured>,
}

impl Fault {
    /// One of the whole set.
    const fn new(
        group: &'static str,
        name: &'static str,
        promise: &'static str,
        run: fn(&Scale) -> Result<Measured>,
    ) -> Self {
        Self { name, group, promise, short: false, run }
    }

    /// One of the short set.
    const fn in_short(self) -> Self {
        Self { short: true, ..self }
    }
}

/// How long things last, as a factor of the usual time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scale(pub f64);

impl Scale {
    /// So many seconds, scaled; never less than one.
    pub fn seconds(&self, usual: f64) -> Duration {
        Duration::from_secs_f64((usual * self.0).max(1.0))
    }
}

/// What the sinks saw.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Measured {
    /// Longest time without a picture at the destination that counts, ms: the one that nothing was done to, or the
    /// only one.
    pub gap_ms: Option<u64>,
    /// What else is worth knowing, in words.
    pub words: String,
}

/// Every fault there is.
pub fn all() -> Vec<Fault> {
    [
        items::FAULTS,
        slates::FAULTS,
        destinations::FAULTS,
        ways::FAULTS,
        changes::FAULTS,
        programs::FAULTS,
        host::FAULTS,
        time::FAULTS,
    ]
    .concat()
}

/// How a fault ended.
#[derive(Debug)]
pub struct Outcome {
    /// Which.
    pub fault: Fault,
    /// How long it took.
    pub took: Duration,
    /// What was measured, or why the promise is broken.
    pub result: Result<Measured>,
}

/// Tries one fault.
pub fn try_it(fault: Fault, scale: &Scale) -> Outcome {
    let began = std::time::Instant::now();
    let result = std::panic::catch_unwind(|| (fault.run)(scale));
    let result = result.unwrap_or_else(|_| Err(anyhow::anyhow!("the trial itself panicked")));
    Outcome { fault, took: began.elapsed(), result }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_has_a_name_of_its_own_and_a_promise() {
        let mut names: Vec<_> = all().iter().map(|fault| fault.name).collect();
        names.sort_unstable();
        let before = names.len();
        names.dedup();
        assert_eq!(names.len(), before);
        assert!(all().iter().all(|fault| fault.promise.len() > 10 && !fault.name.contains(' ')));
        assert!(all().iter().any(|fault| fault.short));
    }
}
