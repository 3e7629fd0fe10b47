//! What a machine does on a bad day: descriptors run out, the kernel kills FFmpeg, the clock is set, the bucket is
//! away. Channels stay up or come back by themselves, and each is an alert with one sentence. Full disks need root:
//! `cargo run -p e2e --bin surviving`.

use anyhow::{Context, Result};
use e2e::rig::clock::Clock;
use e2e::rig::controller::{Controller, Plan};
use e2e::rig::hook::Hook;
use e2e::rig::sink::Sink;
use e2e::rig::wanted::{destination, is_live, seen, start};
use e2e::rig::{process, program, s3};
use e2e::zoo::{self, Animal};
use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};
use serde_json::Value;
use std::net::TcpStream;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(60);

/// A channel on the air with HLS and one destination, and a hook that is told.
struct Scene {
    controller: Controller,
    hook: Hook,
    sink: Sink,
}

impl Scene {
    fn set(arrange: impl FnOnce(Plan) -> Result<Plan>) -> Result<Self> {
        Self::playing(&zoo::sample(), arrange)
    }

    fn playing(items: &[Animal], arrange: impl FnOnce(Plan) -> Result<Plan>) -> Result<Self> {
        let (hook, sink) = (Hook::start()?, Sink::start()?);
        let plan = Plan::new()?
            .with("ALERT_WEBHOOKS", format!("discord={}", hook.url("/x")))
            .with("ALERT_ALLOW_PRIVATE", "1");
        zoo::put_into(&plan.media(), items)?;
        let controller = arrange(plan)?.start()?;
        controller.go_on_air(&start(&[destination("one", &sink.url(), "key-of-one")]))?;
        controller.wait_until("it is on the air", SOON, |s| {
            is_live(s, "one") && s["hls"]["segments"].as_u64() >= Some(1)
        })?;
        Ok(Self { controller, hook, sink })
    }

    /// Waits until somebody was told of this, in words that hold these.
    fn wait_for_word(&self, kind: &str, words: &str) -> Result<()> {
        let told = |said: &e2e::rig::hook::Said| said.body.contains(kind) && said.body.contains(words);
        self.hook.wait_for(&format!("the word of {kind}"), SOON, told).map(drop)
    }

    /// The same worker sends to the same connection, which accepts it.
    fn assert_untouched(&self, before: &Value) -> Result<()> {
        let at_first = seen(before, "one")["accepted_bytes"].as_u64();
        let after = self.controller.wait_until("more is accepted", SOON, |s| {
            is_live(s, "one") && seen(s, "one")["accepted_bytes"].as_u64() > at_first
        })?;
        assert_eq!(before["run"]["id"], after["run"]["id"], "{after:#}");
        assert_eq!(seen(&after, "one")["reconnects"], 0, "{after:#}");
        assert_eq!(self.sink.count("publish")?, 1);
        Ok(())
    }
}

fn pid(status: &Value) -> Result<Pid> {
    let pid = status["run"]["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok());
    pid.and_then(Pid::from_raw).context("the worker's pid")
}

fn let_have_files(pid: Pid, most: u64) -> Result<()> {
    let limit = Rlimit { current: Some(most), maximum: Some(4096) };
    prlimit(Some(pid), Resource::Nofile, limit).map(drop).context("set the limit")
}

#[test]
fn callers_that_take_every_descriptor_do_not_hurt_the_channel() -> Result<()> {
    let scene = Scene::set(|plan| Ok(plan.with_files(128)))?;
    let before = scene.controller.status()?;
    let address = scene.controller.url("").trim_start_matches("http://").to_owned();
    let callers: Vec<_> = (0..150).filter_map(|_| TcpStream::connect(&address).ok()).collect();
    assert!(callers.len() > 128);
    scene.wait_for_word("descriptors.low", "connections")?;
    drop(callers);
    scene.assert_untouched(&before)
}

#[test]
fn a_worker_without_descriptors_keeps_its_connection_and_goes_on_when_it_has_some() -> Result<()> {
    let scene = Scene::playing(&zoo::for_many_ffmpegs(), |plan| Ok(plan.with_files(4096)))?;
    let before = scene.controller.status()?;
    let worker = pid(&before)?;
    let used = std::fs::read_dir(format!("/proc/{}/fd", worker.as_raw_pid()))?.count();
    let_have_files(worker, used as u64)?;
    scene.wait_for_word("descriptors.low", "The worker")?;
    scene.controller.wait_until("the slate is on the air", SOON, |s| s["air"]["is"] == "fallback")?;
    scene.assert_untouched(&before)?;
    let_have_files(worker, 4096)?;
    scene.controller.wait_until("all is well again", Duration::from_secs(150), |s| {
        s["hls"]["error"].is_null() && s["air"]["is"] == "on"
    })?;
    scene.assert_untouched(&before)
}

/// FFmpeg at work on an item; not ffprobe, and not the maker of the slate.
fn is_player(arguments: &str) -> bool {
    let program = arguments.split(' ').next().unwrap_or_default();
    program.ends_with("ffmpeg") && arguments.contains(".mkv")
}

#[test]
fn an_ffmpeg_that_the_kernel_kills_costs_an_item_and_no_connection() -> Result<()> {
    let scene = Scene::playing(&zoo::for_many_ffmpegs(), Ok)?;
    let before = scene.controller.status()?;
    let worker = pid(&before)?;
    let child = program::wait_for("a child at work", SOON, || {
        let tree = process::tree(u32::try_from(worker.as_raw_pid())?);
        Ok(tree.into_iter().find(|p| is_player(&p.arguments)))
    })?;
    let child = Pid::from_raw(i32::try_from(child.pid)?).context("the child's pid")?;
    kill_process(child, Signal::KILL).context("kill it")?;
    scene.wait_for_word("item.failing", "killed by signal 9")?;
    scene.assert_untouched(&before)?;
    scene.controller.wait_until("the programme is on the air", SOON, |s| s["air"]["is"] == "on").map(drop)
}

#[test]
fn a_clock_that_is_set_by_an_hour_is_told_and_nothing_else_happens() -> Result<()> {
    let clock = Clock::new()?;
    // Where clocks change twice a year; nothing here depends on it.
    let scene = Scene::set(|plan| clock.given_to(plan.with("TZ", "Europe/Berlin")))?;
    let before = scene.controller.status()?;
    let mut dates = Vec::new();
    for (seconds, words) in [(3600, "forward by 60 min"), (-3600, "back by 2 h")] {
        let worker = heartbeat(&scene.controller)?;
        clock.set(seconds)?;
        program::wait_for(&format!("the alert of {seconds} s"), SOON, || {
            let alerts = scene.controller.get("/api/alerts")?.json();
            let open = alerts["open"].as_array().cloned().unwrap_or_default();
            Ok(open.iter().any(|a| a["sentence"].to_string().contains(words)).then_some(()))
        })?;
        follow(&scene.controller, &mut dates)?;
        let status = scene.controller.wait_until("it is on the air", SOON, |s| s["air"]["is"] == "on")?;
        // The worker has seen it too.
        let moved = (heartbeat(&scene.controller)? - worker).rem_euclid(86_400);
        let expected = if seconds > 0 { 3600..3800 } else { 86_400 - 7200..86_400 - 7000 };
        assert!(expected.contains(&moved), "{seconds}: {moved}");
        assert!(status["next_retry_at"].is_null(), "{status:#}");
        assert!(status["last_heartbeat"].as_str().is_some_and(|at| at.ends_with('Z')), "{status:#}");
    }
    scene.assert_untouched(&before)?;
    // The next worker begins while the clock is an hour behind what was published.
    kill_process(pid(&before)?, Signal::KILL).context("kill the worker")?;
    scene.controller.wait_until("another worker", SOON, |s| s["run"]["id"] != before["run"]["id"])?;
    follow(&scene.controller, &mut dates)?;
    // Of each segment the date is one and the same for ever, and later segments have later dates.
    dates.sort_by_key(|(sequence, _)| *sequence);
    dates.dedup();
    assert!(dates.is_sorted_by(|a, b| a.0 < b.0 && a.1 < b.1), "{dates:#?}");
    assert!(dates.iter().all(|(_, date)| date.ends_with('Z')), "{dates:#?}");
    Ok(())
}

/// When the newest heartbeat was sent by the worker's clock, s of the day.
fn heartbeat(controller: &Controller) -> Result<i64> {
    let status = controller.status()?;
    let at = status["last_heartbeat"].as_str().context("a heartbeat")?;
    let time = at.split('T').nth(1).context("a time")?;
    let parts = time.split([':', '.', 'Z']).take(3).map(str::parse);
    let parts = parts.collect::<Result<Vec<i64>, _>>()?;
    Ok(parts.iter().fold(0, |sum, part| sum * 60 + part))
}

/// Notes the dates of segments until there are two more.
fn follow(controller: &Controller, dates: &mut Vec<(u64, String)>) -> Result<()> {
    let before = newest_segment(controller)?;
    program::wait_for("two more segments", SOON, || {
        dates.extend(program_dates(controller)?);
        Ok((newest_segment(controller)? >= before + 2).then_some(()))
    })
}

fn newest_segment(controller: &Controller) -> Result<u64> {
    Ok(program_dates(controller)?.last().map_or(0, |(sequence, _)| *sequence))
}

/// Every segment of the playlist with its date.
fn program_dates(controller: &Controller) -> Result<Vec<(u64, String)>> {
    let url = controller.status()?["hls"]["url"].as_str().context("the address of HLS")?.to_owned();
    let text = String::from_utf8(controller.view(&url)?)?;
    let value = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
    let first: u64 = value("#EXT-X-MEDIA-SEQUENCE:").context("a media sequence")?.parse()?;
    let dates = text.lines().filter_map(|line| line.strip_prefix("#EXT-X-PROGRAM-DATE-TIME:"));
    Ok(dates.enumerate().map(|(n, date)| (first + n as u64, date.to_owned())).collect())
}

#[test]
fn a_bucket_that_is_away_is_told_and_the_copies_play_on() -> Result<()> {
    let mut bucket = s3::S3::start()?;
    zoo::put_into(&bucket.bucket(), &zoo::sample())?;
    let scene = Scene::set(|plan| Ok(bucket.given_to(plan)))?;
    scene.controller.wait_until("a copy is on the air", SOON, |s| s["item"]["source"] == "cache")?;
    let before = scene.controller.status()?;
    bucket.go_away();
    scene.wait_for_word("media.unavailable", "Critical")?;
    scene.assert_untouched(&before)?;
    scene.controller.wait_until("the programme is on the air", SOON, |s| s["air"]["is"] == "on")?;
    bucket.come_back()?;
    scene.wait_for_word("media.unavailable", "Over after")?;
    scene.assert_untouched(&before)
}
