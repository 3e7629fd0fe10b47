//! The supervisor: makes the workers that run those that are wanted. The only room that starts processes.
//!
//! One task, one [`Event`], one `select!`. It decides with [`reconcile`] and acts here.

mod acts;
pub mod air;
pub mod backoff;
pub mod brief;
mod channel;
mod process;
pub mod reconcile;
pub mod seen;
mod socket;
mod spawn;
mod words;

use crate::config::Config;
use crate::wishes::Wishes;
use brief::Briefing;
use channel::Channel;
use reconcile::{Wanted, reconcile, wake_at};
use seen::{Life, Now, Sight};
use socket::Line;
use state::ids::{ChannelId, Ulid};
use state::phase::Wish;
use state::seen::StreamState;
use state::store;
use state::wire::{Hello, ToController};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};

/// Every pid is looked at this often, whatever else we were told.
const CHECK_EVERY: Duration = Duration::from_secs(5);

/// A loop that comes this much too late was held up itself.
const HELD_UP: Duration = Duration::from_secs(2);

/// Everything that can wake the supervisor.
#[derive(Debug)]
pub(crate) enum Event {
    /// A wish was changed through the API.
    Asked { channel: ChannelId, ask: Ask, done: oneshot::Sender<()> },
    /// A worker called and said who it is.
    Called { hello: Hello, line: Line },
    /// A worker said something.
    Said { channel: ChannelId, run: Ulid, words: Box<ToController> },
    /// A worker's connection ended.
    HungUp { channel: ChannelId, line: u64 },
    /// A worker's process ended.
    Exited { channel: ChannelId, run: Ulid, code: Option<i32> },
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
}

type Sights = Arc<Mutex<BTreeMap<ChannelId, Sight>>>;

/// The way to the supervisor.
#[derive(Clone)]
pub struct Handle {
    events: mpsc::Sender<Event>,
    sights: Sights,
    leaving: Arc<AtomicBool>,
}

impl Handle {
    /// What is seen of a channel.
    pub fn sight(&self, channel: &ChannelId) -> Option<Sight> {
        self.sights.lock().unwrap_or_else(PoisonError::into_inner).get(channel).cloned()
    }

    /// Tells that a wish has changed, and waits until something has been done about it.
    pub async fn ask(&self, channel: ChannelId, ask: Ask) {
        let (done, told) = oneshot::channel();
        if self.events.send(Event::Asked { channel, ask, done }).await.is_ok() {
            // The wish is saved, so an answer that does not come changes nothing.
            let _ = tokio::time::timeout(Duration::from_secs(5), told).await;
        }
    }

    /// Whether the controller is ending.
    pub fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Relaxed)
    }

    /// Ends all workers and leaves the wishes as they are.
    pub async fn leave(&self) {
        self.leaving.store(true, Ordering::Relaxed);
        let _ = self.events.send(Event::Leave).await;
    }
}

/// The supervisor.
pub struct Supervisor {
    config: Arc<Config>,
    wishes: Arc<Wishes>,
    briefing: Arc<Briefing>,
    channels: BTreeMap<ChannelId, Channel>,
    events: mpsc::Sender<Event>,
    inbox: mpsc::Receiver<Event>,
    sights: Sights,
    leaving: bool,
    check_at: Instant,
}

/// Opens the socket and loads what was last seen.
///
/// # Errors
/// The socket cannot be opened, or a state file is there and cannot be read.
pub fn open(
    config: Arc<Config>,
    wishes: Arc<Wishes>,
    briefing: Arc<Briefing>,
) -> anyhow::Result<(Supervisor, Handle)> {
    let listener = socket::listen(&spawn::socket_path(&config))?;
    let (events, inbox) = mpsc::channel(256);
    let sights = Sights::default();
    let handle = Handle { events: events.clone(), sights: sights.clone(), leaving: Arc::default() };
    tokio::spawn(socket::accept(listener, events.clone()));
    let channels = BTreeMap::new();
    let check_at = Instant::now() + CHECK_EVERY;
    let mut supervisor =
        Supervisor { config, wishes, briefing, channels, events, inbox, sights, leaving: false, check_at };
    for wish in supervisor.wishes.all() {
        supervisor.load(&wish.id)?;
    }
    Ok((supervisor, handle))
}

impl Supervisor {
    /// Runs until [`Handle::leave`] was called and the last worker is gone.
    pub async fn run(mut self) {
        self.settle_all().await;
        while !(self.leaving && self.channels.values().all(|c| c.life == Life::None)) {
            let wake = self.wake_at();
            // Events first: an exit that is already in the inbox must not be found by its pid.
            tokio::select! {
                biased;
                Some(event) = self.inbox.recv() => self.handle(event).await,
                () = tokio::time::sleep_until(wake.into()) => {
                    self.forgive_silence(wake);
                    self.check().await;
                }
            }
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
    fn forgive_silence(&mut self, planned: Instant) {
        let now = Instant::now();
        let late = now.saturating_duration_since(planned);
        if late < HELD_UP {
            return;
        }
        tracing::warn!(late_ms = late.as_millis() as u64, "the supervisor was held up");
        for channel in self.channels.values_mut() {
            if let Life::Running(run) = &mut channel.life {
                run.since = now;
                run.heard = run.heard.map(|_| now);
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
                self.settle(&channel).await;
                let _ = done.send(());
            }
            Event::Called { hello, line } => self.called(hello, line, now),
            Event::Said { channel, run, words } => {
                self.said(&channel, &run, *words, now).await;
                self.settle(&channel).await;
            }
            Event::HungUp { channel, line } => {
                if let Some(known) = self.channels.get_mut(&channel) {
                    known.line.take_if(|own| own.id == line);
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
        // Each action changes what is seen, so that a few rounds reach the end; the bound keeps a mistake small.
        for _ in 0..8 {
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
        self.publish(id);
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
        let sight = channel.sight(wish, Now::read());
        self.sights.lock().unwrap_or_else(PoisonError::into_inner).insert(id.clone(), sight);
    }

    /// Looks at every pid, and at everything that is due.
    async fn check(&mut self) {
        self.check_at = Instant::now() + CHECK_EVERY;
        for id in self.channels.keys().cloned().collect::<Vec<_>>() {
            if let Some(run) = self.channels.get(&id).and_then(vanished) {
                tracing::warn!(channel.id = %id, run.id = %run, "the worker's process is gone");
                self.exited(&id, &run, None, Now::read()).await;
            }
            self.settle(&id).await;
        }
    }

    /// Loads what was last seen of a channel and looks whether its worker still lives.
    fn load(&mut self, id: &ChannelId) -> anyhow::Result<()> {
        let now = Now::read();
        let loaded = store::load::<StreamState>(&self.config.channel_dir(id), now.wall)?;
        for alert in &loaded.alerts {
            tracing::error!(channel.id = %id, "{alert}");
        }
        let state = loaded.document.unwrap_or_else(|| StreamState::new(id.clone()));
        let left = state.run.as_ref().filter(|run| run.exit_words.is_none());
        let left = left.filter(|run| process::is_alive(run.pid, run.pid_start)).cloned();
        let mut channel = Channel::new(state, loaded.alerts, now);
        channel.found(left.as_ref().map(|run| run.pid), now);
        if let Some(run) = left {
            tracing::warn!(channel.id = %id, run.id = %run.id, pid = run.pid, "a worker was left over");
            tokio::spawn(watch(run, id.clone(), self.events.clone()));
        }
        self.channels.insert(id.clone(), channel);
        self.publish(id);
        Ok(())
    }
}
/// The run whose process is gone without a word.
fn vanished(channel: &Channel) -> Option<Ulid> {
    let Life::Running(run) = &channel.life else { return None };
    let pid_start = channel.state.run.as_ref().map_or(0, |seen| seen.pid_start);
    // A zombie has an entry still: whoever waits for it brings its exit code in a moment.
    let entry = std::path::Path::new("/proc").join(run.pid.to_string());
    let gone = !entry.exists() || process::start_time(run.pid).is_some_and(|started| started != pid_start);
    (gone && pid_start != 0).then(|| run.id.clone())
}

async fn watch(run: state::seen::RunSeen, channel: ChannelId, events: mpsc::Sender<Event>) {
    if let Err(error) = process::ended(run.pid, run.pid_start).await {
        // The check by pid finds its end within seconds instead.
        return tracing::warn!(channel.id = %channel, %error, "the process cannot be watched");
    }
    let _ = events.send(Event::Exited { channel, run: run.id, code: None }).await;
}
