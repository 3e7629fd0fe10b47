//! `GET /streams/status?channel=`

use super::Shared;
use super::extract::Asked;
use crate::engines::stream::status::{Status, status as look};
use crate::error::Problem;
use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use state::ids::ChannelId;

/// What may be asked.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Query {
    channel: Option<ChannelId>,
}

/// 200 with the status.
pub(super) async fn status(
    State(desk): State<Shared>,
    Asked(query): Asked<Query>,
) -> Result<Json<Status>, Problem> {
    look(&desk.house, &query.channel.unwrap_or_else(ChannelId::main)).map(Json)
}
