//! The fallback on the air by order: saved, so that it stays there over restarts, then told to the worker.

use super::status::{Status, status};
use crate::engines::House;
use crate::engines::fields::Fields;
use crate::engines::unknown_channel;
use crate::error::Problem;
use crate::supervisor::Ask;
use serde_json::Value;
use state::channel::FieldProblem;
use state::ids::ChannelId;
use state::phase::Wish;

/// Reads whether the fallback shall be on the air.
///
/// # Errors
/// Every problem with its place.
pub fn read(body: Value) -> Result<bool, Vec<FieldProblem>> {
    let mut problems = Vec::new();
    let on = Fields::of(body, "", &mut problems).and_then(|mut fields| {
        let on = fields.needed("on", "true or false");
        fields.finish();
        on
    });
    on.filter(|_| problems.is_empty()).ok_or(problems)
}

/// Puts the fallback on the air, or lets the programme go on where it stood. A stop forgets the order.
///
/// # Errors
/// 404 unknown channel; 409 it is not running.
pub async fn slate(house: &House, channel: ChannelId, on: bool) -> Result<Status, Problem> {
    let turn = house.wishes.turn().await;
    let mut wish = house.wishes.get(&channel).ok_or_else(|| unknown_channel(&channel))?;
    if wish.wish == Wish::Off {
        return Err(Problem::conflict("not-running", format!("channel {channel} is not running")));
    }
    if wish.slate_on != on {
        wish.slate_on = on;
        turn.put(wish).await?;
    }
    drop(turn);
    house.supervisor.ask(channel.clone(), Ask::Look).await;
    status(house, &channel)
}
