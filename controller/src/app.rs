//! Start-up, in an order that matters, and the end.
//!
//! 1. Configuration, so that every problem of it is told at once and nothing has been touched yet.
//! 2. Logging, so that everything after it can be told.
//! 3. Signals, so that none of them ends us by its default.
//! 4. The doors: the lock, before anything in the state folder is read or changed, so that a second controller gets
//!    no further; then the port and the socket, which are the most likely things to fail. All three may come from
//!    the program that this one has replaced.
//! 5. Keys, wishes, FFmpeg: what the supervisor needs before it starts a worker.
//! 6. The supervisor, which hears from the workers that live and brings back every other channel that is wanted.
//! 7. The API, when there is something to ask, and then the word to the service manager.
//!
//! At the end the workers go first and the API last, so that viewers are served what was still written. A reload
//! ends nothing: requests under way are answered, and the next program goes on in this process.

use crate::alerts::{self, Watcher, look::Looker};
use crate::config::{Config, LogFormat};
use crate::crowd::Crowd;
use crate::engines::House;
use crate::engines::analytics::as_run;
use crate::engines::distribution::{rotation, trial};
use crate::engines::health::{Checkup, missing, notices};
use crate::http::segments::{MOST, Segments};
use crate::http::{Desk, Shared, router, serve};
use crate::machine::{self, AdminToken};
use crate::media::{self, library::Library};
use crate::notify::Notifier;
use crate::prepare::{self, Preparer};
use crate::successor::{Doors, Successor};
use crate::supervisor::air::Is;
use crate::supervisor::brief::Briefing;
use crate::supervisor::{self, Handle, Supervisor};
use crate::wishes::Wishes;
use crate::wishes::destinations::Keyring;
use anyhow::{Context, bail};
use rustix::process::{Resource, getrlimit, setrlimit};
use std::io::IsTerminal;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, UnixListener};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinHandle;
use tracing_subscriber::EnvFilter;

/// Workers have this long to end when the controller does.
const LEAVE_WITHIN: Duration = Duration::from_secs(20);

/// The service manager hears this often how things stand, and more often where it waits for a sign of life.
const STATUS_EVERY: Duration = Duration::from_secs(5);

/// Runs the controller until it is told to end.
///
/// # Errors
/// Everything that keeps it from starting, in one line.
pub fn run() -> anyhow::Result<()> {
    let successor = Successor::remember()?;
    let config = Config::of_this_process().or_else(|problems| match problems.as_slice() {
        [one] => bail!("the configuration cannot be used: {one}"),
        many => bail!("the configuration cannot be used:\n  {}", many.join("\n  ")),
    })?;
    log_to_stderr(&config)?;
    more_files();
    // Everything happens on this thread, which never ends before its children do.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let result = runtime.block_on(live(Arc::new(config), successor));
    runtime.shutdown_timeout(Duration::from_secs(1));
    result
}

async fn live(config: Arc<Config>, successor: Successor) -> anyhow::Result<()> {
    let mut signals = Signals::new()?;
    let doors = Doors::open(&config)?;
    let notifier = Notifier::of_this_process();
    let (desk, supervisor, preparer, watcher) = furnish(config, &doors).await?;
    let prepare = desk.house.prepare.clone();
    let handle = desk.house.supervisor.clone();
    tell(&desk, &doors).await?;
    let mut workers = tokio::spawn(supervisor.run());
    let preparing = tokio::spawn(preparer.run());
    let rotating = tokio::spawn(rotation::run(desk.house.clone()));
    watch(&desk, watcher);
    let mut api = Api::open(&doors, &desk)?;
    let (address, version) = (doors.http.local_addr()?, env!("CARGO_PKG_VERSION"));
    tracing::info!(%address, version, program = %successor.program().display(), "listening");
    notifier.ready("listening");
    let pulse = tokio::spawn(keep_alive(notifier.clone(), handle.clone()));
    while let Told::Reload = until_told(&handle, &mut workers, &mut signals, &notifier).await? {
        notifier.reloading();
        match successor.try_out().await {
            Ok(next) => {
                tracing::info!(next, "the next program takes over");
                api.close().await;
                let error = successor.take_over(&doors);
                api = Api::open(&doors, &desk)?;
                stay(&desk, &error);
            }
            Err(error) => stay(&desk, &error),
        }
        notifier.ready("listening; the reload failed");
    }
    pulse.abort();
    rotating.abort();
    prepare.leave();
    if tokio::time::timeout(LEAVE_WITHIN, preparing).await.is_err() {
        tracing::error!("a job that prepares a file does not end");
    }
    api.close().await;
    tracing::info!("ended");
    Ok(())
}

/// The next program cannot run: this one goes on, and somebody has to know.
fn stay(desk: &Desk, error: &anyhow::Error) {
    tracing::error!(
        error_type = "reload_failed",
        error = format!("{error:#}"),
        "the reload failed; this program goes on"
    );
    let words = format!("the reload failed and the program before it goes on: {error:#}");
    *desk.house.reload_failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(words);
}

/// The API while it is open.
struct Api {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Api {
    /// The door stays ours: closing the API does not close it.
    fn open(doors: &Doors, desk: &Shared) -> anyhow::Result<Self> {
        let listener = TcpListener::from_std(doors.http.try_clone()?)?;
        let (stop, stopped) = oneshot::channel::<()>();
        let routes = router::router(desk.clone());
        let desk = desk.clone();
        let task = tokio::spawn(async move {
            serve::serve(listener, routes, &desk.house.crowd, async move { drop(stopped.await) }).await;
        });
        Ok(Self { stop, task })
    }

    /// Lets requests under way finish; new ones wait at the door.
    async fn close(self) {
        drop(self.stop);
        if let Err(error) = self.task.await {
            tracing::error!(%error, "the API ended badly");
        }
    }
}

/// Tells the service manager that we live, for as long as the supervisor answers, and how many channels are on the
/// air. When it gets no answer, the service manager ends us and starts us anew; the workers play on meanwhile.
async fn keep_alive(notifier: Notifier, handle: Handle) {
    let every = notifier.watchdog().map_or(STATUS_EVERY, |limit| (limit / 3).min(STATUS_EVERY));
    let mut said = String::new();
    loop {
        if handle.is_turning(every).await {
            notifier.alive();
        } else {
            tracing::error!(
                error_type = "supervisor_stalled",
                "the supervisor does not answer; the watchdog is not fed"
            );
        }
        let sights = handle.sights();
        let count = |is: fn(&Is) -> bool| sights.iter().filter(|sight| is(&sight.air.is)).count();
        let (wanted, on) = (count(|is| *is != Is::Off), count(|is| matches!(is, Is::On | Is::Fallback)));
        let status = format!("{on} of {wanted} wanted channels on the air");
        if status != said {
            notifier.status(&status);
            said = status;
        }
        tokio::time::sleep(every).await;
    }
}

/// Begins to look for what is wrong. Both tasks end with the process, at any moment.
fn watch(desk: &Shared, watcher: Watcher) {
    let (house, mut looker) = (desk.house.clone(), Looker::default());
    tokio::spawn(watcher.run(async move || looker.look(&house).await));
    desk.house.alerts.ping(&desk.house.config, &desk.house.supervisor);
}

/// Makes everything that a request can ask for.
async fn furnish(
    config: Arc<Config>,
    doors: &Doors,
) -> anyhow::Result<(Shared, Supervisor, Preparer, Watcher)> {
    let (token, broken_token) = AdminToken::load_or_make(&config.state_dir)?;
    let wishes = Arc::new(Wishes::load(&config)?);
    let sealed = wishes.hold_secrets() || alerts::holds_secrets(&config.state_dir);
    let master = Arc::new(machine::master_key(&config, sealed)?);
    let keyring = Arc::new(Keyring::new(master.clone(), &config));
    let tools = Mutex::new(crate::ffmpeg::look(&config).await);
    let library = Library::open(&config.storage, config.tls_ca_file.as_deref(), &config.state_dir);
    let library = Arc::new(library.context("the storage cannot be used")?);
    let (config_, keyring_, library_) = (config.clone(), keyring.clone(), library.clone());
    let briefing = Arc::new(Briefing { config: config_, keyring: keyring_, library: library_, tools });
    let calls = UnixListener::from_std(doors.socket.try_clone()?)?;
    let (supervisor, handle) = supervisor::open(config.clone(), wishes.clone(), briefing.clone(), calls)?;
    let media = media::start(&config, library.clone(), wishes.clone(), handle.clone())?;
    let (preparer, prepare, broken_list) =
        prepare::open(config.clone(), wishes.clone(), briefing.clone(), handle.clone(), media.clone());
    let (alerts, watcher) = alerts::open(&config, master);
    let broken: Vec<_> = wishes.alerts().iter().cloned().chain(broken_token).chain(broken_list).collect();
    broken.iter().for_each(|words| tracing::error!("{words}"));
    let house = House {
        config,
        wishes,
        broken,
        keyring,
        library,
        media,
        briefing,
        supervisor: handle,
        prepare,
        trials: tokio::sync::Semaphore::new(trial::MOST),
        alerts,
        crowd: Crowd::of_this_process(),
        started: Instant::now(),
        exports: Arc::new(Semaphore::new(as_run::MOST_AT_ONCE)),
        checkup: Checkup::default(),
        reload_failed: Mutex::default(),
    };
    Ok((
        Arc::new(Desk { house: Arc::new(house), token, segments: Segments::new(MOST) }),
        supervisor,
        preparer,
        watcher,
    ))
}

/// Says what is missing, and leaves the address for whoever asked for port 0.
async fn tell(desk: &Desk, doors: &Doors) -> anyhow::Result<()> {
    for problem in missing(&desk.house).await {
        tracing::error!("{problem}");
    }
    for notice in notices(&desk.house) {
        tracing::warn!("{notice}");
    }
    let file = desk.house.config.state_dir.join("run/controller.address");
    std::fs::write(&file, format!("{}\n", doors.http.local_addr()?))
        .with_context(|| file.display().to_string())
}

/// What [`until_told`] waits for.
enum Told {
    /// The workers have ended, as they were told.
    Ended,
    /// Somebody wants the next version to take over.
    Reload,
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    reload: Signal,
}

impl Signals {
    fn new() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("listen for signals");
        let (terminate, interrupt) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
        Ok(Self { terminate, interrupt, reload: listen(SignalKind::hangup())? })
    }
}

/// Waits for SIGHUP; or for SIGTERM or SIGINT, and then for the workers. A second signal does not let them finish.
async fn until_told(
    handle: &Handle,
    workers: &mut JoinHandle<()>,
    signals: &mut Signals,
    notifier: &Notifier,
) -> anyhow::Result<Told> {
    let mut deadline: Option<tokio::time::Instant> = None;
    loop {
        let late = async {
            match deadline {
                Some(deadline) => tokio::time::sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            ended = &mut *workers => return ended.map(|()| Told::Ended).context("the supervisor ended"),
            () = late => bail!("workers are left that do not end"),
            _ = signals.reload.recv() => match deadline {
                None => return Ok(Told::Reload),
                Some(_) => continue,
            },
            _ = signals.terminate.recv() => {}
            _ = signals.interrupt.recv() => {}
        }
        tracing::info!("told to end; the wishes stay as they are");
        notifier.stopping();
        deadline.get_or_insert_with(|| tokio::time::Instant::now() + LEAVE_WITHIN);
        handle.leave().await;
    }
}

fn log_to_stderr(config: &Config) -> anyhow::Result<()> {
    let mut filter = EnvFilter::try_new(&config.log_level).context("LOG_LEVEL")?;
    // The ways to the bucket have much to say, and some of it is signed.
    for quiet in ["aws=warn", "hyper=warn", "rustls=warn"] {
        filter = filter.add_directive(quiet.parse().context("a quiet target")?);
    }
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_target(false)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    let set = match config.log_format {
        LogFormat::Text => log.try_init(),
        LogFormat::Json => log.json().try_init(),
    };
    set.map_err(|error| anyhow::anyhow!("logging: {error}"))
}

/// Every viewer is an open file; the usual soft limit of 1024 is soon used up.
fn more_files() {
    let limit = getrlimit(Resource::Nofile);
    let raised = rustix::process::Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "the limit of open files cannot be raised");
    }
}
