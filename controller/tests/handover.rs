//! What outlives a controller, and what a controller hears of its workers: ends, returns, reloads, words.

mod house;

use house::{House, is_alive, signal, wait_for};
use serde_json::{Value, json};
use std::fs;

fn is_on_air(status: &Value) -> bool {
    status["air"]["is"] == "on"
}

#[test]
fn a_signal_leaves_the_wish_and_the_channel_comes_back() {
    let mut house = House::with_worker("play");
    house.start_channel();
    let first = house.wait_until("air", is_on_air);
    house.signal("TERM");
    assert_eq!(house.ended(), Some(0), "{}", house.log());
    assert!(!is_alive(first["run"]["pid"].as_u64().unwrap()));
    assert_eq!(house.document("stream_config.json")["wish"], "on");
    house.start();
    let again = house.wait_until("air", is_on_air);
    assert_eq!(again["session_id"], first["session_id"]);
    assert!(again["run"]["epoch"].as_u64() > first["run"]["epoch"].as_u64());
    let told: Value = serde_json::from_slice(&fs::read(house.state("worker-was-told")).unwrap()).unwrap();
    assert_eq!(told["cursor"]["key"], "a.mp4", "it goes on where it was");
    assert!(told["hls"]["first_sequence"].as_u64().unwrap() >= 1000);
}

#[test]
fn a_killed_controller_is_missed_by_nobody() {
    let mut house = House::with_worker("redial");
    house.start_channel();
    let first = house.wait_until("air", is_on_air);
    house.signal("KILL");
    assert_eq!(house.ended(), None);
    house.start();
    let again = house.wait_until("air", is_on_air);
    for same in ["run", "restart_count", "retry_count", "session_id", "phase", "phase_since"] {
        assert_eq!(again[same], first[same], "{same}");
    }
    assert_eq!(house.log().matches("worker started").count(), 1, "{}", house.log());
    house.stop_channel();
    let off = house.wait_for_phase("off");
    assert!(!is_alive(first["run"]["pid"].as_u64().unwrap()));
    assert_eq!(off["restart_count"], 0);
}

#[test]
fn a_worker_that_was_left_and_does_not_call_is_ended_before_the_next_one_starts() {
    let mut house = House::with_worker("play alone");
    house.start_channel();
    let first = house.wait_until("air", is_on_air);
    let pid = first["run"]["pid"].as_u64().unwrap();
    house.signal("KILL");
    house.ended();
    assert!(is_alive(pid), "it outlives its controller");
    house.behave("play");
    house.start();
    let again =
        house.wait_until("another run on the air", |s| is_on_air(s) && s["run"]["id"] != first["run"]["id"]);
    assert!(!is_alive(pid));
    assert_eq!(again["restart_count"], 1);
}

#[test]
fn a_worker_that_nobody_wants_any_more_is_told_to_stop() {
    let mut house = House::with_worker("redial");
    house.start_channel();
    let first = house.wait_until("air", is_on_air);
    house.signal("KILL");
    house.ended();
    // Switched off while the controller was away, and what was seen of the worker is lost.
    let mut wish = house.document("stream_config.json");
    wish["wish"] = "off".into();
    fs::write(house.state("channels/main/stream_config.json"), wish.to_string()).unwrap();
    fs::remove_file(house.state("channels/main/stream_state.json")).unwrap();
    house.start();
    wait_for("the end of the worker", || (!is_alive(first["run"]["pid"].as_u64()?)).then_some(()));
    assert!(house.log().contains("nobody wants the channel"), "{}", house.log());
    assert_eq!(house.wait_for_phase("off")["wish"], "off");
}

#[test]
fn a_worker_that_nobody_had_written_down_is_adopted() {
    let mut house = House::with_worker("redial");
    house.start_channel();
    let first = house.wait_until("air", is_on_air);
    house.signal("KILL");
    house.ended();
    fs::remove_file(house.state("channels/main/stream_state.json")).unwrap();
    house.start();
    let again = house.wait_until("air", is_on_air);
    assert_eq!((&again["run"]["id"], &again["run"]["pid"]), (&first["run"]["id"], &first["run"]["pid"]));
    assert_eq!((&again["run"]["epoch"], &again["restart_count"]), (&json!(1), &json!(0)));
    assert_eq!(house.log().matches("worker started").count(), 1);
}

#[test]
fn what_a_reload_replaces_is_the_program_and_nothing_else() {
    let house = House::with_worker("redial");
    house.start_channel();
    let first = house.wait_until("air", is_on_air);
    for reload in 1..=3 {
        house.signal("HUP");
        wait_for("the next program", || (house.log().matches(" listening").count() > reload).then_some(()));
        let again = house.wait_until("air", is_on_air);
        assert_eq!((&again["run"], &again["restart_count"]), (&first["run"], &first["restart_count"]));
    }
    // It is still a child, and its end is learned with its code.
    signal(first["run"]["pid"].as_u64().unwrap() as u32, "KILL");
    let next = house.wait_until("a second run", |s| is_on_air(s) && s["run"]["id"] != first["run"]["id"]);
    assert_eq!(next["last_error"]["exit_code"], 137);
    assert_eq!(next["restart_count"], 1);
}

#[test]
fn a_reload_into_a_program_that_cannot_run_is_refused_and_told() {
    let mut house = House::furnished("redial");
    fs::copy(env!("CARGO_BIN_EXE_stream-controller"), house.path("controller")).unwrap();
    house.program_is("controller").start();
    house.start_channel();
    let first = house.wait_until("air", is_on_air);
    fs::remove_file(house.path("controller")).unwrap();
    house.program("controller", "exit 1");
    house.signal("HUP");
    wait_for("the refusal", || house.log().contains("the reload failed").then_some(()));
    assert!(house.get("/health").json()["problems"].to_string().contains("the reload failed"));
    fs::copy(env!("CARGO_BIN_EXE_stream-controller"), house.path("fresh")).unwrap();
    fs::rename(house.path("fresh"), house.path("controller")).unwrap();
    house.signal("HUP");
    wait_for("the next program", || (house.log().matches(" listening").count() > 1).then_some(()));
    assert_eq!(house.wait_until("air", is_on_air)["run"], first["run"]);
    assert!(!house.get("/health").json()["problems"].to_string().contains("reload"));
}

#[test]
fn a_channel_that_shall_not_be_restarted_is_left_alone_until_it_is_asked_for() {
    let mut house = House::with_worker("crash when told");
    let policy = json!({"restart": {"max_attempts": 1, "delays_s": [0]}});
    assert_eq!(house.post("/streams/start", policy).status, 202);
    for _ in 0..2 {
        house.wait_until("air", is_on_air);
        fs::write(house.state("crash-now"), b"").unwrap();
        wait_for("the crash", || (!house.state("crash-now").exists()).then_some(()));
    }
    let failed = house.wait_for_phase("error");
    assert_eq!((&failed["next_retry_at"], &failed["restart_count"]), (&Value::Null, &json!(1)));
    assert!(house.log().contains("will_retry=false"), "{}", house.log());
    assert!(house.get("/health").json()["problems"].to_string().contains("not started again"));
    // Not by the next controller either.
    house.signal("KILL");
    house.ended();
    house.start();
    assert_eq!(house.wait_for_phase("error")["wish"], "on");
    let bad = json!({"restart": {"max_attempts": 0, "delays_s": [100_000]}});
    let problem = house.post("/streams/start", bad).problem(422);
    let pointers: Vec<_> =
        problem["errors"].as_array().unwrap().iter().map(|e| e["pointer"].clone()).collect();
    assert_eq!(pointers, ["/restart/max_attempts", "/restart/delays_s/0"]);
    assert_eq!(house.start_channel().status, 202);
    house.wait_until("air", is_on_air);
}

#[test]
fn what_a_worker_warns_of_is_in_the_log_without_the_key() {
    let mut house = House::furnished("warns");
    house
        .set("YOUTUBE_STREAM_KEY", "y0utube-k3y")
        .set("YOUTUBE_RTMP_URL", "rtmp://127.0.0.1:1/live2")
        .start();
    house.start_channel();
    wait_for("the line", || house.log().contains("the disk is nearly full").then_some(()));
    assert!(!house.log().contains("y0utube-k3y"));
    house.wait_until("air, though the worker says things that nobody knows", is_on_air);
}

#[test]
fn events_are_on_the_disk_before_they_are_acknowledged() {
    let house = House::with_worker("tells events");
    house.start_channel();
    // The peer ends its tale when its second event is acknowledged.
    wait_for("the acknowledgement", || house.state("worker-got-ack").exists().then_some(()));
    let kept = fs::read_to_string(house.state("channels/main/events.jsonl")).unwrap();
    let seqs: Vec<u64> =
        kept.lines().map(|l| serde_json::from_str::<Value>(l).unwrap()["seq"].as_u64().unwrap()).collect();
    assert_eq!(seqs, [1, 2], "the first was said twice and is kept once");
}

#[test]
fn the_service_manager_is_told() {
    let mut house = House::furnished("redial");
    let socket = std::os::unix::net::UnixDatagram::bind(house.path("notify")).unwrap();
    socket.set_read_timeout(Some(house::PATIENCE)).unwrap();
    let path = house.path("notify").to_str().unwrap().to_owned();
    house.set("NOTIFY_SOCKET", &path).set("WATCHDOG_USEC", "1500000").start();
    let heard = |wanted: &str| {
        let mut buffer = [0; 512];
        loop {
            let n = socket.recv(&mut buffer).unwrap();
            let text = String::from_utf8_lossy(&buffer[..n]).into_owned();
            if text.contains(wanted) {
                return text;
            }
        }
    };
    heard("READY=1");
    heard("WATCHDOG=1");
    house.start_channel();
    heard("STATUS=1 of 1 wanted channels on the air");
    house.signal("HUP");
    assert!(heard("RELOADING=1").contains("MONOTONIC_USEC="));
    heard("READY=1");
    heard("WATCHDOG=1");
    house.signal("TERM");
    heard("STOPPING=1");
    assert_eq!(house.ended(), Some(0));
}

#[test]
fn a_controller_that_was_held_up_does_not_blame_its_workers() {
    let house = House::with_worker("play");
    house.start_channel();
    let before = house.wait_until("air", is_on_air);
    house.signal("STOP");
    // Longer than any worker may be silent.
    std::thread::sleep(std::time::Duration::from_secs(12));
    house.signal("CONT");
    wait_for("the words in the log", || house.log().contains("was held up").then_some(()));
    let after = house.wait_until("air", |s| is_on_air(s) && s["uptime_s"].as_u64() >= Some(12));
    assert_eq!((&after["run"]["id"], &after["restart_count"]), (&before["run"]["id"], &json!(0)));
}
