//! The worker's log: lines on stderr, which the controller points at the channel's log file. The worker puts the
//! file aside when it gets long, because it may run for months, and tells the controller of warnings and errors.
//!
//! A thread of its own writes, because the disk may hang, or whoever reads stderr. Lines that come meanwhile wait in a
//! bounded queue; those that find it full are lost and counted.

use state::rotate;
use state::wire::ToController;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tracing::{Level, Metadata};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// The file is put aside before it gets longer than this, in bytes.
const LONGEST: u64 = 10 * 1024 * 1024;
/// How many files that were put aside are kept.
const KEPT: u32 = 3;
/// Lines that the controller is told in one [`WINDOW`].
const MOST_TOLD: u32 = 20;
const WINDOW: Duration = Duration::from_secs(10);
/// Lines that wait to be written.
const QUEUE: usize = 256;
const STACK: usize = 128 * 1024;
/// Pause between two tries to be the last in the queue.
const LAST_PAUSE: Duration = Duration::from_millis(5);

static UP: OnceLock<mpsc::Sender<ToController>> = OnceLock::new();
static WRITER: OnceLock<SyncSender<Order>> = OnceLock::new();

/// Starts logging by `LOG_LEVEL` (error, warn, info, debug, trace; info when unset or not understood) and
/// `LOG_FORMAT` (`json` or `text`; text when unset). `file` is what stderr writes into, if it is a file that may
/// be put aside.
pub fn start(file: Option<PathBuf>) {
    let level = std::env::var("LOG_LEVEL").unwrap_or_default();
    let filter = EnvFilter::try_new(level.to_lowercase()).ok().filter(|_| !level.is_empty());
    let mut filter = filter.unwrap_or_else(|| EnvFilter::new("info"));
    // The ways to the bucket have much to say, and some of it is signed.
    for quiet in ["aws=warn", "hyper=warn", "rustls=warn"] {
        filter = quiet.parse().map(|directive| filter.clone().add_directive(directive)).unwrap_or(filter);
    }
    let lines =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(Log::new(file)).with_ansi(false);
    let started = match std::env::var("LOG_FORMAT").as_deref() {
        Ok("json") => lines.json().flatten_event(true).try_init(),
        _ => lines.try_init(),
    };
    // A second start in one process keeps the first.
    let _ = started;
}

/// From now on warnings and errors are also told the controller.
pub fn tell(up: mpsc::Sender<ToController>) {
    let _ = UP.set(up);
}

/// Waits until every line so far is written, at most for `deadline`. False when they are not.
pub fn flush(deadline: Duration) -> bool {
    let Some(writer) = WRITER.get() else { return true };
    let by = Instant::now() + deadline;
    let (tell, done) = sync_channel(1);
    let mut order = Order::Flush(tell);
    while let Err(TrySendError::Full(again)) = writer.try_send(order) {
        if Instant::now() >= by {
            return false;
        }
        order = again;
        thread::sleep(LAST_PAUSE);
    }
    done.recv_timeout(by.saturating_duration_since(Instant::now())).is_ok()
}

/// For the thread that writes.
enum Order {
    Line(Vec<u8>),
    /// Everything before this is written.
    Flush(SyncSender<()>),
}

/// Where all lines go.
struct Log {
    writer: SyncSender<Order>,
    lost: Arc<AtomicU64>,
    throttle: Mutex<Throttle>,
}

impl Log {
    fn new(file: Option<PathBuf>) -> Self {
        let (writer, orders) = sync_channel(QUEUE);
        let lost = Arc::new(AtomicU64::new(0));
        let file = LogFile { file, length: 0, lost: Arc::clone(&lost) };
        let thread = thread::Builder::new().name("log".to_owned()).stack_size(STACK);
        // Without a thread every line is lost and counted; the channel plays all the same.
        if thread.spawn(move || file.write_all(&orders)).is_ok() {
            let _ = WRITER.set(writer.clone());
        }
        Self { writer, lost, throttle: Mutex::default() }
    }

    fn tell(&self, level: Level, line: &[u8], now: Instant) {
        let Some(up) = UP.get() else { return };
        let passed = self.throttle.lock().unwrap_or_else(PoisonError::into_inner).pass(now);
        let Some(left_out) = passed else { return };
        let say = |line: String| {
            let level = level.as_str().to_lowercase();
            let _ = up.try_send(ToController::Log { level, line });
        };
        if left_out > 0 {
            say(format!("{left_out} lines were left out; they are in the log file"));
        }
        say(String::from_utf8_lossy(line).trim().to_owned());
    }
}

/// What the thread owns.
struct LogFile {
    file: Option<PathBuf>,
    length: u64,
    lost: Arc<AtomicU64>,
}

impl LogFile {
    fn write_all(mut self, orders: &Receiver<Order>) {
        self.length = self.file.as_deref().and_then(|f| f.metadata().ok()).map_or(0, |m| m.len());
        for order in orders {
            match order {
                Order::Line(line) => self.write(&line),
                Order::Flush(done) => drop(done.try_send(())),
            }
            let lost = self.lost.swap(0, Ordering::Relaxed);
            if lost > 0 {
                self.write(format!("{lost} lines were lost: they could not be written in time\n").as_bytes());
            }
        }
    }

    /// A line that cannot be written is lost: a full disk must not end a broadcast.
    fn write(&mut self, line: &[u8]) {
        if self.length + line.len() as u64 > LONGEST
            && let Some(path) = &self.file
        {
            // Where that fails, the file grows on; the next try comes with the next line.
            self.length = if put_aside(path).is_ok() { 0 } else { self.length };
        }
        if io::stderr().write_all(line).is_ok() {
            self.length += line.len() as u64;
        }
    }
}

/// Lets stderr go on in a fresh file, so that the words of a panic are found where everything else is.
fn put_aside(path: &Path) -> io::Result<()> {
    rotate::put_aside(path, KEPT)?;
    let fresh: File = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
    rustix::stdio::dup2_stderr(fresh).map_err(Into::into)
}

/// A line on its way, with its level.
struct Line<'a> {
    log: &'a Log,
    level: Level,
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Self::Writer {
        Line { log: self, level: Level::INFO }
    }

    fn make_writer_for(&'a self, meta: &Metadata<'_>) -> Self::Writer {
        Line { log: self, level: *meta.level() }
    }
}

impl Write for Line<'_> {
    /// Gets a whole line at a time.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.log.writer.try_send(Order::Line(line.to_vec())).is_err() {
            self.log.lost.fetch_add(1, Ordering::Relaxed);
        }
        if self.level <= Level::WARN {
            self.log.tell(self.level, line, Instant::now());
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Lets a bounded number of lines pass in a window of time.
#[derive(Debug, Default)]
struct Throttle {
    began: Option<Instant>,
    passed: u32,
    left_out: u32,
}

impl Throttle {
    /// Whether a line may pass now, and how many were left out before it.
    fn pass(&mut self, now: Instant) -> Option<u32> {
        if self.began.is_none_or(|began| began + WINDOW <= now) {
            (self.began, self.passed) = (Some(now), 0);
        }
        if self.passed == MOST_TOLD {
            self.left_out += 1;
            return None;
        }
        self.passed += 1;
        Some(std::mem::take(&mut self.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_told_in_part_and_its_size_afterwards() {
        let (mut throttle, t0) = (Throttle::default(), Instant::now());
        let told = (0..500).filter_map(|_| throttle.pass(t0)).count();
        assert_eq!(told, MOST_TOLD as usize);
        assert_eq!(throttle.pass(t0 + WINDOW), Some(480));
        assert_eq!(throttle.pass(t0 + WINDOW), Some(0));
    }
}
