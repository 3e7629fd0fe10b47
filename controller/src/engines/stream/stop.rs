//! Stopping a broadcast: save that nobody wants it, then wake the supervisor.

use super::status::{Status, status};
use crate::engines::{House, unknown_channel};
use crate::error::Problem;
use crate::supervisor::Ask;
use state::ids::ChannelId;
use state::phase::Wish;

/// Stops a channel: a worker is told to end, and a restart that was due is called off.
///
/// # Errors
/// 404 when there is no such channel or it is not wanted anyway.
pub async fn stop(house: &House, channel: ChannelId) -> Result<Status, Problem> {
    let turn = house.wishes.turn().await;
    let wish = house.wishes.get(&channel).ok_or_else(|| unknown_channel(&channel))?;
    if wish.wish == Wish::Off {
        return Err(Problem {
            kind: "not-running",
            ..Problem::not_found(format!("channel {channel} is not running"))
        });
    }
    turn.switch_off(wish).await?;
    drop(turn);
    house.supervisor.ask(channel.clone(), Ask::Look).await;
    status(house, &channel)
}
