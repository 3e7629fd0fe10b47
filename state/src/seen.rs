//! The sight: what was last seen of a channel, as it is kept in `channels/<id>/stream_state.json`.

use crate::channel::FieldProblem;
use crate::ids::{ChannelId, Ulid};
use crate::phase::Phase;
use crate::wire::Cursor;
use crate::{Timestamp, store};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

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
            last_health_check: None,
            cursor: None,
            hls_sequence_reserved: 0,
            other: Map::new(),
        }
    }
}

impl store::Document for StreamState {
    const FILE: &'static str = "stream_state.json";
    const VERSION: u32 = Self::VERSION;

    fn revision(&self) -> u64 {
        self.revision
    }

    fn set_revision(&mut self, revision: u64) {
        self.revision = revision;
    }

    fn problems(&self) -> Vec<FieldProblem> {
        Vec::new()
    }
}
