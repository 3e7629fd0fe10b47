//! Which item comes next: the rounds of a playlist, and the next round's items when the controller sends them.

use state::wire::{Cursor, ItemSpec};

/// The playlist as the worker walks it.
#[derive(Debug)]
pub struct Playlist {
    items: Vec<ItemSpec>,
    coming: Option<Vec<ItemSpec>>,
    generation: u64,
    at: usize,
    looped: bool,
    failed_in_a_row: usize,
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
        Self { items, coming: None, generation, at: found.unwrap_or(0), looped, failed_in_a_row: 0 }
    }

    /// Goes to the cursor's item; false where it is not in this round.
    pub fn go_to(&mut self, cursor: &Cursor) -> bool {
        let found = self.items.iter().position(|i| i.id == cursor.item && i.key == cursor.key);
        self.at = found.unwrap_or(self.at);
        self.failed_in_a_row = 0;
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

    /// Moves on to the next item.
    pub fn step(&mut self) -> Step {
        if self.failed_in_a_row > 0 && self.failed_in_a_row >= self.items.len() {
            return Step::AllFailed;
        }
        if self.at >= self.items.len() {
            if !self.looped {
                return Step::Finished;
            }
            self.begin_round();
        }
        match self.items.get(self.at) {
            Some(item) => {
                self.at += 1;
                Step::Open(item.clone(), 0)
            }
            None => Step::AllFailed,
        }
    }

    fn begin_round(&mut self) {
        if let Some(items) = self.coming.take() {
            self.items = items;
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

    /// The item opened last can be played.
    pub fn succeeded(&mut self) {
        self.failed_in_a_row = 0;
    }

    /// The item opened last cannot be played.
    pub fn failed(&mut self) {
        self.failed_in_a_row += 1;
    }

    /// Begins a fresh round after all items failed.
    pub fn retry(&mut self) {
        self.failed_in_a_row = 0;
        self.begin_round();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use state::ids::Ulid;
    use state::wire::MediaAt;

    fn items(keys: &str) -> Vec<ItemSpec> {
        let item = |c: char| ItemSpec {
            id: Ulid::from_text(&c.to_string()),
            key: c.into(),
            at: MediaAt::Path("/m".into()),
            content: String::new(),
        };
        keys.chars().map(item).collect()
    }

    fn walk(playlist: &mut Playlist, steps: usize) -> String {
        let key = |step| match step {
            Step::Open(item, _) => item.key,
            Step::AllFailed => "!".into(),
            Step::Finished => ".".into(),
        };
        (0..steps).map(|_| key(playlist.step())).collect()
    }

    #[test]
    fn a_loop_goes_round_and_a_list_ends() {
        assert_eq!(walk(&mut Playlist::new(items("abc"), 0, true, None), 7), "abcabca");
        assert_eq!(walk(&mut Playlist::new(items("abc"), 0, false, None), 5), "abc..");
    }

    #[test]
    fn it_goes_on_at_the_cursor_and_with_the_new_list_at_the_next_round() {
        let cursor = Cursor { item: Ulid::from_text("b"), key: "b".into(), offset_ms: 0 };
        let mut playlist = Playlist::new(items("abc"), 0, true, Some(&cursor));
        assert_eq!(walk(&mut playlist, 2), "bc");
        assert!(playlist.runs_out());
        assert!(playlist.offer(1, items("xy")));
        assert!(!playlist.offer(1, items("zz")), "the same generation again is ignored");
        assert_eq!(playlist.peek().unwrap().key, "x");
        assert_eq!(walk(&mut playlist, 3), "xyx");
    }

    #[test]
    fn a_round_without_success_stops_until_it_is_retried() {
        let mut playlist = Playlist::new(items("ab"), 0, true, None);
        for _ in 0..2 {
            playlist.step();
            playlist.failed();
        }
        assert_eq!(walk(&mut playlist, 1), "!");
        playlist.retry();
        assert_eq!(walk(&mut playlist, 1), "a");
        assert_eq!(Playlist::new(Vec::new(), 0, true, None).step(), Step::AllFailed);
    }
}
