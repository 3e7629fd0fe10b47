//! A child at work for a feed: how it is started, and what its end means.

use crate::source::buffer::End;
use crate::source::child::{self, Said};
use crate::source::course::Course;
use std::ffi::OsString;
use std::time::Duration;
use tokio::process::{Child, ChildStdout};

const GRACE: Duration = Duration::from_secs(10);

/// A child at work.
pub(super) struct Running {
    pub(super) stdout: ChildStdout,
    pub(super) child: Child,
    pub(super) said: tokio::task::JoinHandle<Said>,
}

impl Running {
    pub(super) fn start(course: &Course, arguments: Vec<OsString>) -> Result<Running, String> {
        let tools = course.tools();
        let mut command = child::command(&tools.ffmpeg, &tools.secrets_free_environment());
        command.args(arguments);
        if course.is_aside() {
            child::give_way(&mut command);
        }
        let mut child = command.spawn().map_err(|error| format!("FFmpeg cannot be started: {error}"))?;
        let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
            return Err("FFmpeg has no output".to_owned());
        };
        let said = tokio::spawn(child::listen(stderr, course.key().to_owned()));
        Ok(Running { stdout, child, said })
    }
}

/// Why nothing more is read of a child.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Stopped {
    /// It has closed its output.
    AtTheEnd,
    /// What it wrote cannot be read.
    Broken(String),
    /// Nobody wants the rest.
    Left,
}

pub(super) fn left() -> End {
    End::Broken("was left".to_owned())
}

/// A larger pipe lets FFmpeg write a burst and sleep; the kernel may refuse, and nothing is lost then.
pub(super) fn widen(stdout: &ChildStdout) {
    let _ = rustix::pipe::fcntl_setpipe_size(stdout, 256 * 1024);
}

fn silent() -> String {
    "FFmpeg failed without a word".to_owned()
}

pub(super) async fn conclude(
    stopped: &Stopped,
    mut child: Child,
    said: tokio::task::JoinHandle<Said>,
) -> End {
    // The pipe is closed by now: a child that still writes ends by itself, one that reads is told to.
    let status = match tokio::time::timeout(Duration::from_millis(500), child.wait()).await {
        Ok(status) => status.ok(),
        Err(_) => {
            child::end(child, GRACE).await;
            None
        }
    };
    let said = said.await.unwrap_or_default();
    match (stopped, status) {
        (Stopped::Broken(why), _) => End::Broken(why.clone()),
        (_, Some(status)) if status.success() => End::Complete,
        (_, Some(status)) => {
            End::Broken(child::killed(status).or_else(|| said.last()).unwrap_or_else(silent))
        }
        (_, None) => left(),
    }
}
