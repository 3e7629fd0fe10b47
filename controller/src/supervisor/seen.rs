//! What is seen of a channel: its worker's life, and what the rest of the controller may know of it.

use super::air::Air;
use state::Timestamp;
use state::ids::Ulid;
use state::seen::StreamState;
use state::wire::Heartbeat;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A worker that says nothing for this long counts as hung.
pub const SILENCE: Duration = Duration::from_secs(10);

/// A heartbeat older than this says nothing about now.
pub const STALE: Duration = Duration::from_secs(5);

/// One moment, by both clocks.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// For waits and ages.
    pub mono: Instant,
    /// For documents and people.
    pub wall: Timestamp,
}

impl Now {
    /// Reads both clocks.
    pub fn read() -> Self {
        Self { mono: Instant::now(), wall: state::now() }
    }
}

/// The life of a channel's worker.
#[derive(Debug, Clone, PartialEq)]
pub enum Life {
    /// There is none.
    None,
    /// There is none because it failed; the next one is due.
    Waiting {
        /// When.
        due: Instant,
    },
    /// There is one.
    Running(Run),
}

/// A living worker.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// Names the run.
    pub id: Ulid,
    /// Leader of its process group.
    pub pid: u32,
    /// Whose child it is.
    pub origin: Origin,
    /// When it was started or found.
    pub since: Instant,
    /// When it last said something.
    pub heard: Option<Instant>,
    /// Since when it sends media.
    pub sending: Option<Instant>,
    /// It was told to end.
    pub ending: Option<Ending>,
}

/// Where a worker comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// This controller started it.
    Ours,
    /// A controller before this one did.
    Leftover,
}

/// A worker on its way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ending {
    /// Why it has to go.
    pub why: Why,
    /// When it was told.
    pub since: Instant,
    /// It did not listen and was killed.
    pub killed: bool,
}

/// Why a worker has to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// Nobody wants the channel, or the controller itself goes.
    Asked,
    /// It does not speak any more. Counts as a crash.
    Hung,
    /// It belongs to a controller that is gone.
    Leftover,
}

impl Run {
    /// When it last gave a sign of life; its start counts as one.
    pub fn last_sign(&self) -> Instant {
        self.heard.unwrap_or(self.since)
    }
}

/// What the rest of the controller may know of a channel.
#[derive(Debug, Clone)]
pub struct Sight {
    /// What is, or will be, on disk.
    pub state: StreamState,
    /// The newest heartbeat of the living run.
    pub beat: Option<Arc<Heartbeat>>,
    /// Whether a worker process lives.
    pub alive: bool,
    /// What viewers get.
    pub air: Air,
    /// What someone must know: broken files, failures in a row.
    pub alerts: Vec<String>,
}
