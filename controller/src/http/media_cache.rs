//! `GET /api/media/cache`

use super::Shared;
use crate::media::CacheShown;
use axum::Json;
use axum::extract::State;

/// 200 with what the cache holds and what it was good for.
pub(super) async fn cache(State(desk): State<Shared>) -> Json<CacheShown> {
    Json(desk.house.media.cache())
}
