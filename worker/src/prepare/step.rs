//! One run of FFmpeg within a job: its progress goes on to whoever listens, and it ends when it does not get on.

use super::Tell;
use crate::source::child::{self, Tools};
use state::prepared::{Said, Stage};
use std::ffi::OsString;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::{Instant, MissedTickBehavior, interval};

/// An FFmpeg that makes no progress for this long is ended: at the lowest priority a busy machine may hold it up.
const STALLED: Duration = Duration::from_secs(300);
/// What is kept of FFmpeg's messages, bytes.
const KEPT: usize = 8 * 1024;
const GRACE: Duration = Duration::from_secs(5);

/// How far FFmpeg is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Progress {
    /// Pictures written.
    pub(super) frames: u64,
    /// Media written, ms.
    pub(super) time_ms: u64,
}

/// How FFmpeg ended, well.
#[derive(Debug)]
pub(super) struct Ended {
    /// How far it came.
    pub(super) progress: Progress,
    /// The end of what it said.
    pub(super) words: String,
}

/// Where the steps of a job are done, one at a time.
pub(super) struct Bench<'a> {
    tools: &'a Tools,
    tell: Tell<'a>,
    told: Instant,
    /// No child may write a larger file, bytes.
    pub(super) largest_file: u64,
}

/// What a step counts for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Share {
    /// Part of which stage.
    pub(super) stage: Stage,
    /// Done in this stage before this step, ms.
    pub(super) before_ms: u64,
    /// To be done in this stage, ms.
    pub(super) total_ms: u64,
    /// Length of a picture, ms, where pictures are counted; `None` counts time.
    pub(super) frame_ms: Option<f64>,
}

impl Share {
    fn done_ms(&self, progress: Progress) -> u64 {
        let by_frames = self.frame_ms.map(|ms| (progress.frames as f64 * ms) as u64);
        (self.before_ms + by_frames.unwrap_or(progress.time_ms)).min(self.total_ms)
    }
}

impl<'a> Bench<'a> {
    pub(super) fn new(tools: &'a Tools, tell: Tell<'a>) -> Self {
        Self { tools, tell, told: Instant::now(), largest_file: 0 }
    }

    /// Says how far a stage is, if that was not said within the last second.
    ///
    /// # Errors
    /// Nobody listens.
    pub(super) fn tell_now_and_then(&mut self, stage: Stage, done: u64, total: u64) -> Result<(), String> {
        if self.told.elapsed() < Duration::from_secs(1) {
            return Ok(());
        }
        self.told = Instant::now();
        self.tell(stage, done, total)
    }

    /// Says how far a stage is.
    ///
    /// # Errors
    /// Nobody listens.
    pub(super) fn tell(&mut self, stage: Stage, done_ms: u64, total_ms: u64) -> Result<(), String> {
        let said = (self.tell)(&Said::Progress { stage, done_ms, total_ms });
        said.map_err(|error| format!("nobody listens any more: {error}"))
    }

    /// The programs.
    pub(super) fn tools(&self) -> &'a Tools {
        self.tools
    }

    /// FFmpeg, to be read from by the caller.
    pub(super) fn reader(&self, arguments: Vec<OsString>) -> Result<Child, String> {
        let mut command = child::command(&self.tools.ffmpeg, &self.tools.secrets_free_environment());
        spawn(command.args(arguments))
    }

    /// Runs FFmpeg to its end. `-v`, progress and overwriting are this function's; the rest is the caller's.
    ///
    /// # Errors
    /// In words: that it failed, with its last line, that it did not get on, or that nobody listens any more.
    pub(super) async fn run(&mut self, arguments: Vec<OsString>, share: Share) -> Result<Ended, String> {
        let environment = self.tools.secrets_free_environment();
        let mut command = child::writing_command(&self.tools.ffmpeg, &environment, self.largest_file);
        command.args(["-v", "info", "-hide_banner", "-nostdin", "-y", "-nostats", "-progress", "pipe:1"]);
        let mut child = spawn(command.args(arguments))?;
        let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
            return Err("FFmpeg has no output".to_owned());
        };
        let words = tokio::spawn(tail(stderr));
        let progress = match self.follow(stdout, share).await {
            Ok(progress) => progress,
            Err(why) => {
                child::end(child, GRACE).await;
                return Err(why);
            }
        };
        let status = tokio::time::timeout(STALLED, child.wait()).await;
        let words = words.await.unwrap_or_default();
        match status {
            Ok(Ok(status)) if status.success() => Ok(Ended { progress, words }),
            Ok(Ok(_)) => Err(why_it_failed(&words)),
            Ok(Err(error)) => Err(format!("FFmpeg cannot be waited for: {error}")),
            Err(_) => Err("FFmpeg does not end".to_owned()),
        }
    }

    /// Reads progress until FFmpeg closes its end, and tells it every second, so that a listener who is gone is
    /// noticed even while nothing moves.
    async fn follow(&mut self, stdout: impl AsyncRead + Unpin, share: Share) -> Result<Progress, String> {
        let mut lines = BufReader::new(stdout.take(1 << 30)).lines();
        let (mut progress, mut moved) = (Progress::default(), Instant::now());
        let mut beat = interval(Duration::from_secs(1));
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                line = lines.next_line() => match line {
                    Ok(Some(line)) => {
                        let next = read(&line, progress);
                        if next != progress {
                            (progress, moved) = (next, Instant::now());
                        }
                    }
                    Ok(None) => return Ok(progress),
                    Err(error) => return Err(format!("FFmpeg's progress cannot be read: {error}")),
                },
                _ = beat.tick() => {
                    self.tell(share.stage, share.done_ms(progress), share.total_ms)?;
                    if moved.elapsed() > STALLED {
                        return Err(format!("FFmpeg made no progress for {} s", STALLED.as_secs()));
                    }
                }
            }
        }
    }
}

fn spawn(command: &mut Command) -> Result<Child, String> {
    command.spawn().map_err(|error| format!("FFmpeg cannot be started: {error}"))
}

/// One line of `-progress`, on top of what was known.
fn read(line: &str, known: Progress) -> Progress {
    let value = |name: &str| line.strip_prefix(name)?.strip_prefix('=')?.trim().parse::<u64>().ok();
    Progress {
        frames: value("frame").unwrap_or(known.frames),
        time_ms: value("out_time_us").map_or(known.time_ms, |us| us / 1000),
    }
}

pub(super) async fn tail(mut from: impl AsyncRead + Unpin) -> String {
    let (mut kept, mut chunk) = (Vec::new(), [0u8; 4096]);
    while let Ok(read @ 1..) = from.read(&mut chunk).await {
        kept.extend_from_slice(&chunk[..read]);
        let surplus = kept.len().saturating_sub(KEPT);
        kept.drain(..surplus);
    }
    String::from_utf8_lossy(&kept).into_owned()
}

/// The line that says most: the last one is often only "Conversion failed!".
pub(super) fn why_it_failed(words: &str) -> String {
    let lines = words.lines().rev().map(str::trim).filter(|l| !l.is_empty() && *l != "Conversion failed!");
    let line =
        lines.map(|l| if l.starts_with("file:") { l.rsplit(": ").next().unwrap_or(l) } else { l }).next();
    let line = line.unwrap_or("FFmpeg failed without a word");
    line.chars().filter(|c| !c.is_control()).take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_read_line_by_line_and_nonsense_changes_nothing() {
        let mut progress = Progress::default();
        for line in ["frame=41", "fps=0.00", "out_time_us=1366000", "frame=N/A", "out_time_us=-5", "", "=="] {
            progress = read(line, progress);
        }
        assert_eq!(progress, Progress { frames: 41, time_ms: 1366 });
        let share = |frame_ms| Share { stage: Stage::Picture, before_ms: 1000, total_ms: 2000, frame_ms };
        assert_eq!(share(None).done_ms(progress), 2000);
        assert_eq!(share(Some(10.0)).done_ms(progress), 1410);
    }

    #[test]
    fn the_reason_is_not_that_it_failed() {
        let words =
            "[mov] x\nfile:/m/a.mp4: Invalid data found when processing input\n\nConversion failed!\n";
        assert_eq!(why_it_failed(words), "Invalid data found when processing input");
        assert_eq!(why_it_failed("\n"), "FFmpeg failed without a word");
    }
}
