//! What the machine does: descriptors, disks and clocks, a bucket that is away, and whether anybody is told.
//!
//! Only what the receivers see of it and that it is told lives here; tests/tests/surviving.rs looks closer.

use super::programs::Stage;
use super::scene::{PATIENCE, Pair};
use super::{Fault, Measured, Scale};
use crate::rig::clock::Clock;
use crate::rig::controller::Plan;
use crate::rig::hook::Hook;
use crate::rig::program::wait_for;
use crate::rig::s3::S3;
use crate::rig::sink::Sink;
use crate::rig::wanted::destination;
use crate::rig::wire::{Weather, Wire};
use crate::{surviving, zoo};
use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use std::net::TcpStream;
use std::time::{SystemTime, UNIX_EPOCH};

const GROUP: &str = "host";
const SAME: &str = "the same connection, not one frame is lost; an alert";
/// Where clocks change twice a year (POSIX, so that no table of zones is needed).
const ZONE: &str = "CET-1CEST,M3.5.0,M10.5.0/3";
/// When they do so in 2027, seconds since 1970: 28 March and 31 October, 01:00 UTC.
const CHANGES: [i64; 2] = [1_806_195_600, 1_824_944_400];

pub(super) const FAULTS: &[Fault] = &[
    Fault::new(GROUP, "clock-forward", SAME, |scale| clock(scale, 3600, "forward by 60 min")),
    Fault::new(GROUP, "clock-back", SAME, |scale| clock(scale, -3600, "back by 60 min")),
    Fault::new(GROUP, "summer-time", "nobody notices", |scale| season(scale, CHANGES[0])),
    Fault::new(GROUP, "winter-time", "nobody notices", |scale| season(scale, CHANGES[1])),
    Fault::new(GROUP, "descriptors-worker", SAME, worker_descriptors),
    Fault::new(GROUP, "descriptors-controller", SAME, controller_descriptors),
    Fault::new(
        GROUP,
        "disk-full",
        "the same connection; what was acknowledged is there; alerts come and go (needs root)",
        |_| elsewhere("disk-full"),
    ),
    Fault::new(
        GROUP,
        "bucket-gone-cached",
        "the copies play on: the same connection, not one frame is lost; an alert",
        bucket_with_copies,
    ),
    Fault::new(
        GROUP,
        "clock-ahead-of-bucket",
        "links that the bucket refuses: the fallback, an alert, and back by itself",
        |_| elsewhere("clock-ahead-of-bucket"),
    ),
    Fault::new(
        GROUP,
        "alert-webhook",
        "told once a hook that fails takes it, and told again when it is over",
        told,
    ),
];

/// A plan whose alerts go to this hook.
fn telling(hook: &Hook) -> Result<Plan> {
    let plan = Plan::new()?.with("ALERT_WEBHOOKS", format!("discord={}", hook.url("/x")));
    Ok(plan.with("ALERT_ALLOW_PRIVATE", "1"))
}

fn wait_for_word(hook: &Hook, kind: &str, words: &str) -> Result<()> {
    let told = |said: &crate::rig::hook::Said| said.body.contains(kind) && said.body.contains(words);
    hook.wait_for(&format!("the alert {kind}"), PATIENCE, told).map(drop)
}

/// One that is tried by itself, because it needs root or a bucket.
fn elsewhere(name: &str) -> Result<Measured> {
    let fault = surviving::FAULTS.iter().find(|fault| fault.0 == name).context("there is such a fault")?;
    Ok(Measured { gap_ms: None, words: fault.2()? })
}

fn clock(scale: &Scale, seconds: i64, words: &str) -> Result<Measured> {
    let (clock, hook) = (Clock::new()?, Hook::start()?);
    let stage = Stage::arranged(clock.given_to(telling(&hook)?)?, &zoo::sample())?;
    clock.set(seconds)?;
    wait_for_word(&hook, "clock.stepped", words)?;
    stage.one_connection(scale)
}

/// The clock runs across the hour at which local time jumps.
fn season(scale: &Scale, change: i64) -> Result<Measured> {
    let (clock, hook) = (Clock::new()?, Hook::start()?);
    let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs())?;
    let ahead = change - now - 15;
    clock.set(ahead)?;
    let stage = Stage::arranged(clock.given_to(telling(&hook)?.with("TZ", ZONE))?, &zoo::sample())?;
    let passed = |text: &str| text.get(11..16).is_some_and(|time| time == "01:00");
    stage.controller.wait_until("a heartbeat after the change", PATIENCE, |s| {
        s["last_heartbeat"].as_str().is_some_and(passed)
    })?;
    let measured = stage.one_connection(scale)?;
    ensure!(hook.said().is_empty(), "somebody was told: {:?}", hook.said());
    Ok(measured)
}

fn limit_files(pid: u32, most: u64) -> Result<()> {
    let pid = Pid::from_raw(i32::try_from(pid)?).context("a pid")?;
    let limit = Rlimit { current: Some(most), maximum: Some(4096) };
    prlimit(Some(pid), Resource::Nofile, limit).map(drop).context("set the limit")
}

fn worker_descriptors(scale: &Scale) -> Result<Measured> {
    let hook = Hook::start()?;
    let stage = Stage::arranged(telling(&hook)?.with_files(4096), &zoo::for_many_ffmpegs())?;
    stage.controller.wait_until("protection", PATIENCE, |s| s["protected"] != false)?;
    let pid = u32::try_from(stage.controller.status()?["run"]["pid"].as_u64().context("a worker")?)?;
    let used = std::fs::read_dir(format!("/proc/{pid}/fd")).context("count its descriptors")?.count();
    limit_files(pid, used as u64)?;
    wait_for_word(&hook, "descriptors.low", "The worker")?;
    stage.controller.wait_until("the fallback", PATIENCE, |s| s["air"]["is"] == "fallback")?;
    limit_files(pid, 4096)?;
    stage.controller.wait_until("the programme", PATIENCE * 2, |s| s["air"]["is"] == "on")?;
    stage.one_connection(scale)
}

fn controller_descriptors(scale: &Scale) -> Result<Measured> {
    let hook = Hook::start()?;
    let stage = Stage::arranged(telling(&hook)?.with_files(128), &zoo::sample())?;
    let address = stage.controller.url("").trim_start_matches("http://").to_owned();
    let callers: Vec<_> = (0..150).filter_map(|_| TcpStream::connect(&address).ok()).collect();
    ensure!(callers.len() > 128, "only {} callers came through", callers.len());
    wait_for_word(&hook, "descriptors.low", "connections")?;
    drop(callers);
    stage.one_connection(scale)
}

fn bucket_with_copies(scale: &Scale) -> Result<Measured> {
    let (mut bucket, hook) = (S3::start()?, Hook::start()?);
    zoo::put_into(&bucket.bucket(), &zoo::sample())?;
    let stage = Stage::arranged(bucket.given_to(telling(&hook)?), &zoo::sample())?;
    stage.controller.wait_until("a copy on the air", PATIENCE, |s| s["item"]["source"] == "cache")?;
    bucket.go_away();
    wait_for_word(&hook, "media.unavailable", "Critical")?;
    std::thread::sleep(scale.seconds(5.0));
    bucket.come_back()?;
    wait_for_word(&hook, "media.unavailable", "Over after")?;
    stage.one_connection(scale)
}

fn told(_: &Scale) -> Result<Measured> {
    let hook = Hook::start()?;
    hook.answers(|_| "503 Service Unavailable".to_owned());
    let sink = Sink::start()?;
    let wire = Wire::start(sink.address())?;
    let hit = destination("hit", &wire.url(), "b");
    let pair = Pair::arranged(telling(&hook)?, &zoo::sample(), &[hit])?;
    pair.hit_is_live(PATIENCE)?;
    wire.turn(Weather::Down);
    wait_for_word(&hook, "destination.failing", "")?;
    let failed = hook.said().len();
    hook.answers(|_| "204 No Content".to_owned());
    wait_for("another try", PATIENCE, || Ok((hook.said().len() > failed).then_some(())))?;
    wire.turn(Weather::Fair);
    wait_for_word(&hook, "destination.failing", "Over after")?;
    pair.spared_is_untouched(format!("{failed} tries failed, then it was told, and told that it is over"))
}
