//! What a channel has been through, added up over all its runs, as it is kept in `channels/<id>/totals.json`.

use crate::Timestamp;
use crate::ids::{ChannelId, DestinationId, Ulid};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// The document.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Totals {
    /// Shape of this document; [`Self::VERSION`].
    pub version: u32,
    /// Counts the changes of this document.
    pub revision: u64,
    /// Which channel.
    pub id: ChannelId,
    /// Since when is counted.
    pub since: Timestamp,
    /// Up to when is counted.
    pub until: Moment,
    /// Whether the channel was wanted then.
    #[serde(default)]
    pub wanted: bool,
    /// The run that lived then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<RunMark>,
    /// The channel as a whole.
    #[serde(default)]
    pub channel: Account,
    /// Every destination that it ever had and that is remembered.
    #[serde(default)]
    pub destinations: BTreeMap<DestinationId, Account>,
    /// Fields that a newer version wrote; kept so that a rollback loses nothing.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// One moment, by the wall and by a clock that nobody sets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moment {
    /// By the wall.
    pub wall: Timestamp,
    /// Which life of the machine; clocks of two lives cannot be compared. Empty where the system has no name for it.
    #[serde(default)]
    pub boot: String,
    /// Milliseconds since the machine was started, sleep included.
    #[serde(default)]
    pub boot_ms: u64,
}

/// A run whose figures are being added.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunMark {
    /// Names the run.
    pub id: Ulid,
    /// It has told its figures at least once.
    #[serde(default)]
    pub heard: bool,
}

/// Times in ms. What is wanted and neither on the air, dark nor unknown is open: it will be decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(default)]
pub struct Account {
    /// It was wanted on the air.
    pub wanted_ms: u64,
    /// Media was accepted.
    pub on_ms: u64,
    /// It was wanted and nobody accepted anything.
    pub dark_ms: u64,
    /// Nobody was there to see, and what could have told is gone.
    pub unknown_ms: u64,
    /// Of `on_ms`: the fallback was on the air in place of the programme.
    pub fallback_ms: u64,
    /// Connections that were begun anew.
    pub reconnects: u64,
    /// Of the open time: no controller was running.
    pub away_ms: u64,
    /// Figures of the present run that are in the sums already.
    pub counted: Counted,
    /// Whether it was wanted up to now; for the channel itself see [`Totals::wanted`].
    pub wanted: bool,
}

/// Figures of one run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(default)]
pub struct Counted {
    /// As in [`crate::wire::Airtime`].
    pub on_ms: u64,
    /// As in [`crate::wire::Airtime`].
    pub dark_ms: u64,
    /// As in [`crate::wire::Airtime`].
    pub fallback_ms: u64,
    /// Connections after the first.
    pub reconnects: u64,
}

impl Account {
    /// Wanted time of which is not known yet what it was.
    pub fn open_ms(&self) -> u64 {
        self.wanted_ms.saturating_sub(self.on_ms + self.dark_ms + self.unknown_ms)
    }
}

impl Totals {
    /// The newest shape that this program writes.
    pub const VERSION: u32 = 1;

    /// Nothing counted yet.
    pub fn new(id: ChannelId, now: Moment) -> Self {
        Self {
            version: Self::VERSION,
            revision: 0,
            id,
            since: now.wall,
            until: now,
            wanted: false,
            run: None,
            channel: Account::default(),
            destinations: BTreeMap::new(),
            other: Map::new(),
        }
    }
}

crate::document!(Totals, "totals.json", version Self::VERSION);
