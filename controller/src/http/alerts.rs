//! `GET /api/alerts`, `/api/alerts/webhooks`, `/api/alerts/dead-letters`, `POST /api/alerts/test`

use super::Shared;
use super::extract::JsonBody;
use crate::alerts::{AlertsShown, DeadLetter, Tried, WebhookShown};
use crate::error::Problem;
use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::Serialize;
use state::channel::FieldProblem;

/// Everybody who is told.
#[derive(Debug, Serialize)]
pub(super) struct Webhooks {
    webhooks: Vec<WebhookShown>,
}

/// What was not delivered.
#[derive(Debug, Serialize)]
pub(super) struct DeadLetters {
    dead_letters: Vec<DeadLetter>,
}

/// Whether a test arrived.
#[derive(Debug, Serialize)]
pub(super) struct Tests {
    webhooks: Vec<Tried>,
}

/// 200 with what is wrong and what was.
pub(super) async fn list(State(desk): State<Shared>) -> Json<AlertsShown> {
    Json(desk.house.alerts.all())
}

/// 200 with everybody who is told.
pub(super) async fn webhooks(State(desk): State<Shared>) -> Json<Webhooks> {
    Json(Webhooks { webhooks: desk.house.alerts.webhooks() })
}

/// 201 with the new webhook.
pub(super) async fn add(
    State(desk): State<Shared>,
    JsonBody(body): JsonBody,
) -> Result<(StatusCode, Json<WebhookShown>), Problem> {
    let webhook = desk.house.alerts.add(body).await?;
    Ok((StatusCode::CREATED, Json(webhook)))
}

/// 204: it is told nothing any more.
pub(super) async fn remove(
    State(desk): State<Shared>,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    desk.house.alerts.remove(id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// 200 with what was given up.
pub(super) async fn dead_letters(State(desk): State<Shared>) -> Json<DeadLetters> {
    Json(DeadLetters { dead_letters: desk.house.alerts.dead_letters() })
}

/// 200 with how each took it.
pub(super) async fn test(
    State(desk): State<Shared>,
    JsonBody(body): JsonBody,
) -> Result<Json<Tests>, Problem> {
    let only = match body.get("webhook") {
        None => None,
        Some(id) => Some(id.as_str().ok_or_else(|| {
            Problem::invalid(vec![FieldProblem::at("/webhook", "must be the id of a webhook")])
        })?),
    };
    Ok(Json(Tests { webhooks: desk.house.alerts.test(only).await? }))
}
