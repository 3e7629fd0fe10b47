//! The worker's life: one loop, one `Event`, one `select!`. Everything that can wake it is listed there.

use crate::air::{Air, Happened, Moment};
use crate::media::Tag;
use crate::memory;
use crate::output::Outputs;
use crate::pace::{Alarm, Pace};
use crate::playlist::Playlist;
use crate::programme::{self, Found, Programme};
use crate::report::Report;
use crate::source::admission::Admission;
use crate::source::child::Tools;
use crate::source::object::Objects;
use crate::source::open::{Opened, Opener};
use crate::source::slate::Slate;
use state::destination::Boundary;
use state::wire::{Counts, DestinationSpec, ToController, ToWorker, WorkerSpec};
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

/// Time that destinations and HLS get to close.
const CLOSE_DEADLINE: Duration = Duration::from_secs(4);
/// Time that FFmpeg children get after that.
const CHILDREN_DEADLINE: Duration = Duration::from_secs(10);

/// Heartbeats after which free memory is given back.
const BEATS_OF_MEMORY: u64 = 10;

/// Until a slate that could not be made is tried again.
const SLATE_RETRY: Duration = Duration::from_secs(30);

/// What the session's own tasks bring back.
#[derive(Debug)]
pub enum Event {
    /// The profile is known.
    Found(Box<Found>),
    /// An item was opened or could not be.
    Opened(Box<Result<Opened, String>>),
    /// The slate was made or could not be.
    Slate(Result<Box<Slate>, String>),
}

/// How a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Somebody asked for it.
    Stopped,
    /// The playlist was played to its end and does not loop.
    PlaylistOver,
}

/// The line to the controller; both ends are idle when the worker runs by hand.
pub struct Line {
    /// What goes up.
    pub up: mpsc::Sender<ToController>,
    /// What comes down.
    pub down: mpsc::Receiver<ToWorker>,
}

struct Session {
    spec: WorkerSpec,
    opener: Opener,
    events: mpsc::Sender<Event>,
    outputs: Outputs,
    report: Report,
    up: mpsc::Sender<ToController>,
    changed: Arc<Notify>,
    stage: Stage,
    /// When the slate may be asked for; `None` once it is there or on its way.
    slate_due: Option<Instant>,
    next_look: Instant,
    /// When the next tag is due, ms of channel time.
    next_ms: i64,
    out: Vec<Tag>,
}

/// Before and after the profile is known.
enum Stage {
    Searching,
    Playing { air: Box<Air>, programme: Box<Programme>, pace: Option<Pace> },
}

/// Plays until it is told to stop or the playlist is over. Call it on the worker's main thread.
///
/// # Errors
/// When signals cannot be listened to, or the kernel gives no timer.
pub async fn run(spec: WorkerSpec, line: Line) -> anyhow::Result<Ended> {
    let Line { up, mut down } = line;
    let changed = Arc::new(Notify::new());
    let (alive, mut all_children) = mpsc::channel(1);
    let (events, mut from_tasks) = mpsc::channel(16);
    let opener = opener(&spec, alive).await;
    let mut session = Session::new(spec, opener, events, up, Arc::clone(&changed));
    let (mut signals, mut alarm) = (Signals::new()?, Alarm::new()?);
    let mut beat = interval(Duration::from_secs(1));
    let mut beats = 0_u64;
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let ended = loop {
        let look = session.next_look;
        tokio::select! {
            () = alarm.rings(look) => if session.look() { break Ended::PlaylistOver },
            Some(event) = from_tasks.recv() => session.take(event),
            order = down.recv(), if !down.is_closed() => match order {
                Some(order) => if session.obey(order) { break Ended::Stopped },
                None => tracing::warn!("the line to the controller is closed"),
            },
            () = changed.notified() => session.beat(),
            _ = beat.tick() => {
                session.beat();
                beats += 1;
                if beats.is_multiple_of(BEATS_OF_MEMORY) {
                    memory::give_back();
                }
            }
            () = signals.any() => break Ended::Stopped,
        }
    };
    let counts = session.counts();
    tracing::info!(?ended, late.p99_ms = counts.late_p99_ms, counts.boundaries, "the session ends");
    session.end().await;
    if timeout(CHILDREN_DEADLINE, all_children.recv()).await.is_err() {
        tracing::error!("a source did not end in time");
    }
    Ok(ended)
}

async fn opener(spec: &WorkerSpec, alive: mpsc::Sender<()>) -> Opener {
    let tools = Tools { ffmpeg: spec.ffmpeg.clone(), ffprobe: spec.ffprobe.clone() };
    let objects = Objects::open(spec).await.unwrap_or_else(|why| {
        tracing::error!(reason = %why, "no object can be played; look at the STORAGE_ variables");
        None
    });
    let admission = Admission::new(&spec.cache_dir, spec.prepares);
    Opener { tools, alive, objects, cache_dir: spec.cache_dir.clone(), admission }
}

fn wants_uniform(destinations: &[DestinationSpec]) -> bool {
    destinations.iter().any(|destination| destination.boundary == Boundary::Uniform)
}

struct Signals {
    term: Signal,
    int: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self { term: signal(SignalKind::terminate())?, int: signal(SignalKind::interrupt())? })
    }

    async fn any(&mut self) {
        tokio::select! {
            _ = self.term.recv() => {}
            _ = self.int.recv() => {}
        }
    }
}

impl Session {
    fn new(
        spec: WorkerSpec,
        opener: Opener,
        events: mpsc::Sender<Event>,
        up: mpsc::Sender<ToController>,
        changed: Arc<Notify>,
    ) -> Self {
        let outputs = Outputs::connect(&spec, Arc::clone(&changed));
        let mut search = spec.items.clone();
        if let Some(cursor) = &spec.cursor
            && let Some(at) = search.iter().position(|i| i.id == cursor.item)
        {
            search.rotate_left(at);
        }
        let (finder, explicit, back) = (opener.clone(), spec.profile.clone(), events.clone());
        tokio::spawn(async move {
            let found = programme::find_profile(finder, search, explicit).await;
            let _ = back.send(Event::Found(Box::new(found))).await;
        });
        Self {
            report: Report::new(&spec),
            spec,
            opener,
            events,
            outputs,
            up,
            changed,
            stage: Stage::Searching,
            slate_due: Some(Instant::now()),
            next_look: Instant::now(),
            next_ms: 0,
            out: Vec::new(),
        }
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Found(found) => self.begin(*found),
            Event::Opened(result) => self.take_opened(*result),
            Event::Slate(Ok(slate)) => {
                if let Stage::Playing { air, .. } = &mut self.stage {
                    air.take_slate(*slate);
                }
            }
            Event::Slate(Err(why)) => {
                tracing::error!(reason = %why, "there is no slate; FFmpeg must be able to encode H.264 (libx264)");
                self.slate_due = Some(Instant::now() + SLATE_RETRY);
            }
        }
        self.next_look = Instant::now();
    }

    fn begin(&mut self, found: Found) {
        let profile = found.profile.clone();
        tracing::info!(width = profile.width, height = profile.height, fps = %profile.fps, "the profile is known");
        let spec = &self.spec;
        let cursor = spec.cursor.as_ref();
        let playlist = Playlist::new(spec.items.clone(), spec.generation, spec.looped, cursor);
        let goes_on = playlist.peek().zip(cursor).filter(|(item, c)| item.id == c.item);
        let from_ms = goes_on.map_or(0, |(_, c)| c.offset_ms);
        let mut programme =
            Programme::new(playlist, self.opener.clone(), found, from_ms, self.events.clone());
        programme.keep_uniform(wants_uniform(&spec.destinations));
        self.stage =
            Stage::Playing { air: Box::new(Air::new(&profile)), programme: Box::new(programme), pace: None };
    }

    fn take_opened(&mut self, result: Result<Opened, String>) {
        let Stage::Playing { programme, .. } = &mut self.stage else { return };
        if let Some(failure) = programme.opened(result, state::now()) {
            self.report.item_failed(&failure);
            self.changed.notify_one();
            self.ask_for_slate();
        }
    }

    /// One look at the clock: open what is needed, send what is due. True when everything has been played.
    fn look(&mut self) -> bool {
        let now = Instant::now();
        let Stage::Playing { air, programme, pace } = &mut self.stage else {
            self.next_look = now + Duration::from_millis(250);
            return false;
        };
        programme.plan(air.needs_next(), now);
        if let Some(after) = programme.question(now) {
            let _ = self.up.try_send(ToController::WantItems { after });
        }
        if pace.is_none() && air.can_begin(programme) {
            *pace = Some(Pace::start(now));
            self.outputs.begin(state::now());
        }
        let Some(pace) = pace else {
            self.next_look = now + Duration::from_millis(250);
            let nothing_to_wait_for = programme.is_finished();
            if programme.trouble().is_some() {
                self.ask_for_slate();
            }
            return nothing_to_wait_for;
        };
        if let Some(late) = pace.forgive(now, self.next_ms) {
            tracing::warn!(late_ms = late, "the worker was held up; it goes on from where it stood");
        }
        let until = pace.due_ms(now);
        let moment = air.moment(until, programme, &mut self.out);
        if let Some(first) = self.out.first() {
            air.group().note_late(u64::try_from(until - first.dts).unwrap_or(0));
        }
        self.outputs.send(&self.out);
        self.out.clear();
        self.next_look = match moment {
            Moment::Due(at) => {
                self.next_ms = at;
                pace.wake(now, at)
            }
            Moment::Finished => now,
        };
        let happened = air.happened();
        if !happened.is_empty() {
            self.note(happened);
        }
        moment == Moment::Finished
    }

    fn note(&mut self, happened: Vec<Happened>) {
        if let Stage::Playing { air, programme, .. } = &mut self.stage {
            let at = air.group().end_ms();
            for what in happened {
                if let Happened::Ended(key, _, Some(why)) = &what {
                    programme.note_failure(key.clone(), why.clone(), state::now());
                }
                self.report.happened(what, at);
            }
        }
        self.changed.notify_one();
        self.ask_for_slate();
    }

    /// The slate is made after the first item is on the air, or at once when there is none.
    fn ask_for_slate(&mut self) {
        let Stage::Playing { programme, .. } = &self.stage else { return };
        if self.slate_due.take_if(|due| *due <= Instant::now()).is_none() {
            return;
        }
        let (tools, profile) = (self.opener.tools.clone(), programme.profile().clone());
        let (cache, events, alive) =
            (self.spec.cache_dir.clone(), self.events.clone(), self.opener.alive.clone());
        tokio::spawn(async move {
            let slate = Slate::load_or_make(&tools, &profile, &cache).await;
            let _ = events.send(Event::Slate(slate.map(Box::new))).await;
            drop(alive);
        });
    }

    /// True when the order is to stop.
    fn obey(&mut self, order: ToWorker) -> bool {
        match (order, &mut self.stage) {
            (ToWorker::Stop, _) => return true,
            (ToWorker::Items { generation, items }, Stage::Playing { programme, .. }) => {
                programme.offer(generation, items);
            }
            (ToWorker::Destinations { list }, stage) => {
                if let Stage::Playing { programme, .. } = stage {
                    programme.keep_uniform(wants_uniform(&list));
                }
                self.spec.destinations.clone_from(&list);
                self.outputs.update(list);
            }
            (ToWorker::Skip, Stage::Playing { air, .. }) => air.skip(),
            (ToWorker::Spec(spec), _) if spec.run == self.spec.run => tracing::debug!("the same spec again"),
            (order, _) => tracing::warn!(?order, "an order does not fit here"),
        }
        self.next_look = Instant::now();
        false
    }

    /// Says how things stand. It is said by the loop that sends the media and never waits, so that a heartbeat
    /// proves that this loop turns.
    fn beat(&mut self) {
        self.outputs.news().into_iter().for_each(|news| self.report.destination(news));
        let up = &self.up;
        self.report.hand_over(|event| up.try_send(ToController::Event(event)).is_ok());
        let playing = match &mut self.stage {
            Stage::Searching => None,
            Stage::Playing { air, programme, pace } => Some((&mut **air, &**programme, pace.is_some())),
        };
        let heartbeat = self.report.heartbeat(playing, &self.outputs, state::now());
        let _ = self.up.try_send(ToController::Heartbeat(Box::new(heartbeat)));
    }

    fn counts(&mut self) -> Counts {
        match &mut self.stage {
            Stage::Searching => Counts::default(),
            Stage::Playing { air, .. } => air.group().counts(),
        }
    }

    async fn end(self) {
        let Session { stage, outputs, opener, events, .. } = self;
        // Feeds end with the stage; the last holders of `alive` are then the children themselves.
        drop((stage, opener, events));
        outputs.close(CLOSE_DEADLINE).await;
    }
}
