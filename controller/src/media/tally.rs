//! Counting what the cache is good for: each item that a worker opens is a hit or a miss.

use serde::Serialize;
use state::ids::Ulid;
use state::wire::Heartbeat;

/// Openings since the controller started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Counts {
    /// Items that were played from a copy.
    pub hits: u64,
    /// Items that were played from the bucket.
    pub misses: u64,
    /// Bytes of the items that were played from a copy: not fetched again.
    pub spared_bytes: u64,
}

impl Counts {
    /// Part of the openings that were hits; `None` before the first one.
    pub fn hit_ratio(&self) -> Option<f64> {
        let all = self.hits + self.misses;
        (all > 0).then(|| self.hits as f64 / all as f64)
    }

    /// Adds an opening.
    pub(super) fn add(&mut self, source: &str, size: u64) {
        match source {
            "cache" => {
                self.hits += 1;
                self.spared_bytes += size;
            }
            "bucket" => self.misses += 1,
            _ => {}
        }
    }
}

/// What was on the air when we last looked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Playing {
    run: Ulid,
    item: Ulid,
    position_ms: u64,
}

impl Playing {
    /// What a heartbeat says.
    pub(super) fn of(beat: &Heartbeat) -> Option<Self> {
        let item = beat.item.as_ref()?;
        Some(Self { run: beat.run.clone(), item: item.id.clone(), position_ms: item.position_ms })
    }

    /// Whether an item was opened since `before`: another one, or the same from its beginning.
    pub(super) fn is_new(&self, before: Option<&Self>) -> bool {
        before.is_none_or(|before| {
            self.run != before.run || self.item != before.item || self.position_ms < before.position_ms
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_could_have_been_a_copy_counts() {
        let mut counts = Counts::default();
        assert_eq!(counts.hit_ratio(), None);
        for source in ["cache", "bucket", "cache", "file", "cache", ""] {
            counts.add(source, 10);
        }
        assert_eq!(counts, Counts { hits: 3, misses: 1, spared_bytes: 30 });
        assert_eq!(counts.hit_ratio(), Some(0.75));
    }

    #[test]
    fn a_loop_of_one_item_is_opened_again_and_again() {
        let at = |run: &str, item: &str, position_ms| Playing {
            run: Ulid::from_text(run),
            item: Ulid::from_text(item),
            position_ms,
        };
        let first = at("r", "a", 900);
        assert!(first.is_new(None));
        assert!(!at("r", "a", 1_000).is_new(Some(&first)));
        assert!(at("r", "a", 10).is_new(Some(&first)));
        assert!(at("r", "b", 1_000).is_new(Some(&first)));
        assert!(at("s", "a", 1_000).is_new(Some(&first)));
    }
}
