//! Faults of the machine that only root can make or that take minutes, each tried on the real programs. The others are
//! among the tests (`tests/tests/surviving.rs`).

use crate::rig::clock::Clock;
use crate::rig::controller::{Controller, Plan};
use crate::rig::disk::Disk;
use crate::rig::hook::Hook;
use crate::rig::program;
use crate::rig::s3::S3;
use crate::rig::sink::Sink;
use crate::rig::wanted::{destination, seen, start};
use crate::zoo;
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_secs(90);

/// A fault: its name, what is expected, and how it is made; that gives what was measured.
pub type Fault = (&'static str, &'static str, fn() -> Result<String>);

/// Every fault.
pub const FAULTS: [Fault; 3] = [
    (
        "disk-full",
        "the destination loses nothing, a controller starts on the full disk, what was acknowledged is there, alerts come and go",
        disk_full,
    ),
    (
        "bucket-gone",
        "without copies the fallback takes over in the same connection, and the programme comes back by itself",
        bucket_gone,
    ),
    (
        "clock-ahead-of-bucket",
        "a clock an hour ahead makes links that the bucket refuses: fallback, alert, and back by itself",
        clock_ahead,
    ),
];

/// Fills the disks of state and HLS under a channel that is on the air, and makes room again.
fn disk_full() -> Result<String> {
    let hook = Hook::start()?;
    let sink = Sink::start()?;
    let plan = Plan::new()?
        .with("ALERT_WEBHOOKS", format!("discord={}", hook.url("/x")))
        .with("ALERT_ALLOW_PRIVATE", "1");
    zoo::put_into(&plan.media(), &zoo::sample())?;
    let (state, hls) = (Disk::over(&plan.state(), 2048)?, Disk::over(&plan.root().join("hls"), 8192)?);
    let mut controller = plan.start()?;
    controller.go_on_air(&start(&[destination("one", &sink.url(), "key-of-one")]))?;
    controller.wait_until("HLS has segments", SOON, |s| s["hls"]["segments"].as_u64() >= Some(2))?;
    let before = controller.status()?;

    state.fill()?;
    hls.fill()?;
    use_up_the_page(&controller)?;
    for kind in ["disk.low", "hls.unwritable", "state.unsaved"] {
        open_alert(&controller, kind)?;
    }
    hook.wait_for("the word of the full disk", SOON, |said| said.body.contains("disk.low"))?;
    let refused = controller.post("/streams/stop", &json!({}))?;
    let named = refused.status == 503 && refused.text.contains("make room on the disk");
    ensure!(named, "a stop that cannot be kept was answered {}", refused.text);
    let status = controller.status()?;
    ensure!(status["wish"] == "on" && status["air"]["is"] == "on", "{status:#}");
    controller.crash()?;
    controller.come_back().context("a controller on a full disk")?;
    let accepted = |status: &Value| seen(status, "one")["accepted_bytes"].as_u64().unwrap_or(0);
    let during = controller.wait_until("the worker is heard again", SOON, |s| s["air"]["is"] == "on")?;

    program::wait_for("an event that cannot be kept", SOON, || {
        Ok(controller.plan().log().contains("events cannot be kept").then_some(()))
    })?;
    let at_mend = kept_events(&controller)?;
    state.clear()?;
    hls.clear()?;
    controller.wait_until("HLS is written again", SOON, |status| {
        status["hls"]["error"].is_null() && accepted(status) > accepted(&during)
    })?;
    hook.wait_for("the word that there is room", SOON, |said| said.body.contains("Over after"))?;
    let after = controller.status()?;
    ensure!(before["run"]["id"] == after["run"]["id"], "another worker: {after:#}");
    ensure!(seen(&after, "one")["reconnects"] == 0 && sink.count("publish")? == 1, "{after:#}");
    let more = || Ok(Some(kept_events(&controller)?).filter(|events| *events > at_mend + 2));
    let events = program::wait_for("more events on the disk", SOON, more)?;
    Ok(format!(
        "one publish, 0 reconnects, {events} events without a gap, {at_mend} of them from before the end of the outage"
    ))
}

/// Takes what is left of the last page of the events, so that the next one needs another; blank lines are no events.
fn use_up_the_page(controller: &Controller) -> Result<()> {
    let path = controller.plan().state().join("channels/main/events.jsonl");
    let mut file = File::options().append(true).open(path).context("open the events")?;
    let left = 4096 - file.metadata()?.len() % 4096;
    file.write_all(&vec![b'\n'; usize::try_from(left)?]).context("use up the page")
}

fn open_alert(controller: &Controller, kind: &str) -> Result<Value> {
    program::wait_for(&format!("the alert {kind}"), SOON, || {
        let open = controller.get("/api/alerts")?.json()["open"].clone();
        let open = open.as_array().cloned().unwrap_or_default();
        Ok(open.into_iter().find(|alert| alert["kind"] == kind))
    })
}

/// Events on disk have no gap in the numbers of a run, whatever came to be acknowledged when.
fn kept_events(controller: &Controller) -> Result<usize> {
    let path = controller.plan().state().join("channels/main/events.jsonl");
    let text = std::fs::read_to_string(path).context("read the events")?;
    let mut runs: BTreeMap<String, u64> = BTreeMap::new();
    let events: Vec<Value> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    for event in &events {
        let last = runs.entry(event["run"].to_string()).or_default();
        ensure!(event["seq"] == *last + 1, "after {last} comes {event}");
        *last += 1;
    }
    Ok(events.len())
}

/// A channel that plays out of a bucket, of which this machine keeps no copies.
fn from_a_bucket(bucket: &S3, clock: &Clock, sink: &Sink, hook: &Hook) -> Result<Controller> {
    zoo::put_into(&bucket.bucket(), &zoo::sample())?;
    let plan = clock.given_to(bucket.given_to(Plan::new()?))?.with("CACHE_BYTES", "0");
    let plan = plan.with("ALERT_WEBHOOKS", format!("discord={}", hook.url("/x")));
    let controller = plan.with("ALERT_ALLOW_PRIVATE", "1").start()?;
    controller.go_on_air(&start(&[destination("one", &sink.url(), "key-of-one")]))?;
    controller.wait_until("the bucket is on the air", SOON, |s| s["item"]["source"] == "bucket")?;
    Ok(controller)
}

/// Waits for the fallback and the alerts, mends what was broken, and waits for the programme.
fn away_and_back(
    controller: &Controller,
    sink: &Sink,
    hook: &Hook,
    mend: impl FnOnce() -> Result<()>,
) -> Result<String> {
    controller.wait_until("the fallback is on the air", SOON, |s| s["air"]["is"] == "fallback")?;
    hook.wait_for("the word of the media", SOON, |said| said.body.contains("media.unavailable"))?;
    mend()?;
    let mended = Instant::now();
    controller.wait_until("the programme is back", Duration::from_secs(200), |s| s["air"]["is"] == "on")?;
    let back = mended.elapsed().as_secs();
    hook.wait_for("the word that it is over", SOON, |said| {
        said.body.contains("Over after") && said.body.contains("media.unavailable")
    })?;
    let status = controller.status()?;
    ensure!(seen(&status, "one")["reconnects"] == 0 && sink.count("publish")? == 1, "{status:#}");
    Ok(format!("one publish, 0 reconnects, programme back {back} s after it was mended"))
}

fn bucket_gone() -> Result<String> {
    let (mut bucket, clock, sink, hook) = (S3::start()?, Clock::new()?, Sink::start()?, Hook::start()?);
    let controller = from_a_bucket(&bucket, &clock, &sink, &hook)?;
    bucket.go_away();
    away_and_back(&controller, &sink, &hook, || bucket.come_back())
}

fn clock_ahead() -> Result<String> {
    let (bucket, clock, sink, hook) = (S3::start()?, Clock::new()?, Sink::start()?, Hook::start()?);
    let controller = from_a_bucket(&bucket, &clock, &sink, &hook)?;
    clock.set(3600)?;
    hook.wait_for("the word of the clock", SOON, |said| said.body.contains("clock.stepped"))?;
    away_and_back(&controller, &sink, &hook, || clock.set(0))
}
