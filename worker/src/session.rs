//! The worker's life: one loop, one `Event`, one `select!`. Everything that can wake it is listed there.

mod orders;
mod words;

use orders::wants_uniform;

use crate::air::{Air, Moment};
use crate::fallback::{Fallback, Made};
use crate::media::Tag;
use crate::memory;
use crate::output::Outputs;
use crate::pace::{Alarm, Pace};
use crate::playlist::Playlist;
use crate::programme::{self, Found, NotOpened, Programme};
use crate::report::Report;
use crate::source::admission::Admission;
use crate::source::child::Tools;
use crate::source::disk;
use crate::source::known::Known;
use crate::source::object::Objects;
use crate::source::open::{Opened, Opener};
use crate::takeover::{NoTurn, Takeover, Turn};
use state::profile::Profile;
use state::wire::{Cursor, ToController, ToWorker, WorkerSpec};
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

/// Time that destinations and HLS get to close.
const CLOSE_DEADLINE: Duration = Duration::from_secs(4);
/// Time that FFmpeg children get after that.
const CHILDREN_DEADLINE: Duration = Duration::from_secs(10);
/// The fallback goes on the air at the start if there is nothing else after this long.
const LATE: Duration = Duration::from_secs(8);

/// Heartbeats after which free memory is given back.
const BEATS_OF_MEMORY: u64 = 10;

/// What the session's own tasks bring back.
#[derive(Debug)]
pub enum Event {
    /// The profile is known.
    Found(Box<Found>),
    /// An item was opened or could not be.
    Opened(Box<Result<Opened, NotOpened>>),
    /// The slate or the fallback video was made or could not be.
    Fallback(Box<Made>),
    /// The worker before has gone, and said where to go on; or it never will.
    Turn(Result<Cursor, NoTurn>),
}

/// How a session ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// Somebody asked for it.
    Stopped,
    /// The playlist was played to its end and does not loop.
    PlaylistOver,
    /// It gave way to another worker, which goes on here.
    GaveWay(Cursor),
    /// It was to take over, and there was nothing to be taken over.
    NoTurn(String),
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
    /// What is being made for the fallback; it ends with the session.
    jobs: JoinSet<()>,
    turn: Turn,
    next_look: Instant,
    /// When it began.
    since: Instant,
    /// When the next tag is due, ms of channel time.
    next_ms: i64,
    out: Vec<Tag>,
}

/// Before and after the profile is known.
enum Stage {
    Searching,
    Playing { air: Box<Air>, programme: Box<Programme>, pace: Option<Pace> },
}

/// Plays until it is told to stop or the playlist is over, after its turn has come if it takes over. Call it on the
/// worker's main thread.
///
/// # Errors
/// When signals cannot be listened to, or the kernel gives no timer.
pub async fn run(spec: WorkerSpec, line: Line, takeover: Option<Takeover>) -> anyhow::Result<Ended> {
    let Line { up, mut down } = line;
    disk::cache_is(&spec.cache_dir);
    let changed = Arc::new(Notify::new());
    let (alive, mut all_children) = mpsc::channel(1);
    let (events, mut from_tasks) = mpsc::channel(16);
    let opener = opener(&spec, alive).await;
    let turn = if takeover.is_some() { Turn::Awaited } else { Turn::Ours };
    let mut session = Session::new(spec, opener, events, up, Arc::clone(&changed), turn);
    takeover.into_iter().for_each(|takeover| session.await_turn(takeover));
    let (mut signals, mut alarm) = (Signals::new()?, Alarm::new()?);
    let mut beat = interval(Duration::from_secs(1));
    let mut beats = 0_u64;
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let ended = loop {
        let look = session.next_look;
        tokio::select! {
            () = alarm.rings(look) => if let Some(ended) = session.look() { break ended },
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
    session.beat();
    // What is being opened ends with this, and what was opened and not yet taken in.
    drop(from_tasks);
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
    let cache_dir = spec.cache_dir.clone();
    Opener {
        tools,
        alive,
        objects,
        known: Known::default(),
        cache_dir,
        name: spec.name.clone(),
        admission,
        aside: false,
    }
}

fn say(profile: &Profile, provisional: bool) {
    let Profile { width, height, fps, .. } = profile;
    match provisional {
        false => tracing::info!(width, height, %fps, "the profile is known"),
        true => {
            tracing::warn!(width, height, %fps, "no file says what it is; this profile is used until one does")
        }
    }
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
        turn: Turn,
    ) -> Self {
        let outputs = match turn {
            Turn::Ours => Outputs::connect(&spec, Arc::clone(&changed)),
            _ => Outputs::none(Arc::clone(&changed)),
        };
        let mut search = spec.items.clone();
        if let Some(cursor) = &spec.cursor
            && let Some(at) = search.iter().position(|i| i.id == cursor.item)
        {
            search.rotate_left(at);
        }
        let (finder, explicit, back) = (opener.clone(), spec.profile.clone(), events.clone());
        tokio::spawn(programme::while_wanted(back.clone(), async move {
            let found = programme::find_profile(finder, search, explicit).await;
            let _ = back.send(Event::Found(Box::new(found))).await;
        }));
        Self {
            report: Report::new(&spec),
            spec,
            opener,
            events,
            outputs,
            up,
            changed,
            stage: Stage::Searching,
            jobs: JoinSet::new(),
            turn,
            next_look: Instant::now(),
            since: Instant::now(),
            next_ms: 0,
            out: Vec::new(),
        }
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Found(found) => self.begin(*found),
            Event::Opened(result) => self.take_opened(*result),
            Event::Fallback(made) => self.take_fallback(*made),
            Event::Turn(Ok(cursor)) => self.take_over(cursor),
            Event::Turn(Err(why)) => self.turn = Turn::Never(why.to_string()),
        }
        self.next_look = Instant::now();
    }

    fn await_turn(&self, takeover: Takeover) {
        let events = self.events.clone();
        tokio::spawn(async move { events.send(Event::Turn(takeover.wait().await)).await });
    }

    /// The outputs are ours now. What is opened is what comes next, unless the worker before went another way.
    fn take_over(&mut self, cursor: Cursor) {
        tracing::info!(item.key = %cursor.key, "the channel is taken over");
        self.turn = Turn::come(Instant::now());
        self.outputs = Outputs::connect(&self.spec, Arc::clone(&self.changed));
        if let Stage::Playing { programme, .. } = &mut self.stage {
            programme.begin_with(&cursor);
        }
        self.spec.cursor = Some(cursor);
    }

    fn begin(&mut self, found: Found) {
        let profile = found.profile.clone();
        say(&profile, found.provisional);
        let spec = &self.spec;
        let cursor = spec.cursor.as_ref();
        let playlist = Playlist::new(spec.items.clone(), spec.generation, spec.looped, cursor);
        let goes_on = playlist.peek().zip(cursor).filter(|(item, c)| item.id == c.item);
        let from_ms = goes_on.map_or(0, |(_, c)| c.offset_ms);
        let mut programme =
            Programme::new(playlist, self.opener.clone(), found, from_ms, self.events.clone());
        programme.keep_uniform(wants_uniform(&spec.destinations));
        let fallback = Fallback::new(spec.fallback.clone(), Instant::now());
        let air = Box::new(Air::new(&profile, fallback, spec.slate_on));
        self.stage = Stage::Playing { air, programme: Box::new(programme), pace: None };
    }

    fn take_opened(&mut self, result: Result<Opened, NotOpened>) {
        let Stage::Playing { air, programme, .. } = &mut self.stage else { return };
        let before = programme.profile().clone();
        let failure = programme.opened(result, state::now());
        if *programme.profile() != before {
            say(programme.profile(), false);
            air.fallback().renew(Instant::now());
        }
        if let Some(failure) = failure {
            self.report.item_failed(&failure);
            self.changed.notify_one();
            self.prepare_fallback();
        }
    }

    fn take_fallback(&mut self, made: Made) {
        let Stage::Playing { air, programme, .. } = &mut self.stage else { return };
        if let Some((key, why)) = air.fallback().made(made, &self.opener.alive, Instant::now()) {
            self.report.item_failed(&programme.note_failure(key, why, state::now()));
        }
        self.changed.notify_one();
    }

    /// One look at the clock: open what is needed, send what is due. Gives how it ended when nothing is left to do.
    fn look(&mut self) -> Option<Ended> {
        let now = Instant::now();
        if let Turn::Never(why) = &self.turn {
            return Some(Ended::NoTurn(why.clone()));
        }
        let may_begin = self.turn.may_begin(now, || self.outputs.is_heard());
        let Stage::Playing { air, programme, pace } = &mut self.stage else {
            self.next_look = now + Duration::from_millis(250);
            return None;
        };
        programme.plan(air.needs_next(), now);
        if let Some(after) = programme.question(now) {
            let _ = self.up.try_send(ToController::WantItems { after });
        }
        if pace.is_none() && may_begin && air.can_begin(programme, now - self.since > LATE) {
            *pace = Some(Pace::start(now));
            self.outputs.begin(state::now());
        }
        let Some(pace) = pace else {
            let soon = if matches!(self.turn, Turn::Come { .. }) { 20 } else { 250 };
            self.next_look = now + Duration::from_millis(soon);
            let nothing_to_wait_for = programme.is_finished();
            self.prepare_fallback();
            return nothing_to_wait_for.then_some(Ended::PlaylistOver);
        };
        if let Some(late) = pace.forgive(now, self.next_ms) {
            tracing::warn!(late_ms = late, "the worker was held up; it goes on from where it stood");
        }
        let moment = air.moment(pace.reach_ms(now), programme, &mut self.out);
        if let Some(first) = self.out.first() {
            air.group().note_late(u64::try_from(pace.due_ms(now) - first.dts).unwrap_or(0));
        }
        self.report.sent(&self.out);
        self.outputs.send(&self.out);
        self.out.clear();
        self.next_look = match moment {
            Moment::Due(at) => {
                self.next_ms = at;
                pace.wake(now, at)
            }
            Moment::Finished | Moment::GaveWay => now,
        };
        let ended = match moment {
            Moment::Due(_) => None,
            Moment::Finished => Some(Ended::PlaylistOver),
            Moment::GaveWay => programme.next_cursor().map(Ended::GaveWay),
        };
        let happened = air.happened();
        if !happened.is_empty() {
            self.note(happened);
        }
        ended
    }

    /// The fallback is made after the first item is on the air, or at once when there is none.
    fn prepare_fallback(&mut self) {
        let Stage::Playing { air, programme, pace } = &mut self.stage else { return };
        let now = Instant::now();
        let needed = self.spec.slate_on || programme.trouble().is_some() || now - self.since > LATE / 2;
        if pace.is_none() && !needed {
            return;
        }
        while self.jobs.try_join_next().is_some() {}
        while let Some(job) = air.fallback().job(now) {
            let (opener, profile) = (self.opener.clone(), programme.profile().clone());
            let (name, events) = (self.spec.name.clone(), self.events.clone());
            self.jobs.spawn(async move {
                let made = job.run(&opener, &profile, &name).await;
                let _ = events.send(Event::Fallback(Box::new(made))).await;
            });
        }
    }

    async fn end(mut self) {
        self.last_report();
        let Session { stage, jobs, outputs, opener, events, .. } = self;
        // Feeds end with the stage; the last holders of `alive` are then the children themselves.
        drop((stage, jobs, opener, events));
        outputs.close(CLOSE_DEADLINE).await;
    }
}
