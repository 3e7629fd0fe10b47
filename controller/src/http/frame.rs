//! Around every request: its id, its time limit, one log line, and the promise that every refusal is a problem
//! body, whoever refused.

use crate::error::Problem;
use axum::body::Body;
use axum::extract::Request;
use axum::http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::any::Any;
use std::time::{Duration, Instant};
use tracing::Instrument;

/// Names a request in headers, problems and logs.
pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Gives the request its id, and the answer its id and, when it is a refusal, its body.
pub(super) async fn identify(request: Request, next: Next) -> Response {
    let id = request_id(request.headers());
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let started = Instant::now();
    let span = tracing::info_span!("request", request.id = %id);
    let mut response = next.run(request).instrument(span.clone()).await;
    if response.status().is_client_error() || response.status().is_server_error() {
        response = refusal(response, &id);
    }
    let headers = response.headers_mut();
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if let Ok(id) = HeaderValue::from_str(&id) {
        headers.insert(REQUEST_ID, id);
    }
    let (status, ms) = (response.status().as_u16(), started.elapsed().as_millis() as u64);
    let quiet = path.starts_with("/hls/") || path == "/health";
    span.in_scope(|| match (quiet, status) {
        (true, ..500) => tracing::debug!(%method, path, status, ms, "answered"),
        _ => tracing::info!(%method, path, status, ms, "answered"),
    });
    response
}

/// The caller's own id when it is 1 to 128 visible ASCII characters, else a new one.
fn request_id(headers: &HeaderMap) -> String {
    let given = headers.get(REQUEST_ID).map(HeaderValue::as_bytes).unwrap_or_default();
    let usable = (1..=128).contains(&given.len()) && given.iter().all(u8::is_ascii_graphic);
    match std::str::from_utf8(given) {
        Ok(given) if usable => given.to_owned(),
        _ => state::ids::Ulid::new(state::now()).to_string(),
    }
}

/// Replaces whatever body a refusal has by a problem; keeps its status and headers, such as `Allow`.
fn refusal(mut response: Response, id: &str) -> Response {
    let status = response.status().as_u16();
    let problem = response.extensions_mut().remove::<Problem>();
    let problem = problem.unwrap_or_else(|| Problem::new(status, words(status)));
    let body = problem.body(id);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
    *response.body_mut() = Body::from(body);
    response
}

fn words(status: u16) -> &'static str {
    match status {
        404 => "there is nothing at this path",
        405 => "this path does not take this method; the Allow header lists those it takes",
        _ => "the request cannot be understood",
    }
}

/// Ends requests that take too long.
pub(super) async fn in_time(limit: Duration, request: Request, next: Next) -> Response {
    match tokio::time::timeout(limit, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Problem::new(408, format!("the request was not finished within {} s", limit.as_secs()))
            .into_response(),
    }
}

/// A mistake of ours becomes a 500 and an ERROR in the log, not a dropped connection.
pub(super) fn panicked(payload: Box<dyn Any + Send>) -> Response {
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_default();
    Problem::internal(&format!("panic: {text}")).into_response()
}

#[cfg(test)]
mod tests {
    use super::super::router::framed;
    use super::*;
    use axum::Router;
    use axum::routing::get;
    use tower::ServiceExt;

    async fn answer(path: &str, id: &str) -> (u16, serde_json::Value, HeaderMap) {
        let routes = Router::new()
            .route("/panic", get(|| async { if id_of_nothing() { "" } else { panic!("s3cret") } }))
            .route("/slow", get(|| async { std::future::pending::<&str>().await }))
            .route("/text", get(|| async { (axum::http::StatusCode::BAD_REQUEST, "plain words") }));
        let request = Request::get(path).header("x-request-id", id).body(Body::empty()).unwrap();
        let response = framed(routes, Duration::from_millis(50)).oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = axum::body::to_bytes(body, 65_536).await.unwrap();
        (parts.status.as_u16(), serde_json::from_slice(&body).unwrap(), parts.headers)
    }

    fn id_of_nothing() -> bool {
        std::env::args().count() == 0
    }

    #[tokio::test]
    async fn every_refusal_is_a_problem_whoever_refused() {
        for (path, status) in [("/panic", 500), ("/slow", 408), ("/text", 400), ("/nowhere", 404)] {
            let (found, body, headers) = answer(path, "abc-1").await;
            assert_eq!(found, status, "{path}");
            assert_eq!(headers[CONTENT_TYPE], "application/problem+json", "{path}");
            assert_eq!(
                (&headers[REQUEST_ID], &body["request_id"]),
                (&HeaderValue::from_static("abc-1"), &"abc-1".into())
            );
            assert!(!body.to_string().contains("s3cret"), "{body}");
        }
    }

    #[tokio::test]
    async fn an_id_that_is_not_visible_ascii_is_replaced() {
        for odd in ["", "a b", &"x".repeat(129)] {
            let (_, body, _) = answer("/nowhere", odd).await;
            assert_eq!(body["request_id"].as_str().map(str::len), Some(26), "{odd:?}");
        }
    }
}
