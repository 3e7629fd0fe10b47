//! The sight: what was last seen of a channel, as it is kept in `channels/<id>/stream_state.json`.

use crate::Timestamp;
use crate::ids::{ChannelId, Ulid};
use crate::phase::Phase;
use crate::wire::Cursor;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};

/// What the controller must know about a channel after a restart of its own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StreamState {
    /// Shape of this document; [`Self::VERSION`].
    pub version: u32,
    /// Counts the changes of this document.
    pub revision: u64,
    /// Which channel.
    pub id: ChannelId,
    /// Where it stood.
    #[serde(default)]
    pub phase: Phase,
    /// When it came to stand there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase_since: Option<Timestamp>,
    /// The newest run, living or ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<RunSeen>,
    /// The newest run that failed since the last start by the API; it outlives the run that replaced it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed_run: Option<RunSeen>,
    /// Counts the runs; a fencing number, never reused.
    #[serde(default)]
    pub epoch: u64,
    /// How often a worker was started again without being asked, since the last start by the API.
    #[serde(default)]
    pub restart_count: u64,
    /// How often in a row it was started again without a stable minute in between.
    #[serde(default)]
    pub retry_count: u32,
    /// When the next start is due, while it waits for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_retry_at: Option<Timestamp>,
    /// Its policy leaves it alone: nothing is started until somebody asks for it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub gave_up: bool,
    /// When the worker was last found in good health.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_health_check: Option<Timestamp>,
    /// Where the programme stood.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<Cursor>,
    /// First HLS media sequence number that no run has been given yet.
    #[serde(default)]
    pub hls_sequence_reserved: u64,
    /// Fields that a newer version wrote; kept so that a rollback loses nothing.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// One life of a worker process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunSeen {
    /// Names the run.
    pub id: Ulid,
    /// Process id.
    pub pid: u32,
    /// The kernel's start time of that process in clock ticks since boot; a pid counts only together with it.
    pub pid_start: u64,
    /// When it was started.
    pub started_at: Timestamp,
    /// How it ended: an exit code, or 128 + the signal's number; absent while it lives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// How it ended, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_words: Option<String>,
    /// When it ended, where somebody saw it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
    /// Why it was begun; absent where nobody wrote it down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub began: Option<Began>,
}

/// Why a run was begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Began {
    /// Somebody started the channel.
    Start,
    /// The run before it failed.
    Retry,
    /// The channel was wanted when the controller came up.
    Resume,
    /// It was found alive, and no controller had written it down.
    Adoption,
    /// It took over from a worker of another version.
    Upgrade,
}

impl RunSeen {
    /// A run that lives.
    pub fn begun(id: Ulid, pid: u32, pid_start: u64, started_at: Timestamp, began: Began) -> Self {
        let (exit_code, exit_words, ended_at, began) = (None, None, None, Some(began));
        Self { id, pid, pid_start, started_at, exit_code, exit_words, ended_at, began }
    }
}

/// What a worker leaves behind in `run/<channel>.last` when it ends by itself: a controller that is not its parent
/// learns from nowhere else how it ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastWords {
    /// Which run has ended.
    pub run: Ulid,
    /// Its exit code.
    pub exit_code: i32,
    /// Whether it has played all there was to play; everything else with exit code 0 was asked for.
    #[serde(default)]
    pub finished: bool,
    /// It gave way: whoever comes next begins here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Cursor>,
    /// Why, in words.
    pub words: String,
}

impl LastWords {
    /// Where they are, beside the controller's socket.
    pub fn path(run_folder: &Path, channel: &ChannelId) -> PathBuf {
        run_folder.join(format!("{channel}.last"))
    }

    /// Those of `run`, where it has left any.
    pub fn of(run_folder: &Path, channel: &ChannelId, run: &Ulid) -> Option<Self> {
        Self::newest(run_folder, channel).filter(|words| words.run == *run)
    }

    /// Those that were left last, whoever left them.
    pub fn newest(run_folder: &Path, channel: &ChannelId) -> Option<Self> {
        let bytes = std::fs::read(Self::path(run_folder, channel)).ok()?;
        serde_json::from_slice(&bytes).ok()
    }

    /// Leaves them.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub fn leave(&self, run_folder: &Path, channel: &ChannelId) -> std::io::Result<()> {
        let path = Self::path(run_folder, channel);
        let half = path.with_extension("last.tmp");
        std::fs::write(&half, serde_json::to_vec(self)?)?;
        std::fs::rename(half, path)
    }
}

impl StreamState {
    /// The newest shape that this program writes.
    pub const VERSION: u32 = 1;

    /// A channel of which nothing was ever seen.
    pub fn new(id: ChannelId) -> Self {
        Self {
            version: Self::VERSION,
            revision: 0,
            id,
            phase: Phase::Off,
            phase_since: None,
            run: None,
            failed_run: None,
            epoch: 0,
            restart_count: 0,
            retry_count: 0,
            next_retry_at: None,
            gave_up: false,
            last_health_check: None,
            cursor: None,
            hls_sequence_reserved: 0,
            other: Map::new(),
        }
    }
}

crate::document!(StreamState, "stream_state.json", version Self::VERSION);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_words_count_only_for_the_run_that_spoke_them() {
        let folder = tempfile::tempdir().unwrap();
        let (channel, run) = (ChannelId::main(), Ulid::from_text("r"));
        assert_eq!(LastWords::of(folder.path(), &channel, &run), None);
        let words =
            LastWords { run: run.clone(), exit_code: 0, finished: true, next: None, words: "over".into() };
        words.leave(folder.path(), &channel).unwrap();
        assert_eq!(LastWords::of(folder.path(), &channel, &run), Some(words));
        assert_eq!(LastWords::of(folder.path(), &channel, &Ulid::from_text("s")), None);
        std::fs::write(LastWords::path(folder.path(), &channel), b"{\"run\":").unwrap();
        assert_eq!(LastWords::of(folder.path(), &channel, &run), None);
    }
}
