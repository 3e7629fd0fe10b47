//! All routes on one screen, and what every request goes through.

use super::{
    Shared, alerts, auth, channel_truth, channels, destinations, frame, health, hls, media_cache,
    media_prepare, streams_start, streams_status, streams_stop,
};
use axum::Router;
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, ETAG, IF_MATCH, IF_NONE_MATCH, LOCATION, RANGE};
use axum::http::{HeaderName, HeaderValue, Method};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{delete, get, patch, post};
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
        .route("/api/channels/{channel}", patch(channels::change))
        .route("/api/channels/{channel}/slate", post(channels::slate))
        .route("/api/channels/{channel}/health", get(channel_truth::health))
        .route("/api/channels/{channel}/runs", get(channel_truth::runs))
        .route("/api/channels/{channel}/as-run", get(channel_truth::as_run))
        .route("/api/channels/{channel}/destinations", get(destinations::list).post(destinations::add))
        .route(
            "/api/channels/{channel}/destinations/{destination}",
            get(destinations::show).patch(destinations::change).delete(destinations::remove),
        )
        .route("/api/channels/{channel}/destinations/{destination}/test", post(destinations::test))
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
    // Around the route alone: paths that nobody serves are not for everybody's pages.
    let viewers = Router::new().route("/hls/{public_id}/{file}", get(hls::file).layer(viewers_cors()));
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
        .allow_methods([Method::GET, Method::HEAD, Method::POST, Method::PATCH, Method::DELETE])
        .allow_headers([AUTHORIZATION, CONTENT_TYPE, IF_MATCH, frame::REQUEST_ID])
        .expose_headers([ETAG, LOCATION, frame::REQUEST_ID])
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
