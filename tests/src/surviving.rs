//! Faults of the machine that only root can make, each tried on the real programs. What needs no root is among the
//! tests (`tests/tests/surviving.rs`).

use crate::rig::controller::{Controller, Plan};
use crate::rig::disk::Disk;
use crate::rig::hook::Hook;
use crate::rig::program;
use crate::rig::sink::Sink;
use crate::rig::wanted::{destination, seen, start};
use crate::zoo;
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(90);

/// A fault: its name, what is expected, and how it is made; that gives what was measured.
pub type Fault = (&'static str, &'static str, fn() -> Result<String>);

/// Every fault.
pub const FAULTS: [Fault; 1] = [(
    "disk-full",
    "the destination loses nothing, a controller starts on the full disk, what was acknowledged is there, alerts come and go",
    disk_full,
)];

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
    for kind in ["disk.low", "hls.unwritable"] {
        open_alert(&controller, kind)?;
    }
    hook.wait_for("the word of the full disk", SOON, |said| said.body.contains("disk.low"))?;
    let refused = controller.post("/streams/stop", &json!({}))?;
    ensure!(refused.status >= 500, "a stop that cannot be kept was answered {}", refused.text);
    let status = controller.status()?;
    ensure!(status["wish"] == "on" && status["air"]["is"] == "on", "{status:#}");
    controller.crash()?;
    controller.come_back().context("a controller on a full disk")?;
    let accepted = |status: &Value| seen(status, "one")["accepted_bytes"].as_u64().unwrap_or(0);
    let during = controller.wait_until("the worker is heard again", SOON, |s| s["air"]["is"] == "on")?;

    state.clear()?;
    hls.clear()?;
    controller.wait_until("HLS is written again", SOON, |status| {
        status["hls"]["error"].is_null() && accepted(status) > accepted(&during)
    })?;
    hook.wait_for("the word that there is room", SOON, |said| said.body.contains("Over after"))?;
    let after = controller.status()?;
    ensure!(before["run"]["id"] == after["run"]["id"], "another worker: {after:#}");
    ensure!(seen(&after, "one")["reconnects"] == 0 && sink.count("publish")? == 1, "{after:#}");
    let events = kept_events(&controller)?;
    Ok(format!("one publish, 0 reconnects, {events} events without a gap"))
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
