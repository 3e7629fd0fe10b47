//! Bodies of requests, and what is read from a status.

use serde_json::{Value, json};

/// A destination of the platform `custom`.
pub fn destination(id: &str, url: &str, key: &str) -> Value {
    json!({"id": id, "name": id, "platform": "custom", "url": url, "stream_key": key})
}

/// The body of a start call with these destinations.
pub fn start(destinations: &[Value]) -> Value {
    json!({"destinations": destinations})
}

/// A destination in a status; `null` where it is missing.
pub fn seen<'a>(status: &'a Value, id: &str) -> &'a Value {
    let all = status["destinations"].as_array().map(Vec::as_slice).unwrap_or_default();
    all.iter().find(|d| d["id"] == id).unwrap_or(&Value::Null)
}

/// Whether a destination acknowledges media.
pub fn is_live(status: &Value, id: &str) -> bool {
    seen(status, id)["state"] == "live"
}

/// Whether the file that is on the air has this name.
pub fn plays(status: &Value, file: &str) -> bool {
    status["item"]["key"] == file
}
