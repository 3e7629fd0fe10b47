//! `POST /streams/start`

use super::Shared;
use super::extract::JsonBody;
use crate::engines::stream::{changes, start, status::Status};
use crate::error::Problem;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;

/// 202 with the status: the wish is saved and a worker is on its way.
pub(super) async fn start(
    State(desk): State<Shared>,
    JsonBody(body): JsonBody,
) -> Result<(StatusCode, Json<Status>), Problem> {
    let (channel, changes) = changes::read(body).map_err(Problem::invalid)?;
    let status = start::start(&desk.house, channel, changes).await?;
    Ok((StatusCode::ACCEPTED, Json(status)))
}
