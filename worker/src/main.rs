//! The worker program. Its arguments say who it is and nothing more: the rest, secrets included, comes over the
//! controller's socket, or from a private file when it is run by hand.

use anyhow::{Context, bail};
use state::ids::{ChannelId, Ulid};
use state::prepared::Said;
use state::seen::LastWords;
use state::wire::{Hello, MAX_LINE, ToWorker, WorkerSpec};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use stream_worker::lock::{ChannelLock, LockError};
use stream_worker::output::rtmp::trial::Trial;
use stream_worker::prepare::Failure;
use stream_worker::session::{self, Ended, Line};
use stream_worker::source::disk::{self, BLOCKING_THREADS};
use stream_worker::takeover::Takeover;
use stream_worker::{link, log, memory, prepare};
use tokio::sync::mpsc;

const HELP: &str = "\
stream-worker plays one channel. The controller starts it; by hand it is for finding out why a channel does not play.

Usage:
  stream-worker --channel ID --run ULID --socket PATH [--log FILE] [--standby]
  stream-worker --spec FILE     play what FILE says (JSON, mode 0600: it holds stream keys)
  stream-worker --prepare       prepare the one file that the line of JSON on stdin names, at the lowest priority,
                                and tell the progress as lines of JSON on stdout
  stream-worker --try-destination
                                try the way to the destination that the JSON on stdin names, without publishing, and
                                tell every step as JSON on stdout

  --log FILE   stderr writes into FILE, which is to be put aside when it gets long
  --standby    another worker plays the channel: open what comes next, and go on when that worker gives way

Exit codes: 0 stopped or played to the end, or every step went well, 1 failed, 2 wrong arguments,
3 another worker holds the channel or the file, 4 the controller did not answer, 5 the bucket is away.
";
/// What blocks a thread still when everything is over is not waited for any longer.
const LAST_BLOCKED: Duration = Duration::from_secs(1);
const SPEC_DEADLINE: Duration = Duration::from_secs(30);
const LOCK_PAUSE: Duration = Duration::from_millis(50);
/// Two seconds.
const LOCK_TRIES: u32 = 40;

enum Call {
    Socket { channel: ChannelId, run: Ulid, socket: PathBuf, log: Option<PathBuf>, standby: bool },
    File(PathBuf),
    Prepare,
    TryDestination,
    Print(&'static str),
}

fn main() -> ExitCode {
    memory::share_one_pool();
    let call = match parse(std::env::args().skip(1)) {
        Ok(call) => call,
        Err(error) => return fail(2, &error),
    };
    if let Call::Print(text) = call {
        let _ = std::io::stdout().write_all(text.as_bytes());
        return ExitCode::SUCCESS;
    }
    log::start(match &call {
        Call::Socket { log, .. } => log.clone(),
        Call::File(_) | Call::Prepare | Call::TryDestination | Call::Print(_) => None,
    });
    // One thread for everything: FFmpeg's leash is tied to the thread that spawns it.
    let mut builder = tokio::runtime::Builder::new_current_thread();
    match builder.enable_all().max_blocking_threads(BLOCKING_THREADS).build() {
        Ok(runtime) => {
            let code = runtime.block_on(play(call)).unwrap_or_else(|error| {
                let code = if error.downcast_ref::<LockError>().is_some() { 3 } else { 1 };
                fail(code, &error)
            });
            // A disk that hangs would keep the process for ever.
            runtime.shutdown_timeout(LAST_BLOCKED);
            log::flush(LAST_BLOCKED);
            code
        }
        Err(error) => fail(1, &error.into()),
    }
}

fn fail(code: u8, error: &anyhow::Error) -> ExitCode {
    // Where a line hangs, the last one would, too.
    if log::flush(LAST_BLOCKED) {
        let _ = writeln!(std::io::stderr(), "stream-worker: {error:#}");
    }
    ExitCode::from(code)
}

fn parse(arguments: impl Iterator<Item = String>) -> anyhow::Result<Call> {
    let (mut channel, mut run, mut socket, mut spec, mut log) = (None, None, None, None, None);
    let (mut job, mut standby) = (None, false);
    let mut arguments = arguments.peekable();
    while let Some(name) = arguments.next() {
        let mut value = || arguments.next().with_context(|| format!("{name} needs a value; see --help"));
        match name.as_str() {
            "--help" | "-h" => return Ok(Call::Print(HELP)),
            "--version" => {
                return Ok(Call::Print(concat!("stream-worker ", env!("CARGO_PKG_VERSION"), "\n")));
            }
            "--channel" => channel = Some(value()?.parse().context("--channel")?),
            "--run" => run = Some(Ulid::from_text(&value()?)),
            "--socket" => socket = Some(PathBuf::from(value()?)),
            "--log" => log = Some(PathBuf::from(value()?)),
            "--prepare" => job = Some(Call::Prepare),
            "--try-destination" => job = Some(Call::TryDestination),
            "--standby" => standby = true,
            "--spec" => spec = Some(PathBuf::from(value()?)),
            _ => bail!("unknown argument {name:?}; see --help"),
        }
    }
    match (channel, run, socket, spec, job) {
        (None, None, None, None, Some(job)) if !standby => Ok(job),
        (None, None, None, Some(file), None) if !standby => Ok(Call::File(file)),
        (Some(channel), Some(run), Some(socket), None, None) => {
            Ok(Call::Socket { channel, run, socket, log, standby })
        }
        _ => bail!(
            "give --channel, --run and --socket, or one of --spec, --prepare and --try-destination alone; see --help"
        ),
    }
}

async fn play(call: Call) -> anyhow::Result<ExitCode> {
    match call {
        Call::File(path) => {
            let spec = read_spec(&path)?;
            let line = line_to_nobody();
            begin(spec, line, None).await.map(|_| ExitCode::SUCCESS)
        }
        Call::Socket { channel, run, socket, standby, .. } => serve(channel, run, socket, standby).await,
        Call::Prepare => prepare().await,
        Call::TryDestination => try_destination().await,
        Call::Print(_) => Ok(ExitCode::SUCCESS),
    }
}

/// Plays for a controller, and leaves the last words.
async fn serve(channel: ChannelId, run: Ulid, socket: PathBuf, standby: bool) -> anyhow::Result<ExitCode> {
    let folder = socket.parent().unwrap_or(Path::new(".")).to_owned();
    let lock = Arc::new(OnceLock::new());
    let takeover = standby.then(|| Takeover::new(&folder, channel.clone(), Arc::clone(&lock)));
    if takeover.is_none() {
        let _ = lock.set(take_lock(&ChannelLock::path(&folder, &channel)).await?);
    }
    let ended = obey(&channel, &run, socket, takeover).await;
    let (exit_code, last) = last_words(run, &ended);
    // Left while the lock is held, so that nobody who finds it free reads older ones. Who never had it, or got it from
    // a worker that died, says nothing: the words there are of the worker before.
    let played = lock.get().is_some() && !matches!(ended, Ok(End::Session(Ended::NoTurn(_))));
    if played {
        let about = LastWords::path(&folder, &channel);
        let left = disk::SYSTEM.soon(&about, move || last.leave(&folder, &channel)).await;
        if let Err(error) = left.flatten() {
            tracing::warn!(%error, "the last words cannot be written");
        }
    }
    ended.map(|_| ExitCode::from(exit_code))
}

/// The worker before this one may be on its way out still, or a controller may be looking at the lock.
async fn take_lock(path: &Path) -> Result<ChannelLock, LockError> {
    let mut patience = LOCK_TRIES;
    loop {
        match ChannelLock::take(path) {
            Err(LockError::Held(_)) if patience > 0 => patience -= 1,
            taken => return taken,
        }
        tokio::time::sleep(LOCK_PAUSE).await;
    }
}

/// How a life for a controller ended.
enum End {
    Session(Ended),
    NoAnswer,
}

fn last_words(run: Ulid, ended: &anyhow::Result<End>) -> (u8, LastWords) {
    let (exit_code, words) = match ended {
        Ok(End::Session(Ended::Stopped)) => (0, "it was told to stop".to_owned()),
        Ok(End::Session(Ended::PlaylistOver)) => (0, "the playlist was played to its end".to_owned()),
        Ok(End::Session(Ended::GaveWay(_))) => (0, "it gave way to another worker".to_owned()),
        Ok(End::Session(Ended::NoTurn(why))) => (0, why.clone()),
        Ok(End::NoAnswer) => (4, "the controller did not answer".to_owned()),
        Err(error) => (1, format!("{error:#}")),
    };
    let finished = matches!(ended, Ok(End::Session(Ended::PlaylistOver)));
    let next = match ended {
        Ok(End::Session(Ended::GaveWay(next))) => Some(next.clone()),
        _ => None,
    };
    (exit_code, LastWords { run, exit_code: exit_code.into(), finished, next, words })
}

/// Asks the controller what to play, and plays it.
async fn obey(
    channel: &ChannelId,
    run: &Ulid,
    socket: PathBuf,
    takeover: Option<Takeover>,
) -> anyhow::Result<End> {
    let version = env!("CARGO_PKG_VERSION").to_owned();
    let (channel, run, pid) = (channel.clone(), run.clone(), std::process::id());
    let (up, mut down) = link::dial(socket, Hello { channel, run, pid, version, briefed: false });
    log::tell(up.clone());
    let Ok(first) = tokio::time::timeout(SPEC_DEADLINE, down.recv()).await else {
        tracing::error!("the controller did not answer within {} s", SPEC_DEADLINE.as_secs());
        return Ok(End::NoAnswer);
    };
    match first {
        Some(ToWorker::Spec(spec)) => begin(*spec, Line { up, down }, takeover).await.map(End::Session),
        Some(ToWorker::Stop) => Ok(End::Session(Ended::Stopped)),
        _ => bail!("the controller's first word was not a spec"),
    }
}

async fn begin(spec: WorkerSpec, line: Line, takeover: Option<Takeover>) -> anyhow::Result<Ended> {
    tracing::info!(channel.id = %spec.channel, run.id = %spec.run, items = spec.items.len(),
        standby = takeover.is_some(), "the worker begins");
    // As a task: waking the future that the runtime blocks on costs two system calls each time, waking a task none.
    tokio::spawn(session::run(spec, line, takeover)).await.context("play")?
}

/// By hand, what would be told the controller is logged.
fn line_to_nobody() -> Line {
    let (up, mut nobody) = mpsc::channel(16);
    tokio::spawn(async move {
        while let Some(message) = nobody.recv().await {
            let message = serde_json::to_string(&message).unwrap_or_default();
            tracing::debug!(%message, "would tell the controller");
        }
    });
    let (_, down) = mpsc::channel(1);
    Line { up, down }
}

/// Prepares one file. Whoever started this reads stdout; when nobody does any more, the job ends.
async fn prepare() -> anyhow::Result<ExitCode> {
    let mut line = String::new();
    BufReader::new(std::io::stdin().take(MAX_LINE as u64))
        .read_line(&mut line)
        .context("read the job from stdin")?;
    let job = serde_json::from_str(&line).context("understand the job on stdin")?;
    prepare::give_way();
    let mut tell = |said: &Said| {
        let mut line = serde_json::to_vec(said).map_err(std::io::Error::other)?;
        line.push(b'\n');
        std::io::stdout().lock().write_all(&line)
    };
    let said = match prepare::run(&job, &mut tell).await {
        Ok(said) => said,
        Err(why @ Failure::Busy) => return Ok(fail(3, &why.into())),
        Err(why @ Failure::Away(_)) => return Ok(fail(5, &why.into())),
        Err(why @ Failure::File(_)) => return Err(why.into()),
    };
    tell(&said).context("nobody listens")?;
    Ok(ExitCode::SUCCESS)
}

/// Tries the way to one destination. The spec holds its key, so it is never repeated in an error.
async fn try_destination() -> anyhow::Result<ExitCode> {
    let read = std::io::stdin().take(MAX_LINE as u64);
    let trial: Trial = serde_json::from_reader(read).map_err(|error| {
        anyhow::anyhow!(
            "the destination on stdin cannot be understood, line {} column {}",
            error.line(),
            error.column()
        )
    })?;
    let outcome = trial.run().await;
    let mut line = serde_json::to_vec(&outcome).context("word the outcome")?;
    line.push(b'\n');
    std::io::stdout().lock().write_all(&line).context("nobody listens")?;
    Ok(if outcome.ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn read_spec(path: &Path) -> anyhow::Result<WorkerSpec> {
    let shown = path.display();
    let mode = std::fs::metadata(path).with_context(|| format!("read {shown}"))?.mode() & 0o777;
    if mode & 0o077 != 0 {
        bail!("{shown} has mode {mode:o} and holds secrets; run: chmod 600 {shown}");
    }
    let text = std::fs::read(path).with_context(|| format!("read {shown}"))?;
    serde_json::from_slice(&text).with_context(|| format!("understand {shown}"))
}
