//! `POST /streams/stop`

use super::Shared;
use super::extract::JsonBody;
use crate::engines::stream::{changes, status::Status, stop};
use crate::error::Problem;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;

/// 202 with the status: the wish is saved and the worker was told to end.
pub(super) async fn stop(
    State(desk): State<Shared>,
    JsonBody(body): JsonBody,
) -> Result<(StatusCode, Json<Status>), Problem> {
    let channel = changes::read_channel(body).map_err(Problem::invalid)?;
    let status = stop::stop(&desk.house, channel).await?;
    Ok((StatusCode::ACCEPTED, Json(status)))
}
