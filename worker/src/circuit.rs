//! Items that failed are tried again after growing distances: a circuit for each. What failed only because the bucket
//! is out of reach is not held against an item. Pure; `now` comes from outside.

use state::wire::ItemSpec;
use std::collections::{HashMap, HashSet};
use std::time::Duration;
use tokio::time::Instant;

/// Most rounds that an item is passed over.
const MOST_ROUNDS: u32 = 31;
/// While the bucket is out of reach, items that missed it are passed over; one of them is tried this often.
const ASK_AGAIN: Duration = Duration::from_secs(10);

/// Why an item failed, as far as it matters for the next try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// It is broken, refused, missing, or gave too little.
    Item,
    /// The bucket could not be reached.
    Away,
    /// The bucket answers, and again and again not for this one.
    Alone,
    /// This machine had no time for it.
    Waits,
}

#[derive(Debug, Default)]
struct Circuit {
    failures: u32,
    /// Rounds in which it is still passed over.
    rounds: u32,
    /// The last try found no bucket.
    away: bool,
}

/// A file and its content: a new one under the same key begins afresh.
type Name = (String, String);

/// The circuits of all items that failed.
#[derive(Debug, Default)]
pub struct Circuits {
    open: HashMap<Name, Circuit>,
    away_until: Option<Instant>,
}

fn name(item: &ItemSpec) -> Name {
    (item.key.clone(), item.content.clone())
}

/// Rounds to pass over after so many failures in a row: 0, 1, 3, 7 and so on.
fn rounds(failures: u32) -> u32 {
    (1u32 << failures.saturating_sub(1).min(16)).saturating_sub(1).min(MOST_ROUNDS)
}

impl Circuits {
    /// Whether it is an item's turn. Each no counts as a round.
    pub fn lets_through(&mut self, item: &ItemSpec, now: Instant) -> bool {
        let Some(circuit) = self.open.get_mut(&name(item)) else { return true };
        if circuit.rounds > 0 {
            circuit.rounds -= 1;
            return false;
        }
        !circuit.away || self.away_until.is_none_or(|until| now >= until)
    }

    /// It was tried in vain.
    pub fn failed(&mut self, item: &ItemSpec, why: Failure, now: Instant) {
        if why == Failure::Waits {
            return;
        }
        let circuit = self.open.entry(name(item)).or_default();
        circuit.away = why == Failure::Away;
        if circuit.away {
            self.away_until = Some(now + ASK_AGAIN);
        } else {
            circuit.failures += 1;
            circuit.rounds = rounds(circuit.failures);
        }
    }

    /// It was played to its end.
    pub fn worked(&mut self, item: &ItemSpec) {
        self.open.remove(&name(item));
    }

    /// The bucket can be reached: whatever missed it has its turn again.
    pub fn bucket_answers(&mut self) {
        self.away_until = None;
        self.open.values_mut().for_each(|circuit| circuit.away = false);
    }

    /// Nothing is passed over in the next round; whoever fails again is passed over for longer.
    pub fn give_all_their_turn(&mut self) {
        self.open.values_mut().for_each(|circuit| circuit.rounds = 0);
    }

    /// Whether the bucket was out of reach when it was asked last.
    pub fn is_away(&self) -> bool {
        self.away_until.is_some()
    }

    /// Of these items, the place of the one with the fewest failures: if none has its turn, it is tried all the same.
    pub fn least_bad(&self, items: &[ItemSpec], places: &[usize]) -> Option<usize> {
        let badness = |place: &usize| {
            let circuit = items.get(*place).and_then(|item| self.open.get(&name(item)));
            circuit.map_or((0, 0), |circuit| (circuit.failures, circuit.rounds))
        };
        places.iter().copied().min_by_key(badness)
    }

    /// Forgets everything that is not in this list any more.
    pub fn keep_only(&mut self, items: &[ItemSpec]) {
        if self.open.is_empty() {
            return;
        }
        let listed: HashSet<Name> = items.iter().map(name).collect();
        self.open.retain(|known, _| listed.contains(known));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_distance_grows_and_has_an_end() {
        let all: Vec<u32> = (1..9).map(rounds).collect();
        assert_eq!(all, [0, 1, 3, 7, 15, 31, 31, 31]);
        assert_eq!(rounds(u32::MAX), MOST_ROUNDS);
    }
}
