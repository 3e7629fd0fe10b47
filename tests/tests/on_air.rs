//! A folder of files and one call: the channel is on the air, without a seam, until it is stopped.

use anyhow::{Context, Result};
use e2e::analysis::{Limits, judge_loop};
use e2e::recording::Recording;
use e2e::rig::controller::{Plan, SOON};
use e2e::rig::nginx::Nginx;
use e2e::rig::wanted::{destination, is_live, plays, seen, start};
use e2e::zoo;
use serde_json::Value;
use std::time::Duration;

const ROUND: Duration = Duration::from_secs(40);

#[test]
fn three_files_go_round_in_one_publish_until_the_channel_is_stopped() -> Result<()> {
    let nginx = Nginx::start()?;
    let plan = Plan::new()?;
    zoo::put_into(&plan.media(), &zoo::sample())?;
    let controller = plan.start()?;
    controller.go_on_air(&start(&[destination("one", &nginx.url(), "key-of-one")]))?;
    let status = controller.wait_until("media are acknowledged", SOON, |s| is_live(s, "one"))?;
    assert_shape(&status);
    // Waiting for each file to come and go is waiting for boundaries, however slow the machine.
    for file in [
        "02-b-frames.mp4",
        "03-audio-ends-early.mp4",
        "01-no-b-frames.mp4",
        "02-b-frames.mp4",
        "03-audio-ends-early.mp4",
    ] {
        let status = controller.wait_until(&format!("{file} is on the air"), ROUND, |s| plays(s, file))?;
        assert_eq!(status["air"]["is"], "on", "{status:#}");
    }
    let status = controller.go_off_air()?;
    assert_eq!((&status["wish"], &status["air"]["is"]), (&"off".into(), &"off".into()), "{status:#}");
    assert_eq!(nginx.publishes(), 1);
    let recordings = nginx.recordings()?;
    let recording = Recording::read(recordings.first().context("nginx recorded nothing")?)?;
    let limits = Limits { extra_gap_ms: 20.0, audio_step_ms: 24.5, ..Limits::default() };
    let verdict = judge_loop(recording, &zoo::sample(), 4, &limits);
    assert!(verdict.problems.is_empty(), "\n{verdict}");
    Ok(())
}

fn assert_shape(status: &Value) {
    assert_eq!(status["channel"], "main", "{status:#}");
    assert_eq!(status["client"], "default", "{status:#}");
    assert_eq!(status["wish"], "on", "{status:#}");
    assert_eq!(status["phase"], "live", "{status:#}");
    for (pointer, what) in [
        ("/air/since", "string"),
        ("/air/because", "string"),
        ("/session_id", "string"),
        ("/run/id", "string"),
        ("/run/epoch", "number"),
        ("/run/pid", "number"),
        ("/run/started_at", "string"),
        ("/uptime_s", "number"),
        ("/restart_count", "number"),
        ("/retry_count", "number"),
        ("/profile/width", "number"),
        ("/item/position_ms", "number"),
        ("/item/duration_ms", "number"),
        ("/item/reason", "string"),
        ("/next/key", "string"),
        ("/hls/url", "string"),
        ("/hls/segments", "number"),
    ] {
        let value = status.pointer(pointer).unwrap_or(&Value::Null);
        let right = if what == "string" { value.is_string() } else { value.is_number() };
        assert!(right, "{pointer} must be a {what} in {status:#}");
    }
    assert_eq!((&status["item"]["video"], &status["item"]["audio"]), (&"copy".into(), &"copy".into()));
    let one = seen(status, "one");
    assert!(one["accepted_bytes"].as_u64().is_some_and(|bytes| bytes > 0), "{status:#}");
    assert!(
        one["bitrate_kbps"].is_number() && one["reconnects"] == 0 && one["confirmed"] == "unknown",
        "{one:#}"
    );
    assert!(!status.to_string().contains("key-of-one"), "the key is shown: {status:#}");
}

#[test]
fn a_playlist_that_does_not_loop_ends_the_channel_by_itself() -> Result<()> {
    let plan = Plan::new()?;
    zoo::put_into(&plan.media(), &zoo::sample()[..1])?;
    let controller = plan.start()?;
    let mut body = start(&[]);
    body["loop"] = false.into();
    controller.go_on_air(&body)?;
    controller.wait_until("the file is on the air", SOON, |s| s["phase"] == "live")?;
    let status = controller.wait_until("the channel is off", ROUND, |s| s["phase"] == "off")?;
    assert_eq!(status["wish"], "off", "{status:#}");
    Ok(())
}
