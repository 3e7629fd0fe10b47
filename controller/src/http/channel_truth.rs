//! `GET /api/channels/{id}/health`, `…/runs` and `…/as-run`

use super::Shared;
use super::extract::{Asked, Named};
use crate::engines::analytics::as_run::{self, Format, Pieces, Range};
use crate::engines::analytics::{health, runs};
use crate::error::Problem;
use axum::Json;
use axum::body::{Body, HttpBody};
use axum::extract::State;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use hyper::body::Frame;
use serde::Deserialize;
use state::Timestamp;
use state::ids::ChannelId;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

/// 200 with figures, score and word.
pub(super) async fn health(
    State(desk): State<Shared>,
    Named(id): Named<ChannelId>,
) -> Result<Json<health::Health>, Problem> {
    health::health(&desk.house, &id).map(Json)
}

/// Which runs.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WhichRuns {
    limit: Option<usize>,
    before: Option<String>,
}

/// 200 with a page of the history.
pub(super) async fn runs(
    State(desk): State<Shared>,
    Named(id): Named<ChannelId>,
    Asked(which): Asked<WhichRuns>,
) -> Result<Json<runs::Page>, Problem> {
    runs::runs(&desk.house, &id, which.limit, which.before).await.map(Json)
}

/// Which part of the log, and as what.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WhichPart {
    from: Option<Timestamp>,
    to: Option<Timestamp>,
    #[serde(default)]
    format: Format,
}

/// 200 with the log, piece by piece.
pub(super) async fn as_run(
    State(desk): State<Shared>,
    Named(id): Named<ChannelId>,
    Asked(which): Asked<WhichPart>,
) -> Result<Response, Problem> {
    let range = Range::asked(which.from, which.to, state::now())?;
    let body = Body::new(Streamed(as_run::export(&desk.house, &id, range, which.format)?));
    Ok(match which.format {
        Format::Json => ([(CONTENT_TYPE, "application/json".to_owned())], body).into_response(),
        Format::Csv => {
            let day = |at: Timestamp| at.strftime("%Y%m%dT%H%M%SZ").to_string();
            let name = format!("as-run-{id}-{}-{}.csv", day(range.from), day(range.to));
            let headers = [
                (CONTENT_TYPE, "text/csv; charset=utf-8".to_owned()),
                (CONTENT_DISPOSITION, format!("attachment; filename=\"{name}\"")),
            ];
            (headers, body).into_response()
        }
    })
}

/// A body that comes in pieces. An error in the middle cuts the connection, so that half a log never looks whole.
struct Streamed(Pieces);

impl HttpBody for Streamed {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        self.0.poll_recv(context).map(|piece| piece.map(|piece| piece.map(Frame::data)))
    }
}
