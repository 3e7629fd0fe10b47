//! `PATCH /api/channels/{id}` and `POST /api/channels/{id}/slate`

use super::Shared;
use super::extract::{JsonBody, Named};
use crate::engines::stream::{change as engine, slate as order, status::Status};
use crate::error::Problem;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use state::ids::ChannelId;

/// 200 with the status: the change is saved.
pub(super) async fn change(
    State(desk): State<Shared>,
    Named(channel): Named<ChannelId>,
    JsonBody(body): JsonBody,
) -> Result<Json<Status>, Problem> {
    let changes = engine::read(body).map_err(Problem::invalid)?;
    engine::change(&desk.house, channel, changes).await.map(Json)
}

/// 202 with the status: the order is saved and the worker was told.
pub(super) async fn slate(
    State(desk): State<Shared>,
    Named(channel): Named<ChannelId>,
    JsonBody(body): JsonBody,
) -> Result<(StatusCode, Json<Status>), Problem> {
    let on = order::read(body).map_err(Problem::invalid)?;
    let status = order::slate(&desk.house, channel, on).await?;
    Ok((StatusCode::ACCEPTED, Json(status)))
}
