//! What can be refused, and how it is told: RFC 9457 problem details. The one place that maps kinds to HTTP.

use serde::Serialize;
use state::channel::FieldProblem;

/// An answer that is not the wanted one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// HTTP status, 400 to 599.
    pub status: u16,
    /// Names the kind for programs; stable.
    pub kind: &'static str,
    /// Names the kind for people; stable.
    pub title: &'static str,
    /// What happened this time and what to do.
    pub detail: String,
    /// Which fields are wrong.
    pub errors: Vec<FieldProblem>,
}

/// The JSON of a problem (RFC 9457 section 3).
#[derive(Serialize)]
struct Body<'a> {
    r#type: String,
    title: &'a str,
    status: u16,
    detail: &'a str,
    request_id: &'a str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    errors: &'a [FieldProblem],
}

/// Every kind: status, name, title.
const KINDS: [(u16, &str, &str); 18] = [
    (400, "bad-request", "Bad request"),
    (401, "unauthorized", "Unauthorized"),
    (403, "forbidden", "Forbidden"),
    (404, "not-found", "Not found"),
    (405, "method-not-allowed", "Method not allowed"),
    (408, "timeout", "Request timeout"),
    (409, "conflict", "Conflict"),
    (411, "length-required", "Length required"),
    (412, "precondition-failed", "Precondition failed"),
    (413, "too-large", "Content too large"),
    (414, "uri-too-long", "URI too long"),
    (415, "unsupported-media-type", "Unsupported media type"),
    (416, "range-not-satisfiable", "Range not satisfiable"),
    (422, "invalid", "Invalid"),
    (429, "too-many-requests", "Too many requests"),
    (431, "headers-too-large", "Request header fields too large"),
    (500, "internal", "Internal error"),
    (503, "unavailable", "Service unavailable"),
];

impl Problem {
    /// A problem of the kind that belongs to `status`.
    pub fn new(status: u16, detail: impl Into<String>) -> Self {
        let fallback = if status < 500 { KINDS[0] } else { KINDS[16] };
        let (_, kind, title) = KINDS.into_iter().find(|k| k.0 == status).unwrap_or(fallback);
        Self { status, kind, title, detail: detail.into(), errors: Vec::new() }
    }

    /// 404: there is no such thing.
    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(404, detail)
    }

    /// 409: not in this state.
    pub fn conflict(kind: &'static str, detail: impl Into<String>) -> Self {
        Self { kind, ..Self::new(409, detail) }
    }

    /// 422: these fields are wrong.
    pub fn invalid(errors: Vec<FieldProblem>) -> Self {
        let detail = match errors.as_slice() {
            [one] if one.pointer.is_empty() => one.detail.clone(),
            [one] => format!("{} {}", one.pointer, one.detail),
            many => format!("{} fields are wrong", many.len()),
        };
        Self { errors, ..Self::new(422, detail) }
    }

    /// 500. `what` goes to the log, not to the caller.
    pub fn internal(what: &dyn std::fmt::Display) -> Self {
        tracing::error!(error = %what, "request failed");
        Self::new(500, "something went wrong here; the log has the details under this request id")
    }

    /// 503: this machine cannot do it now.
    pub fn unavailable(detail: impl Into<String>) -> Self {
        Self::new(503, detail)
    }

    /// The body for a request.
    pub fn body(&self, request_id: &str) -> Vec<u8> {
        let body = Body {
            r#type: format!("/problems/{}", self.kind),
            title: self.title,
            status: self.status,
            detail: &self.detail,
            request_id,
            errors: &self.errors,
        };
        serde_json::to_vec(&body).unwrap_or_default()
    }
}

impl From<state::store::StoreError> for Problem {
    fn from(error: state::store::StoreError) -> Self {
        match error {
            state::store::StoreError::Invalid { problems, .. } => Self::invalid(problems),
            state::store::StoreError::Conflict { .. } => Self::conflict(
                "conflict",
                "the channel's configuration was changed on disk by someone else; restart the controller to take it in",
            ),
            state::store::StoreError::Io { ref source, .. } if is_full(source) => {
                tracing::error!(error = %error, "a change cannot be saved");
                Self::unavailable(format!(
                    "nothing was changed, because it cannot be saved: {source}; make room on the disk of STATE_DIR"
                ))
            }
            state::store::StoreError::Io { .. } => Self::internal(&error),
        }
    }
}

/// The disk takes nothing more.
fn is_full(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | ReadOnlyFilesystem)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_says_everything_in_one_object() {
        let problem = Problem::invalid(vec![FieldProblem::at("/media/0", "is not in the media folder")]);
        let value: serde_json::Value = serde_json::from_slice(&problem.body("r-1")).unwrap();
        assert_eq!(
            value,
            serde_json::json!({
                "type": "/problems/invalid", "title": "Invalid", "status": 422, "request_id": "r-1",
                "detail": "/media/0 is not in the media folder",
                "errors": [{"pointer": "/media/0", "detail": "is not in the media folder"}],
            })
        );
    }

    #[test]
    fn a_full_disk_is_named_and_other_trouble_is_not() {
        let failed = |kind: std::io::ErrorKind| {
            let (path, source) = ("/x/stream_config.json".into(), kind.into());
            Problem::from(state::store::StoreError::Io { path, source })
        };
        let full = failed(std::io::ErrorKind::StorageFull);
        assert_eq!(full.status, 503);
        assert!(full.detail.contains("make room") && !full.detail.contains("/x/"), "{full:?}");
        assert_eq!(failed(std::io::ErrorKind::PermissionDenied).status, 500);
    }

    #[test]
    fn an_unnamed_status_keeps_its_number() {
        assert_eq!(Problem::new(418, "x").status, 418);
        assert_eq!(Problem::new(507, "x").kind, "internal");
    }
}
