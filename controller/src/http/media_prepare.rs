//! `GET` and `POST /api/media/prepare`

use super::Shared;
use super::extract::JsonBody;
use crate::error::Problem;
use crate::prepare::ask::{self, Shown};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;

/// Files on the list.
#[derive(Debug, Serialize)]
pub(super) struct Jobs {
    jobs: Vec<Shown>,
}

/// 200 with everything on the list.
pub(super) async fn list(State(desk): State<Shared>) -> Json<Jobs> {
    Json(Jobs { jobs: ask::all(&desk.house) })
}

/// 202 with what was asked for: it is on the list.
pub(super) async fn ask(
    State(desk): State<Shared>,
    JsonBody(body): JsonBody,
) -> Result<(StatusCode, Json<Jobs>), Problem> {
    let jobs = ask::ask(&desk.house, body).await?;
    Ok((StatusCode::ACCEPTED, Json(Jobs { jobs })))
}
