//! Taking requests apart: JSON bodies and queries, with every refusal as a problem.

use crate::error::Problem;
use axum::body::Body;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::HeaderMap;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, EXPECT};
use axum::http::request::Parts;
use http_body_util::BodyExt;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::str::FromStr;

/// Largest body, in bytes.
pub(super) const MOST: usize = 1024 * 1024;

/// A body that is too large is still read up to here, because a client that is cut off while it sends often never
/// sees the answer.
const MOST_DRAINED: usize = 64 * 1024 * 1024;

/// A JSON body; an empty one is an empty object and needs no content type.
pub(super) struct JsonBody(pub(super) Value);

impl<S: Send + Sync> FromRequest<S> for JsonBody {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        let bytes = read(&parts.headers, body).await?;
        if bytes.is_empty() {
            return Ok(Self(Value::Object(serde_json::Map::new())));
        }
        if !is_json(&parts.headers) {
            return Err(Problem::new(415, "the body must be JSON: send Content-Type: application/json"));
        }
        let value = serde_json::from_slice(&bytes);
        value.map(Self).map_err(|error| Problem::new(400, format!("the body is not JSON: {error}")))
    }
}

async fn read(headers: &HeaderMap, mut body: Body) -> Result<Vec<u8>, Problem> {
    let too_large = || Problem::new(413, format!("the body must not have more than {MOST} bytes"));
    let declared = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if declared.is_some_and(|length| length > MOST_DRAINED || (length > MOST && headers.contains_key(EXPECT)))
    {
        return Err(too_large());
    }
    let mut bytes = Vec::with_capacity(declared.unwrap_or_default().min(MOST));
    let mut seen = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Problem::new(400, "the body ends in the middle"))?;
        let Ok(data) = frame.into_data() else { continue };
        seen += data.len();
        if seen > MOST_DRAINED {
            return Err(too_large());
        }
        if seen <= MOST {
            bytes.extend_from_slice(&data);
        }
    }
    if seen > MOST { Err(too_large()) } else { Ok(bytes) }
}

fn is_json(headers: &HeaderMap) -> bool {
    let given = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = given.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"))
}

/// A query in which every parameter is known.
pub(super) struct Asked<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Asked<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let query = Query::<T>::try_from_uri(&parts.uri);
        query.map(|Query(asked)| Self(asked)).map_err(|error| {
            let words =
                std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
            Problem::new(400, format!("the query cannot be used: {words}"))
        })
    }
}

/// What a path names. A name that cannot be one names nothing: 404.
pub(super) struct Named<A>(pub(super) A);

impl<A: FromStr, S: Send + Sync> FromRequestParts<S> for Named<A> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let path = Path::<String>::from_request_parts(parts, state).await;
        path.ok().and_then(|Path(a)| Some(Self(a.parse().ok()?))).ok_or_else(nothing_there)
    }
}

/// Two names in a path.
pub(super) struct NamedTwo<A, B>(pub(super) A, pub(super) B);

impl<A: FromStr, B: FromStr, S: Send + Sync> FromRequestParts<S> for NamedTwo<A, B> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let path = Path::<(String, String)>::from_request_parts(parts, state).await;
        let read = |Path((a, b)): Path<(String, String)>| Some(Self(a.parse().ok()?, b.parse().ok()?));
        path.ok().and_then(read).ok_or_else(nothing_there)
    }
}

fn nothing_there() -> Problem {
    Problem::not_found("there is nothing at this path")
}
