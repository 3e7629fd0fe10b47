//! Totals as everybody sees them.

use serde::Serialize;
use state::Timestamp;
use state::ids::DestinationId;
use state::totals::{Account, Totals};

/// What became of the wanted time, in ms. The first is the sum of `on_air_ms`, `dark_ms` and `unknown_ms`.
#[derive(Debug, Clone, Serialize)]
pub struct Times {
    /// It was wanted on the air.
    wanted_ms: u64,
    /// Media was acknowledged.
    on_air_ms: u64,
    /// Nobody acknowledged anything.
    dark_ms: u64,
    /// Nobody saw what was, or it is not decided yet.
    unknown_ms: u64,
    /// Of `on_air_ms`: the fallback was on the air.
    fallback_ms: u64,
    /// Connections that were begun anew.
    reconnects: u64,
}

/// The times of a channel, up to a few seconds ago.
#[derive(Debug, Clone, Serialize)]
pub struct ChannelTimes {
    /// Since when is counted.
    since: Timestamp,
    /// Up to when is counted.
    until: Timestamp,
    #[serde(flatten)]
    times: Times,
}

/// The channel's own.
pub fn channel(totals: &Totals) -> ChannelTimes {
    ChannelTimes { since: totals.since, until: totals.until.wall, times: times(&totals.channel) }
}

/// Those of one of its destinations.
pub fn destination(totals: &Totals, id: &DestinationId) -> Option<Times> {
    totals.destinations.get(id).map(times)
}

fn times(account: &Account) -> Times {
    Times {
        wanted_ms: account.wanted_ms,
        on_air_ms: account.on_ms,
        dark_ms: account.dark_ms,
        unknown_ms: account.unknown_ms + account.open_ms(),
        fallback_ms: account.fallback_ms,
        reconnects: account.reconnects,
    }
}
