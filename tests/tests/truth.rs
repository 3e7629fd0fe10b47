//! What the product says about the past and the present, held against what the sink got.

use anyhow::{Context, Result};
use e2e::recording::Recording;
use e2e::rig::controller::{Controller, Plan, SOON};
use e2e::rig::sink::Sink;
use e2e::rig::wanted::{destination, is_live, plays, start};
use e2e::runs::runs;
use e2e::zoo;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::time::Duration;

const ROUND: Duration = Duration::from_secs(40);

fn on_air(sink: &Sink) -> Result<Controller> {
    let plan = Plan::new()?;
    zoo::put_into(&plan.media(), &zoo::sample())?;
    // It is tried in its turn and cannot be played.
    std::fs::write(plan.media().join("04-a-list.mp4"), "milk, bread")?;
    let controller = plan.start()?;
    controller.go_on_air(&start(&[destination("one", &sink.url(), "one-key")]))?;
    controller.wait_until("media are acknowledged", SOON, |s| is_live(s, "one"))?;
    Ok(controller)
}

fn get(controller: &Controller, what: &str) -> Result<Value> {
    let path = format!("/api/channels/main/{what}");
    let answer = controller.get(&path)?;
    assert_eq!(answer.status, 200, "{path}: {}", answer.text);
    Ok(answer.json())
}

fn ms(totals: &Value, name: &str) -> u64 {
    totals[name].as_u64().unwrap_or_default()
}

/// The channel's totals, which add up, and those of its destination.
fn totals(status: &Value) -> (Value, Value) {
    let (channel, one) = (status["totals"].clone(), status["destinations"][0]["totals"].clone());
    for of in [&channel, &one] {
        let sum = ms(of, "on_air_ms") + ms(of, "dark_ms") + ms(of, "unknown_ms");
        assert_eq!(sum, ms(of, "wanted_ms"), "{of:#}");
    }
    (channel, one)
}

fn everything(controller: &Controller) -> Result<Vec<Value>> {
    Ok(get(controller, "as-run")?["entries"].as_array().context("entries")?.clone())
}

/// Those that were on the air.
fn entries_of(answer: &Value) -> Result<Vec<Value>> {
    let all = answer["entries"].as_array().context("entries")?;
    Ok(all.iter().filter(|entry| entry["ended"] != "failed").cloned().collect())
}

#[test]
fn the_as_run_log_agrees_with_the_recording_to_the_frame() -> Result<()> {
    let sink = Sink::start()?;
    let controller = on_air(&sink)?;
    for file in ["02-b-frames.mp4", "03-audio-ends-early.mp4", "01-no-b-frames.mp4"] {
        controller.wait_until(file, ROUND, |s| plays(s, file))?;
    }
    controller.wait_until("a second of it", ROUND, |s| s["item"]["position_ms"].as_u64() > Some(1000))?;
    let playing = everything(&controller)?;
    assert_eq!(playing.last().context("an entry")?["ended"], "on_air");
    controller.go_off_air()?;
    let (failed, log): (Vec<_>, Vec<_>) =
        everything(&controller)?.into_iter().partition(|entry| entry["ended"] == "failed");
    assert!(!failed.is_empty() && failed.iter().all(|entry| entry["key"] == "04-a-list.mp4"), "{failed:#?}");
    assert!(
        failed.iter().all(|entry| entry["reason"].is_string() && entry["media_ms"].is_null()),
        "{failed:#?}"
    );
    let recording = Recording::read(&sink.recording(1))?;
    let seen = runs(&recording);
    assert_eq!(log.len(), seen.len(), "{log:#?}");
    let begun = |entry: &Value| entry["media_ms"].as_f64().unwrap_or(-1.0);
    for (i, (entry, run)) in log.iter().zip(&seen).enumerate() {
        let number = run.item;
        assert!(
            entry["key"].as_str().is_some_and(|key| key.starts_with(&format!("{number:02}-"))),
            "{entry}"
        );
        let (told, shown) = (begun(entry) - begun(&log[0]), (run.start() - seen[0].start()) * 1000.0);
        assert!((told - shown).abs() < 1.5, "entry {i} began at {told:.1} ms, its picture at {shown:.1} ms");
        // What is cut off at the end is told up to the picture that was sent last.
        let last = i + 1 == log.len();
        let (lasted, pictures) = (entry["duration_ms"].as_f64().context("a length")?, run.pictures.len());
        let shown = pictures as f64 * run.step() * 1000.0;
        assert!(
            (lasted - shown).abs() <= run.step() * 1000.0 * if last { 8.0 } else { 1.0 },
            "{entry} {shown}"
        );
        let cut = entry["out_ms"].as_f64().unwrap_or(0.0) - entry["in_ms"].as_f64().unwrap_or(-9999.0);
        assert!((cut - lasted).abs() <= 2.0, "{entry}");
        assert_eq!(entry["in_ms"], 0, "{entry}");
        assert_eq!(entry["ended"], if last { "ordered" } else { "played" }, "{entry}");
        assert_eq!((&entry["exact"], &entry["video"]), (&true.into(), &"copy".into()), "{entry}");
        assert!(entry["run"].is_string() && entry["session"].is_string(), "{entry}");
    }
    // Walls go as media time does, and the first is that of the sink.
    let wall = |entry: &Value| -> Result<f64> { wall_ms(entry["started_at"].as_str().context("a time")?) };
    let first =
        sink.events()?.into_iter().find(|e| e["event"] == "first_idr").context("the first picture")?;
    let arrived = first["at_ms"].as_f64().context("a time")?;
    assert!((wall(&log[0])? - arrived).abs() < 1500.0, "{} and {arrived}", log[0]);
    for entry in &log {
        let off = (wall(entry)? - wall(&log[0])?) - (begun(entry) - begun(&log[0]));
        assert!(off.abs() < 1000.0, "{entry} is {off} ms off the clock");
    }
    assert_csv_says_the_same(&controller, &log)
}

/// Milliseconds since 1970 of a time such as `2026-11-20T10:00:00.123Z`.
fn wall_ms(text: &str) -> Result<f64> {
    let output = std::process::Command::new("date").args(["-u", "-d", text, "+%s.%N"]).output()?;
    Ok(String::from_utf8(output.stdout)?.trim().parse::<f64>()? * 1000.0)
}

fn assert_csv_says_the_same(controller: &Controller, log: &[Value]) -> Result<()> {
    let answer = controller.get("/api/channels/main/as-run?format=csv")?;
    assert_eq!((answer.status, answer.kind.as_str()), (200, "text/csv; charset=utf-8"));
    let mut lines = answer.text.split_terminator("\r\n");
    let names: Vec<&str> = lines.next().context("a header")?.split(',').collect();
    let rows: Vec<&str> = lines.filter(|line| !line.contains(",failed,")).collect();
    assert_eq!(rows.len(), log.len());
    for (row, entry) in rows.iter().zip(log) {
        let cells: Vec<&str> = row.split(',').collect();
        for name in ["key", "media_ms", "duration_ms", "in_ms", "out_ms", "ended", "run", "session"] {
            let at = names.iter().position(|n| *n == name).with_context(|| format!("no column {name}"))?;
            let told = entry[name].as_str().map_or_else(|| entry[name].to_string(), str::to_owned);
            assert_eq!(cells[at], told, "{name} in {row}");
        }
    }
    let from = log[1]["started_at"].as_str().context("a time")?;
    let later = entries_of(&get(controller, &format!("as-run?from={from}"))?)?;
    let earlier = entries_of(&get(controller, &format!("as-run?to={from}"))?)?;
    assert_eq!((later.len(), earlier.len()), (log.len() - 1, 1));
    Ok(())
}

#[test]
fn a_channel_that_only_hls_has_counts_by_its_segments() -> Result<()> {
    let plan = Plan::new()?;
    zoo::put_into(&plan.media(), &zoo::sample())?;
    let controller = plan.start()?;
    controller.go_on_air(&start(&[]))?;
    let counted =
        controller.wait_until("time on the air", ROUND, |s| ms(&s["totals"], "on_air_ms") > 6000)?;
    let of = &counted["totals"];
    assert_eq!(ms(of, "on_air_ms") + ms(of, "dark_ms") + ms(of, "unknown_ms"), ms(of, "wanted_ms"), "{of:#}");
    assert_eq!(get(&controller, "health")?["state"], "good");
    controller.go_off_air()?;
    Ok(())
}

#[test]
fn a_sink_that_acknowledges_nothing_makes_the_channel_dark_and_the_score_nought() -> Result<()> {
    let sink = Sink::start()?;
    let controller = on_air(&sink)?;
    let health = e2e::rig::program::wait_for("good health", ROUND, || {
        let health = get(&controller, "health")?;
        let measured = health["fps"].as_f64().is_some_and(|fps| fps > 20.0);
        Ok((health["state"] == "good" && measured && !health["hls"]["edge_latency_ms"].is_null())
            .then_some(health))
    })?;
    assert!(health["score"].as_u64().is_some_and(|score| score >= 80), "{health:#}");
    assert!(
        health["sent_kbps"].as_u64() > Some(50) && health["accepted_kbps"].as_u64() > Some(50),
        "{health:#}"
    );
    assert!(
        health["hls"]["edge_latency_ms"].as_i64().is_some_and(|ms| (0..20_000).contains(&ms)),
        "{health:#}"
    );
    let before = controller.wait_until("time on the air", SOON, |s| ms(&s["totals"], "on_air_ms") > 3000)?;
    let (channel, one) = totals(&before);
    sink.freeze(true);
    let dark = controller.wait_until("dark seconds", ROUND, |s| {
        let more = |of: &Value, was: &Value| ms(of, "dark_ms") >= ms(was, "dark_ms") + 6000;
        more(&s["totals"], &channel) && more(&s["destinations"][0]["totals"], &one)
    })?;
    assert_eq!(dark["air"]["is"], "dark", "{dark:#}");
    let health = get(&controller, "health")?;
    assert_eq!((&health["state"], &health["score"]), (&"dark".into(), &0.into()), "{health:#}");
    let (dark_channel, _) = totals(&dark);
    sink.freeze(false);
    let back = controller.wait_until("the air", ROUND, |s| {
        is_live(s, "one") && ms(&s["totals"], "on_air_ms") > ms(&dark_channel, "on_air_ms") + 3000
    })?;
    let (channel, one) = totals(&back);
    assert!(ms(&channel, "dark_ms") >= ms(&dark_channel, "dark_ms"), "{channel:#}");
    // Whether it was the worker or the sink that lost patience, it is counted once for both.
    assert_eq!(channel["reconnects"], one["reconnects"], "{back:#}");
    Ok(())
}

#[test]
fn what_was_counted_is_kept_whoever_is_killed() -> Result<()> {
    let sink = Sink::start()?;
    let mut controller = on_air(&sink)?;
    let first = controller.wait_until("time on the air", ROUND, |s| ms(&s["totals"], "on_air_ms") > 4000)?;
    let worker =
        first["run"]["pid"].as_i64().and_then(|pid| Pid::from_raw(pid as i32)).context("a worker")?;
    kill_process(worker, Signal::KILL)?;
    let second = controller.wait_until("time on the air after the worker's death", ROUND, |s| {
        let (was, is) = (&first["totals"], &s["totals"]);
        is_live(s, "one")
            && s["run"]["id"] != first["run"]["id"]
            && ms(is, "on_air_ms") > ms(was, "on_air_ms") + 3000
    })?;
    totals(&second);
    let history = get(&controller, "runs")?;
    let (newest, killed) = (&history["runs"][0], &history["runs"][1]);
    assert_eq!((&killed["exit_code"], &killed["began"]), (&137.into(), &"start".into()), "{history:#}");
    assert!(killed["ended_at"].is_string() && newest["ended_at"].is_null(), "{history:#}");
    assert_eq!((&newest["began"], &newest["id"]), (&"retry".into(), &second["run"]["id"]), "{history:#}");
    controller.crash()?;
    std::fs::metadata(controller.plan().state().join("channels/main/totals.json"))?;
    controller.come_back()?;
    let early = controller.status()?;
    assert_nothing_went_back(&second, &early);
    let third = controller.wait_until("time on the air after the controller's death", ROUND, |s| {
        is_live(s, "one") && ms(&s["totals"], "on_air_ms") > ms(&second["totals"], "on_air_ms") + 3000
    })?;
    assert_nothing_went_back(&early, &third);
    // The worker played on, so that the time without a controller is neither dark nor unknown.
    let (was, is) = (&second["totals"], &third["totals"]);
    let lost = ms(is, "dark_ms") - ms(was, "dark_ms") + ms(is, "unknown_ms");
    assert!(lost < 6000, "{was:#} then {is:#}");
    assert_eq!(third["run"]["id"], second["run"]["id"]);
    let off = controller.go_off_air()?;
    assert_nothing_went_back(&third, &off);
    let log = everything(&controller)?;
    let cut =
        log.iter().find(|entry| entry["ended"] == "run_ended").context("the killed run's last entry")?;
    assert_eq!((&cut["exact"], &cut["run"]), (&false.into(), &first["run"]["id"]), "{cut}");
    assert_eq!(log.last().context("an entry")?["ended"], "ordered");
    Ok(())
}

fn assert_nothing_went_back(before: &Value, after: &Value) {
    let ((channel, one), (channel_after, one_after)) = (totals(before), totals(after));
    for name in ["wanted_ms", "on_air_ms", "dark_ms", "fallback_ms", "reconnects"] {
        for (was, is) in [(&channel, &channel_after), (&one, &one_after)] {
            assert!(ms(is, name) >= ms(was, name), "{name} went back: {was:#} then {is:#}");
        }
    }
}
