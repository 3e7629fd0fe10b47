//! `PATCH /api/channels/{id}` and `POST /api/channels/{id}/slate`

use super::Shared;
use super::extract::JsonBody;
use crate::engines::stream::{change as engine, slate as order, status::Status};
use crate::error::Problem;
use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use state::ids::ChannelId;

/// 200 with the status: the change is saved.
pub(super) async fn change(
    State(desk): State<Shared>,
    Path(channel): Path<String>,
    JsonBody(body): JsonBody,
) -> Result<Json<Status>, Problem> {
    let channel = named(&channel)?;
    let changes = engine::read(body).map_err(Problem::invalid)?;
    engine::change(&desk.house, channel, changes).await.map(Json)
}

/// 202 with the status: the order is saved and the worker was told.
pub(super) async fn slate(
    State(desk): State<Shared>,
    Path(channel): Path<String>,
    JsonBody(body): JsonBody,
) -> Result<(StatusCode, Json<Status>), Problem> {
    let channel = named(&channel)?;
    let on = order::read(body).map_err(Problem::invalid)?;
    let status = order::slate(&desk.house, channel, on).await?;
    Ok((StatusCode::ACCEPTED, Json(status)))
}

/// What cannot be a channel's name names none.
fn named(channel: &str) -> Result<ChannelId, Problem> {
    channel.parse().map_err(|_| Problem::not_found(format!("there is no channel {channel:?}")))
}
