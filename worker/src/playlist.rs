//! Which item comes next: the rounds of a playlist, which items are passed over, and the next round's items when the
//! controller sends them.

#[cfg(test)]
mod tests;

use crate::circuit::{Circuits, Failure};
use state::wire::{Cursor, ItemSpec};
use tokio::time::Instant;

/// In a list that is played once, an item for which alone the bucket does not answer is tried this often.
const MOST_ALONE: u32 = 3;

/// The playlist as the worker walks it.
#[derive(Debug)]
pub struct Playlist {
    items: Vec<ItemSpec>,
    coming: Option<Vec<ItemSpec>>,
    generation: u64,
    at: usize,
    looped: bool,
    circuits: Circuits,
    /// Items in a row that failed or were passed over.
    barren: usize,
    /// Places of those that were passed over.
    passed_over: Vec<usize>,
    /// For a while nothing could be played at all.
    desperate: bool,
    held: Held,
}

/// How often in a row the next item of a list that is played once could not be reached.
#[derive(Debug, Default)]
struct Held {
    tries: u32,
    /// Those of them in which the bucket answered for others.
    alone: u32,
}

/// What to do next.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Open this item, from this many ms on.
    Open(ItemSpec, u64),
    /// Every item of the round has failed; try again later.
    AllFailed,
    /// The end of a playlist that does not loop.
    Finished,
}

impl Playlist {
    /// Begins at the cursor's item where it still exists, else at the first one.
    pub fn new(items: Vec<ItemSpec>, generation: u64, looped: bool, cursor: Option<&Cursor>) -> Self {
        let found = cursor.and_then(|c| items.iter().position(|i| i.id == c.item && i.key == c.key));
        Self {
            items,
            coming: None,
            generation,
            at: found.unwrap_or(0),
            looped,
            circuits: Circuits::default(),
            barren: 0,
            passed_over: Vec::new(),
            desperate: false,
            held: Held::default(),
        }
    }

    /// Goes to the cursor's item; false where it is not in this round.
    pub fn go_to(&mut self, cursor: &Cursor) -> bool {
        let found = self.items.iter().position(|i| i.id == cursor.item && i.key == cursor.key);
        self.at = found.unwrap_or(self.at);
        self.forget_barren();
        self.held = Held::default();
        found.is_some()
    }

    /// The items of this round.
    pub fn items(&self) -> &[ItemSpec] {
        &self.items
    }

    /// Which list this is.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The item that would be opened next, without moving on.
    pub fn peek(&self) -> Option<&ItemSpec> {
        match self.items.get(self.at) {
            Some(item) => Some(item),
            None if self.looped => self.coming.as_ref().unwrap_or(&self.items).first(),
            None => None,
        }
    }

    /// Whether the item opened last was the round's last, so that the next round's items should be asked for.
    pub fn runs_out(&self) -> bool {
        self.looped && self.at >= self.items.len() && self.coming.is_none()
    }

    /// Moves on to the next item whose turn it is.
    pub fn step(&mut self, now: Instant) -> Step {
        loop {
            if self.barren > 0 && self.barren >= self.items.len() {
                return self.last_resort();
            }
            if self.at >= self.items.len() {
                if !self.looped {
                    return Step::Finished;
                }
                self.begin_round();
            }
            let Some(item) = self.items.get(self.at) else { return Step::AllFailed };
            self.at += 1;
            if self.held.tries > 0 || self.circuits.lets_through(item, now) {
                return Step::Open(item.clone(), 0);
            }
            self.barren += 1;
            self.passed_over.push(self.at - 1);
        }
    }

    /// Nothing has its turn: better the least bad item than none.
    fn last_resort(&mut self) -> Step {
        self.desperate = true;
        let places = std::mem::take(&mut self.passed_over);
        let Some(place) = self.circuits.least_bad(&self.items, &places) else { return Step::AllFailed };
        self.at = place + 1;
        self.items.get(place).map_or(Step::AllFailed, |item| Step::Open(item.clone(), 0))
    }

    fn begin_round(&mut self) {
        if let Some(items) = self.coming.take() {
            self.items = items;
            self.circuits.keep_only(&self.items);
            self.passed_over.clear();
        }
        self.at = 0;
    }

    /// Takes the next round's items; returns whether they differ from this round's.
    pub fn offer(&mut self, generation: u64, items: Vec<ItemSpec>) -> bool {
        if generation <= self.generation {
            return false;
        }
        self.generation = generation;
        let differs = items != self.items;
        self.coming = Some(items);
        differs
    }

    /// An item can be played, or at least its beginning. If nothing could before, the cause was not with the items, and
    /// all have their turn.
    pub fn opened(&mut self) {
        self.forget_barren();
        self.held = Held::default();
        if std::mem::take(&mut self.desperate) {
            self.circuits.give_all_their_turn();
        }
    }

    fn forget_barren(&mut self) {
        self.barren = 0;
        self.passed_over.clear();
    }

    /// The item opened last cannot be played. In a list that is played once, an item out of reach is not used up: it
    /// stays the next one, and how often it was tried is returned.
    pub fn cannot_open(&mut self, item: &ItemSpec, why: Failure, now: Instant) -> Option<u32> {
        self.circuits.failed(item, why, now);
        if self.hold(item, why) {
            return Some(self.held.tries);
        }
        self.held = Held::default();
        self.barren += 1;
        None
    }

    fn hold(&mut self, item: &ItemSpec, why: Failure) -> bool {
        let opened = self.at.checked_sub(1).filter(|at| self.items.get(*at).is_some_and(|i| i.id == item.id));
        let alone = match why {
            Failure::Away => 0,
            Failure::Alone => self.held.alone + 1,
            Failure::Item | Failure::Waits => return false,
        };
        let Some(at) = opened.filter(|_| !self.looped && alone < MOST_ALONE) else { return false };
        self.at = at;
        self.held = Held { tries: self.held.tries + 1, alone };
        true
    }

    /// Whether the bucket was out of reach when it was asked last.
    pub fn is_away(&self) -> bool {
        self.circuits.is_away()
    }

    /// What is known of items that failed.
    pub fn circuits(&mut self) -> &mut Circuits {
        &mut self.circuits
    }

    /// Begins a fresh round after all items failed.
    pub fn retry(&mut self) {
        self.forget_barren();
        self.begin_round();
    }
}
