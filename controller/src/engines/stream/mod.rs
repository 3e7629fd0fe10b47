//! A channel's broadcast: start, stop, status, and what may be changed on the way.

pub mod change;
pub mod changes;
mod fields;
pub mod media;
pub mod slate;
pub mod start;
pub mod status;
pub mod stop;

use crate::error::Problem;
use state::ids::ChannelId;

/// 404: there is no such channel.
pub(crate) fn unknown(channel: &ChannelId) -> Problem {
    Problem::not_found(format!("there is no channel {channel}"))
}
