//! The items that will go on the air: one is opened at a time, shortly before it is needed, and a broken one gives
//! way to the next.

mod opening;
mod search;

pub use opening::NotOpened;
pub use search::{Found, find_profile};

use opening::Opening;

use crate::circuit::Failure;
use crate::playlist::{Playlist, Step};
use crate::retry;
use crate::session::Event;
use crate::source::feed::Feed;
use crate::source::open::{Opened, Opener};
use crate::source::probe::MediaInfo;
use state::ids::Ulid;
use state::profile::Profile;
use state::wire::{Cursor, ItemFailure, ItemSpec, MediaAt, NextSeen};
use std::collections::{HashMap, VecDeque};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// Opened ahead until this much can be played, ms; more than one item where they are short.
const AHEAD_MS: i64 = 8_000;
const MOST_READY: usize = 4;
const FAILURES_KEPT: usize = 20;
/// How often the controller is asked for a list that is needed.
const ASK_AGAIN: Duration = Duration::from_secs(5);

/// The playlist, the item being opened, and the items that wait.
#[derive(Debug)]
pub struct Programme {
    playlist: Playlist,
    opener: Opener,
    profile: Profile,
    /// The first file that is opened has a word in the profile.
    provisional: bool,
    known: HashMap<Ulid, MediaInfo>,
    events: mpsc::Sender<Event>,
    /// Where the first item begins, ms.
    from_ms: u64,
    opening: Option<ItemSpec>,
    /// What is being opened is not wanted any more.
    unwanted: bool,
    ready: VecDeque<Opened>,
    finished: bool,
    rounds_failed: u32,
    retry_at: Option<Instant>,
    /// The next item of a list that is played once is out of reach, and tried again then.
    held_until: Option<Instant>,
    ask_at: Option<Instant>,
    /// Files whose picture must not be copied again, and why.
    conform: HashMap<String, String>,
    failures: VecDeque<ItemFailure>,
    /// Since the last item that could be opened, one was passed over only because it will be prepared.
    some_wait: bool,
}

impl Programme {
    /// A programme that begins with the playlist's next item at `from_ms`.
    pub fn new(
        playlist: Playlist,
        opener: Opener,
        found: Found,
        from_ms: u64,
        events: mpsc::Sender<Event>,
    ) -> Programme {
        Programme {
            playlist,
            opener,
            profile: found.profile,
            provisional: found.provisional,
            known: found.known,
            events,
            from_ms,
            opening: None,
            unwanted: false,
            ready: VecDeque::new(),
            finished: false,
            rounds_failed: 0,
            retry_at: None,
            held_until: None,
            ask_at: None,
            conform: HashMap::new(),
            failures: VecDeque::new(),
            some_wait: false,
        }
    }

    /// Opens the next item if one is wanted: `need` says that little is left of the item on the air.
    pub fn plan(&mut self, need: bool, now: Instant) {
        if self.retry_at.is_some_and(|at| at <= now) {
            self.retry_at = None;
            self.playlist.retry();
        }
        let waits = self.retry_at.is_some() || self.held_until.is_some_and(|until| until > now);
        if !need || self.opening.is_some() || self.finished || waits || !self.wants_more() {
            return;
        }
        match self.playlist.step(now) {
            Step::Open(item, _) => self.open(item),
            Step::Finished => self.finished = true,
            Step::AllFailed if std::mem::take(&mut self.some_wait) => {
                // Better late pictures than none.
                self.opener.admission.must = true;
                self.playlist.retry();
            }
            Step::AllFailed => {
                self.rounds_failed += 1;
                let away = self.playlist.is_away();
                let wait = match away {
                    true => retry::bucket_away(self.rounds_failed),
                    false => retry::nothing_playable(self.rounds_failed, spread()),
                };
                tracing::warn!(retry_in_s = wait.as_secs(), "no item of the playlist can be played");
                self.retry_at = Some(now + wait);
            }
        }
    }

    fn wants_more(&self) -> bool {
        // Where nobody knows how long one is, it may be long.
        let ahead: Option<i64> = self.ready.iter().map(|opened| opened.feed.buffer().left_ms()).sum();
        self.ready.is_empty() || (self.ready.len() < MOST_READY && ahead.is_some_and(|ms| ms < AHEAD_MS))
    }

    fn open(&mut self, item: ItemSpec) {
        self.opening = Some(item.clone());
        let opening = Opening {
            opener: self.opener.clone(),
            profile: self.profile.clone(),
            provisional: self.provisional,
            info: self.known.remove(&item.id),
            conform: self.conform.get(&item.key).cloned(),
            from_ms: self.from_ms,
            witness: self.witness_of(&item),
            item,
        };
        let events = self.events.clone();
        tokio::spawn(while_wanted(events.clone(), async move {
            let opened = opening.whatever_happens().await;
            let _ = events.send(Event::Opened(Box::new(opened))).await;
        }));
    }

    /// Another object of the list.
    fn witness_of(&self, item: &ItemSpec) -> Option<ItemSpec> {
        let is_other =
            |other: &&ItemSpec| other.key != item.key && matches!(other.at, MediaAt::Object { .. });
        self.playlist.items().iter().find(is_other).cloned()
    }

    /// Takes in what became of the item that was being opened; a failure is returned to be reported.
    pub fn opened(
        &mut self,
        result: Result<Opened, NotOpened>,
        now: state::Timestamp,
    ) -> Option<ItemFailure> {
        let item = self.opening.take()?;
        // What is opened next begins at its beginning, unless this one is tried again.
        let from_ms = std::mem::take(&mut self.from_ms);
        if std::mem::take(&mut self.unwanted) {
            return None;
        }
        match result {
            Ok(opened) => {
                self.playlist.opened();
                self.settle(&opened);
                (self.rounds_failed, self.held_until) = (0, None);
                if opened.source == "bucket" {
                    self.playlist.circuits().bucket_answers();
                }
                (self.some_wait, self.opener.admission.must) = (false, false);
                self.ready.push_back(opened);
                None
            }
            Err(NotOpened { why, failure }) => {
                let (at, held) = (Instant::now(), self.held_until.take());
                let tries = self.playlist.cannot_open(&item, failure, at);
                self.held_until = tries.map(|tries| at + retry::bucket_away(tries));
                self.from_ms = tries.map_or(0, |_| from_ms);
                self.some_wait |= failure == Failure::Waits;
                // It is said once that an item is waited for.
                let said = held.is_some() && tries.is_some();
                (!said).then(|| self.note_failure(item.key, why, now))
            }
        }
    }

    /// What was prepared fits the profile as it is.
    fn settle(&mut self, opened: &Opened) {
        if std::mem::take(&mut self.provisional) && !opened.prepared {
            self.profile = search::settled(&self.profile, &opened.info);
        }
    }

    /// Whether the items that are opened from now on must look alike to a decoder.
    pub fn keep_uniform(&mut self, uniform: bool) {
        self.profile.uniform = uniform;
    }

    /// The bucket answers.
    #[cfg(test)]
    pub fn bucket_answers(&mut self) {
        self.playlist.circuits().bucket_answers();
    }

    /// An item was played to its end, or was left for a failure.
    pub fn left(&mut self, item: &ItemSpec, failure: Option<Failure>) {
        match failure {
            None => self.playlist.circuits().worked(item),
            Some(failure) => self.playlist.circuits().failed(item, failure, Instant::now()),
        }
    }

    /// Keeps a failure for the status.
    pub fn note_failure(&mut self, key: String, reason: String, at: state::Timestamp) -> ItemFailure {
        tracing::warn!(item.key = %key, reason = %reason, "item failed");
        let failure = ItemFailure { key, reason, at };
        if self.failures.len() == FAILURES_KEPT {
            self.failures.pop_front();
        }
        self.failures.push_back(failure.clone());
        failure
    }

    /// The picture of this file is transcoded from the next round on.
    pub fn conform_from_now_on(&mut self, key: String, why: String) {
        self.conform.insert(key, why);
    }

    /// An item that a test has opened.
    #[cfg(test)]
    pub fn put_ready(&mut self, opened: Opened) {
        self.ready.push_back(opened);
    }

    /// The next item, if it is ready.
    pub fn take(&mut self) -> Option<Opened> {
        self.ready.pop_front()
    }

    /// Whether the bucket was out of reach when an item was opened last.
    pub fn is_away(&self) -> bool {
        self.playlist.is_away()
    }

    /// The media of the next item, if it is ready.
    pub fn next_feed(&self) -> Option<&Feed> {
        self.ready.front().map(|opened| &opened.feed)
    }

    /// Whether the next item is ready and comes over a link.
    pub fn next_is_from_bucket(&self) -> bool {
        self.ready.front().is_some_and(|opened| opened.source == "bucket")
    }

    /// Whether the next item is ready.
    pub fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Whether everything has been played and nothing will follow.
    pub fn is_finished(&self) -> bool {
        self.finished && self.ready.is_empty() && self.opening.is_none()
    }

    /// Takes the next round's items. While nothing can be played a changed list is tried at once.
    pub fn offer(&mut self, generation: u64, items: Vec<ItemSpec>) {
        let differs = self.playlist.offer(generation, items);
        if differs && self.retry_at.is_some() {
            self.rounds_failed = 0;
            self.retry_at = None;
            self.playlist.retry();
        }
    }

    /// The generation to ask the controller to follow, if it is time to ask.
    pub fn question(&mut self, now: Instant) -> Option<u64> {
        // An answer can be lost with the line, so it is asked again.
        let wanted = self.retry_at.is_some() || self.playlist.runs_out();
        if !wanted || self.ask_at.is_some_and(|at| at > now) {
            return None;
        }
        self.ask_at = Some(now + ASK_AGAIN);
        Some(self.playlist.generation())
    }

    /// Why nothing can be played, in words, while that is so.
    pub fn trouble(&self) -> Option<String> {
        let newest = self.failures.back().map(|f| format!("; the last was {}: {}", f.key, f.reason));
        if self.held_until.is_some() {
            return Some(format!("the next item cannot be reached{}", newest.unwrap_or_default()));
        }
        self.retry_at?;
        match self.playlist.items().len() {
            0 => Some("there is no media to play".to_owned()),
            n => Some(format!("none of {n} items can be played{}", newest.unwrap_or_default())),
        }
    }

    /// The item after the one on the air.
    pub fn next_seen(&self) -> Option<NextSeen> {
        let seen = |item: &ItemSpec, ready| NextSeen { id: item.id.clone(), key: item.key.clone(), ready };
        let first = self.ready.front().map(|o| seen(&o.item, true));
        first.or_else(|| self.opening.as_ref().or(self.playlist.peek()).map(|item| seen(item, false)))
    }

    /// Where a worker goes on that begins after the item on the air; `None` when nothing follows it.
    pub fn next_cursor(&self) -> Option<Cursor> {
        self.next_seen().map(|next| Cursor { item: next.id, key: next.key, offset_ms: 0 })
    }

    /// Before anything is on the air: begins with the cursor's item, opened already or not. Where nobody knows it,
    /// what was opened stays.
    pub fn begin_with(&mut self, cursor: &Cursor) {
        if self.next_cursor().is_some_and(|next| next.item == cursor.item) {
            return;
        }
        if let Some(at) = self.ready.iter().position(|opened| opened.item.id == cursor.item) {
            self.ready.drain(..at);
        } else if self.playlist.go_to(cursor) {
            self.ready.clear();
            self.held_until = None;
            self.unwanted = self.opening.is_some();
            self.finished = false;
        }
    }

    /// Failures of this run, newest last.
    pub fn failures(&self) -> Vec<ItemFailure> {
        self.failures.iter().cloned().collect()
    }

    /// The profile of this run.
    pub fn profile(&self) -> &Profile {
        &self.profile
    }
}

/// Work for the session that is given up when the session ends: nobody would take what comes of it.
pub async fn while_wanted(events: mpsc::Sender<Event>, work: impl Future<Output = ()>) {
    tokio::select! {
        () = work => {}
        () = events.closed() => {}
    }
}

fn spread() -> f64 {
    let mut byte = [0u8];
    state::ids::fill_random(&mut byte);
    f64::from(byte[0]) / 255.0
}
