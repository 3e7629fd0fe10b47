//! `streamctl media prepare`: the controller does it, here it is asked for and shown.

use crate::api::Api;
use crate::environment::Surroundings;
use crate::{Outcome, show};
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;

const PATH: &str = "/api/media/prepare";
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What is asked for.
#[derive(Debug, Serialize)]
pub(super) struct Ask {
    pub(super) keys: Vec<String>,
    pub(super) all: bool,
    pub(super) channel: String,
    pub(super) loudness: bool,
}

/// Asks, or only looks where nothing is named.
pub(super) async fn run(surroundings: &Surroundings, ask: &Ask, wait: bool, json: bool) -> Outcome {
    match prepare(surroundings, ask, wait, json).await {
        Ok(jobs) => {
            let failed = jobs.iter().any(|job| job["state"] == "failed");
            if json {
                show::json(&jobs);
            } else {
                jobs.iter().for_each(|job| show::line(&words(job)));
            }
            if failed { Outcome::Failed } else { Outcome::Done }
        }
        Err(words) => {
            show::error(&words);
            Outcome::Failed
        }
    }
}

async fn prepare(
    surroundings: &Surroundings,
    ask: &Ask,
    wait: bool,
    json: bool,
) -> Result<Vec<Value>, String> {
    let api = Api::find(surroundings)?;
    let only_look = ask.keys.is_empty() && !ask.all;
    let answer = if only_look { api.get(PATH)? } else { api.post(PATH, &serde_json::json!(ask))? };
    let asked = jobs(&answer);
    if !wait {
        return Ok(asked);
    }
    let mut said = BTreeMap::new();
    loop {
        let all = jobs(&api.get(PATH)?);
        let ours: Vec<Value> = all.into_iter().filter(|job| asked.iter().any(|a| same(a, job))).collect();
        if !json {
            ours.iter().for_each(|job| tell(job, &mut said));
        }
        if !ours.iter().any(goes_on) {
            return Ok(ours);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn jobs(answer: &Value) -> Vec<Value> {
    answer["jobs"].as_array().cloned().unwrap_or_default()
}

fn same(a: &Value, b: &Value) -> bool {
    (&a["key"], &a["profile"]) == (&b["key"], &b["profile"])
}

fn goes_on(job: &Value) -> bool {
    job["state"] == "waiting" || job["state"] == "running"
}

/// Every tenth of the file at work, on stderr.
fn tell(job: &Value, said: &mut BTreeMap<String, u64>) {
    let tenths = (job["progress"].as_f64().unwrap_or(0.0) * 10.0) as u64;
    let key = job["key"].as_str().unwrap_or_default();
    if job["state"] == "running" && said.insert(key.to_owned(), tenths) != Some(tenths) {
        show::note(&format!("{key}: {} %", tenths * 10));
    }
}

/// `film.mkv  ready  video is hevc, not H.264`
fn words(job: &Value) -> String {
    let text = |name: &str| job[name].as_str().unwrap_or_default();
    let why = if job["error"].is_string() { text("error") } else { text("reason") };
    let state = match (text("state"), job["progress"].as_f64()) {
        ("running", Some(part)) => format!("{:.0} %", part * 100.0),
        (state, _) => state.to_owned(),
    };
    format!("{}  {state}  {why}", text("key")).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_line_says_where_a_file_stands_and_why() {
        let job =
            json!({"key": "a.mkv", "state": "running", "progress": 0.429, "reason": null, "error": null});
        assert_eq!(words(&job), "a.mkv  43 %");
        let job =
            json!({"key": "a.mkv", "state": "failed", "progress": 0.5, "error": "breaks off after 3 s"});
        assert_eq!(words(&job), "a.mkv  failed  breaks off after 3 s");
        assert!(!goes_on(&job) && goes_on(&json!({"state": "waiting"})));
    }
}
