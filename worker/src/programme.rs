//! The items that will go on the air: one is opened at a time, shortly before it is needed, and a broken one gives
//! way to the next.

use crate::circuit::Failure;
use crate::playlist::{Playlist, Step};
use crate::retry;
use crate::session::Event;
use crate::source::feed::Feed;
use crate::source::open::{Opened, Opener};
use crate::source::probe::MediaInfo;
use crate::source::recipe;
use state::ids::Ulid;
use state::prepared::WAITS;
use state::profile::Profile;
use state::wire::{Cursor, ItemFailure, ItemSpec, MediaAt, NextSeen};
use std::collections::{HashMap, VecDeque};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};

/// Opened ahead until this much can be played, ms; more than one item where they are short.
const AHEAD_MS: i64 = 8_000;
const MOST_READY: usize = 4;
const FAILURES_KEPT: usize = 20;
/// Items that are looked at to find the channel's profile.
const PROFILE_SEARCH: usize = 20;
/// Nothing is on the air before there is a profile, so it is not searched for any longer.
const LONGEST_SEARCH: Duration = Duration::from_secs(30);
/// An item that takes longer is given up. Every step has a deadline of its own; this one is for all of them.
const LONGEST_OPENING: Duration = Duration::from_secs(180);
/// How often the controller is asked for a list that is needed.
const ASK_AGAIN: Duration = Duration::from_secs(5);

/// What the search for a profile found: the profile, and what is known of the files it looked at.
#[derive(Debug)]
pub struct Found {
    /// The channel's profile for this run.
    pub profile: Profile,
    /// Files that were probed on the way.
    pub known: HashMap<Ulid, MediaInfo>,
}

/// Finds the profile: the given one, else that of the first item whose picture could be copied, else the default.
pub async fn find_profile(opener: Opener, items: Vec<ItemSpec>, explicit: Option<Profile>) -> Found {
    let mut known = HashMap::new();
    if let Some(profile) = explicit {
        return Found { profile, known };
    }
    let until = Instant::now() + LONGEST_SEARCH;
    for item in items.iter().take(PROFILE_SEARCH) {
        let Ok(probed) = timeout_at(until, opener.probe(item)).await else { break };
        let Ok(info) = probed else { continue };
        let profile = recipe::profile_of(&info);
        known.insert(item.id.clone(), info);
        if let Some(profile) = profile {
            return Found { profile, known };
        }
    }
    Found { profile: Profile::default(), known }
}

/// Why an item could not be opened.
#[derive(Debug, PartialEq, Eq)]
pub struct NotOpened {
    /// In words.
    pub why: String,
    /// What that means for the next try.
    pub failure: Failure,
}

/// The playlist, the item being opened, and the items that wait.
#[derive(Debug)]
pub struct Programme {
    playlist: Playlist,
    opener: Opener,
    profile: Profile,
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
            known: found.known,
            events,
            from_ms,
            opening: None,
            unwanted: false,
            ready: VecDeque::new(),
            finished: false,
            rounds_failed: 0,
            retry_at: None,
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
        if !need || self.opening.is_some() || self.finished || self.retry_at.is_some() || !self.wants_more() {
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
        let (opener, profile, events) = (self.opener.clone(), self.profile.clone(), self.events.clone());
        let known = self.known.remove(&item.id);
        let conform = self.conform.get(&item.key).cloned();
        let from_ms = std::mem::take(&mut self.from_ms);
        let opening = async move {
            if let Some(opened) = opener.open_prepared(&item, &profile, from_ms).await {
                return Ok(opened);
            }
            let info = match known {
                Some(info) => Ok(info),
                None => opener.probe(&item).await,
            };
            let opened = match info {
                Ok(info) => opener.open(item.clone(), info, &profile, from_ms, conform).await,
                Err(why) => Err(why),
            };
            match opened {
                Ok(opened) => Ok(opened),
                Err(why) => Err(judged(&opener, &item, why).await),
            }
        };
        tokio::spawn(async move {
            let opened = brought_to_an_end(opening).await;
            let _ = events.send(Event::Opened(Box::new(opened))).await;
        });
    }

    /// Takes in what became of the item that was being opened; a failure is returned to be reported.
    pub fn opened(
        &mut self,
        result: Result<Opened, NotOpened>,
        now: state::Timestamp,
    ) -> Option<ItemFailure> {
        let item = self.opening.take()?;
        if std::mem::take(&mut self.unwanted) {
            return None;
        }
        match result {
            Ok(opened) => {
                self.playlist.opened();
                self.rounds_failed = 0;
                if opened.source == "bucket" {
                    self.playlist.circuits().bucket_answers();
                }
                (self.some_wait, self.opener.admission.must) = (false, false);
                self.ready.push_back(opened);
                None
            }
            Err(NotOpened { why, failure }) => {
                self.playlist.cannot_open(&item, failure, Instant::now());
                self.some_wait |= failure == Failure::Waits;
                Some(self.note_failure(item.key, why, now))
            }
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
        self.retry_at?;
        let newest = self.failures.back().map(|f| format!("; the last was {}: {}", f.key, f.reason));
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

/// An opening that hangs or panics is one that failed: the next item is opened only after this one's word.
async fn brought_to_an_end(
    opening: impl Future<Output = Result<Opened, NotOpened>> + Send + 'static,
) -> Result<Opened, NotOpened> {
    let failed = |why: String| Err(NotOpened { why, failure: Failure::Item });
    let mut work = JoinSet::new();
    work.spawn(opening);
    match timeout(LONGEST_OPENING, work.join_next()).await {
        Ok(Some(Ok(opened))) => opened,
        Ok(_) => failed("its opening broke off; that is an error of this program".to_owned()),
        Err(_) => failed(format!("was not open within {} s", LONGEST_OPENING.as_secs())),
    }
}

/// Whether the item is to blame, or the way to its bucket. Only asked after a failure.
async fn judged(opener: &Opener, item: &ItemSpec, why: String) -> NotOpened {
    let failure = match &item.at {
        _ if why == WAITS => Failure::Waits,
        MediaAt::Object { .. } if opener.is_away(item).await => Failure::Away,
        _ => Failure::Item,
    };
    NotOpened { why, failure }
}

fn spread() -> f64 {
    let mut byte = [0u8];
    state::ids::fill_random(&mut byte);
    f64::from(byte[0]) / 255.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_opening_that_panics_is_one_that_failed() {
        let failed = brought_to_an_end(async { panic!("a parser met something new") }).await.unwrap_err();
        assert!(failed.failure == Failure::Item && failed.why.contains("broke off"), "{failed:?}");
        let refused = NotOpened { why: "is empty".to_owned(), failure: Failure::Item };
        let said = brought_to_an_end(async {
            Err(NotOpened { why: "is empty".to_owned(), failure: Failure::Item })
        });
        assert_eq!(said.await.unwrap_err(), refused);
    }
}
