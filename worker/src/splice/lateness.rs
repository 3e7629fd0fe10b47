//! How late the timeline is sent: a count for each millisecond, from which the newest looks weigh most.

/// Delays from this on are counted as one, ms.
const LONGEST: usize = 255;
/// Looks after which what was counted is worth half: some twenty seconds.
const HALF: u32 = 1_024;

/// Delays of looks at the clock.
#[derive(Debug, Clone)]
pub(super) struct Lateness {
    looks: [u32; LONGEST + 1],
    total: u32,
}

impl Default for Lateness {
    fn default() -> Self {
        Self { looks: [0; LONGEST + 1], total: 0 }
    }
}

impl Lateness {
    /// Notes a look that sent its first tag this late, ms.
    pub(super) fn note(&mut self, ms: u64) {
        if self.total >= HALF {
            self.looks.iter_mut().for_each(|count| *count /= 2);
            self.total = self.looks.iter().sum();
        }
        self.looks[usize::try_from(ms).unwrap_or(LONGEST).min(LONGEST)] += 1;
        self.total += 1;
    }

    /// What 99 of 100 looks did not exceed, ms; 255 stands for everything from there on.
    pub(super) fn p99_ms(&self) -> u64 {
        let wanted = u64::from(self.total) * 99;
        let mut sum = 0;
        let within = self.looks.iter().position(|count| {
            sum += u64::from(*count) * 100;
            sum >= wanted
        });
        within.unwrap_or(0) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_in_a_hundred_may_be_later() {
        let mut late = Lateness::default();
        assert_eq!(late.p99_ms(), 0);
        (0..99).for_each(|_| late.note(7));
        late.note(5_000);
        assert_eq!(late.p99_ms(), 7);
        late.note(5_000);
        assert_eq!(late.p99_ms(), 255);
    }

    #[test]
    fn what_was_long_ago_is_forgotten() {
        let mut late = Lateness::default();
        (0..1_000).for_each(|_| late.note(200));
        (0..10_000).for_each(|_| late.note(3));
        assert_eq!(late.p99_ms(), 3);
    }
}
