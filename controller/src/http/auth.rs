//! Who may ask: whoever presents the admin token.

use super::{Desk, Shared};
use crate::error::Problem;
use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

/// Lets only holders of the token pass.
pub(super) async fn require_token(State(desk): State<Shared>, request: Request, next: Next) -> Response {
    if is_admin(&desk, request.headers()) { next.run(request).await } else { unauthorized() }
}

/// Whether the request presents the token (RFC 6750 section 2.1).
pub(super) fn is_admin(desk: &Desk, headers: &HeaderMap) -> bool {
    let given = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    match given.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => desk.token.is(token.trim()),
        _ => false,
    }
}

/// The answer to everybody else.
pub(super) fn unauthorized() -> Response {
    let problem = Problem::new(
        401,
        "send Authorization: Bearer <token>; the token is in admin.token in the state folder, and auth.header \
         beside it is ready for curl -H @file",
    );
    ([(WWW_AUTHENTICATE, "Bearer realm=\"stream-controller\"")], problem).into_response()
}
