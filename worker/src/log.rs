//! The worker's log: lines on stderr, which the controller points at the channel's log file. The worker puts the
//! file aside when it gets long, because it may run for months, and tells the controller of warnings and errors.

use state::rotate;
use state::wire::ToController;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};
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

static UP: OnceLock<mpsc::Sender<ToController>> = OnceLock::new();

/// Starts logging by `LOG_LEVEL` (error, warn, info, debug, trace; info when unset or not understood) and
/// `LOG_FORMAT` (`json` or `text`; text when unset). `file` is what stderr writes into, if it is a file that may
/// be put aside.
pub fn start(file: Option<PathBuf>) {
    let level = std::env::var("LOG_LEVEL").unwrap_or_default();
    let filter = EnvFilter::try_new(level.to_lowercase()).ok().filter(|_| !level.is_empty());
    let filter = filter.unwrap_or_else(|| EnvFilter::new("info"));
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

/// Where all lines go.
struct Log(Mutex<Inner>);

struct Inner {
    file: Option<PathBuf>,
    length: u64,
    throttle: Throttle,
}

impl Log {
    fn new(file: Option<PathBuf>) -> Self {
        let length = file.as_deref().and_then(|f| f.metadata().ok()).map_or(0, |m| m.len());
        Self(Mutex::new(Inner { file, length, throttle: Throttle::default() }))
    }
}

impl Inner {
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

    fn tell(&mut self, level: Level, line: &[u8], now: Instant) {
        let Some(up) = UP.get() else { return };
        let Some(left_out) = self.throttle.pass(now) else { return };
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
        let mut inner = self.log.0.lock().unwrap_or_else(PoisonError::into_inner);
        inner.write(line);
        if self.level <= Level::WARN {
            inner.tell(self.level, line, Instant::now());
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
