//! Destinations come, go and change on the air, and the others do not notice. Judged at real ingests.

use anyhow::{Context, Result};
use e2e::analysis::{Limits, judge_loop};
use e2e::recording::Recording;
use e2e::rig::controller::{Answer, Controller, Plan, SOON};
use e2e::rig::nginx::Nginx;
use e2e::rig::program::{free_port, wait_for};
use e2e::rig::sink::Sink;
use e2e::rig::wanted::{destination, is_live, plays, seen, start};
use e2e::zoo;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::Duration;

const ALL: &str = "/api/channels/main/destinations";
const ROUND: Duration = Duration::from_secs(40);

fn path(id: &str) -> String {
    format!("{ALL}/{id}")
}

/// On the air with `steady` at this sink.
fn on_air(plan: Plan, sink: &Sink) -> Result<Controller> {
    zoo::put_into(&plan.media(), &zoo::sample())?;
    let controller = plan.start()?;
    controller.go_on_air(&start(&[destination("steady", &sink.url(), "steady-key")]))?;
    controller.wait_until("media are acknowledged", SOON, |s| is_live(s, "steady"))?;
    Ok(controller)
}

#[track_caller]
fn done(answer: &Answer, status: u16) {
    assert_eq!(answer.status, status, "{}", answer.text);
}

/// Waits until so many publishes with this key were asked for.
fn published(nginx: &Nginx, key: &str, count: usize) -> Result<()> {
    wait_for(&format!("publish {count} with {key}"), SOON, || {
        Ok((nginx.publishes_of(key) == count).then_some(()))
    })
}

/// Waits until these events of a destination are in the channel's journal. One that follows itself counts once: a
/// change of the key may be over between two heartbeats.
fn kept(controller: &Controller, id: &str, kinds: &[&str]) -> Result<()> {
    let journal = controller.plan().state().join("channels/main/events.jsonl");
    wait_for(&format!("{kinds:?} in the journal"), SOON, || {
        let text = std::fs::read_to_string(&journal).context("read the journal")?;
        let events = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let kind = |event: Value| {
            let own = event["data"]["destination"] == id;
            event["kind"].as_str()?.strip_prefix("destination.").filter(|_| own).map(str::to_owned)
        };
        let mut found: Vec<_> = events.filter_map(kind).collect();
        found.dedup();
        Ok((found == kinds).then_some(()))
    })
}

/// One publish, every picture, decoding times that only grow and never pause.
fn assert_untouched(sink: &Sink, least: usize) -> Result<()> {
    assert_eq!(sink.count("publish")?, 1);
    let recording = Recording::read(&sink.recording(1))?;
    for video in [true, false] {
        let track = recording.packets.iter().filter(|packet| packet.video == video);
        let dts: Vec<f64> = track.map(|packet| packet.dts).collect();
        let steps = dts.windows(2).map(|pair| pair[1] - pair[0]);
        let (least, most) =
            steps.fold((f64::MAX, 0.0_f64), |(least, most), step| (step.min(least), step.max(most)));
        assert!(least > 0.0 && most < 0.1, "steps of {least} to {most} s, video: {video}");
    }
    let verdict = judge_loop(recording, &zoo::sample(), least, &Limits::default());
    assert!(verdict.problems.is_empty(), "\n{verdict}");
    Ok(())
}

#[test]
fn whatever_is_changed_on_the_air_the_others_do_not_notice() -> Result<()> {
    let (sink, nginx) = (Sink::start()?, Nginx::start()?);
    let controller = on_air(Plan::new()?, &sink)?;
    let two_is = |what: &str, fits: &dyn Fn(&Value) -> bool| {
        controller.wait_until(what, SOON, |status| fits(seen(status, "two")))
    };
    let live = |two: &Value| two["state"] == "live";

    let added = controller.post(ALL, &destination("two", &nginx.url(), "first-key"))?;
    done(&added, 201);
    two_is("the new one is live", &live)?;
    published(&nginx, "first-key", 1)?;

    done(&controller.patch(&path("two"), &json!({"stream_key": "second-key"}))?, 200);
    published(&nginx, "second-key", 1)?;
    two_is("the new key is live", &live)?;

    done(&controller.patch(&path("two"), &json!({"enabled": false}))?, 200);
    two_is("it is off", &|two| two["enabled"] == false && two["state"] == "idle")?;
    done(&controller.patch(&path("two"), &json!({"enabled": true}))?, 200);
    published(&nginx, "second-key", 2)?;
    two_is("it is back", &live)?;

    done(&controller.delete(&path("two"))?, 204);
    two_is("it is gone", &Value::is_null)?;
    kept(&controller, "two", &["added", "live", "removed", "added", "live", "removed"])?;
    for file in ["02-b-frames.mp4", "03-audio-ends-early.mp4", "01-no-b-frames.mp4"] {
        controller.wait_until(&format!("{file} is on the air"), ROUND, |status| plays(status, file))?;
    }
    let status = controller.go_off_air()?;
    assert_eq!(seen(&status, "steady")["reconnects"], 0);
    assert_eq!(nginx.publishes(), 3);
    assert_untouched(&sink, 2)
}

#[test]
fn what_was_answered_survives_a_kill_of_the_controller() -> Result<()> {
    let (sink, nginx) = (Sink::start()?, Nginx::start()?);
    let mut controller = on_air(Plan::new()?, &sink)?;
    let first = controller.status()?;

    done(&controller.post(ALL, &destination("two", &nginx.url(), "first-key"))?, 201);
    controller.crash()?;
    controller.come_back()?;
    controller.wait_until("the new one is live", SOON, |status| is_live(status, "two"))?;

    done(&controller.patch(&path("two"), &json!({"stream_key": "second-key"}))?, 200);
    controller.crash()?;
    controller.come_back()?;
    published(&nginx, "second-key", 1)?;

    done(&controller.delete(&path("two"))?, 204);
    controller.crash()?;
    controller.come_back()?;
    let again = controller.wait_until("the worker is heard", SOON, |status| {
        is_live(status, "steady") && seen(status, "two").is_null()
    })?;
    assert_eq!((&again["run"], &again["restart_count"]), (&first["run"], &json!(0)));
    controller.wait_until("another item", ROUND, |status| plays(status, "03-audio-ends-early.mp4"))?;
    controller.wait_until("another item", ROUND, |status| plays(status, "01-no-b-frames.mp4"))?;
    controller.go_off_air()?;
    assert_untouched(&sink, 2)
}

#[test]
fn two_ingests_of_one_broadcast_begin_and_end_together() -> Result<()> {
    let (first, second) = (Sink::start()?, Sink::start()?);
    let controller = on_air(Plan::new()?, &first)?;
    let linked = json!({"linked_to": "steady", "url": second.url(), "stream_key": "steady-key"});
    let answer = controller.post(ALL, &linked)?;
    done(&answer, 201);
    assert_eq!(answer.json()["id"], "steady-backup");
    let status = controller.wait_until("both are live", SOON, |s| is_live(s, "steady-backup"))?;
    assert_eq!(seen(&status, "steady")["linked"][0]["id"], "steady-backup", "{status:#}");
    let both = |limit, event, count| -> Result<()> {
        first.wait_for(event, count, limit)?;
        second.wait_for(event, count, limit)
    };
    done(&controller.patch(&path("steady"), &json!({"enabled": false}))?, 200);
    both(SOON, "close", 1)?;
    done(&controller.patch(&path("steady"), &json!({"enabled": true}))?, 200);
    both(SOON, "first_idr", 2)?;
    done(&controller.delete(&path("steady"))?, 204);
    both(SOON, "close", 2)?;
    assert_eq!(controller.status()?["destinations"], json!([]));
    Ok(())
}

#[test]
fn a_session_that_nears_its_end_goes_on_with_the_next_key() -> Result<()> {
    let (sink, nginx) = (Sink::start()?, Nginx::start()?);
    let hook = TcpListener::bind("127.0.0.1:0")?;
    let key_url = format!("http://{}/next", hook.local_addr()?);
    std::thread::spawn(move || {
        for stream in hook.incoming() {
            let Ok(mut stream) = stream else { return };
            let _ = stream.read(&mut [0; 4096]);
            let body = r#"{"stream_key": "next-key"}"#;
            let _ = write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        }
    });
    let controller = on_air(Plan::new()?.with("KEY_URL_PRIVATE", "on"), &sink)?;
    let mut short = destination("short", &nginx.url(), "first-key");
    short["max_session_s"] = 16.into();
    short["key_url"] = key_url.into();
    done(&controller.post(ALL, &short)?, 201);
    published(&nginx, "first-key", 1)?;
    wait_for("the next key", ROUND, || Ok(published(&nginx, "next-key", 1).ok()))?;
    controller.wait_until("it is live again", SOON, |status| is_live(status, "short"))?;
    controller.go_off_air()?;
    assert_eq!(sink.count("publish")?, 1);
    let log = controller.plan().log();
    assert!(log.contains("the next key is in its place") && !log.contains("next-key"), "{log}");
    Ok(())
}

#[test]
fn the_way_is_tried_and_changed_from_the_command_line() -> Result<()> {
    let sink = Sink::start()?;
    let controller = Plan::new()?.start()?;
    let ctl = |arguments: &[&str], stdin: &str| -> Result<(Option<i32>, String, String)> {
        let output = controller.ctl(arguments, stdin)?;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ok((output.status.code(), text(output.stdout), text(output.stderr)))
    };
    let url = sink.url();
    let (code, out, err) =
        ctl(&["destination", "add", "--id", "one", "--url", &url, "--key-file", "-"], "s3cret\n")?;
    assert_eq!((code, out.as_str()), (Some(0), format!("one  idle  {url}\n").as_str()), "{err}");
    let (code, out, _) = ctl(&["destination", "test", "one"], "")?;
    assert_eq!(code, Some(0), "{out}");
    let steps: Vec<_> = out.lines().map(|line| line.split("  ").take(2).collect::<Vec<_>>()).collect();
    for step in ["resolve", "connect", "handshake", "rtmp"] {
        assert!(steps.iter().any(|line| line == &["ok", step]), "{step} in {out}");
    }
    assert_eq!(sink.count("publish")?, 0, "nothing is published");

    let nobody = format!("rtmp://127.0.0.1:{}/live", free_port()?);
    let (code, _, err) = ctl(&["destination", "set", "one", "--url", &nobody], "")?;
    assert_eq!(code, Some(1));
    assert!(err.contains("/stream_key"), "the key was not given for that address: {err}");
    let set = ["destination", "set", "one", "--url", &nobody, "--key-file", "-", "--disable"];
    assert_eq!(ctl(&set, "s3cret")?.1, format!("one  disabled  {nobody}\n"));
    let (code, out, _) = ctl(&["destination", "test", "one"], "")?;
    assert!(code == Some(1) && out.contains("failed  connect"), "{out}");
    let listed = ctl(&["--json", "destination", "list"], "")?.1;
    let listed: Value = serde_json::from_str(&listed).context("a list")?;
    assert_eq!((&listed[0]["id"], &listed[0]["enabled"]), (&json!("one"), &json!(false)));
    assert_eq!(ctl(&["destination", "remove", "one"], "")?.1, "removed one\n");
    let (code, _, err) = ctl(&["destination", "remove", "one"], "")?;
    assert_eq!(code, Some(1));
    assert!(err.contains("no destination one"), "{err}");
    assert_eq!(ctl(&["destination", "remove", "../one"], "")?.0, Some(2));
    Ok(())
}
