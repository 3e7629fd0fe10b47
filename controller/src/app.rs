//! Start-up, in an order that matters, and the end.
//!
//! 1. Configuration, so that every problem of it is told at once and nothing has been touched yet.
//! 2. Logging, so that everything after it can be told.
//! 3. The lock, before anything in the state folder is read or changed: a second controller must not get further.
//! 4. The port: the most likely thing to fail. Nothing has been started yet that would have to be ended.
//! 5. Keys, wishes, FFmpeg: what the supervisor needs before it starts a worker.
//! 6. The supervisor, which brings back every channel that is wanted.
//! 7. The API, when there is something to ask.
//!
//! At the end the workers go first and the API last, so that viewers are served what was still written.

use crate::config::{Config, LogFormat};
use crate::engines::House;
use crate::engines::health::{Checkup, missing, notices};
use crate::http::segments::{MOST, Segments};
use crate::http::{Desk, Shared, router, serve};
use crate::machine::{self, AdminToken};
use crate::media::{self, library::Library};
use crate::prepare::{self, Preparer};
use crate::supervisor::brief::Briefing;
use crate::supervisor::{self, Handle, Supervisor};
use crate::wishes::Wishes;
use crate::wishes::destinations::Keyring;
use anyhow::{Context, bail};
use rustix::process::{Resource, getrlimit, setrlimit};
use std::io::IsTerminal;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;
use tracing_subscriber::EnvFilter;

/// Workers have this long to end when the controller does.
const LEAVE_WITHIN: Duration = Duration::from_secs(20);

/// Runs the controller until it is told to end.
///
/// # Errors
/// Everything that keeps it from starting, in one line.
pub fn run() -> anyhow::Result<()> {
    let config = Config::of_this_process().or_else(|problems| match problems.as_slice() {
        [one] => bail!("the configuration cannot be used: {one}"),
        many => bail!("the configuration cannot be used:\n  {}", many.join("\n  ")),
    })?;
    log_to_stderr(&config)?;
    let _lock = machine::move_in(&config)?;
    more_files();
    // Everything happens on this thread, which never ends before its children do.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let result = runtime.block_on(live(Arc::new(config)));
    runtime.shutdown_timeout(Duration::from_secs(1));
    result
}

async fn live(config: Arc<Config>) -> anyhow::Result<()> {
    let listener = serve::listen(config.bind)?;
    let address = listener.local_addr()?;
    let (desk, supervisor, preparer) = furnish(config).await?;
    let prepare = desk.house.prepare.clone();
    let handle = desk.house.supervisor.clone();
    tell(&desk, &listener).await?;
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let api = tokio::spawn(serve::serve(listener, router::router(desk), async move { drop(stopped.await) }));
    let workers = tokio::spawn(supervisor.run());
    let preparing = tokio::spawn(preparer.run());
    tracing::info!(%address, version = env!("CARGO_PKG_VERSION"), "listening");
    until_told(&handle, workers).await?;
    prepare.leave();
    if tokio::time::timeout(LEAVE_WITHIN, preparing).await.is_err() {
        tracing::error!("a job that prepares a file does not end");
    }
    drop(stop);
    api.await.context("the API ended")?;
    tracing::info!("ended");
    Ok(())
}

/// Makes everything that a request can ask for.
async fn furnish(config: Arc<Config>) -> anyhow::Result<(Shared, Supervisor, Preparer)> {
    let token = AdminToken::load_or_make(&config.state_dir)?;
    let keyring = Arc::new(Keyring::new(machine::master_key(&config)?, &config));
    let wishes = Arc::new(Wishes::load(&config)?);
    for alert in wishes.alerts() {
        tracing::error!("{alert}");
    }
    let tools = Mutex::new(crate::ffmpeg::look(&config).await);
    let library = Library::open(&config.storage, config.tls_ca_file.as_deref(), &config.state_dir);
    let library = Arc::new(library.context("the storage cannot be used")?);
    let (config_, keyring_, library_) = (config.clone(), keyring.clone(), library.clone());
    let briefing = Arc::new(Briefing { config: config_, keyring: keyring_, library: library_, tools });
    let (supervisor, handle) = supervisor::open(config.clone(), wishes.clone(), briefing.clone())?;
    let (preparer, prepare) =
        prepare::open(config.clone(), wishes.clone(), briefing.clone(), handle.clone())?;
    let media = media::start(&config, library.clone(), wishes.clone(), handle.clone())?;
    let house = House {
        config,
        wishes,
        keyring,
        library,
        media,
        briefing,
        supervisor: handle,
        prepare,
        started: Instant::now(),
        checkup: Checkup::default(),
    };
    Ok((Arc::new(Desk { house, token, segments: Segments::new(MOST) }), supervisor, preparer))
}

/// Says what is missing, and leaves the address for whoever asked for port 0.
async fn tell(desk: &Desk, listener: &TcpListener) -> anyhow::Result<()> {
    for problem in missing(&desk.house).await {
        tracing::error!("{problem}");
    }
    for notice in notices(&desk.house) {
        tracing::warn!("{notice}");
    }
    let file = desk.house.config.state_dir.join("run/controller.address");
    std::fs::write(&file, format!("{}\n", listener.local_addr()?)).with_context(|| file.display().to_string())
}

/// Waits for SIGTERM or SIGINT, then for the workers; a second signal does not let them finish.
async fn until_told(handle: &Handle, mut workers: JoinHandle<()>) -> anyhow::Result<()> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let mut deadline: Option<tokio::time::Instant> = None;
    loop {
        let late = async {
            match deadline {
                Some(deadline) => tokio::time::sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            ended = &mut workers => return ended.context("the supervisor ended"),
            () = late => bail!("workers are left that do not end"),
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("told to end; the wishes stay as they are");
        deadline.get_or_insert_with(|| tokio::time::Instant::now() + LEAVE_WITHIN);
        handle.leave().await;
    }
}

fn log_to_stderr(config: &Config) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&config.log_level).context("LOG_LEVEL")?;
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
