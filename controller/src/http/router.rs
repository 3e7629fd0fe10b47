//! All routes on one screen, and what every request goes through.

use super::{
    Shared, alerts, auth, frame, health, hls, media_cache, media_prepare, streams_start, streams_status,
    streams_stop,
};
use axum::Router;
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, ETAG, IF_NONE_MATCH, RANGE};
use axum::http::{HeaderName, HeaderValue, Method};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{delete, get, post};
use std::time::Duration;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::cors::{AllowOrigin, Any, CorsLayer};

/// How long a request may take, its body included.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// Everything this controller answers.
pub fn router(desk: Shared) -> Router {
    let for_admins = Router::new()
        .route("/streams/start", post(streams_start::start))
        .route("/streams/stop", post(streams_stop::stop))
        .route("/streams/status", get(streams_status::status))
        .route("/api/media/prepare", get(media_prepare::list).post(media_prepare::ask))
        .route("/api/media/cache", get(media_cache::cache))
        .route("/api/alerts", get(alerts::list))
        .route("/api/alerts/webhooks", get(alerts::webhooks).post(alerts::add))
        .route("/api/alerts/webhooks/{id}", delete(alerts::remove))
        .route("/api/alerts/dead-letters", get(alerts::dead_letters))
        .route("/api/alerts/test", post(alerts::test))
        .route_layer(from_fn_with_state(desk.clone(), auth::require_token));
    let api = Router::new().route("/health", get(health::health)).merge(for_admins);
    let api = match api_cors(&desk.house.config.cors_origins) {
        Some(cors) => api.layer(cors),
        None => api,
    };
    let viewers = Router::new().route("/hls/{public_id}/{file}", get(hls::file)).layer(viewers_cors());
    framed(api.merge(viewers).with_state(desk), REQUEST_TIMEOUT)
}

/// What every request goes through, from the outside in: request id and problem bodies, panics, time limit.
pub fn framed(routes: Router, timeout: Duration) -> Router {
    routes
        .layer(from_fn(move |request, next| frame::in_time(timeout, request, next)))
        .layer(CatchPanicLayer::custom(frame::panicked))
        .layer(from_fn(frame::identify))
}

/// Browsers of the named origins may call the API; without any, none may.
fn api_cors(origins: &[String]) -> Option<CorsLayer> {
    let all = origins.iter().any(|origin| origin == "*");
    let named: Vec<HeaderValue> = origins.iter().filter_map(|origin| origin.parse().ok()).collect();
    let origin = if all { AllowOrigin::any() } else { AllowOrigin::list(named) };
    let cors = CorsLayer::new()
        .allow_origin(origin)
        .allow_methods([Method::GET, Method::HEAD, Method::POST, Method::DELETE])
        .allow_headers([AUTHORIZATION, CONTENT_TYPE, frame::REQUEST_ID])
        .expose_headers([frame::REQUEST_ID])
        .max_age(Duration::from_secs(600));
    (!origins.is_empty()).then_some(cors)
}

/// Players run on anybody's page.
fn viewers_cors() -> CorsLayer {
    CorsLayer::new()
        .allow_origin(Any)
        .allow_methods([Method::GET, Method::HEAD])
        .allow_headers([AUTHORIZATION, RANGE, IF_NONE_MATCH])
        .expose_headers([ETAG, HeaderName::from_static("content-length"), HeaderName::from_static("date")])
        .max_age(Duration::from_secs(86_400))
}
