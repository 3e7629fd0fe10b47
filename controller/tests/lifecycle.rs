//! Channels come and go: the controller against a peer that speaks as a worker does.

#![allow(clippy::unwrap_used)] // A test that cannot go on has to fail.

mod house;

use house::{House, is_alive, signal, wait_for};
use serde_json::{Value, json};
use std::fs;

fn is_on_air(status: &Value) -> bool {
    status["air"]["is"] == "on"
}

#[test]
fn a_channel_starts_plays_and_stops() {
    let house = House::with_worker("play");
    let before = house.status();
    assert_eq!(
        (&before["wish"], &before["phase"], &before["air"]["is"]),
        (&json!("off"), &json!("off"), &json!("off"))
    );

    let answer = house.start_channel();
    assert_eq!(answer.status, 202, "{}", answer.json());
    assert_eq!((&answer.json()["wish"], &answer.json()["phase"]), (&json!("on"), &json!("starting")));

    let on = house.wait_until("the programme on the air", is_on_air);
    assert_eq!(on["phase"], "live");
    assert_eq!(on["item"]["key"], "a.mp4");
    assert_eq!(on["air"]["because"], "accepted by HLS");
    let public_id = on["public_id"].as_str().unwrap();
    assert_eq!(on["hls"]["url"], format!("/hls/{public_id}/index.m3u8"));
    let pid = on["run"]["pid"].as_u64().unwrap();
    assert!(is_alive(pid));
    house.wait_until("a health check on record", |status| !status["last_health_check"].is_null());
    let kept = house.document("stream_state.json");
    assert_eq!((&kept["phase"], &kept["run"]["pid"]), (&json!("live"), &json!(pid)));
    assert_eq!(house.document("stream_config.json")["wish"], "on");

    let again = house.start_channel().problem(409);
    assert_eq!(again["type"], "/problems/already-running");

    let answer = house.stop_channel();
    assert_eq!(answer.status, 202);
    assert_eq!(answer.json()["wish"], "off");
    let off = house.wait_for_phase("off");
    assert_eq!((&off["run"]["exit_code"], &off["session_id"]), (&json!(0), &Value::Null));
    assert!(!is_alive(pid));
    house.stop_channel().problem(404);
    let kept = house.document("stream_state.json");
    assert_eq!((&kept["phase"], kept.get("cursor")), (&json!("off"), None));
}

#[test]
fn a_crash_is_seen_told_and_mended() {
    let house = House::with_worker("crash when told");
    house.start_channel();
    let first = house.wait_until("air", is_on_air);
    fs::write(house.state("crash-now"), b"").unwrap();
    let again = house.wait_until("a second run on the air", |status| {
        is_on_air(status) && status["run"]["id"] != first["run"]["id"]
    });
    assert_eq!(again["last_error"]["exit_code"], 7);
    assert_eq!(again["last_error"]["words"], "exit code 7: no space left on device");
    assert_eq!((&again["restart_count"], &again["retry_count"]), (&json!(1), &json!(1)));
    assert_eq!(again["session_id"], first["session_id"], "a crash does not end the broadcast");
    assert!(again["run"]["epoch"].as_u64() > first["run"]["epoch"].as_u64());

    // The second failure in a row has to wait, and the phase says so.
    fs::write(house.state("crash-now"), b"").unwrap();
    let failed = house.wait_for_phase("error");
    assert_eq!(failed["run"]["exit_code"], 7);
    assert_eq!(failed["air"]["is"], "dark");
    assert!(!failed["next_retry_at"].is_null());
    assert_eq!(house.document("stream_state.json")["phase"], "error");

    // A start does not wait, and what failed before does not count any more.
    let answer = house.start_channel();
    assert_eq!(answer.status, 202, "{}", answer.json());
    let mended = house.wait_until("air", is_on_air);
    assert_eq!((&mended["restart_count"], &mended["retry_count"]), (&json!(0), &json!(0)));
    assert_eq!(mended["last_error"], Value::Null);
}

#[test]
fn a_killed_worker_is_told_by_its_signal() {
    let house = House::with_worker("play");
    house.start_channel();
    let first = house.wait_until("air", is_on_air);
    signal(first["run"]["pid"].as_u64().unwrap() as u32, "KILL");
    let again = house.wait_until("a second run", |s| is_on_air(s) && s["run"]["id"] != first["run"]["id"]);
    assert_eq!(again["last_error"]["exit_code"], 137);
    let words = again["last_error"]["words"].as_str().unwrap();
    assert!(words.starts_with("killed by signal 9"), "{words}");
}

#[test]
fn a_worker_that_cannot_live_is_waited_for_and_can_be_stopped() {
    let house = House::with_worker("crash at once 3");
    assert_eq!(house.start_channel().status, 202);
    let failed = house.wait_until("two failures", |s| s["phase"] == "error" && s["retry_count"] == 1);
    assert_eq!(failed["last_error"]["words"], "exit code 3: the peer was told to crash");
    let health = house.get("/health").json();
    assert_eq!(health["status"], "degraded");
    assert_eq!(health["channels"], json!({"wanted": 1, "on": 0}));
    let answer = house.stop_channel();
    assert_eq!((answer.status, &answer.json()["phase"]), (202, &json!("off")));
    house.stop_channel().problem(404);
}

#[test]
fn a_worker_that_falls_silent_is_replaced() {
    let house = House::with_worker("silent");
    house.start_channel();
    let first = house.wait_until("a run", |status| status["run"]["pid"].is_u64());
    house.behave("play");
    let again =
        house.wait_until("another run on the air", |s| is_on_air(s) && s["run"]["id"] != first["run"]["id"]);
    assert_eq!(again["restart_count"], 1);
    assert_eq!(again["last_error"]["exit_code"], 143, "it was asked to end");
}

#[test]
fn a_worker_that_does_not_listen_is_killed_and_a_start_meanwhile_is_refused() {
    let house = House::with_worker("deaf");
    house.start_channel();
    let on = house.wait_until("air", is_on_air);
    let stopping = house.stop_channel();
    assert_eq!(stopping.json()["phase"], "stopping");
    assert_eq!(house.start_channel().problem(409)["type"], "/problems/stopping");
    house.stop_channel().problem(404);
    let off = house.wait_for_phase("off");
    assert_eq!(off["run"]["exit_code"], 137);
    assert!(!is_alive(on["run"]["pid"].as_u64().unwrap()));
}

#[test]
fn a_playlist_that_does_not_loop_ends_the_broadcast() {
    let house = House::with_worker("finish");
    let answer = house.post("/streams/start", json!({"loop": false, "media": ["b.mp4"]}));
    assert_eq!(answer.status, 202, "{}", answer.json());
    let off = house.wait_until("the end", |s| s["wish"] == "off" && s["phase"] == "off");
    assert_eq!((&off["run"]["exit_code"], &off["restart_count"]), (&json!(0), &json!(0)));
    assert_eq!(house.document("stream_config.json")["wish"], "off");
}

#[test]
fn a_call_of_another_run_is_refused() {
    let house = House::with_worker("wrong run");
    house.start_channel();
    let failed =
        house.wait_until("failures", |status| status["phase"] == "error" && status["retry_count"] == 1);
    assert_eq!(failed["last_error"]["exit_code"], 5, "the peer was told to stop");
    assert!(house.log().contains("another run has the channel"));
}

#[test]
fn the_worker_is_told_all_it_needs_and_asks_for_the_next_round() {
    let mut house = House::furnished("wants more");
    house
        .set("YOUTUBE_STREAM_KEY", "y0utube-k3y")
        .set("YOUTUBE_RTMP_URL", "rtmp://127.0.0.1:1/live2")
        .start();
    let media =
        json!({"media": ["b.mp4", "a.mp4"], "name": "News", "profile": {"width": 640, "height": 360}});
    assert_eq!(house.post("/streams/start", media).status, 202);
    let on = house.wait_until("air", is_on_air);
    assert_eq!(on["destinations"][0]["id"], "youtube");
    assert_eq!(on["destinations"][0]["accepted"], true);
    assert_eq!(on["destinations"][0]["confirmed"], "unknown");
    assert!(on["accepted_bytes"].as_u64().unwrap() > 0);

    let told: Value = serde_json::from_slice(&fs::read(house.state("worker-was-told")).unwrap()).unwrap();
    assert_eq!(told["name"], "News");
    assert_eq!(told["profile"]["width"], 640);
    assert_eq!(told["items"][0]["key"], "b.mp4");
    assert_eq!(told["items"][0]["at"]["path"], house.path("media/b.mp4").to_str().unwrap());
    assert_eq!(told["destinations"][0]["key"], "y0utube-k3y");
    assert_eq!(
        told["hls"]["dir"],
        house.state("hls").join(on["public_id"].as_str().unwrap()).to_str().unwrap()
    );
    let items: Value =
        wait_for("items", || serde_json::from_slice(&fs::read(house.state("worker-got-items")).ok()?).ok());
    assert_eq!(items, json!({"generation": 1, "keys": ["b.mp4", "a.mp4"]}));
}

#[test]
fn every_channel_has_its_own_worker_and_no_two_share_a_stream_key() {
    let mut house = House::furnished("play");
    let news = state::channel::StreamConfig::new("news".parse().unwrap());
    state::store::put(&house.state("channels/news"), &news).unwrap();
    house.start();
    let on_key = |channel: &str, url: &str, key: &str| {
        let destination = json!({"url": url, "stream_key": key});
        house.post("/streams/start", json!({"channel": channel, "destinations": [destination]}))
    };
    assert_eq!(on_key("main", "rtmp://127.0.0.1/app", "one-k3y").status, 202);
    let refused = on_key("news", "rtmps://127.0.0.1:443/app", "one-k3y").problem(409);
    assert_eq!(refused["type"], "/problems/destination-in-use");
    assert_eq!(on_key("news", "rtmp://127.0.0.1/app", "other-k3y").status, 202);
    let on_air = |channel: &str| {
        wait_for("air", || {
            let status = house.get(&format!("/streams/status?channel={channel}")).json();
            is_on_air(&status).then_some(status)
        })
    };
    assert_ne!(on_air("main")["run"]["pid"], on_air("news")["run"]["pid"]);
    assert_eq!(house.get("/health").json()["channels"], json!({"wanted": 2, "on": 2}));
    assert_eq!(house.stop_channel().status, 202);
    house.wait_for_phase("off");
    assert_eq!(on_air("news")["phase"], "live");
}

#[test]
fn two_starts_at_once_make_one_worker() {
    let house = House::with_worker("play");
    let answers: Vec<u16> = std::thread::scope(|scope| {
        let calls: Vec<_> = (0..8).map(|_| scope.spawn(|| house.start_channel().status)).collect();
        calls.into_iter().map(|call| call.join().unwrap()).collect()
    });
    assert_eq!(answers.iter().filter(|status| **status == 202).count(), 1, "{answers:?}");
    assert_eq!(answers.iter().filter(|status| **status == 409).count(), 7, "{answers:?}");
    let on = house.wait_until("air", is_on_air);
    assert_eq!(on["run"]["epoch"], 1);
}

#[test]
fn a_worker_program_that_is_missing_is_named_and_found_later() {
    let house = House::with_worker("play");
    fs::rename(house.path("worker"), house.path("elsewhere")).unwrap();
    assert_eq!(house.start_channel().status, 202);
    let failed = house.wait_for_phase("error");
    let words = failed["last_error"]["words"].as_str().unwrap();
    assert!(words.contains("cannot be started") && words.contains("/worker"), "{words}");
    assert!(house.get("/health").json()["problems"].to_string().contains("WORKER_PATH"));
    fs::rename(house.path("elsewhere"), house.path("worker")).unwrap();
    assert_eq!(house.start_channel().status, 202);
    house.wait_until("air", is_on_air);
}

#[test]
fn an_ending_controller_starts_nothing_and_a_second_signal_does_not_wait() {
    let mut house = House::with_worker("deaf");
    house.start_channel();
    let on = house.wait_until("air", is_on_air);
    house.signal("INT");
    house.wait_for_phase("stopping");
    house.start_channel().problem(503);
    let since = std::time::Instant::now();
    house.signal("INT");
    assert_eq!(house.ended(), Some(0), "{}", house.log());
    assert!(since.elapsed().as_secs() < 10, "the grace of 15 s was not waited for");
    assert!(!is_alive(on["run"]["pid"].as_u64().unwrap()));
    assert_eq!(house.document("stream_config.json")["wish"], "on");
}

#[test]
fn log_lines_are_json_when_asked_for() {
    let mut house = House::furnished("play");
    house.set("LOG_FORMAT", "json").start();
    house.start_channel();
    house.wait_for_phase("live");
    let log = house.log();
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(
        lines
            .iter()
            .any(|line| line["fields"]["channel.id"] == "main" && line["fields"]["run.id"].is_string())
    );
    assert!(lines.iter().any(|line| line["span"]["request.id"].is_string()), "{log}");
}

#[test]
fn a_lock_that_somebody_unknown_holds_is_told_and_waited_for() {
    let house = House::with_worker("play");
    let held = fs::File::create(house.state("run/main.lock")).unwrap();
    held.lock().unwrap();
    assert_eq!(house.start_channel().status, 202);
    let problem = || house.get("/health").json()["problems"].to_string();
    wait_for("the alert", || problem().contains("an unknown worker holds its lock").then_some(()));
    assert_eq!(house.log().matches("worker started").count(), 0, "nobody is pushed aside");
    drop(held);
    house.wait_until("air", is_on_air);
    assert!(!problem().contains("unknown worker"));
}

/// Channels `main` and `news`, both wanted, with one stream key between them.
fn house_with_one_key_for_two(behaviour: &str) -> House {
    let mut house = House::furnished(behaviour);
    let news = state::channel::StreamConfig::new("news".parse().unwrap());
    state::store::put(&house.state("channels/news"), &news).unwrap();
    house.start();
    let destination = json!([{"id": "d", "url": "rtmp://127.0.0.1:1/app", "stream_key": "one-k3y"}]);
    for channel in ["main", "news"] {
        let body = json!({"channel": channel, "destinations": destination});
        assert_eq!(house.post("/streams/start", body).status, 202);
        assert_eq!(house.post("/streams/stop", json!({"channel": channel})).status, 202);
    }
    house.signal("TERM");
    house.ended();
    for channel in ["main", "news"] {
        let path = house.state(&format!("channels/{channel}/stream_config.json"));
        let mut wish: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        wish["wish"] = "on".into();
        fs::write(path, wish.to_string()).unwrap();
    }
    house.start();
    house
}

#[test]
fn a_stream_key_that_two_channels_have_on_disk_is_used_by_one() {
    let house = house_with_one_key_for_two("redial");
    let words = "channel news, destination d: left out, channel main uses the same key";
    wait_for("the problem", || {
        house.get("/health").json()["problems"].to_string().contains(words).then_some(())
    });
    let status = |channel: &str| house.get(&format!("/streams/status?channel={channel}")).json();
    wait_for("main on the air", || is_on_air(&status("main")).then_some(()));
    // HLS is fine, and not what was asked for.
    let is_told = |news: &Value| news["air"]["because"].to_string().contains("none of 1 wanted destinations");
    let news = wait_for("the truth about news", || Some(status("news")).filter(is_told));
    assert_eq!((&news["air"]["is"], &news["phase"]), (&json!("dark"), &json!("live")));
    let accepted = |channel: &str| status(channel)["destinations"][0]["accepted"].clone();
    assert_eq!((accepted("main"), accepted("news")), (true.into(), false.into()));
    let health = house.get("/api/channels/news/health").json();
    assert_eq!((&health["state"], &health["score"]), (&json!("dark"), &json!(0)));
}

#[test]
fn a_stream_key_that_is_free_again_is_used_by_the_channel_that_was_left_out() {
    let house = house_with_one_key_for_two("play");
    let news = || house.get("/streams/status?channel=news").json();
    wait_for("news without its destination", || {
        let news = news();
        (news["phase"] == "live" && news["air"]["is"] == "dark").then_some(())
    });
    let is_told = || house.told_destinations().iter().any(|list| list[0]["id"] == "d");
    assert!(!is_told());
    assert_eq!(house.stop_channel().status, 202);
    wait_for("the order to send there", || is_told().then_some(()));
}
