//! What is on its way to the webhooks: one after the other to each, again and again at growing distance, and then
//! put among the dead letters. Each is tried at its own times, so that one that fails holds up nothing else. Of what
//! is said about one thing only the newest waits: a webhook that was away hears how things stand, not how they came
//! to it. Pure: no disk, no network, no clock of its own.

use super::book::{Notice, seconds_between};
use crate::supervisor::seen::Now;
use serde::{Deserialize, Serialize};
use state::Timestamp;
use state::ids::Ulid;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

/// Most deliveries that wait; what comes on top pushes the oldest among the dead letters.
const MOST_WAITING: usize = 500;

/// Most dead letters that are kept.
pub const MOST_DEAD: usize = 200;

/// How long to wait after the first failure, the second, and so on; after the last one nothing is tried any more.
const DELAYS_S: [u64; 6] = [5, 30, 120, 600, 1800, 7200];

/// The longest wait, whatever a server asks for.
const LONGEST: Duration = Duration::from_secs(7200);

/// News that is older than this is none.
const OLDEST_S: u64 = 24 * 3600;

/// One notice for one webhook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// Names it, the same for every try, so that whoever gets it twice can tell.
    pub id: Ulid,
    /// For whom.
    pub webhook: String,
    /// What.
    pub notice: Notice,
    /// How often it failed.
    #[serde(default)]
    pub failures: u32,
    /// When the next try is due.
    pub due_at: Timestamp,
    /// How the last try failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl Delivery {
    fn is_about(&self, webhook: &str, notice: &Notice) -> bool {
        self.webhook == webhook && self.notice.alert.subject == notice.alert.subject
    }
}

/// A delivery that was given up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetter {
    /// What and for whom.
    #[serde(flatten)]
    pub delivery: Delivery,
    /// When.
    pub given_up_at: Timestamp,
}

/// How a try failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// In words, without an address or a secret.
    pub words: String,
    /// Trying again is of no use.
    pub for_good: bool,
    /// How long the server wants to be left alone.
    pub wait: Option<Duration>,
}

impl Failure {
    /// One that may be over next time.
    pub fn passing(words: impl Into<String>) -> Self {
        Self { words: words.into(), for_good: false, wait: None }
    }
}

/// What of the outbox is kept on disk.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Letters {
    /// On their way, oldest first.
    #[serde(default)]
    pub waiting: VecDeque<Delivery>,
    /// Given up, newest first.
    #[serde(default)]
    pub dead: VecDeque<DeadLetter>,
}

/// The outbox.
pub struct Outbox {
    letters: Letters,
    /// When each delivery that failed is due, by the steady clock.
    due: BTreeMap<Ulid, Instant>,
    /// Webhooks that are being told something, and which delivery.
    busy: BTreeMap<String, Ulid>,
    /// How often in a row each webhook has failed, whatever it was told, and how.
    failing: BTreeMap<String, (u32, String)>,
    changes: u64,
}

impl Outbox {
    /// Goes on with what is on the disk. No wait gets longer, whatever the clock did.
    pub fn new(letters: Letters, now: Now) -> Self {
        let left = |at: Timestamp| Duration::from_secs(seconds_between(now.wall, at)).min(LONGEST);
        let due = letters.waiting.iter().map(|letter| (letter.id.clone(), now.mono + left(letter.due_at)));
        let due = due.collect();
        let mut failing = BTreeMap::<String, (u32, String)>::new();
        for letter in letters.waiting.iter().filter(|letter| letter.failures > 0) {
            let known = failing.entry(letter.webhook.clone()).or_default();
            if letter.failures > known.0 {
                *known = (letter.failures, letter.error.clone().unwrap_or_default());
            }
        }
        Self { letters, due, busy: BTreeMap::new(), failing, changes: 0 }
    }

    /// Counts what should be on the disk.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// What waits and what was given up.
    pub fn letters(&self) -> &Letters {
        &self.letters
    }

    /// How often in a row a webhook has failed, and how.
    pub fn trouble(&self, webhook: &str) -> Option<(u32, &str)> {
        self.failing.get(webhook).map(|(failures, words)| (*failures, words.as_str()))
    }

    /// Puts a notice on its way, in place of what still waits to be said about the same thing.
    pub fn add(&mut self, webhook: &str, notice: Notice, now: Now) {
        self.changes += 1;
        let busy = self.busy.get(webhook);
        let older = |letter: &Delivery| letter.is_about(webhook, &notice) && busy != Some(&letter.id);
        let at = self.letters.waiting.iter().position(older);
        if let Some(older) = at.and_then(|at| self.letters.waiting.remove(at)) {
            self.due.remove(&older.id);
        }
        if self.letters.waiting.len() >= MOST_WAITING
            && let Some(at) =
                self.letters.waiting.iter().position(|l| self.busy.get(&l.webhook) != Some(&l.id))
            && let Some(oldest) = self.letters.waiting.remove(at)
        {
            self.bury(oldest, "there was no room for it in the outbox", now);
        }
        let id = Ulid::new(now.wall);
        let (webhook, due_at) = (webhook.to_owned(), now.wall);
        self.letters.waiting.push_back(Delivery { id, webhook, notice, failures: 0, due_at, error: None });
    }

    /// What is to be tried now: one delivery to each webhook where nothing is under way, what was never tried before
    /// what failed. Whoever asks tells later how it went.
    pub fn take_due(&mut self, now: Now) -> Vec<Delivery> {
        let mut chosen = BTreeMap::<&str, (Option<Instant>, &Delivery)>::new();
        let waiting = self.letters.waiting.iter().filter(|letter| !self.busy.contains_key(&letter.webhook));
        for letter in waiting {
            let due = self.due.get(&letter.id).copied();
            let sooner = chosen.get(letter.webhook.as_str()).is_none_or(|(other, _)| due < *other);
            if due.is_none_or(|due| due <= now.mono) && sooner {
                chosen.insert(&letter.webhook, (due, letter));
            }
        }
        let due: Vec<Delivery> = chosen.into_values().map(|(_, letter)| letter.clone()).collect();
        self.busy.extend(due.iter().map(|letter| (letter.webhook.clone(), letter.id.clone())));
        due
    }

    /// How a try went. `spread` in −1..1 moves the next one by up to 10 % either way.
    pub fn tried(&mut self, id: &Ulid, result: Result<(), Failure>, spread: f64, now: Now) {
        let Some(at) = self.letters.waiting.iter().position(|letter| letter.id == *id) else { return };
        let webhook = self.letters.waiting[at].webhook.clone();
        self.busy.remove(&webhook);
        self.changes += 1;
        self.due.remove(id);
        let Err(failure) = result else {
            self.letters.waiting.remove(at);
            return self.is_back(&webhook, now);
        };
        let known = self.failing.entry(webhook).or_default();
        *known = (known.0.saturating_add(1), failure.words.clone());
        if self.is_outdated(at) {
            self.letters.waiting.remove(at);
            return;
        }
        let letter = &mut self.letters.waiting[at];
        letter.failures += 1;
        letter.error = Some(failure.words.clone());
        let stale = seconds_between(letter.notice.at, now.wall) > OLDEST_S;
        match delay(letter.failures, failure.wait, spread).filter(|_| !failure.for_good && !stale) {
            Some(delay) => {
                letter.due_at = now.wall.checked_add(delay).unwrap_or(now.wall);
                self.due.insert(id.clone(), now.mono + delay);
            }
            None => {
                if let Some(letter) = self.letters.waiting.remove(at) {
                    self.bury(letter, &failure.words, now);
                }
            }
        }
    }

    /// A webhook has taken something: what failed there need not wait any longer.
    fn is_back(&mut self, webhook: &str, now: Now) {
        if self.failing.remove(webhook).is_none() {
            return;
        }
        for letter in self.letters.waiting.iter_mut().filter(|letter| letter.webhook == webhook) {
            letter.due_at = letter.due_at.min(now.wall);
            self.due.entry(letter.id.clone()).and_modify(|due| *due = (*due).min(now.mono));
        }
    }

    /// Whether something newer waits to be said about the same thing.
    fn is_outdated(&self, at: usize) -> bool {
        let Delivery { webhook, notice, .. } = &self.letters.waiting[at];
        self.letters.waiting.iter().skip(at + 1).any(|letter| letter.is_about(webhook, notice))
    }

    /// Webhooks that are not there any more get nothing more.
    pub fn keep_only(&mut self, webhooks: &BTreeSet<String>, now: Now) {
        let (kept, orphans) = std::mem::take(&mut self.letters.waiting)
            .into_iter()
            .partition(|letter| webhooks.contains(&letter.webhook));
        self.letters.waiting = kept;
        let orphans: VecDeque<Delivery> = orphans;
        for orphan in orphans {
            self.busy.remove(&orphan.webhook);
            self.failing.remove(&orphan.webhook);
            self.bury(orphan, "the webhook was taken away", now);
        }
    }

    fn bury(&mut self, mut letter: Delivery, words: &str, now: Now) {
        tracing::warn!(delivery.id = %letter.id, webhook.id = letter.webhook, words, "an alert was not delivered and is given up");
        self.changes += 1;
        self.due.remove(&letter.id);
        letter.error = Some(words.to_owned());
        self.letters.dead.push_front(DeadLetter { delivery: letter, given_up_at: now.wall });
        self.letters.dead.truncate(MOST_DEAD);
    }
}

/// How long to wait after so many failures; `None` gives up. A server may ask for more, not for less.
fn delay(failures: u32, asked: Option<Duration>, spread: f64) -> Option<Duration> {
    let index = usize::try_from(failures.checked_sub(1)?).ok()?;
    let seconds = *DELAYS_S.get(index)? as f64 * (1.0 + 0.1 * spread.clamp(-1.0, 1.0));
    Some(Duration::from_secs_f64(seconds).max(asked.unwrap_or_default()).min(LONGEST))
}

#[cfg(test)]
mod tests {
    use super::super::book::{Alert, Finding, What};
    use super::super::kind::Kind;
    use super::*;

    fn notice(now: Now) -> Notice {
        about("x", What::Opened, now)
    }

    fn about(name: &str, what: What, now: Now) -> Notice {
        let Finding { subject, sentence } = Finding::new(Kind::Dark, "x").about(name);
        let severity = subject.kind.manner().severity;
        let (id, since, told_at) = (Ulid::new(now.wall), now.wall, now.wall);
        let alert = Alert { id, subject, severity, sentence, since, told_at, ended_at: None, lasted_s: None };
        Notice { what, at: now.wall, alert }
    }

    fn later(now: Now, seconds: u64) -> Now {
        let passed = Duration::from_secs(seconds);
        Now { mono: now.mono + passed, wall: now.wall.checked_add(passed).unwrap() }
    }

    fn refused() -> Result<(), Failure> {
        Err(Failure::passing("answered 500"))
    }

    #[test]
    fn tries_grow_apart_and_end_among_the_dead_letters() {
        let now = Now::read();
        let mut outbox = Outbox::new(Letters::default(), now);
        outbox.add("a", notice(now), now);
        let (mut at, mut waits) = (now, Vec::new());
        while let Some(letter) = outbox.take_due(at).pop() {
            outbox.tried(&letter.id, refused(), 0.0, at);
            let Some(due) = outbox.due.get(&letter.id) else { break };
            let wait = (*due - at.mono).as_secs();
            assert!(outbox.take_due(later(at, wait - 1)).is_empty(), "too early");
            waits.push(wait);
            at = later(at, wait);
        }
        assert_eq!(waits, DELAYS_S);
        let dead = &outbox.letters().dead[0].delivery;
        assert_eq!((dead.failures, dead.error.as_deref()), (7, Some("answered 500")));
        assert!(outbox.letters().waiting.is_empty());
    }

    #[test]
    fn what_fails_holds_up_nothing_else_of_its_webhook_or_another() {
        let now = Now::read();
        let mut outbox = Outbox::new(Letters::default(), now);
        for (webhook, name) in [("a", "one"), ("a", "two"), ("b", "one")] {
            outbox.add(webhook, about(name, What::Opened, now), now);
        }
        let due = outbox.take_due(now);
        assert_eq!(due.iter().map(|d| d.webhook.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        assert!(outbox.take_due(now).is_empty(), "both are busy");
        outbox.tried(&due[1].id, Ok(()), 0.0, now);
        outbox.tried(&due[0].id, refused(), 0.0, now);
        let second = outbox.take_due(now);
        assert!(second.len() == 1 && second[0].id != due[0].id, "the second does not wait for the first");
        outbox.tried(&second[0].id, refused(), 0.0, now);
        assert!(outbox.take_due(later(now, 4)).is_empty(), "each is tried again at its own time");
        assert_eq!(outbox.trouble("a"), Some((2, "answered 500")));
        // What comes up meanwhile is told at once, and before what failed.
        let soon = later(now, 6);
        outbox.add("a", about("three", What::Opened, soon), soon);
        let third = outbox.take_due(soon);
        assert_eq!(third[0].notice.alert.subject.about.as_deref(), Some("three"));
        // The webhook is back: nothing waits for its time any longer.
        outbox.tried(&third[0].id, Ok(()), 0.0, soon);
        assert_eq!(outbox.trouble("a"), None);
        for expected in [&due[0], &second[0]] {
            let again = outbox.take_due(soon);
            assert_eq!(again[0].id, expected.id);
            outbox.tried(&again[0].id, Ok(()), 0.0, soon);
        }
        assert!(outbox.letters().waiting.is_empty());
    }

    #[test]
    fn a_webhook_that_was_away_hears_the_newest_of_each_thing() {
        let now = Now::read();
        let mut outbox = Outbox::new(Letters::default(), now);
        let mut whats = vec![What::Opened];
        whats.extend([What::Reminder; 50]);
        whats.push(What::Ended);
        for (second, what) in whats.into_iter().enumerate() {
            let now = later(now, second as u64);
            for name in ["one", "two"] {
                outbox.add("a", about(name, what, now), now);
            }
            for letter in outbox.take_due(now) {
                outbox.tried(&letter.id, refused(), 0.0, now);
            }
        }
        let now = later(now, 10_000);
        let mut heard = Vec::new();
        while let Some(letter) = outbox.take_due(now).pop() {
            outbox.tried(&letter.id, Ok(()), 0.0, now);
            heard.push((letter.notice.alert.subject.about.unwrap(), letter.notice.what));
        }
        heard.sort_by_key(|(name, _)| name.clone());
        assert_eq!(heard, [("one".to_owned(), What::Ended), ("two".to_owned(), What::Ended)]);
        assert!(outbox.letters().dead.is_empty(), "what is outdated is no dead letter");
    }

    #[test]
    fn what_is_under_way_is_told_before_its_end() {
        let now = Now::read();
        let mut outbox = Outbox::new(Letters::default(), now);
        outbox.add("a", about("one", What::Opened, now), now);
        let begun = outbox.take_due(now).pop().unwrap();
        outbox.add("a", about("one", What::Ended, now), now);
        assert!(outbox.take_due(now).is_empty(), "it is not known yet whether the beginning arrives");
        outbox.tried(&begun.id, Ok(()), 0.0, now);
        assert_eq!(outbox.take_due(now).pop().unwrap().notice.what, What::Ended);
        // Had it failed, it would not be told any more.
        let mut outbox = Outbox::new(Letters::default(), now);
        outbox.add("a", about("one", What::Opened, now), now);
        let begun = outbox.take_due(now).pop().unwrap();
        outbox.add("a", about("one", What::Ended, now), now);
        outbox.tried(&begun.id, refused(), 0.0, now);
        assert_eq!(outbox.letters().waiting.len(), 1);
        assert_eq!(outbox.take_due(now).pop().unwrap().notice.what, What::Ended);
    }

    #[test]
    fn what_was_on_its_way_is_on_its_way_after_a_crash_and_never_waits_longer() {
        let now = Now::read();
        let mut before = Outbox::new(Letters::default(), now);
        before.add("a", notice(now), now);
        let id = before.take_due(now)[0].id.clone();
        before.tried(&id, refused(), 0.0, now);
        let text = serde_json::to_string(before.letters()).unwrap();
        let again = |now| Outbox::new(serde_json::from_str(&text).unwrap(), now);
        assert!(again(later(now, 2)).take_due(later(now, 2)).is_empty());
        assert_eq!(again(later(now, 6)).take_due(later(now, 6))[0].id, id);
        let a_year = Duration::from_secs(365 * 86_400);
        let set_back = Now { wall: now.wall.checked_sub(a_year).unwrap(), ..now };
        assert!(again(set_back).due[&id] <= now.mono + LONGEST);
    }

    #[test]
    fn a_server_may_ask_for_more_time_within_reason() {
        let asked = |seconds| delay(1, Some(Duration::from_secs(seconds)), 0.0).unwrap().as_secs();
        assert_eq!((asked(1), asked(60), asked(1_000_000)), (5, 60, 7200));
        assert_eq!((delay(0, None, 0.0), delay(7, None, 0.0)), (None, None));
    }

    #[test]
    fn the_outbox_is_bounded_and_old_news_is_dropped() {
        let now = Now::read();
        let mut outbox = Outbox::new(Letters::default(), now);
        (0..2 * MOST_WAITING).for_each(|n| outbox.add("a", about(&n.to_string(), What::Opened, now), now));
        assert_eq!((outbox.letters().waiting.len(), outbox.letters().dead.len()), (MOST_WAITING, MOST_DEAD));
        let tomorrow = later(now, OLDEST_S + 1);
        let letter = outbox.take_due(tomorrow).pop().unwrap();
        outbox.tried(&letter.id, refused(), 0.0, tomorrow);
        assert_eq!(outbox.letters().dead[0].delivery.id, letter.id);
        outbox.keep_only(&BTreeSet::new(), now);
        assert!(outbox.letters().waiting.is_empty());
    }
}
