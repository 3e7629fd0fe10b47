//! What is seen of a channel: its worker's life, and what the rest of the controller may know of it.

use super::air::Air;
use super::process::Process;
use state::Timestamp;
use state::ids::Ulid;
use state::seen::StreamState;
use state::totals::Totals;
use state::wire::Heartbeat;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Heartbeats are due this often.
pub const BEAT_EVERY: Duration = Duration::from_secs(1);

/// A heartbeat that is missing this long after it was due means that the worker's loop stands still.
pub const MISSING: Duration = Duration::from_secs(5);

/// How long a worker may take to call, and to send its first heartbeat when it knows what to play.
pub const FIRST_WORD: Duration = Duration::from_secs(15);

/// How long the list of what to play may take. The worker itself waits for 30 s.
pub const BRIEFING: Duration = Duration::from_secs(35);

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
    /// There is none because it failed, and by its policy nothing is tried until somebody asks.
    GaveUp,
    /// Somebody holds the channel's lock of whom nothing is known yet.
    Held {
        /// Since when it is known.
        since: Instant,
        /// When to try the lock again.
        look_at: Instant,
        /// Somebody was alerted.
        alerted: bool,
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
    pub process: Process,
    /// Who started it.
    pub origin: Origin,
    /// How far we are with each other.
    pub stage: Stage,
    /// When it came so far, or last sent a heartbeat.
    pub heard: Instant,
    /// Since when it sends media.
    pub sending: Option<Instant>,
    /// It was told to end.
    pub ending: Option<Ending>,
}

/// Who started a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// This controller did.
    Ours,
    /// A controller before this one did.
    Adopted,
}

/// How far a worker has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Its process lives.
    Started,
    /// It has called; what it shall play is being listed.
    Called,
    /// It was told what to play.
    Briefed,
    /// Its loop sends heartbeats.
    Beating,
}

impl Stage {
    /// How long it may stay silent here.
    pub fn patience(self) -> Duration {
        match self {
            Stage::Started | Stage::Briefed => FIRST_WORD,
            Stage::Called => BRIEFING,
            Stage::Beating => BEAT_EVERY + MISSING,
        }
    }
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
    /// Its loop stands still. Counts as a crash.
    Hung,
}

impl Run {
    /// When its silence will have lasted too long.
    pub fn silent_at(&self) -> Instant {
        self.heard + self.stage.patience()
    }

    /// It has come to another stage.
    pub fn reach(&mut self, stage: Stage, now: Instant) {
        (self.stage, self.heard) = (stage, now);
    }

    /// When it sent its last heartbeat.
    pub fn last_beat(&self) -> Option<Instant> {
        (self.stage == Stage::Beating).then_some(self.heard)
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
    /// Files of the channel that were broken and put aside, in words.
    pub broken_files: Vec<String>,
    /// Why the state is not on disk, while that is so.
    pub save_failed: Option<String>,
    /// Somebody of whom nothing is known holds the channel's lock and does not call.
    pub held_by_unknown: bool,
    /// Times that are on the disk; they never go back.
    pub totals: Option<Arc<Totals>>,
}

impl Sight {
    /// A channel of which only this is known: nothing lives, and nothing is wrong.
    pub fn of(state: StreamState, air: Air) -> Self {
        Self {
            state,
            beat: None,
            alive: false,
            air,
            alerts: Vec::new(),
            broken_files: Vec::new(),
            save_failed: None,
            held_by_unknown: false,
            totals: None,
        }
    }
}
