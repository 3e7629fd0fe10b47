//! `/hls/<public id>/<file>`: playlists fresh, segments from memory. Headers as CDNs and players want them.

use super::{Shared, auth};
use crate::error::Problem;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, IF_NONE_MATCH, IF_RANGE,
    RANGE,
};
use axum::http::{HeaderMap, HeaderValue, Response as HttpResponse, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use state::ids::PublicId;
use std::ops::Range;

/// Segment names are never used twice, so that a copy stays right for ever.
const FOR_EVER: &str = "public, max-age=31536000, immutable";

/// Serves a playlist or a segment.
pub(super) async fn file(
    State(desk): State<Shared>,
    Path((public_id, name)): Path<(String, String)>,
    headers: HeaderMap,
) -> Response {
    let channel = PublicId::parse(&public_id).and_then(|id| Some((desk.house.wishes.by_public_id(&id)?, id)));
    let (Some(((_, public), public_id)), Some(kind)) = (channel, Kind::of(&name)) else { return missing() };
    if !public && !auth::is_admin(&desk, &headers) {
        return auth::unauthorized();
    }
    let path = desk.house.config.hls_dir.join(public_id.as_str()).join(&name);
    let answer = match kind {
        Kind::Playlist => {
            crate::off_thread(move || std::fs::read(path)).await.map(|text| playlist(text.into(), &headers))
        }
        Kind::Segment(media_type) => {
            desk.segments.get(path).await.map(|bytes| segment(bytes, media_type, public, &headers))
        }
    };
    answer.unwrap_or_else(|_| missing())
}

/// What a file is, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Playlist,
    Segment(&'static str),
}

impl Kind {
    /// `None` for every name that the worker would not write: letters, digits, `-`, `_` and one known ending.
    fn of(name: &str) -> Option<Self> {
        let (stem, ending) = name.rsplit_once('.')?;
        let plain = stem.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        if !plain || stem.is_empty() || stem.len() > 128 {
            return None;
        }
        match ending {
            "m3u8" => Some(Self::Playlist),
            "ts" => Some(Self::Segment("video/mp2t")),
            "m4s" => Some(Self::Segment("video/iso.segment")),
            "mp4" => Some(Self::Segment("video/mp4")),
            "aac" => Some(Self::Segment("audio/aac")),
            "vtt" => Some(Self::Segment("text/vtt")),
            _ => None,
        }
    }
}

/// A live channel's segment may appear in a moment, so this answer is kept for a second only.
fn missing() -> Response {
    ([(CACHE_CONTROL, "max-age=1")], Problem::not_found("there is no such playlist or segment"))
        .into_response()
}

fn playlist(text: Bytes, headers: &HeaderMap) -> Response {
    let digest = ring::digest::digest(&ring::digest::SHA256, &text);
    let tag: String = digest.as_ref()[..12].iter().map(|byte| format!("{byte:02x}")).collect();
    let tag = format!("\"{tag}\"");
    let known = headers.get_all(IF_NONE_MATCH).iter().any(|value| matches_tag(value, &tag));
    let (status, body) = if known { (StatusCode::NOT_MODIFIED, None) } else { (StatusCode::OK, Some(text)) };
    let always = [(CACHE_CONTROL, "no-cache".to_owned()), (ETAG, tag)];
    match body {
        Some(text) => {
            (status, always, [(CONTENT_TYPE, "application/vnd.apple.mpegurl")], text).into_response()
        }
        None => (status, always).into_response(),
    }
}

/// `If-None-Match` compares weakly (RFC 9110 section 13.1.2).
fn matches_tag(value: &HeaderValue, tag: &str) -> bool {
    let tags = value.to_str().unwrap_or_default().split(',').map(str::trim);
    tags.map(|given| given.strip_prefix("W/").unwrap_or(given)).any(|given| given == "*" || given == tag)
}

fn segment(bytes: Bytes, media_type: &'static str, public: bool, headers: &HeaderMap) -> Response {
    let total = bytes.len();
    // Segments carry no validator, so that a condition on one can never hold.
    let asked = headers.get(RANGE).filter(|_| !headers.contains_key(IF_RANGE));
    let range = asked.and_then(|value| range(value.to_str().ok()?, total));
    let (status, body, part) = match range {
        None => (StatusCode::OK, bytes, None),
        Some(Ok(range)) => {
            let part = format!("bytes {}-{}/{total}", range.start, range.end - 1);
            (StatusCode::PARTIAL_CONTENT, bytes.slice(range), Some(part))
        }
        Some(Err(())) => {
            let problem = Problem::new(416, format!("the segment has {total} bytes"));
            return ([(CONTENT_RANGE, format!("bytes */{total}"))], problem).into_response();
        }
    };
    let mut response = HttpResponse::builder()
        .status(status)
        .header(CONTENT_TYPE, media_type)
        .header(CACHE_CONTROL, if public { FOR_EVER } else { "private, max-age=31536000, immutable" })
        .header(ACCEPT_RANGES, "bytes")
        .header(CONTENT_LENGTH, body.len());
    if let Some(part) = part {
        response = response.header(CONTENT_RANGE, part);
    }
    response
        .body(Body::from(body))
        .map_or_else(|error| Problem::internal(&error).into_response(), IntoResponse::into_response)
}

/// One range of bytes (RFC 9110 section 14.1.2). `None` where it is to be ignored: another unit, several ranges,
/// or no range at all; `Err` where it lies outside.
fn range(text: &str, total: usize) -> Option<Result<Range<usize>, ()>> {
    let (first, last) = text.strip_prefix("bytes=")?.trim().split_once('-')?;
    let number =
        |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().unwrap_or(usize::MAX));
    let range = match (first, last) {
        ("", "") => return None,
        ("", last) => total.saturating_sub(number(last)?)..total,
        (first, "") => number(first)?..total,
        (first, last) => {
            let (first, last) = (number(first)?, number(last)?);
            if last < first {
                return None;
            }
            first..last.saturating_add(1).min(total)
        }
    };
    Some(if range.start < range.end { Ok(range) } else { Err(()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_a_worker_writes_are_served() {
        assert_eq!(Kind::of("index.m3u8"), Some(Kind::Playlist));
        assert_eq!(Kind::of("s-00012_3.ts"), Some(Kind::Segment("video/mp2t")));
        for bad in [
            "", ".ts", "ts", "a.b.ts", "../x.ts", "a/b.ts", "a\\b.ts", "x.sh", "a\0.ts", "ä.ts", "%2e.ts",
            ".m3u8",
        ] {
            assert_eq!(Kind::of(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn ranges_follow_the_rfc() {
        let cases = [
            ("bytes=0-9", Some(Ok(0..10))),
            ("bytes=10-", Some(Ok(10..100))),
            ("bytes=-10", Some(Ok(90..100))),
            ("bytes=-1000", Some(Ok(0..100))),
            ("bytes=90-1000", Some(Ok(90..100))),
            ("bytes=0-99999999999999999999999", Some(Ok(0..100))),
            ("bytes=100-", Some(Err(()))),
            ("bytes=-0", Some(Err(()))),
            ("bytes=5-4", None),
            ("bytes=-", None),
            ("bytes=a-b", None),
            ("bytes=0-1,5-6", None),
            ("items=0-1", None),
        ];
        for (text, expected) in cases {
            assert_eq!(range(text, 100), expected, "{text}");
        }
        assert_eq!(range("bytes=0-", 0), Some(Err(())));
    }

    proptest::proptest! {
        #[test]
        fn any_range_lies_within_the_segment(text in ".{0,40}|bytes=[0-9]{0,22}-[0-9]{0,22}", total in 0usize..1000) {
            if let Some(Ok(range)) = range(&text, total) {
                proptest::prop_assert!(range.start < range.end && range.end <= total);
            }
        }
    }
}
