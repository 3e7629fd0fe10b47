//! Changing a channel that may be on the air: save what is wanted, then tell the worker.

use super::changes::{Changes, read_fallback};
use super::media;
use super::status::{Status, status};
use crate::engines::House;
use crate::engines::fields::Fields;
use crate::engines::unknown_channel;
use crate::error::Problem;
use crate::supervisor::Ask;
use serde_json::Value;
use state::channel::FieldProblem;
use state::ids::ChannelId;

/// Reads the body of a change to a channel that may be on the air.
///
/// # Errors
/// Every problem with its place.
pub fn read(body: Value) -> Result<Changes, Vec<FieldProblem>> {
    let mut problems = Vec::new();
    let changes = Fields::of(body, "", &mut problems).map(|mut fields| {
        let fallback_video = read_fallback(&mut fields);
        fields.finish();
        Changes::of_fallback(fallback_video)
    });
    changes.filter(|_| problems.is_empty()).ok_or(problems)
}

/// Changes a channel. A new fallback video is made ready beside what is on the air.
///
/// # Errors
/// 404 unknown channel; 422 what is wrong with the change; 503 the storage is away for now.
pub async fn change(house: &House, channel: ChannelId, changes: Changes) -> Result<Status, Problem> {
    house.wishes.is_known(&channel).then_some(()).ok_or_else(|| unknown_channel(&channel))?;
    // A bucket may take its time. The supervisor must not wait for it, and it may need the turn.
    media::check_fallback(&house.library, changes.fallback_video()).await?;
    let turn = house.wishes.turn().await;
    let wish = house.wishes.get(&channel).ok_or_else(|| unknown_channel(&channel))?;
    let changed = changes.apply(wish.clone(), &house.keyring).map_err(Problem::invalid)?;
    if changed != wish {
        turn.put(changed).await?;
        drop(turn);
        house.supervisor.ask(channel.clone(), Ask::Fallback).await;
    }
    status(house, &channel)
}
