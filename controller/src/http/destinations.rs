//! `/api/channels/{channel}/destinations` and what is below it.

use super::Shared;
use super::extract::{JsonBody, Named, NamedTwo};
use crate::engines::distribution::{self, Expected, shown::DestinationShown, trial::trial};
use crate::error::Problem;
use axum::Json;
use axum::extract::State;
use axum::http::header::{ETAG, IF_MATCH, LOCATION, RETRY_AFTER};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use state::ids::{ChannelId, DestinationId};

/// Every destination of a channel.
#[derive(Debug, Serialize)]
pub(super) struct List {
    destinations: Vec<DestinationShown>,
}

/// 200 with all of them.
pub(super) async fn list(
    State(desk): State<Shared>,
    Named(channel): Named<ChannelId>,
) -> Result<Json<List>, Problem> {
    distribution::all(&desk.house, &channel).map(|destinations| Json(List { destinations }))
}

/// 201 with the new one and its address: it is saved, and a worker on the air was told.
pub(super) async fn add(
    State(desk): State<Shared>,
    Named(channel): Named<ChannelId>,
    JsonBody(body): JsonBody,
) -> Result<Response, Problem> {
    let shown = distribution::add(&desk.house, &channel, body).await?;
    let location = format!("/api/channels/{channel}/destinations/{}", shown.id());
    Ok((StatusCode::CREATED, [(LOCATION, location)], one(shown)).into_response())
}

/// 200 with one of them.
pub(super) async fn show(
    State(desk): State<Shared>,
    NamedTwo(channel, id): NamedTwo<ChannelId, DestinationId>,
) -> Result<Response, Problem> {
    distribution::one(&desk.house, &channel, &id).map(one)
}

/// 200 with what it is now.
pub(super) async fn change(
    State(desk): State<Shared>,
    NamedTwo(channel, id): NamedTwo<ChannelId, DestinationId>,
    headers: HeaderMap,
    JsonBody(body): JsonBody,
) -> Result<Response, Problem> {
    distribution::change(&desk.house, &channel, &id, &expected(&headers), body).await.map(one)
}

/// 204: it is gone, and those that were linked to it.
pub(super) async fn remove(
    State(desk): State<Shared>,
    NamedTwo(channel, id): NamedTwo<ChannelId, DestinationId>,
    headers: HeaderMap,
) -> Result<StatusCode, Problem> {
    distribution::remove(&desk.house, &channel, &id, &expected(&headers)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// 200 with how far the way leads, whether it leads to the end or not.
pub(super) async fn test(
    State(desk): State<Shared>,
    NamedTwo(channel, id): NamedTwo<ChannelId, DestinationId>,
    JsonBody(body): JsonBody,
) -> Response {
    match trial(&desk.house, &channel, &id, body).await {
        Ok(trial) => Json(trial).into_response(),
        Err(busy) if busy.status == 429 => ([(RETRY_AFTER, "5")], busy).into_response(),
        Err(problem) => problem.into_response(),
    }
}

fn one(shown: DestinationShown) -> Response {
    ([(ETAG, format!("\"{}\"", shown.tag()))], Json(shown)).into_response()
}

/// `If-Match`, when there is one. A weak tag matches nothing (RFC 9110 section 13.1.1).
fn expected(headers: &HeaderMap) -> Expected {
    let given: Vec<&str> =
        headers.get_all(IF_MATCH).iter().map(|value| value.to_str().unwrap_or_default()).collect();
    if given.is_empty() || given.iter().any(|text| text.trim() == "*") {
        return Expected::Any;
    }
    let tags = given.iter().flat_map(|text| text.split(',')).filter_map(|tag| {
        let tag = tag.trim().strip_prefix('"')?.strip_suffix('"')?;
        Some(tag.to_owned())
    });
    Expected::Tags(tags.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_that_is_expected_is_read_from_the_header() {
        let read = |texts: &[&str]| {
            let mut headers = HeaderMap::new();
            for text in texts {
                headers.append(IF_MATCH, axum::http::HeaderValue::from_bytes(text.as_bytes()).unwrap());
            }
            expected(&headers)
        };
        let tags = |tags: &[&str]| Expected::Tags(tags.iter().map(|tag| (*tag).to_owned()).collect());
        assert_eq!(read(&[]), Expected::Any);
        assert_eq!(read(&["*"]), Expected::Any);
        assert_eq!(read(&["\"a\", \"b\"", "\"c\""]), tags(&["a", "b", "c"]));
        assert_eq!(read(&["W/\"a\", b, \"c\""]), tags(&["c"]));
        assert_eq!(read(&["\"\u{e9}\""]), tags(&[]));
    }
}
