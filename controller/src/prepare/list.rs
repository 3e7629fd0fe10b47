//! The list of files to prepare, as data: what is asked for, what comes next, and what became of it. Pure: no
//! clock, no process, no disk.

use super::job::Outcome;
use super::places::Places;
use serde::{Deserialize, Serialize};
use state::Timestamp;
use state::ids::ChannelId;
use state::prepared::{Said, Stage};
use state::profile::Profile;
use state::wire::ItemSpec;
use std::time::Duration;

/// Files on the list at most; a playlist is as long.
pub(super) const MOST: usize = 10_000;
/// Waits after a process that died, s. Then the file counts as failed.
const WAITS_S: [i64; 3] = [30, 60, 120];
/// Wait while the bucket is away or there is no room, s. That is not the file's fault and has no end.
const LATER_S: i64 = 60;

/// A file that someone wants prepared.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Which file.
    pub item: ItemSpec,
    /// For which channel.
    pub channel: ChannelId,
    /// What it shall fit.
    pub profile: Profile,
    /// Whether its loudness is to be set even if it fits.
    pub loudness: bool,
    /// Whether a person asks, for whom a file that failed is tried again.
    pub asked: bool,
}

/// A file on the list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Which file.
    pub item: ItemSpec,
    /// For which channel it was wanted first.
    pub channel: ChannelId,
    /// What it shall fit.
    pub profile: Profile,
    /// Where it stands.
    pub state: State,
    /// How much is done, 0 to 1.
    pub progress: f64,
    /// What is being done.
    pub stage: Option<Stage>,
    /// Why it was needed, or why nothing was, in words.
    pub reason: Option<String>,
    /// Why it failed, in words.
    pub error: Option<String>,
    /// Whether its loudness is to be set even if it fits.
    #[serde(default)]
    pub loudness: bool,
    /// When it was put on the list.
    pub asked_at: Timestamp,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// Processes that died over it.
    #[serde(default)]
    pub died: usize,
    /// Not to be begun before this.
    #[serde(default)]
    pub not_before: Option<Timestamp>,
}

/// Where a file stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It will be its turn.
    Waiting,
    /// It is its turn.
    Running,
    /// What was prepared is there.
    Ready,
    /// It cannot be prepared.
    Failed,
    /// It is copied as it is.
    Fits,
}

/// What comes next.
#[derive(Debug, Clone, PartialEq)]
pub enum Next {
    /// This file; it counts as running now.
    Do(Box<Entry>),
    /// Nothing for this long.
    Wait(Duration),
    /// Nothing.
    Nothing,
}

/// The list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct List {
    version: u32,
    entries: Vec<Entry>,
}

impl Default for List {
    fn default() -> Self {
        Self { version: 1, entries: Vec::new() }
    }
}

impl List {
    /// All files, oldest first.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The list as a new controller takes it over: what was running waits again.
    pub fn resumed(mut self) -> Self {
        for entry in self.entries.iter_mut().filter(|entry| entry.state == State::Running) {
            entry.state = State::Waiting;
        }
        self
    }

    /// Whether a file that nobody asked for is not known yet: what failed is not tried over and over.
    pub fn is_news(&self, wanted: &Wanted) -> bool {
        !self.entries.iter().any(|entry| entry.is_about(wanted))
    }

    /// Whether a file is known to be prepared.
    pub fn is_ready(&self, wanted: &Wanted) -> bool {
        self.entries.iter().any(|entry| entry.is_about(wanted) && entry.state == State::Ready)
    }

    /// Puts files on the list, or finds them there. `None` for each for which there is no room because the list is
    /// full of files that wait. The list is gone through once, however many there are.
    pub fn want(&mut self, wanted: Vec<Wanted>, now: Timestamp) -> Vec<Option<Entry>> {
        let mut places = Places::of(std::mem::take(&mut self.entries));
        let answers = wanted.into_iter().map(|wanted| places.want(wanted, now)).collect();
        self.entries = places.into_entries();
        answers
    }

    /// Takes the next file.
    pub fn next(&mut self, now: Timestamp) -> Next {
        let waiting = |entry: &&mut Entry| entry.state == State::Waiting;
        let due = |entry: &Entry| entry.not_before.is_none_or(|at| at <= now);
        if let Some(entry) = self.entries.iter_mut().filter(waiting).find(|entry| due(entry)) {
            entry.state = State::Running;
            return Next::Do(Box::new(entry.clone()));
        }
        let later = self.entries.iter().filter(|entry| entry.state == State::Waiting);
        let soonest = later.filter_map(|entry| entry.not_before).min();
        soonest.map_or(Next::Nothing, |at| {
            let ms = at.as_millisecond().saturating_sub(now.as_millisecond()).max(1);
            Next::Wait(Duration::from_millis(ms as u64))
        })
    }

    /// Takes in how far a file is; that never goes back.
    pub fn said(&mut self, about: &Entry, said: &Said) {
        let (Some(entry), Said::Progress { stage, done_ms, total_ms }) = (self.same(about), said) else {
            return;
        };
        entry.stage = Some(*stage);
        entry.progress = entry.progress.max(stage.share(*done_ms, *total_ms));
    }

    /// Takes in what became of a file.
    pub fn ended(&mut self, about: &Entry, outcome: Outcome, now: Timestamp) {
        if let Some(entry) = self.same(about) {
            entry.end(outcome, now);
        }
    }

    fn same(&mut self, about: &Entry) -> Option<&mut Entry> {
        let is_same = |e: &Entry| (&e.item.key, &e.item.content) == (&about.item.key, &about.item.content);
        self.entries.iter_mut().find(|e| is_same(e) && e.profile == about.profile)
    }
}

impl State {
    pub(super) fn is_over(self) -> bool {
        matches!(self, Self::Ready | Self::Failed | Self::Fits)
    }
}

impl Entry {
    pub(super) fn new(wanted: Wanted, now: Timestamp) -> Self {
        Self {
            item: wanted.item,
            channel: wanted.channel,
            profile: wanted.profile,
            state: State::Waiting,
            progress: 0.0,
            stage: None,
            reason: None,
            error: None,
            loudness: wanted.loudness,
            asked_at: now,
            ended_at: None,
            died: 0,
            not_before: None,
        }
    }

    pub(super) fn is_about(&self, wanted: &Wanted) -> bool {
        let (own, other) = (&self.item, &wanted.item);
        (&own.key, &own.content, &self.profile) == (&other.key, &other.content, &wanted.profile)
    }

    /// | state \ asked by | a person | nobody |
    /// |---|---|---|
    /// | waiting | its turn comes at once | stays |
    /// | running | stays | stays |
    /// | ready, failed, fits | waits again | stays |
    ///
    /// A job whose result is there already ends at once.
    pub(super) fn want_again(&mut self, wanted: &Wanted, now: Timestamp) {
        let louder = wanted.loudness && !self.loudness;
        self.loudness |= wanted.loudness;
        self.not_before = self.not_before.filter(|_| !wanted.asked);
        if self.state.is_over() && (wanted.asked || louder) {
            let loudness = self.loudness;
            *self = Self { loudness, ..Self::new(wanted.clone(), now) };
        }
    }

    fn end(&mut self, outcome: Outcome, now: Timestamp) {
        self.stage = None;
        self.error = None;
        let state = match outcome {
            Outcome::Ready(reason) => {
                (self.reason, self.progress) = (Some(reason), 1.0);
                State::Ready
            }
            Outcome::Fits(reason) => {
                (self.reason, self.progress) = (Some(reason), 1.0);
                State::Fits
            }
            Outcome::Failed(why) => {
                self.error = Some(why);
                State::Failed
            }
            Outcome::Died(why) => {
                self.error = Some(why);
                let wait = WAITS_S.get(self.died).copied();
                self.died += 1;
                self.not_before = wait.map(|s| now + jiff::SignedDuration::from_secs(s));
                if wait.is_some() { State::Waiting } else { State::Failed }
            }
            Outcome::Later(why) => {
                self.error = Some(why);
                self.not_before = Some(now + jiff::SignedDuration::from_secs(LATER_S));
                State::Waiting
            }
            Outcome::Left => State::Waiting,
        };
        self.state = state;
        self.ended_at = state.is_over().then_some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use state::ids::Ulid;
    use state::wire::MediaAt;

    fn wanted(key: &str, content: &str, asked: bool) -> Wanted {
        let at = MediaAt::Path(key.into());
        let item = ItemSpec { id: Ulid::from_text(key), key: key.into(), at, content: content.into() };
        Wanted { item, channel: ChannelId::main(), profile: Profile::default(), loudness: false, asked }
    }

    fn want(list: &mut List, wanted: Wanted, now: Timestamp) -> Option<Entry> {
        list.want(vec![wanted], now).pop().unwrap()
    }

    fn at(s: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + s).unwrap()
    }

    fn take(list: &mut List, s: i64) -> Entry {
        match list.next(at(s)) {
            Next::Do(entry) => *entry,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn files_have_their_turn_in_order_and_one_is_not_done_twice() {
        let mut list = List::default();
        for key in ["a", "b", "a"] {
            want(&mut list, wanted(key, "1", true), at(0)).unwrap();
        }
        assert_eq!(list.entries().len(), 2);
        let first = take(&mut list, 0);
        assert_eq!((first.item.key.as_str(), first.state), ("a", State::Running));
        let progress = |stage, done_ms| Said::Progress { stage, done_ms, total_ms: 100 };
        list.said(&first, &progress(Stage::Sound, 50));
        list.said(&first, &progress(Stage::Listen, 50));
        assert!(list.entries()[0].progress > 0.9, "progress went back");
        list.ended(&first, Outcome::Ready("why".into()), at(1));
        assert_eq!((list.entries()[0].state, list.entries()[0].progress), (State::Ready, 1.0));
        assert_eq!(take(&mut list, 1).item.key, "b");
        assert_eq!(list.next(at(1)), Next::Nothing);
    }

    #[test]
    fn what_failed_is_tried_again_only_when_asked_for_or_when_it_is_another_file() {
        let mut list = List::default();
        want(&mut list, wanted("a", "1", false), at(0)).unwrap();
        let entry = take(&mut list, 0);
        list.ended(&entry, Outcome::Failed("broken".into()), at(0));
        assert!(!list.is_news(&wanted("a", "1", false)) && list.is_news(&wanted("a", "2", false)));
        assert_eq!(want(&mut list, wanted("a", "1", false), at(1)).unwrap().state, State::Failed);
        assert_eq!(want(&mut list, wanted("a", "1", true), at(1)).unwrap().state, State::Waiting);
        want(&mut list, wanted("a", "2", false), at(2)).unwrap();
        assert_eq!(list.entries().len(), 1, "the old content is forgotten");
    }

    #[test]
    fn a_process_that_dies_is_followed_by_another_three_times() {
        let mut list = List::default();
        want(&mut list, wanted("a", "1", false), at(0)).unwrap();
        let mut s = 0;
        for wait in WAITS_S {
            let entry = take(&mut list, s);
            list.ended(&entry, Outcome::Died("signal 9".into()), at(s));
            assert_eq!(list.next(at(s)), Next::Wait(Duration::from_secs(wait as u64)));
            s += wait;
        }
        let entry = take(&mut list, s);
        list.ended(&entry, Outcome::Died("signal 9".into()), at(s));
        assert_eq!(list.entries()[0].state, State::Failed);
    }

    #[test]
    fn a_file_waits_for_a_bucket_that_is_away_as_long_as_it_takes() {
        let mut list = List::default();
        want(&mut list, wanted("a", "1", false), at(0)).unwrap();
        for n in 0..100 {
            let entry = take(&mut list, n * LATER_S);
            list.ended(&entry, Outcome::Later("no route".into()), at(n * LATER_S));
            assert_eq!(list.next(at(n * LATER_S)), Next::Wait(Duration::from_secs(LATER_S as u64)));
            assert_eq!(list.entries()[0].error.as_deref(), Some("no route"));
        }
        want(&mut list, wanted("a", "1", true), at(99 * LATER_S)).unwrap();
        assert_eq!(take(&mut list, 99 * LATER_S).item.key, "a", "whoever asks need not wait");
    }

    #[test]
    fn a_restart_goes_on_and_an_older_file_still_loads() {
        let mut list = List::default();
        want(&mut list, wanted("a", "1", false), at(0)).unwrap();
        take(&mut list, 0);
        let text = serde_json::to_string(&list).unwrap();
        let mut list = serde_json::from_str::<List>(&text).unwrap().resumed();
        let entry = take(&mut list, 0);
        list.ended(&entry, Outcome::Left, at(0));
        assert_eq!(list.entries()[0].state, State::Waiting);
    }

    #[test]
    fn a_full_list_forgets_what_is_over_first() {
        let mut list = List::default();
        let all: Vec<_> = (0..MOST).map(|n| wanted(&n.to_string(), "1", false)).collect();
        assert!(list.want(all, at(0)).iter().all(Option::is_some));
        assert!(want(&mut list, wanted("more", "1", false), at(0)).is_none());
        let entry = take(&mut list, 0);
        list.ended(&entry, Outcome::Fits("fits".into()), at(0));
        assert!(want(&mut list, wanted("more", "1", false), at(0)).is_some());
        assert_eq!(list.entries().len(), MOST);
    }
}
