//! Putting many files on the list at once. Pure.

use super::list::{Entry, MOST, State, Wanted};
use state::Timestamp;
use std::collections::HashMap;

/// The list while files are put on it: where those of each key are.
pub(super) struct Places {
    /// `None` where one was taken away.
    entries: Vec<Option<Entry>>,
    by_key: HashMap<String, Vec<usize>>,
    /// How many there are.
    count: usize,
    /// None before this one is over.
    oldest: usize,
    /// How many entries were looked at.
    looked: usize,
}

impl Places {
    pub(super) fn of(entries: Vec<Entry>) -> Self {
        let (count, mut by_key) = (entries.len(), HashMap::<String, Vec<usize>>::new());
        for (at, entry) in entries.iter().enumerate() {
            by_key.entry(entry.item.key.clone()).or_default().push(at);
        }
        let entries = entries.into_iter().map(Some).collect();
        Self { entries, by_key, count, oldest: 0, looked: count }
    }

    /// Puts a file on the list, or finds it there; `None` when there is no room.
    pub(super) fn want(&mut self, wanted: Wanted, now: Timestamp) -> Option<Entry> {
        let same_key = self.by_key.remove(&wanted.item.key).unwrap_or_default();
        self.looked += same_key.len();
        let known = same_key.iter().find_map(|at| {
            let entry = self.entries[*at].as_mut().filter(|entry| entry.is_about(&wanted))?;
            entry.want_again(&wanted, now);
            Some(entry.clone())
        });
        if known.is_some() {
            self.by_key.insert(wanted.item.key, same_key);
            return known;
        }
        // What was known of an earlier content is history.
        let is_history = |entry: &Entry| entry.state != State::Running && entry.profile == wanted.profile;
        for at in &same_key {
            self.count -= usize::from(self.entries[*at].take_if(|entry| is_history(entry)).is_some());
        }
        let mut left: Vec<_> = same_key.into_iter().filter(|at| self.entries[*at].is_some()).collect();
        let entry = self.make_room().then(|| Entry::new(wanted.clone(), now));
        if let Some(entry) = &entry {
            left.push(self.entries.len());
            self.entries.push(Some(entry.clone()));
            self.count += 1;
        }
        self.by_key.insert(wanted.item.key, left);
        entry
    }

    /// The list as it is now, oldest first.
    pub(super) fn into_entries(self) -> Vec<Entry> {
        self.entries.into_iter().flatten().collect()
    }

    /// Takes away the oldest file that is over, if the list is full. False when there is none.
    fn make_room(&mut self) -> bool {
        while self.count >= MOST && self.oldest < self.entries.len() {
            let gone = self.entries[self.oldest].take_if(|entry| entry.state.is_over());
            self.count -= usize::from(gone.is_some());
            self.oldest += 1;
            self.looked += 1;
        }
        self.count < MOST
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use state::ids::{ChannelId, Ulid};
    use state::profile::Profile;
    use state::wire::{ItemSpec, MediaAt};

    #[test]
    fn ten_thousand_files_are_not_compared_each_with_each() {
        let wanted = |key: String, content: &str| {
            let at = MediaAt::Path(key.clone().into());
            let item = ItemSpec { id: Ulid::from_text(&key), key, at, content: content.into() };
            Wanted {
                item,
                channel: ChannelId::main(),
                profile: Profile::default(),
                loudness: false,
                asked: true,
            }
        };
        let now = state::now();
        let mut entries = Vec::new();
        let mut put = |name: &str, content: &str, state: State| {
            entries.iter_mut().for_each(|entry: &mut Entry| entry.state = state);
            let mut places = Places::of(std::mem::take(&mut entries));
            let many = (0..MOST).map(|n| wanted(format!("{name} {n}"), content));
            let count = many.filter_map(|file| places.want(file, now)).count();
            assert!(places.looked <= 4 * MOST, "{} looks for {MOST} files", places.looked);
            entries = places.into_entries();
            (count, entries.len())
        };
        assert_eq!(put("a", "1", State::Waiting), (MOST, MOST));
        assert_eq!(put("a", "1", State::Waiting), (MOST, MOST), "they are known");
        assert_eq!(put("a", "2", State::Waiting), (MOST, MOST), "their content is another");
        assert_eq!(put("b", "1", State::Waiting), (0, MOST), "there is no room");
        assert_eq!(put("b", "1", State::Ready), (MOST, MOST), "each makes room for one");
    }
}
