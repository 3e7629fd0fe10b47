//! Which item comes next: the rounds of a playlist, which items are passed over, and the next round's items when the
//! controller sends them.

use crate::circuit::{Circuits, Failure};
use state::wire::{Cursor, ItemSpec};
use tokio::time::Instant;

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
        }
    }

    /// Goes to the cursor's item; false where it is not in this round.
    pub fn go_to(&mut self, cursor: &Cursor) -> bool {
        let found = self.items.iter().position(|i| i.id == cursor.item && i.key == cursor.key);
        self.at = found.unwrap_or(self.at);
        self.barren = 0;
        self.passed_over.clear();
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
            if self.circuits.lets_through(item, now) {
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
        if std::mem::take(&mut self.desperate) {
            self.circuits.give_all_their_turn();
        }
    }

    fn forget_barren(&mut self) {
        self.barren = 0;
        self.passed_over.clear();
    }

    /// The item opened last cannot be played.
    pub fn cannot_open(&mut self, item: &ItemSpec, why: Failure, now: Instant) {
        self.barren += 1;
        self.circuits.failed(item, why, now);
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

    fn key(step: Step) -> String {
        match step {
            Step::Open(item, _) => item.key,
            Step::AllFailed => "!".into(),
            Step::Finished => ".".into(),
        }
    }

    fn walk(playlist: &mut Playlist, steps: usize) -> String {
        (0..steps).map(|_| key(playlist.step(Instant::now()))).collect()
    }

    /// Walks while the named items are broken; `when_broken` says where that shows.
    fn walk_with(playlist: &mut Playlist, broken: &str, steps: usize, now: Instant) -> String {
        let mut walked = String::new();
        for _ in 0..steps {
            match playlist.step(now) {
                Step::Open(item, _) if broken.contains(&item.key) => {
                    walked += &item.key.to_uppercase();
                    playlist.cannot_open(&item, Failure::Item, now);
                }
                Step::Open(item, _) => {
                    walked += &item.key;
                    playlist.opened();
                    playlist.circuits().worked(&item);
                }
                step => {
                    walked += &key(step);
                    playlist.retry();
                }
            }
        }
        walked
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
        for name in ["a", "b"] {
            playlist.step(Instant::now());
            playlist.cannot_open(&items(name)[0], Failure::Item, Instant::now());
        }
        assert_eq!(walk(&mut playlist, 1), "!");
        playlist.retry();
        assert_eq!(walk(&mut playlist, 1), "a");
        assert_eq!(Playlist::new(Vec::new(), 0, true, None).step(Instant::now()), Step::AllFailed);
    }

    #[test]
    fn a_broken_item_is_tried_after_growing_distances_and_success_ends_that() {
        let mut playlist = Playlist::new(items("abc"), 0, true, None);
        let now = Instant::now();
        // Rounds:         1    2    -   4    -   -   -   8
        assert_eq!(walk_with(&mut playlist, "b", 20, now), "aBcaBcacaBcacacacaBc");
        // Passed over in seven rounds, then it works, then it fails afresh.
        assert_eq!(walk_with(&mut playlist, "", 17, now), "acacacacacacacabc");
        assert_eq!(walk_with(&mut playlist, "b", 8, now), "aBcaBcac");
    }

    #[test]
    fn the_same_key_with_another_content_begins_afresh() {
        let mut playlist = Playlist::new(items("ab"), 0, true, None);
        let now = Instant::now();
        assert_eq!(walk_with(&mut playlist, "b", 5, now), "aBaBa");
        let mut mended = items("ab");
        mended[1].content = "new".into();
        playlist.offer(1, mended);
        assert_eq!(walk_with(&mut playlist, "", 4, now), "abab", "the present round is walked to its end");
    }

    #[test]
    fn where_none_has_its_turn_the_least_bad_is_tried() {
        let mut playlist = Playlist::new(items("ab"), 0, true, None);
        let now = Instant::now();
        assert_eq!(walk_with(&mut playlist, "ab", 6, now), "AB!AB!");
        // Both are to be passed over now. One of them is tried, and then the other.
        assert_eq!(walk_with(&mut playlist, "ab", 4, now), "A!BA");
        // What broke them all is over: nothing is passed over for it.
        walk_with(&mut playlist, "ab", 40, now);
        let walked = walk_with(&mut playlist, "", 6, now);
        assert!(walked.ends_with("abab") || walked.ends_with("baba"), "{walked}");
    }

    #[test]
    fn what_missed_the_bucket_has_its_turn_as_soon_as_the_bucket_answers() {
        let mut playlist = Playlist::new(items("abc"), 0, true, None);
        let now = Instant::now();
        let gone = |playlist: &mut Playlist, expected: &str| {
            let Step::Open(item, _) = playlist.step(now) else { panic!("{expected}") };
            assert_eq!(item.key, expected);
            playlist.cannot_open(&item, Failure::Away, now);
        };
        // Only "a" is on this machine.
        for _ in 0..5 {
            assert_eq!(key(playlist.step(now)), "a");
            playlist.opened();
            if playlist.circuits().is_away() {
                continue;
            }
            gone(&mut playlist, "b");
            gone(&mut playlist, "c");
        }
        playlist.circuits().bucket_answers();
        assert_eq!(walk(&mut playlist, 3), "bca");
    }

    #[test]
    fn while_the_bucket_is_away_it_is_asked_now_and_then() {
        let mut playlist = Playlist::new(items("ab"), 0, true, None);
        let now = Instant::now();
        playlist.cannot_open(&items("b")[0], Failure::Away, now);
        playlist.opened();
        assert_eq!(walk_with(&mut playlist, "", 3, now), "aaa");
        let later = now + std::time::Duration::from_secs(11);
        playlist.opened();
        assert_eq!(key(playlist.step(later)), "b");
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(256))]

        /// Whatever fails whenever: something is tried at each step or all have failed, an item that works is reached
        /// within the largest distance, and nothing goes on for ever.
        #[test]
        fn an_item_that_works_is_always_reached(
            count in 1usize..6, good in 0usize..6, fails in proptest::collection::vec(0u8..64, 0..400),
        ) {
            let now = Instant::now();
            let keys: String = "abcdef".chars().take(count).collect();
            let good = keys.chars().nth(good % count).unwrap().to_string();
            let mut playlist = Playlist::new(items(&keys), 0, true, None);
            for pattern in fails {
                let broken: String = keys.chars().enumerate().filter(|(n, _)| pattern >> n & 1 == 1).map(|(_, c)| c).collect();
                walk_with(&mut playlist, &broken, 1, now);
            }
            let walked = walk_with(&mut playlist, &keys.replace(&good, ""), 40 * count, now);
            proptest::prop_assert!(walked.contains(&good), "{walked}");
        }
    }
}
