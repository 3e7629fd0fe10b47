//! Keeps the books of every channel: tells the ledgers what happened, and hands them and ended runs to the journal,
//! which puts them on the disk. What the figures mean is decided in [`crate::records::ledger`].

use super::Supervisor;
use super::journal::{Entry, Keep};
use super::seen::Now;
use crate::records::clock;
use crate::records::ledger::{Ledger, Wanted};
use serde_json::json;
use state::channel::StreamConfig;
use state::ids::{ChannelId, DestinationId, Ulid};
use state::phase::Wish;
use state::runs::RunKept;
use state::seen::RunSeen;
use state::store;
use state::totals::Totals;
use state::wire::{Event, Heartbeat};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// The books of one channel.
struct Book {
    ledger: Ledger,
    shelf: Arc<Shelf>,
    /// Runs that the history has, and whether it has their end.
    noted: Vec<(Ulid, bool)>,
}

/// What is on the disk: only that is shown, so that a sum never goes back.
#[derive(Debug)]
pub(super) struct Shelf(Mutex<(Arc<Totals>, Option<String>)>);

impl Shelf {
    fn new(totals: Totals) -> Self {
        Self(Mutex::new((Arc::new(totals), None)))
    }

    fn seen(&self) -> (Arc<Totals>, Option<String>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The revision that is on the disk.
    pub(super) fn revision(&self) -> u64 {
        self.seen().0.revision
    }

    /// The books are on the disk.
    pub(super) fn kept(&self, totals: Totals) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = (Arc::new(totals), None);
    }

    /// They are not, for this reason.
    pub(super) fn failed(&self, words: String) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).1 = Some(words);
    }
}

/// The books of all channels.
#[derive(Default)]
pub(super) struct Books(BTreeMap<ChannelId, Book>);

/// How a run ended.
pub(super) struct Ended<'a> {
    pub(super) run: &'a Ulid,
    /// The newest heartbeat.
    pub(super) beat: Option<Arc<Heartbeat>>,
    pub(super) code: Option<i32>,
    pub(super) words: &'a str,
    pub(super) as_asked: bool,
}

impl Books {
    /// A worker was started or found.
    pub(super) fn began(&mut self, id: &ChannelId, run: &Ulid) {
        if let Some(book) = self.0.get_mut(id) {
            book.ledger.run_began(run);
        }
    }

    /// A worker told its figures.
    pub(super) fn heard(&mut self, id: &ChannelId, beat: &Heartbeat, wanted: bool, now: Now) {
        if let Some(book) = self.0.get_mut(id) {
            book.ledger.pass(clock::moment(now.wall), wanted);
            book.ledger.heard(beat);
        }
    }

    /// Destinations that are wanted from now on.
    pub(super) fn want(&mut self, id: &ChannelId, destinations: &[DestinationId]) {
        if let Some(book) = self.0.get_mut(id) {
            book.ledger.want(destinations);
        }
    }

    /// How many destinations are wanted.
    pub(super) fn wanted(&self, id: &ChannelId) -> usize {
        let accounts = self.0.get(id).map(|book| book.ledger.totals().destinations.values());
        accounts.map_or(0, |accounts| accounts.filter(|account| account.wanted).count())
    }

    /// Time has passed.
    pub(super) fn pass(&mut self, id: &ChannelId, wanted: bool, now: Now) {
        if let Some(book) = self.0.get_mut(id) {
            book.ledger.pass(clock::moment(now.wall), wanted);
        }
    }

    /// The sums of a channel that is wanted, which move, and where is shown what of them is on the disk.
    pub(super) fn moving(&self, id: &ChannelId) -> Option<(Totals, Arc<Shelf>)> {
        let book = self.0.get(id).filter(|book| book.ledger.totals().wanted)?;
        Some((book.ledger.totals().clone(), Arc::clone(&book.shelf)))
    }

    /// What is on the disk, and what is wrong with it.
    pub(super) fn shown(&self, id: &ChannelId) -> (Option<Arc<Totals>>, Option<String>) {
        let seen = self.0.get(id).map(|book| book.shelf.seen());
        seen.map_or((None, None), |(totals, failed)| (Some(totals), failed))
    }
}

impl Supervisor {
    /// Takes up the books of an earlier controller. `living` is the run that was found.
    pub(super) fn open_books(
        &mut self,
        id: &ChannelId,
        living: Option<&Ulid>,
        now: Now,
    ) -> anyhow::Result<Vec<String>> {
        let loaded = store::load::<Totals>(&self.config.channel_dir(id), now.wall)?;
        let (wish, moment) = (self.wishes.get(id), clock::moment(now.wall));
        let is = wish.as_ref().is_some_and(|wish| wish.wish == Wish::On);
        let wanted = Wanted { is, since: wish.as_ref().and_then(|wish| wish.wish_since) };
        let document = loaded.document.map(|totals| self.pen.found().newer(totals));
        let shown = document.clone().unwrap_or_else(|| Totals::new(id.clone(), moment.clone()));
        let mut ledger = match document {
            Some(totals) => Ledger::take_up(totals, wanted, living, moment),
            None => Ledger::new(id.clone(), is, moment),
        };
        if let Some(living) = living {
            ledger.run_began(living);
        }
        ledger.want(&self.destinations_of(wish.as_ref()));
        let shelf = Arc::new(Shelf::new(shown));
        self.books.0.insert(id.clone(), Book { ledger, shelf, noted: Vec::new() });
        self.note_runs(id);
        Ok(loaded.alerts)
    }

    /// The wish may have other destinations now.
    pub(super) fn want_destinations(&mut self, id: &ChannelId) {
        let wanted = self.destinations_of(self.wishes.get(id).as_ref());
        self.books.want(id, &wanted);
    }

    fn destinations_of(&self, wish: Option<&StreamConfig>) -> Vec<DestinationId> {
        let all = wish.map(|wish| self.briefing.keyring.of(wish)).unwrap_or_default();
        let enabled = all.into_iter().filter(|wanted| wanted.shown.enabled);
        enabled.map(|wanted| wanted.shown.id).collect()
    }

    /// Counts the time up to now, and hands the books to the disk when that is due.
    pub(super) fn keep_books(&mut self, id: &ChannelId) {
        self.books.pass(id, self.wishes.is_on(id), Now::read());
        let Some(book) = self.books.0.get_mut(id) else { return };
        let Some(totals) = book.ledger.due() else { return };
        let keep = Keep::Totals(Box::new(totals), Arc::clone(&book.shelf));
        if self.journal.try_send(keep).is_err() {
            book.ledger.try_again();
        }
    }

    /// Hands the newest runs to the history where they are news.
    pub(super) fn note_runs(&mut self, id: &ChannelId) {
        let (Some(channel), Some(book)) = (self.channels.get(id), self.books.0.get_mut(id)) else { return };
        let key = |run: &RunSeen| (run.id.clone(), run.exit_words.is_some());
        let newest: Vec<_> = channel.state.failed_run.iter().chain(&channel.state.run).collect();
        let news: Vec<_> = newest.iter().filter(|run| !book.noted.contains(&key(run))).collect();
        if news.is_empty() {
            return;
        }
        let session = self.wishes.get(id).and_then(|wish| wish.session_id);
        for run in &news {
            let kept = RunKept { run: (**run).clone(), epoch: channel.state.epoch, session: session.clone() };
            if self.journal.try_send(Keep::Run(id.clone(), Box::new(kept))).is_err() {
                // It is tried again with the next save.
                return;
            }
        }
        book.noted = newest.into_iter().map(key).collect();
    }

    /// A worker is gone: the books close, and the journal keeps where it stood.
    pub(super) fn run_over(&mut self, id: &ChannelId, ended: &Ended<'_>, session: Option<Ulid>, now: Now) {
        if let Some(book) = self.books.0.get_mut(id) {
            book.ledger.pass(clock::moment(now.wall), self.wishes.is_on(id));
            book.ledger.run_ended(ended.run, ended.as_asked);
        }
        let beat = ended.beat.as_deref();
        let position = beat.and_then(|beat| beat.item.as_ref()).map(|item| item.position_ms);
        let event = Event {
            run: ended.run.clone(),
            // After everything that the run has told itself.
            seq: u64::MAX,
            at_wall: now.wall,
            at_media_ms: beat.map_or(0, |beat| i64::try_from(beat.sent_ms).unwrap_or(i64::MAX)),
            kind: "run.ended".to_owned(),
            data: json!({
                "exit_code": ended.code, "reason": ended.words, "as_asked": ended.as_asked, "position_ms": position
            }),
        };
        let entry = Entry { channel: id.clone(), event, session, line: None };
        if self.journal.try_send(Keep::Event(entry)).is_err() {
            tracing::warn!(channel.id = %id, run.id = %ended.run, "the end of the run is missing in the journal");
        }
    }
}
