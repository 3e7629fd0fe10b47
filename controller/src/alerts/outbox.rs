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
                letter.due_at = state::after(now.wall, delay).unwrap_or(now.wall);
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
mod tests;
