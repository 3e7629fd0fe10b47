//! Trying a destination: a process of its own that is told no key, ends in time and is waited for.

#![allow(clippy::unwrap_used)] // A test that cannot go on has to fail.

mod house;

use house::{House, wait_for};
use serde_json::{Value, json};
use std::fs;
use std::io::Write;

const TEST: &str = "/api/channels/main/destinations/one/test";

/// A controller with one destination, and a program that tries it.
fn with(script: &str) -> House {
    let house = House::with_worker("play");
    house.program("worker", script);
    let one = json!({"id": "one", "url": "rtmp://127.0.0.1:1/a?x=1", "stream_key": "s3cret-one",
        "backup_url": "rtmp://127.0.0.1:2/b"});
    assert_eq!(house.post("/api/channels/main/destinations", one).status, 201);
    house
}

fn children(house: &House) -> String {
    let pid = house.pid();
    fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap()
}

#[test]
fn the_result_of_every_step_is_shown_and_no_key_was_needed() {
    let house = with(
        r#"echo "$*" > asked-how; cat > asked
        echo '{"ok":false,"steps":[{"step":"resolve","ok":true,"ms":3,"words":"found","address":"127.0.0.1"},
        {"step":"connect","ok":false,"ms":7,"words":"s3cret-one says no"}]}'; exit 1"#,
    );
    let answer = house.post(TEST, json!({}));
    assert_eq!(answer.status, 200);
    assert_eq!(
        answer.json(),
        json!({"ok": false, "steps": [
            {"step": "resolve", "ok": true, "ms": 3, "words": "found", "address": "127.0.0.1"},
            {"step": "connect", "ok": false, "ms": 7, "words": "*** says no"},
        ]})
    );
    let asked = || -> Value { serde_json::from_slice(&fs::read(house.state("asked")).unwrap()).unwrap() };
    assert_eq!(
        (&asked()["url"], &asked()["key"], &asked()["tls_ca_file"]),
        (&json!("rtmp://127.0.0.1:1/a?x=1"), &json!(""), &Value::Null)
    );
    assert_eq!(fs::read_to_string(house.state("asked-how")).unwrap(), "--try-destination\n");
    assert_eq!(house.post(TEST, json!({"backup": true})).status, 200);
    assert_eq!(asked()["url"], "rtmp://127.0.0.1:2/b");
    assert_eq!(children(&house), "", "nobody is left behind");
}

#[test]
fn no_more_than_two_are_tried_at_once_and_a_caller_that_leaves_ends_its_trial() {
    let house =
        with(r#"echo x >> begun; while [ ! -e go ]; do sleep 0.05; done; echo '{"ok":true,"steps":[]}'"#);
    let begun = || fs::read_to_string(house.state("begun")).unwrap_or_default().lines().count();
    let call = || {
        let mut stream = house.connect();
        let head =
            format!("POST {TEST} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\r\n", house.token());
        stream.write_all(head.as_bytes()).unwrap();
        stream
    };
    let callers = [call(), call()];
    wait_for("two trials", || (begun() == 2).then_some(()));
    let busy = house.post(TEST, json!({}));
    busy.problem(429);
    assert_eq!(busy.header("retry-after"), Some("5"));
    drop(callers);
    wait_for("the end of both", || children(&house).is_empty().then_some(()));
    fs::write(house.state("go"), "").unwrap();
    assert_eq!(house.post(TEST, json!({})).json(), json!({"ok": true, "steps": []}));
}

#[test]
fn what_cannot_be_tried_is_refused() {
    let house = with("echo nonsense");
    house.post(TEST, json!({})).problem(503);
    house.post(TEST, json!({"backup": 1})).problem(422);
    house.post(TEST, json!({"key": "x"})).problem(422);
    house.post("/api/channels/main/destinations/two/test", json!({})).problem(404);
    house.post("/api/channels/two/destinations/one/test", json!({})).problem(404);
    house.get(TEST).problem(405);
    let path = "/api/channels/main/destinations/one";
    assert_eq!(house.patch(path, json!({"backup_url": null})).status, 200);
    house.post(TEST, json!({"backup": true})).problem(422);
    fs::remove_file(house.path("worker")).unwrap();
    house.post(TEST, json!({})).problem(503);
}
