//! `streamctl destination`: where a channel is sent. The running controller does it; here it is asked for and shown.
//! A stream key comes from a file or from stdin, never from the command line, where everybody could read it.

use crate::api::Api;
use crate::args::{Destination, DestinationFields};
use crate::environment::Surroundings;
use crate::{Outcome, show};
use serde_json::{Map, Value, json};
use state::ids::{ChannelId, DestinationId};
use std::io::Read;
use std::path::Path;

/// Longest key or address in a file, bytes.
const LONGEST: u64 = 4096;

/// Does it.
pub(crate) fn run(
    action: Destination,
    channel: &ChannelId,
    surroundings: &Surroundings,
    json: bool,
) -> Outcome {
    match act(action, channel, surroundings) {
        Ok((answer, words, outcome)) => {
            if json {
                show::json(&answer);
            } else {
                words.iter().for_each(|line| show::line(line));
            }
            outcome
        }
        Err(words) => {
            show::error(&words);
            Outcome::Failed
        }
    }
}

type Answer = (Value, Vec<String>, Outcome);

fn act(action: Destination, channel: &ChannelId, surroundings: &Surroundings) -> Result<Answer, String> {
    let all = format!("/api/channels/{channel}/destinations");
    let one = |id: &DestinationId| format!("{all}/{id}");
    let api = Api::find(surroundings)?;
    match action {
        Destination::List => {
            let answer = api.get(&all)?["destinations"].take();
            let words = answer.as_array().into_iter().flatten().map(line).collect();
            Ok((answer, words, Outcome::Done))
        }
        Destination::Add { id, fields } => {
            let mut body = body(&fields)?;
            body.extend(id.map(|id| ("id".to_owned(), json!(id))));
            shown(api.post(&all, &Value::Object(body))?)
        }
        Destination::Set { id, fields } => shown(api.patch(&one(&id), &Value::Object(body(&fields)?))?),
        Destination::Remove { id } => {
            api.delete(&one(&id))?;
            Ok((json!({"removed": id}), vec![format!("removed {id}")], Outcome::Done))
        }
        Destination::Test { id, backup } => {
            let answer = api.post(&format!("{}/test", one(&id)), &json!({ "backup": backup }))?;
            let words = answer["steps"].as_array().into_iter().flatten().map(step).collect();
            let outcome = if answer["ok"] == true { Outcome::Done } else { Outcome::Failed };
            Ok((answer, words, outcome))
        }
    }
}

fn shown(answer: Value) -> Result<Answer, String> {
    let words = vec![line(&answer)];
    Ok((answer, words, Outcome::Done))
}

/// What was said, and nothing else: what is left out stays as it is. An empty text takes a field away.
fn body(fields: &DestinationFields) -> Result<Map<String, Value>, String> {
    let text = |value: &Option<String>| value.clone().map(Value::from);
    let or_null =
        |value: &Option<String>| value.clone().map(|v| if v.is_empty() { Value::Null } else { v.into() });
    let session = fields.max_session_s.map(|s| if s == 0 { Value::Null } else { s.into() });
    let enabled = [(fields.enable, true), (fields.disable, false)];
    let enabled = enabled.into_iter().find(|(said, _)| *said).map(|(_, value)| Value::from(value));
    let named = [
        ("name", text(&fields.name)),
        ("platform", text(&fields.platform)),
        ("url", text(&fields.url)),
        ("stream_key", fields.key_file.as_deref().map(secret).transpose()?),
        ("backup_url", or_null(&fields.backup_url)),
        ("linked_to", or_null(&fields.linked_to)),
        ("boundary", text(&fields.boundary)),
        ("max_session_s", session),
        ("key_url", fields.key_url_file.as_deref().map(secret).transpose()?),
        ("enabled", enabled),
    ];
    Ok(named.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect())
}

/// The text of a file, or of stdin for `-`; null when there is none in it.
fn secret(file: &Path) -> Result<Value, String> {
    let mut text = String::new();
    let read = if file == Path::new("-") {
        std::io::stdin().take(LONGEST).read_to_string(&mut text)
    } else {
        std::fs::File::open(file).and_then(|file| file.take(LONGEST).read_to_string(&mut text))
    };
    read.map_err(|error| format!("{}: {error}", file.display()))?;
    let text = text.trim();
    Ok(if text.is_empty() { Value::Null } else { text.into() })
}

/// `youtube  live  2980 kbit/s  rtmps://a.rtmps.youtube.com:443/live2`
fn line(one: &Value) -> String {
    let text = |name: &str| one[name].as_str().unwrap_or_default();
    let state = if one["enabled"] == false { "disabled" } else { text("state") };
    let mut words = vec![text("id").to_owned(), state.to_owned()];
    words.extend(one["bitrate_kbps"].as_u64().filter(|rate| *rate > 0).map(|rate| format!("{rate} kbit/s")));
    words.push(text("url").to_owned());
    words.extend(one["linked_to"].as_str().map(|first| format!("linked to {first}")));
    words.extend(one["last_error"]["words"].as_str().filter(|_| state == "waiting").map(str::to_owned));
    let warnings = one["warnings"].as_array().into_iter().flatten();
    words.extend(warnings.filter_map(|warning| Some(format!("warning: {}", warning.as_str()?))));
    words.join("  ")
}

/// `ok  tls  31 ms  …`
fn step(one: &Value) -> String {
    let text = |name: &str| one[name].as_str().unwrap_or_default();
    let ok = if one["ok"] == true { "ok" } else { "failed" };
    format!("{ok}  {}  {} ms  {}  {}", text("step"), one["ms"], text("address"), text("words"))
        .trim_end()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_said_is_sent() {
        assert_eq!(Value::Object(body(&DestinationFields::default()).unwrap()), json!({}));
        let fields = DestinationFields {
            url: Some("rtmp://h/a".into()),
            backup_url: Some(String::new()),
            max_session_s: Some(0),
            disable: true,
            ..DestinationFields::default()
        };
        let expected =
            json!({"url": "rtmp://h/a", "backup_url": null, "max_session_s": null, "enabled": false});
        assert_eq!(Value::Object(body(&fields).unwrap()), expected);
    }

    #[test]
    fn a_key_is_read_from_a_file_without_its_line_end() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("key");
        std::fs::write(&file, "s3cret\n").unwrap();
        assert_eq!(secret(&file), Ok("s3cret".into()));
        std::fs::write(&file, "\n").unwrap();
        assert_eq!(secret(&file), Ok(Value::Null));
        assert!(secret(&folder.path().join("missing")).is_err());
    }

    #[test]
    fn a_line_says_how_a_destination_does() {
        let one = json!({"id": "yt", "enabled": true, "state": "waiting", "bitrate_kbps": 0, "url": "rtmp://h/a",
            "linked_to": null, "last_error": {"words": "The key is in use."}, "warnings": ["too much"]});
        assert_eq!(line(&one), "yt  waiting  rtmp://h/a  The key is in use.  warning: too much");
        let off =
            json!({"id": "b", "enabled": false, "state": "idle", "url": "rtmp://h/b", "linked_to": "yt"});
        assert_eq!(line(&off), "b  disabled  rtmp://h/b  linked to yt");
        let tls = json!({"step": "tls", "ok": false, "ms": 31, "words": "unknown issuer"});
        assert_eq!(step(&tls), "failed  tls  31 ms    unknown issuer");
    }
}
