//! What is told of an item that was played: where it was left, how, and why.

use serde::Serialize;
use state::ids::Ulid;

/// An item that is not on the air any more.
#[derive(Debug, PartialEq, Eq)]
pub struct Left {
    /// The playlist entry.
    pub id: Ulid,
    /// Its key.
    pub key: String,
    /// Where its last picture ends, ms of channel time.
    pub at_ms: i64,
    /// Where its last picture ends, ms of the item.
    pub position_ms: u64,
    /// How it came to be left.
    pub how: Exit,
    /// Why it was not played to its end, where that is a failure.
    pub why: Option<String>,
}

/// How an item came to be left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Exit {
    /// Played to its end.
    Played,
    /// Its media ended before its end.
    Early,
    /// Its media did not come in time.
    Stalled,
    /// Somebody wanted the next one.
    Skipped,
    /// Somebody wanted it off the air.
    Ordered,
}
