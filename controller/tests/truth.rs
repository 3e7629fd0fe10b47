//! What was: the log of what was on the air, the history of runs, and the health, as they are asked for over HTTP.

#![allow(clippy::unwrap_used)] // A test that cannot go on has to fail.

mod house;

use house::{Answer, House, wait_for};
use serde_json::{Value, json};
use std::fs;
use std::io::Write;

fn journal(house: &House, name: &str, lines: &[Value]) {
    let path = house.state("channels/main").join(name);
    let mut file = fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
    for line in lines {
        writeln!(file, "{line}").unwrap();
    }
}

fn started(second: u32, key: &str, run: &str) -> Value {
    json!({"run": run, "seq": second, "at_wall": format!("2026-01-01T00:00:{second:02}.250Z"),
        "at_media_ms": second * 1000, "kind": "item.started", "session": "s1", "data": {
            "id": key, "key": key, "position_ms": 0, "duration_ms": 1000, "video": "copy", "audio": "copy",
            "reason": "fits the profile", "source": "file"}})
}

fn text(answer: &Answer) -> String {
    assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
    String::from_utf8(answer.body.clone()).unwrap()
}

#[test]
fn the_log_is_told_over_all_its_files_and_a_spreadsheet_runs_nothing_of_it() {
    let house = House::with_worker("play");
    journal(&house, "events.jsonl.2", &[started(1, "=cmd|'/c calc'!A1.mp4", "r1")]);
    journal(&house, "events.jsonl.1", &[started(2, "two, \"quoted\".mp4", "r1"), json!({"torn": true})]);
    journal(&house, "events.jsonl", &[started(3, "three.mp4", "r1"), started(4, "four.mp4", "r2")]);
    let path = "/api/channels/main/as-run?from=2026-01-01T00:00:00Z&to=2026-01-02T00:00:00Z";
    let answer = house.get(&format!("{path}&format=csv"));
    assert_eq!(answer.header("content-type"), Some("text/csv; charset=utf-8"));
    let name = "attachment; filename=\"as-run-main-20260101T000000Z-20260102T000000Z.csv\"";
    assert_eq!(answer.header("content-disposition"), Some(name));
    let csv = text(&answer);
    let lines: Vec<&str> = csv.split_terminator("\r\n").collect();
    assert_eq!(lines.len(), 5, "{csv}");
    assert!(lines[1].starts_with("2026-01-01T00:00:01.250Z,item,'=cmd|'/c calc'!A1.mp4,"), "{csv}");
    assert!(lines[2].contains(",\"two, \"\"quoted\"\".mp4\","), "{csv}");
    assert!(lines[3].ends_with(",r1,s1") && lines[3].contains(",run_ended,"), "{csv}");
    let entries: Value = serde_json::from_str(&text(&house.get(path))).unwrap();
    let durations: Vec<_> =
        entries["entries"].as_array().unwrap().iter().map(|e| e["duration_ms"].clone()).collect();
    assert_eq!(durations, [json!(1000), json!(1000), Value::Null, Value::Null]);
    let part = "/api/channels/main/as-run?from=2026-01-01T00:00:02Z&to=2026-01-01T00:00:03Z";
    let part: Value = serde_json::from_str(&text(&house.get(part))).unwrap();
    assert_eq!(part["entries"][0]["key"], "two, \"quoted\".mp4");
    assert_eq!(part["entries"].as_array().map(Vec::len), Some(1));
}

#[test]
fn a_long_log_comes_whole() {
    let house = House::with_worker("play");
    let lines: Vec<_> = (0..20_000).map(|n| started(n % 60, &format!("{n}.mp4"), "r")).collect();
    journal(&house, "events.jsonl", &lines);
    let csv = text(&house.get("/api/channels/main/as-run?format=csv&from=2026-01-01T00:00:00Z"));
    assert_eq!(csv.matches("\r\n").count(), 20_001);
    assert!(csv.contains(",19999.mp4,"));
}

#[test]
fn what_cannot_be_asked_is_refused() {
    let house = House::with_worker("play");
    for path in ["health", "runs", "as-run"] {
        house.get(&format!("/api/channels/nobody/{path}")).problem(404);
        house.get(&format!("/api/channels/..%2Fmain/{path}")).problem(404);
        house.get(&format!("/api/channels/%FF/{path}")).problem(404);
        house.request("GET", &format!("/api/channels/main/{path}"), &[], b"").problem(401);
        house.post(&format!("/api/channels/main/{path}"), json!({})).problem(405);
    }
    for query in [
        "runs?limit=0",
        "runs?limit=1001",
        "runs?limit=many",
        "runs?page=2",
        "as-run?format=xml",
        "as-run?from=yesterday",
        "as-run?from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z",
        "as-run?since=2026-01-02T00:00:00Z",
    ] {
        house.get(&format!("/api/channels/main/{query}")).problem(400);
    }
    let empty: Value = serde_json::from_str(&text(&house.get("/api/channels/main/as-run"))).unwrap();
    assert_eq!(empty, json!({"entries": []}));
}

#[test]
fn runs_are_told_newest_first_page_by_page() {
    let house = House::with_worker("crash when told");
    house.start_channel();
    let first = house.wait_for_phase("live")["run"]["id"].clone();
    fs::write(house.state("crash-now"), b"").unwrap();
    house.wait_until("another run", |status| status["run"]["id"] != first && status["phase"] == "live");
    let page = |query: &str| house.get(&format!("/api/channels/main/runs{query}")).json();
    let newest = wait_for("both runs", || {
        let page = page("?limit=1");
        (page["next_before"].is_string()).then_some(page)
    });
    assert_eq!(newest["runs"].as_array().map(Vec::len), Some(1));
    assert_eq!(newest["runs"][0]["began"], "retry");
    let before = newest["next_before"].as_str().unwrap();
    let older = page(&format!("?before={before}"));
    assert_eq!((&older["next_before"], &older["runs"][0]["id"]), (&Value::Null, &first));
    assert_eq!(page(&format!("?before={}", before.to_lowercase())), older);
    for wrong in ["zzz", "", "01ARZ3NDEKTSV4RRFFQ69G5FAU"] {
        let problem = house.get(&format!("/api/channels/main/runs?before={wrong}")).problem(400);
        assert!(problem["detail"].as_str().is_some_and(|words| words.contains("before")), "{problem}");
    }
    let run = &older["runs"][0];
    assert_eq!((&run["exit_code"], &run["began"]), (&json!(7), &json!("start")));
    assert!(run["ended_at"].is_string() && run["session_id"].is_string(), "{run}");
    assert!(run["words"].as_str().is_some_and(|words| words.contains("no space left")), "{run}");
    house.stop_channel();
    house.wait_for_phase("off");
    let ended = wait_for("the end of the newest run", || {
        let run = page("")["runs"][0].clone();
        run["ended_at"].is_string().then_some(run)
    });
    assert_eq!(ended["exit_code"], 0, "{ended}");
}

#[test]
fn a_history_that_is_broken_is_put_aside_and_somebody_hears_of_it() {
    let house = House::with_worker("play");
    fs::write(house.state("channels/main/runs.json"), b"{\"version\": 1, ").unwrap();
    assert_eq!(house.get("/api/channels/main/runs").status, 200);
    let log = house.log();
    let told = log.lines().any(|line| line.contains("ERROR") && line.contains("runs.json"));
    assert!(told, "{log}");
}

#[test]
fn a_channel_that_nobody_wants_has_no_score_and_one_that_is_not_heard_is_not_good() {
    let house = House::with_worker("silent");
    let health = || house.get("/api/channels/main/health").json();
    assert_eq!((&health()["state"], &health()["score"]), (&json!("off"), &Value::Null));
    house.start_channel();
    let found = wait_for("darkness", || Some(health()).filter(|health| health["state"] == "dark"));
    assert_eq!((&found["score"], &found["costs"][0]["code"]), (&json!(0), &json!("dark")));
    house.stop_channel();
}

#[test]
fn a_controller_that_ends_leaves_nothing_untold_and_its_absence_is_dark() {
    let mut house = House::with_worker("play");
    house.start_channel();
    house.wait_for_phase("live");
    house.signal("TERM");
    house.ended();
    let left = house.document("totals.json");
    assert_eq!((left.get("run"), &left["wanted"]), (None, &json!(true)), "{left}");
    let runs = house.document("runs.json");
    assert!(runs["runs"][0]["ended_at"].is_string(), "{runs}");
    let events = fs::read_to_string(house.state("channels/main/events.jsonl")).unwrap();
    assert!(events.contains("run.ended"), "{events}");
    house.start();
    let back = house.wait_until("the time in between", |status| {
        status["totals"]["dark_ms"].as_u64() > left["channel"]["dark_ms"].as_u64()
    });
    assert_eq!(back["totals"]["since"], left["since"]);
    let page = house.get("/api/channels/main/runs").json();
    assert_eq!((&page["runs"][0]["began"], &page["runs"][1]["began"]), (&json!("resume"), &json!("start")));
}
