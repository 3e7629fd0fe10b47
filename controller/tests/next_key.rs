//! A session nears its end: the next key is asked for, saved, and told to the worker; and everything that must not
//! come of it.

#![allow(clippy::unwrap_used)] // A test that cannot go on has to fail.

mod house;

use house::{House, wait_for};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

const ALL: &str = "/api/channels/main/destinations";

/// Something that hands out keys: the n-th request gets the n-th answer, and the last one for ever; while it is shut,
/// everybody gets the first one.
struct Hook {
    url: String,
    shut: Arc<AtomicBool>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Hook {
    fn start(answers: &'static [(u16, &'static str)]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/hooks/s3cret-hook", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let shut = Arc::new(AtomicBool::new(false));
        let (kept, closed) = (asked.clone(), shut.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut bytes = Vec::new();
                let mut chunk = [0; 4096];
                while !String::from_utf8_lossy(&bytes).trim_end().ends_with('}') {
                    let read = stream.read(&mut chunk).unwrap();
                    assert!(read > 0, "the request breaks off");
                    bytes.extend_from_slice(&chunk[..read]);
                }
                let count = {
                    let mut kept = kept.lock().unwrap();
                    kept.push(String::from_utf8(bytes).unwrap());
                    kept.len()
                };
                let count = if closed.load(Ordering::Relaxed) { 1 } else { count };
                let (status, body) = answers[count.min(answers.len()) - 1];
                let answer = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n{body}", body.len());
                let _ = stream.write_all(answer.as_bytes());
            }
        });
        Self { url, shut, asked }
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

/// On the air with a destination whose session is about to end.
fn nearing_its_end(hook: &Hook, private: bool) -> House {
    let mut house = House::furnished("session ends");
    house.set("LOG_LEVEL", "trace");
    if private {
        house.set("KEY_URL_PRIVATE", "on");
    }
    house.start();
    let body = json!({"id": "fb", "platform": "facebook", "url": "rtmp://127.0.0.1:1/a",
        "stream_key": "s3cret-first", "key_url": hook.url});
    let shown = house.post(ALL, body).json();
    let host = hook.url.split("/hooks").next().unwrap();
    assert_eq!((&shown["key_url"], &shown["max_session_s"]), (&json!(format!("{host}/…")), &json!(28_800)));
    let second = json!({"linked_to": "fb", "url": "rtmp://127.0.0.1:2/a", "stream_key": "s3cret-first"});
    assert_eq!(house.post(ALL, second).status, 201);
    assert_eq!(house.start_channel().status, 202);
    house
}

#[test]
fn the_next_key_is_asked_for_saved_and_told() {
    // The first answers are of no use: it is asked again.
    let hook =
        Hook::start(&[(500, ""), (200, r#"{"stream_key": "s3cret-next", "url": "rtmp://127.0.0.1:3/b"}"#)]);
    let house = nearing_its_end(&hook, true);
    let list = wait_for("the next key", || house.told_destinations().pop());
    let of = |at: usize| (list[at]["url"].as_str().unwrap(), list[at]["key"].as_str().unwrap());
    assert_eq!(of(0), ("rtmp://127.0.0.1:3/b", "s3cret-next"));
    assert_eq!(of(1), ("rtmp://127.0.0.1:2/a", "s3cret-next"), "the second ingest follows");
    let asked = hook.asked();
    assert_eq!(asked.len(), 2, "{asked:#?}");
    assert!(asked[1].starts_with("POST /hooks/s3cret-hook HTTP/1.1\r\n"), "{}", asked[1]);
    let question: Value = serde_json::from_str(asked[1].split("\r\n\r\n").nth(1).unwrap()).unwrap();
    assert_eq!(
        (&question["type"], &question["channel"], &question["destination"], &question["platform"]),
        (&json!("destination.session_ending"), &json!("main"), &json!("fb"), &json!("facebook"))
    );
    assert!(question["ends_in_s"].as_u64().is_some_and(|s| (40..=60).contains(&s)), "{question}");
    wait_for("the word of it", || house.log().contains("the next key is in its place").then_some(()));
    let saved = house.document("stream_config.json").to_string();
    for text in [saved, house.log(), house.get(ALL).json().to_string()] {
        assert!(!text.contains("s3cret"), "{text}");
    }
}

#[test]
fn a_controller_that_is_killed_on_the_way_leaves_the_search_to_the_next_one() {
    let hook = Hook::start(&[(500, ""), (200, r#"{"stream_key": "s3cret-next"}"#)]);
    hook.shut.store(true, Ordering::Relaxed);
    let mut house = nearing_its_end(&hook, true);
    wait_for("the first request", || (!hook.asked().is_empty()).then_some(()));
    let journal = house.state("channels/main/events.jsonl");
    let kept = || std::fs::read_to_string(&journal).is_ok_and(|text| text.contains("session_ending"));
    wait_for("the event in the journal", || kept().then_some(()));
    house.signal("KILL");
    house.ended();
    let before = hook.asked().len();
    hook.shut.store(false, Ordering::Relaxed);
    house.start();
    let next = |list: &Value| list[0]["key"] == "s3cret-next";
    wait_for("the next key", || house.told_destinations().pop().filter(next));
    // And it is not looked for once more.
    house.signal("KILL");
    house.ended();
    house.start();
    house.wait_until("the worker is heard", |status| status["last_heartbeat"].is_string());
    assert!(hook.asked().len() <= before + 1, "{:#?}", hook.asked());
}

#[test]
fn this_machine_is_not_asked_unless_that_is_allowed() {
    let hook = Hook::start(&[(200, r#"{"stream_key": "s3cret-next"}"#)]);
    let house = nearing_its_end(&hook, false);
    wait_for("the refusal", || house.log().contains("is not asked without TLS").then_some(()));
    assert_eq!((hook.asked().len(), house.told_destinations().len()), (0, 0));
}

#[test]
fn an_answer_that_leads_elsewhere_or_gives_the_same_key_changes_nothing() {
    let hook = Hook::start(&[(302, ""), (200, r#"{"stream_key": "s3cret-first"}"#)]);
    let house = nearing_its_end(&hook, true);
    wait_for("both refusals", || {
        let log = house.log();
        (log.contains("not followed") && log.contains("is the one in use")).then_some(())
    });
    assert_eq!(house.told_destinations().len(), 0);
}
