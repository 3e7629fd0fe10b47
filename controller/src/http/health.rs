//! `GET /health`: whether the controller lives, and what is missing. Needs no token.

use super::Shared;
use crate::engines::health::{Health, health as look};
use axum::Json;
use axum::extract::State;

/// 200, also when degraded: the controller answers, and the body says what is wrong.
pub(super) async fn health(State(desk): State<Shared>) -> Json<Health> {
    Json(look(&desk.house).await)
}
