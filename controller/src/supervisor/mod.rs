//! The supervisor: makes the workers that run those that are wanted. The only room that starts processes.
//!
//! One task, one [`Event`], one `select!`. It decides with [`reconcile`] and acts here.

mod acts;
pub mod air;
pub mod backoff;
mod books;
pub mod brief;
mod channel;
pub mod greeting;
mod handle;
mod handover;
pub(crate) mod journal;
mod load;
pub(crate) mod marks;
mod orders;
mod position;
pub mod process;
mod program;
#[cfg(test)]
mod properties;
pub mod reconcile;
pub mod seen;
mod sheet;
mod shown;
pub mod socket;
mod spawn;
mod told;
pub mod trial;
mod words;

pub use handle::Handle;

use crate::config::Config;
use crate::wishes::Wishes;
use brief::Briefing;
use channel::Channel;
use reconcile::{Wanted, reconcile, wake_at};
use seen::{Life, Now, Sight, Stage};
use socket::Line;
use state::ids::{ChannelId, Ulid};
use state::phase::Wish;
use state::wire::{self, Hello, ToController};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::net::UnixListener;
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio::task::JoinHandle;
use told::Told;

/// Every channel is looked at this often, whatever else we were told.
const CHECK_EVERY: Duration = Duration::from_secs(1);

/// How long the disk may take for what is left to be kept at the end.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// A loop that comes this much too late was held up itself. With a check every second, nothing that lasts long enough
/// to make a worker look silent goes unnoticed.
const HELD_UP: Duration = Duration::from_secs(1);

/// Everything that can wake the supervisor.
#[derive(Debug)]
pub(crate) enum Event {
    /// A wish was changed through the API.
    Asked { channel: ChannelId, ask: Ask, done: oneshot::Sender<()> },
    /// A worker called and said who it is.
    Called { hello: Hello, peer: Option<u32>, line: Line },
    /// A worker was told what to play.
    Briefed { channel: ChannelId, run: Ulid, told: Told },
    /// A worker said something.
    Said { channel: ChannelId, run: Ulid, words: Box<ToController> },
    /// A worker's connection ended.
    HungUp { channel: ChannelId, line: u64 },
    /// A worker's process ended.
    Exited { channel: ChannelId, run: Ulid, code: Option<i32> },
    /// Whether a worker that was left to us runs another program than the one that is installed.
    Compared { channel: ChannelId, run: Ulid, another: bool },
    /// Someone asks whether this loop turns.
    Pulse { done: oneshot::Sender<()> },
    /// The controller ends, and the workers with it. Said twice: now.
    Leave,
}

/// What was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// Forget what failed and start at once.
    Start,
    /// Look at the wish again.
    Look,
    /// The same, and another fallback video is wanted.
    Fallback,
}

/// Events on their way to whoever listens; the oldest are lost to one who is too slow.
type Happenings = broadcast::Sender<(ChannelId, wire::Event)>;

/// Most events that wait for a listener.
const MOST_HAPPENINGS: usize = 256;

type Sights = Arc<Mutex<BTreeMap<ChannelId, Arc<Sight>>>>;

/// The supervisor.
pub struct Supervisor {
    config: Arc<Config>,
    wishes: Arc<Wishes>,
    briefing: Arc<Briefing>,
    channels: BTreeMap<ChannelId, Channel>,
    events: mpsc::Sender<Event>,
    inbox: mpsc::Receiver<Event>,
    happenings: Happenings,
    journal: mpsc::Sender<journal::Keep>,
    /// Ends when all that was handed to it is on the disk.
    keeper: JoinHandle<()>,
    books: books::Books,
    pen: sheet::Pen,
    sights: Sights,
    leaving: bool,
    check_at: Instant,
    /// When this turn of the loop should have begun.
    turn: Instant,
    /// Playlists that came to their end while no controller was running.
    finished: Vec<ChannelId>,
}

/// Where workers call.
pub fn socket_path(config: &Config) -> PathBuf {
    spawn::socket_path(config)
}

/// Takes calls on the socket and loads what was last seen.
///
/// # Errors
/// The socket cannot be used, or a state file is there and cannot be read.
pub fn open(
    config: Arc<Config>,
    wishes: Arc<Wishes>,
    briefing: Arc<Briefing>,
    listener: UnixListener,
) -> anyhow::Result<(Supervisor, Handle)> {
    let (events, inbox) = mpsc::channel(256);
    let sights = Sights::default();
    let happenings = Happenings::new(MOST_HAPPENINGS);
    let told = happenings.clone();
    let handle = Handle { events: events.clone(), told, sights: sights.clone(), leaving: Arc::default() };
    tokio::spawn(socket::accept(listener, events.clone()));
    let now = Instant::now();
    let (journal, keeper) = journal::open(config.clone());
    let pen = sheet::Pen::open(&config.state_dir, Now::read())?;
    let mut supervisor = Supervisor {
        journal,
        keeper,
        books: books::Books::default(),
        pen,
        config,
        wishes,
        briefing,
        channels: BTreeMap::new(),
        events,
        inbox,
        happenings,
        sights,
        leaving: false,
        check_at: now + CHECK_EVERY,
        turn: now,
        finished: Vec::new(),
    };
    for wish in supervisor.wishes.all() {
        supervisor.load(&wish.id)?;
    }
    supervisor.tell_broken_sheet();
    Ok((supervisor, handle))
}

impl Supervisor {
    /// Runs until [`Handle::leave`] was called and the last worker is gone.
    pub async fn run(mut self) {
        for id in std::mem::take(&mut self.finished) {
            tracing::info!(channel.id = %id, "the playlist has ended while no controller was running");
            self.switch_off(&id).await;
        }
        self.settle_all().await;
        while !(self.leaving && self.channels.values().all(Channel::is_over)) {
            let wake = self.wake_at();
            // Events first: an exit that is already in the inbox must not look like a silence.
            let event = tokio::select! {
                biased;
                Some(event) = self.inbox.recv() => Some(event),
                () = tokio::time::sleep_until(wake.into()) => None,
            };
            self.turn = Instant::now().min(wake);
            match event {
                Some(event) => self.handle(event).await,
                None => self.check().await,
            }
        }
        let Self { journal, keeper, .. } = self;
        drop(journal);
        if tokio::time::timeout(LAST_WORDS, keeper).await.is_err() {
            tracing::error!("the last events cannot be put on the disk in time");
        }
    }

    fn wake_at(&self) -> Instant {
        let wakes = self.channels.values().filter_map(|c| wake_at(&c.life, c.state.retry_count));
        let now = Instant::now();
        let stale = self.channels.values().filter_map(|c| c.stale_at()).filter(|at| *at > now);
        wakes.chain(stale).fold(self.check_at, Instant::min)
    }

    /// If this loop itself was held up (a stalled disk, a paused machine), the workers' words lie unread in their
    /// sockets: their silence is ours. They get a fresh start instead of being ended for it.
    fn forgive_silence(&mut self) {
        let now = Instant::now();
        let late = now.saturating_duration_since(self.turn);
        if late < HELD_UP {
            return;
        }
        self.turn = now;
        tracing::warn!(late_ms = late.as_millis() as u64, "the supervisor was held up");
        for channel in self.channels.values_mut() {
            if let Life::Running(run) = &mut channel.life {
                run.heard = now;
            }
            if let Some(successor) = &mut channel.handover.successor {
                successor.run.heard = now;
            }
        }
    }

    async fn handle(&mut self, event: Event) {
        let now = Now::read();
        match event {
            Event::Asked { channel, ask, done } => {
                if let (Ask::Start, Some(known)) = (ask, self.channels.get_mut(&channel)) {
                    known.start_afresh();
                }
                self.want_destinations(&channel);
                // It was told the old wish.
                self.dismiss_successor(&channel, "the wish may have changed");
                self.settle(&channel).await;
                self.tell_slate(&channel);
                if ask == Ask::Fallback {
                    self.tell_fallback(&channel);
                }
                let _ = done.send(());
            }
            Event::Called { hello, peer, line } => {
                let channel = hello.channel.clone();
                self.called(hello, peer, line, now).await;
                self.settle(&channel).await;
            }
            Event::Briefed { channel, run, told } => {
                self.was_told(&channel, told);
                let known = self.channels.get_mut(&channel).and_then(|channel| channel.run(&run));
                if let Some(run) = known.filter(|run| run.stage == Stage::Called) {
                    run.reach(Stage::Briefed, now.mono);
                }
                self.tell_destinations(&channel);
                // It may have been changed since the worker was briefed.
                self.tell_fallback(&channel);
            }
            Event::Compared { channel, run, another } => {
                if let Some(known) = self.channels.get_mut(&channel) {
                    known.compared(&run, another);
                }
            }
            Event::Pulse { done } => {
                let _ = done.send(());
            }
            Event::Said { channel, run, words } => {
                self.said(&channel, &run, *words, now).await;
                self.settle(&channel).await;
            }
            Event::HungUp { channel, line } => {
                if let Some(known) = self.channels.get_mut(&channel) {
                    known.line.take_if(|own| own.id == line);
                    if let Some(successor) = &mut known.handover.successor {
                        successor.line.take_if(|own| own.id == line);
                    }
                }
            }
            Event::Exited { channel, run, code } => {
                self.exited(&channel, &run, code, now).await;
                self.settle(&channel).await;
            }
            Event::Leave if self.leaving => self.kill_all(),
            Event::Leave => {
                self.leaving = true;
                self.settle_all().await;
            }
        }
    }

    /// Makes one channel what it should be, as far as that can be done now.
    async fn settle(&mut self, id: &ChannelId) {
        self.hand_over(id, Now::read()).await;
        // Each action changes what is seen, so that a few rounds reach the end; the bound keeps a mistake small.
        for _ in 0..8 {
            self.forgive_silence();
            let now = Now::read();
            let wanted = self.wanted(id);
            let Some(channel) = self.channels.get(id) else { return };
            let actions = reconcile(wanted, &channel.life, channel.state.retry_count, now.mono);
            if actions.is_empty() {
                break;
            }
            for action in actions {
                self.act(id, action, now).await;
            }
        }
        self.tell_destinations(id);
        self.keep_books(id);
        self.publish(id);
        if let Some(channel) = self.channels.get_mut(id) {
            channel.settled = Instant::now();
        }
    }

    async fn settle_all(&mut self) {
        for id in self.channels.keys().cloned().collect::<Vec<_>>() {
            self.settle(&id).await;
        }
    }

    fn wanted(&self, id: &ChannelId) -> Wanted {
        match (self.leaving, self.wishes.is_on(id)) {
            (true, _) => Wanted::Leaving,
            (false, true) => Wanted::On,
            (false, false) => Wanted::Off,
        }
    }

    fn publish(&mut self, id: &ChannelId) {
        let wish = if self.wishes.is_on(id) { Wish::On } else { Wish::Off };
        let Some(channel) = self.channels.get_mut(id) else { return };
        let mut sight = channel.sight(wish, self.books.wanted(id), Now::read());
        let (totals, trouble) = self.books.shown(id);
        sight.totals = totals;
        sight.alerts.extend(trouble.clone());
        sight.save_failed = sight.save_failed.or(trouble);
        self.sights.lock().unwrap_or_else(PoisonError::into_inner).insert(id.clone(), Arc::new(sight));
    }

    /// Looks at everything that is due.
    async fn check(&mut self) {
        self.check_at = Instant::now() + CHECK_EVERY;
        let now = Instant::now();
        // A channel whose worker was heard since has been looked at then.
        let due = self.channels.iter().filter(|(_, channel)| channel.settled + CHECK_EVERY <= now);
        for id in due.map(|(id, _)| id.clone()).collect::<Vec<_>>() {
            self.settle(&id).await;
        }
        self.keep_sheet();
    }
}
