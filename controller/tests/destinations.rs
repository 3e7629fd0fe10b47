//! Destinations over HTTP: added, changed and removed, saved first and then told, and everything that is refused.

#![allow(clippy::unwrap_used)] // A test that cannot go on has to fail.

mod house;

use house::{Answer, House, wait_for};
use serde_json::{Value, json};
use std::fs;

const ALL: &str = "/api/channels/main/destinations";

fn path(id: &str) -> String {
    format!("{ALL}/{id}")
}

fn custom(id: &str, key: &str) -> Value {
    json!({"id": id, "url": format!("rtmp://127.0.0.1:1/{id}"), "stream_key": key})
}

/// A channel on the air with one destination, `one`.
fn on_air(behaviour: &str) -> House {
    let house = House::with_worker(behaviour);
    assert_eq!(house.post(ALL, custom("one", "s3cret-one")).status, 201);
    assert_eq!(house.start_channel().status, 202);
    house.wait_for_phase("live");
    house
}

/// The newest list that the worker was told: id and key of each.
fn told(house: &House, count: usize) -> Vec<(String, String)> {
    let lists = wait_for("an order", || Some(house.told_destinations()).filter(|lists| lists.len() >= count));
    assert_eq!(lists.len(), count, "nothing is said twice: {lists:#?}");
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    lists[count - 1].as_array().unwrap().iter().map(|d| (text(&d["id"]), text(&d["key"]))).collect()
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
}

fn pointers(answer: &Answer) -> Vec<String> {
    let body = answer.problem(422);
    let text = |error: &Value| error["pointer"].as_str().unwrap().to_owned();
    body["errors"].as_array().unwrap().iter().map(text).collect()
}

#[test]
fn every_change_on_the_air_is_saved_told_once_and_shown() {
    let house = on_air("play");
    let answer = house.post(ALL, custom("two", "s3cret-two"));
    assert_eq!((answer.status, answer.header("location")), (201, Some(path("two").as_str())));
    assert_eq!(answer.json()["id"], "two");
    assert_eq!(told(&house, 1), pairs(&[("one", "s3cret-one"), ("two", "s3cret-two")]));
    assert_eq!(house.patch(&path("one"), json!({"stream_key": "s3cret-new"})).status, 200);
    assert_eq!(told(&house, 2), pairs(&[("one", "s3cret-new"), ("two", "s3cret-two")]));
    let off = house.patch(&path("two"), json!({"enabled": false}));
    assert_eq!((off.status, &off.json()["enabled"]), (200, &json!(false)));
    assert_eq!(told(&house, 3), pairs(&[("one", "s3cret-new")]));
    assert_eq!(house.patch(&path("two"), json!({"enabled": true})).status, 200);
    assert_eq!(told(&house, 4).len(), 2);
    // A name is no news to a worker that only sends, but it is shown there.
    assert_eq!(house.patch(&path("two"), json!({})).status, 200);
    assert_eq!(house.delete(&path("one")).status, 204);
    assert_eq!(told(&house, 5), pairs(&[("two", "s3cret-two")]));
    house.get(&path("one")).problem(404);
    let list = house.get(ALL).json();
    assert_eq!(list["destinations"].as_array().unwrap().len(), 1);
    let saved = house.document("stream_config.json");
    assert_eq!(saved["destinations"].as_array().unwrap().len(), 1);
    assert!(!saved.to_string().contains("s3cret"));
}

#[test]
fn what_was_answered_survives_a_kill_and_is_told_by_the_next_controller() {
    let mut house = on_air("redial");
    assert_eq!(house.post(ALL, custom("two", "s3cret-two")).status, 201);
    house.signal("KILL");
    house.ended();
    house.start();
    let status = house.wait_until("the worker is heard", |status| status["last_heartbeat"].is_string());
    assert_eq!(status["restart_count"], 0);
    let last = wait_for("the list after the kill", || {
        let lists = house.told_destinations();
        lists.last().filter(|list| list.as_array().is_some_and(|list| list.len() == 2)).cloned()
    });
    assert_eq!(last[1]["key"], "s3cret-two");
    assert_eq!(house.get(&path("two")).status, 200);
}

#[test]
fn a_lost_master_key_takes_nothing_off_the_air_and_heals_when_it_is_put_back() {
    let mut house = on_air("redial");
    let master = house.state("master.key");
    let key = fs::read(&master).unwrap();
    house.signal("KILL");
    house.ended();
    fs::remove_file(&master).unwrap();
    house.start();
    let told = wait_for("an order", || house.told_destinations().pop());
    assert_eq!(told, json!([{"id": "one", "kept": true}]), "left alone, not taken away");
    house.wait_until("on the air", |status| status["air"]["is"] == "on");
    assert!(!master.exists(), "no key is made over what is sealed");
    assert!(house.get("/health").json()["problems"].to_string().contains("put master.key back"));
    wait_for("the alert", || {
        let open = house.get("/api/alerts").json()["open"].to_string();
        open.contains("master_key.lost").then_some(())
    });
    house.signal("KILL");
    house.ended();
    fs::write(&master, &key).unwrap();
    house.start();
    let healed = wait_for("the list with its key", || {
        house.told_destinations().into_iter().find(|list| list[0]["key"].is_string())
    });
    assert_eq!(healed[0]["id"], "one");
    assert!(!house.get("/health").json()["problems"].to_string().contains("master"));
}

#[test]
fn stream_keys_that_are_entered_again_make_a_new_master_key() {
    let mut house = on_air("redial");
    assert_eq!(house.post(ALL, custom("two", "s3cret-two")).status, 201);
    let master = house.state("master.key");
    house.signal("KILL");
    house.ended();
    fs::write(&master, "").unwrap();
    house.start();
    assert_eq!(house.patch(&path("one"), json!({"name": "Uno"})).status, 200);
    assert_eq!(fs::read(&master).unwrap(), b"");
    assert_eq!(house.patch(&path("one"), json!({"stream_key": "s3cret-anew"})).status, 200);
    assert_eq!(fs::read_to_string(&master).unwrap().trim().len(), 64);
    wait_for("the new key", || {
        house.told_destinations().into_iter().find(|list| list[0]["key"] == "s3cret-anew")
    });
    assert!(
        house.get("/health").json()["problems"].to_string().contains("destination two"),
        "not heard of yet"
    );
    assert_eq!(house.patch(&path("two"), json!({"stream_key": "s3cret-again"})).status, 200);
    assert!(!house.get("/health").json()["problems"].to_string().contains("master"));
}

#[test]
fn a_key_goes_nowhere_but_to_the_address_it_was_given_for() {
    let house = on_air("play");
    for elsewhere in [json!({"url": "rtmp://thief/app"}), json!({"backup_url": "rtmp://thief/app"})] {
        assert_eq!(pointers(&house.patch(&path("one"), elsewhere)), ["/stream_key"]);
    }
    let both = json!({"url": "rtmp://other/app", "stream_key": "s3cret-other"});
    assert_eq!(house.patch(&path("one"), both).json()["url"], "rtmp://other/app");
    // The same holds for a second ingest, unless the platform's own is meant.
    let body = json!({"linked_to": "one", "url": "rtmp://thief/app"});
    assert_eq!(pointers(&house.post(ALL, body)), ["/stream_key"]);
    let body = json!({"linked_to": "one", "url": "rtmp://thief/app", "stream_key": "a-guess"});
    assert_eq!(pointers(&house.post(ALL, body)), ["/stream_key"]);
}

#[test]
fn a_second_ingest_follows_its_first_one() {
    let house = on_air("play");
    let first = json!({"platform": "youtube", "stream_key": "s3cret-yt"});
    assert_eq!(house.post(ALL, first).json()["id"], "youtube");
    let second = house.post(ALL, json!({"linked_to": "youtube"})).json();
    assert_eq!(
        (&second["id"], &second["url"], &second["platform"]),
        (&json!("youtube-backup"), &json!("rtmps://b.rtmps.youtube.com:443/live2"), &json!("youtube"))
    );
    let both = |key: &str| pairs(&[("one", "s3cret-one"), ("youtube", key), ("youtube-backup", key)]);
    assert_eq!(told(&house, 2), both("s3cret-yt"));
    assert_eq!(house.patch(&path("youtube"), json!({"stream_key": "s3cret-next"})).status, 200);
    assert_eq!(told(&house, 3), both("s3cret-next"));
    assert_eq!(pointers(&house.patch(&path("youtube-backup"), json!({"enabled": false}))), ["/enabled"]);
    let words = json!({"stream_key": "s3cret-own"});
    assert_eq!(pointers(&house.patch(&path("youtube-backup"), words)), ["/stream_key"]);
    assert_eq!(house.patch(&path("youtube"), json!({"enabled": false})).status, 200);
    assert_eq!(told(&house, 4), pairs(&[("one", "s3cret-one")]));
    assert_eq!(house.get(&path("youtube-backup")).json()["enabled"], false);
    assert_eq!(house.get(&path("youtube")).json()["linked"][0]["id"], "youtube-backup");
    assert_eq!(house.delete(&path("youtube")).status, 204);
    house.get(&path("youtube-backup")).problem(404);
    // In the body of a start the order does not matter.
    assert_eq!(house.stop_channel().status, 202);
    house.wait_for_phase("off");
    let list = json!({"destinations": [
        {"id": "b", "linked_to": "a", "url": "rtmp://127.0.0.1:1/b", "stream_key": "s3cret-both"},
        {"id": "a", "url": "rtmp://127.0.0.1:1/a", "stream_key": "s3cret-both"},
    ]});
    assert_eq!(house.post("/streams/start", list).status, 202);
    let shown = house.get(ALL).json();
    assert_eq!(
        (&shown["destinations"][0]["id"], &shown["destinations"][0]["linked_to"]),
        (&json!("b"), &json!("a"))
    );
}

#[test]
fn two_senders_with_one_key_are_refused_on_the_air_as_well() {
    let house = on_air("play");
    let twin = json!({"id": "twin", "url": "rtmps://127.0.0.1:1/one", "stream_key": "s3cret-one"});
    assert_eq!(pointers(&house.post(ALL, twin.clone())), [""]);
    let way = json!({"id": "way", "url": "rtmp://127.0.0.1:2/x", "backup_url": "rtmp://127.0.0.1:1/one",
        "stream_key": "s3cret-one"});
    assert_eq!(pointers(&house.post(ALL, way)), [""]);
    let mut later = twin;
    later["enabled"] = false.into();
    assert_eq!(house.post(ALL, later).status, 201, "it may wait, switched off");
    assert_eq!(pointers(&house.patch(&path("twin"), json!({"enabled": true}))), [""]);
    assert_eq!(house.delete(&path("one")).status, 204);
    assert_eq!(house.patch(&path("twin"), json!({"enabled": true})).status, 200);
}

#[test]
fn nobody_is_left_without_a_picture_by_a_change() {
    let house = House::with_worker("play");
    assert_eq!(house.post(ALL, custom("one", "s3cret-one")).status, 201);
    assert_eq!(house.post("/streams/start", json!({"hls": {"enabled": false}})).status, 202);
    house.wait_for_phase("live");
    house.delete(&path("one")).problem(409);
    house.patch(&path("one"), json!({"enabled": false})).problem(409);
    assert_eq!(house.stop_channel().status, 202);
    assert_eq!(house.delete(&path("one")).status, 204);
}

#[test]
fn the_destination_of_the_environment_is_shown_and_says_how_to_change_it() {
    let mut house = House::furnished("play");
    house.set("YOUTUBE_STREAM_KEY", "s3cret-environment").start();
    let shown = house.get(&path("youtube")).json();
    assert_eq!((&shown["read_only"], &shown["enabled"]), (&json!(true), &json!(true)));
    for answer in [house.patch(&path("youtube"), json!({"enabled": false})), house.delete(&path("youtube"))] {
        let problem = answer.problem(409);
        assert!(problem["detail"].as_str().unwrap().contains("YOUTUBE_STREAM_KEY"), "{problem}");
    }
    let own = json!({"id": "youtube", "platform": "youtube", "stream_key": "s3cret-own", "enabled": false});
    assert_eq!(house.post(ALL, own).status, 201);
    assert_eq!(house.get(&path("youtube")).json()["read_only"], false);
    assert_eq!(house.delete(&path("youtube")).status, 204);
    assert_eq!(house.get(&path("youtube")).json()["read_only"], true);
}

#[test]
fn a_change_of_something_else_than_was_read_is_refused() {
    let house = House::with_worker("play");
    assert_eq!(house.post(ALL, custom("one", "s3cret-one")).status, 201);
    let tag = house.get(&path("one")).header("etag").unwrap().to_owned();
    let token = format!("Bearer {}", house.token());
    let patch = |tag: &str, body: &str| {
        let headers =
            [("Authorization", token.as_str()), ("Content-Type", "application/json"), ("If-Match", tag)];
        house.request("PATCH", &path("one"), &headers, body.as_bytes())
    };
    let changed = patch(&tag, "{\"name\":\"The first\"}");
    assert_eq!((changed.status, &changed.json()["name"]), (200, &json!("The first")));
    assert_ne!(changed.header("etag"), Some(tag.as_str()));
    patch(&tag, "{\"name\":\"The second\"}").problem(412);
    assert_eq!(patch("*", "{}").status, 200);
    let headers = [("Authorization", token.as_str()), ("If-Match", tag.as_str())];
    house.request("DELETE", &path("one"), &headers, b"").problem(412);
    assert_eq!(house.get(&path("one")).status, 200);
}

#[test]
fn a_dashboard_of_a_named_origin_may_change_and_remove() {
    let mut house = House::furnished("play");
    house.set("CORS_ORIGINS", "https://dash.example").start();
    for method in ["PATCH", "DELETE"] {
        let headers = [
            ("Origin", "https://dash.example"),
            ("Access-Control-Request-Method", method),
            ("Access-Control-Request-Headers", "authorization,if-match"),
        ];
        let answer = house.request("OPTIONS", &path("one"), &headers, b"");
        let allowed = answer.header("access-control-allow-methods").unwrap();
        assert!(allowed.contains(method), "{allowed}");
        let headers = answer.header("access-control-allow-headers").unwrap();
        assert!(headers.contains("if-match"), "{headers}");
    }
}

#[test]
fn what_cannot_be_is_refused_with_its_place() {
    let house = House::with_worker("play");
    assert_eq!(house.post(ALL, custom("one", "s3cret-one")).status, 201);
    for (body, expected) in [
        (json!([]), &[""][..]),
        (json!({}), &["/url"]),
        (json!({"url": "http://h/a", "stream_key": "k"}), &["/url"]),
        (json!({"url": "rtmp://h/a"}), &["/stream_key"]),
        (json!({"url": "rtmp://h/a", "stream_key": "a b", "colour": 1}), &["/stream_key", "/colour"]),
        (json!({"url": "rtmp://h/a", "stream_key": "k", "max_session_s": 5}), &["/max_session_s"]),
        (json!({"url": "rtmp://h/a", "stream_key": "k", "key_url": "file:///x"}), &["/key_url"]),
        (json!({"url": "rtmp://h/a", "stream_key": "k", "linked_to": "nobody"}), &["/linked_to"]),
        (json!({"linked_to": "one"}), &["/url", "/stream_key"]),
        (json!({"url": "rtmp://h/a", "stream_key": "k", "id": "A"}), &["/id"]),
        (json!({"url": "rtmp://h/a", "stream_key": "k", "boundary": "none"}), &["/boundary"]),
        (json!({"url": "rtmp://h/a", "stream_key": "k", "name": "x".repeat(101)}), &["/name"]),
        (json!({"url": "rtmp://h/a", "stream_key": "k", "name": "a\u{202e}b"}), &["/name"]),
        (json!({"url": "rtmp://bücher.example/a", "stream_key": "k"}), &["/url"]),
    ] {
        assert_eq!(pointers(&house.post(ALL, body.clone())), expected, "{body}");
    }
    assert_eq!(pointers(&house.patch(&path("one"), json!({"id": "two"}))), ["/id"]);
    let twin = json!({"url": "rtmps://127.0.0.1.:00001/one/", "stream_key": "s3cret-one"});
    assert_eq!(pointers(&house.post(ALL, twin)), [""], "the same place with the same key");
    house.post(ALL, custom("one", "s3cret-other")).problem(409);
    for (method, at, allow) in
        [("PUT", path("one"), "GET,HEAD,PATCH,DELETE"), ("PATCH", ALL.into(), "GET,HEAD,POST")]
    {
        let token = format!("Bearer {}", house.token());
        let answer = house.request(method, &at, &[("Authorization", &token)], b"");
        answer.problem(405);
        assert_eq!(answer.header("allow"), Some(allow));
    }
    for nowhere in
        ["/api/channels/nope/destinations", "/api/channels/A/destinations", &path("nope"), &path("%ff")]
    {
        house.get(nowhere).problem(404);
    }
    house.patch(&path("nope"), json!({})).problem(404);
    house.delete(&path("nope")).problem(404);
    house.request("GET", ALL, &[], b"").problem(401);
    let token = format!("Bearer {}", house.token());
    house.request("POST", ALL, &[("Authorization", &token)], b"{}").problem(415);
    for n in 0..49 {
        assert_eq!(house.post(ALL, custom(&format!("d{n}"), "s3cret")).status, 201);
    }
    house.post(ALL, custom("d50", "s3cret")).problem(409);
    let text = fs::read_to_string(house.path("controller.log")).unwrap();
    assert!(!text.contains("s3cret"), "{text}");
}
