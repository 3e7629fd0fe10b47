//! Programs die and are replaced; the broadcast goes on. Judged at the sink, picture by picture.

use anyhow::{Context, Result};
use e2e::analysis::{Limits, judge_loop};
use e2e::media::{Clip, WITH_B};
use e2e::recording::Recording;
use e2e::rig::controller::{Controller, Plan, SOON};
use e2e::rig::nginx::Nginx;
use e2e::rig::program::wait_for;
use e2e::rig::sink::Sink;
use e2e::rig::wanted::{destination, is_live, plays, start};
use e2e::runs::runs;
use e2e::sink::Arrival;
use e2e::{rig::process, zoo};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const ROUND: Duration = Duration::from_secs(40);

#[allow(clippy::expect_used)] // A test that cannot go on has to fail.
fn kill(pid: u32, signal: Signal) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).expect("a pid");
    kill_process(pid, signal).expect("the process lives");
}

#[allow(clippy::expect_used)]
fn pid(status: &Value) -> u32 {
    status["run"]["pid"].as_u64().expect("a running worker") as u32
}

fn on_air(url: &str) -> Result<Controller> {
    let plan = Plan::new()?;
    zoo::put_into(&plan.media(), &zoo::sample())?;
    let controller = plan.start()?;
    controller.go_on_air(&start(&[destination("one", url, "one-key")]))?;
    controller.wait_until("media are acknowledged", SOON, |s| is_live(s, "one"))?;
    Ok(controller)
}

/// The item after the one that is on the air.
fn next_item(controller: &Controller) -> Result<()> {
    let now =
        controller.wait_until("an item", SOON, |s| s["item"]["key"].is_string())?["item"]["key"].clone();
    controller
        .wait_until("the next item", ROUND, |s| s["item"]["key"].is_string() && s["item"]["key"] != now)?;
    Ok(())
}

/// Every picture of every item, in one publish.
fn assert_seamless(nginx: &Nginx, least: usize) -> Result<()> {
    assert_eq!(nginx.publishes(), 1);
    let recordings = nginx.recordings()?;
    let recording = Recording::read(recordings.first().context("nginx recorded nothing")?)?;
    let verdict = judge_loop(recording, &zoo::sample(), least, &Limits::default());
    assert!(verdict.problems.is_empty(), "\n{verdict}");
    Ok(())
}

#[test]
fn a_killed_controller_costs_no_picture() -> Result<()> {
    let nginx = Nginx::start()?;
    let mut controller = on_air(&nginx.url())?;
    let first = controller.status()?;
    for _ in 0..2 {
        controller.crash()?;
        controller.come_back()?;
        let back = Instant::now();
        let again = controller.wait_until("the worker is heard", SOON, |s| is_live(s, "one"))?;
        println!("heard from {} ms after the API", back.elapsed().as_millis());
        for same in ["run", "restart_count", "session_id", "phase"] {
            assert_eq!(again[same], first[same], "{same}");
        }
        next_item(&controller)?;
    }
    next_item(&controller)?;
    next_item(&controller)?;
    controller.go_off_air()?;
    assert_seamless(&nginx, 3)
}

#[test]
fn a_master_key_that_is_lost_and_put_back_costs_no_picture() -> Result<()> {
    let nginx = Nginx::start()?;
    let mut controller = on_air(&nginx.url())?;
    let first = controller.status()?;
    let (key, away) =
        (controller.plan().state().join("master.key"), controller.plan().state().join("kept.key"));
    for (from, to) in [(&key, &away), (&away, &key)] {
        controller.crash()?;
        std::fs::rename(from, to)?;
        controller.come_back()?;
        let again = controller.wait_until("the worker is heard", SOON, |s| is_live(s, "one"))?;
        assert_eq!(again["run"]["id"], first["run"]["id"], "the worker stayed");
        let problems = controller.get("/health")?.json()["problems"].to_string();
        assert_eq!(problems.contains("put master.key back"), !key.exists(), "{problems}");
        next_item(&controller)?;
    }
    controller.go_off_air()?;
    assert_seamless(&nginx, 1)
}

#[test]
fn a_reload_costs_no_picture_and_no_request() -> Result<()> {
    let nginx = Nginx::start()?;
    let mut controller = on_air(&nginx.url())?;
    let (first, token) = (controller.status()?, controller.token()?);
    let url = controller.url("/streams/status");
    let done = std::sync::atomic::AtomicBool::new(false);
    let asked = std::thread::scope(|scope| -> Result<usize> {
        let asking = scope.spawn(|| -> Result<usize> {
            let mut asked = 0;
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                // A connection of its own for each, as a script would.
                let agent = ureq::Agent::config_builder().timeout_global(Some(SOON)).build().new_agent();
                let request = agent.get(&url).header("Authorization", format!("Bearer {token}"));
                request.call().with_context(|| format!("request {asked} during reloads"))?;
                asked += 1;
            }
            Ok(asked)
        });
        let reloaded = (0..3).try_for_each(|_| {
            controller.reload()?;
            let again = controller.wait_until("the worker is heard", SOON, |s| is_live(s, "one"))?;
            assert_eq!((&again["run"], &again["restart_count"]), (&first["run"], &first["restart_count"]));
            next_item(&controller)
        });
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        reloaded?;
        next_item(&controller)?;
        asking.join().expect("the asking thread lives")
    })?;
    println!("{asked} requests were answered during three reloads");
    controller.go_off_air()?;
    assert_seamless(&nginx, 3)
}

/// Pictures of an item that are missing between the end of one recording and the beginning of the next, in ms;
/// negative when some are shown twice.
fn lost_ms(before: &std::path::Path, after: &std::path::Path) -> Result<f64> {
    let (before, after) = (Recording::read(before)?, Recording::read(after)?);
    let (before, after) = (runs(&before), runs(&after));
    let (last, first) = (before.last().context("an item before")?, after.first().context("an item after")?);
    assert_eq!(last.item, first.item, "the item goes on");
    let frame = last.pictures.last().context("a picture before")?.0;
    let next = first.pictures.first().context("a picture after")?.0;
    Ok((f64::from(next) - f64::from(frame) - 1.0) * last.step() * 1000.0)
}

#[test]
fn a_killed_worker_is_back_where_it_was() -> Result<()> {
    let sink = Sink::start()?;
    let controller = on_air(&sink.url())?;
    sink.wait_for("first_idr", 1, SOON)?;
    // In the middle of an item, so that there is a position to come back to.
    let status = controller.wait_until("the middle of an item", ROUND, |s| {
        plays(s, "02-b-frames.mp4")
            && s["item"]["position_ms"].as_u64().is_some_and(|ms| (500..2500).contains(&ms))
    })?;
    let url = controller.url(status["hls"]["url"].as_str().context("an HLS address")?);
    let sequence = || -> Result<(u64, u64)> {
        let text = String::from_utf8(controller.view(&url)?)?;
        let of = |tag: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(tag));
            line.map_or(Some(0), |n| n.parse().ok()).with_context(|| format!("{tag} in {text}"))
        };
        Ok((of("#EXT-X-MEDIA-SEQUENCE:")?, of("#EXT-X-DISCONTINUITY-SEQUENCE:")?))
    };
    wait_for("the first segment", ROUND, || Ok(sequence().ok()))?;
    let before = sequence()?;
    let killed_ms = now_ms();
    kill(pid(&controller.status()?), Signal::KILL);
    sink.wait_for("first_idr", 2, SOON)?;
    let events = sink.events()?;
    let back = events.iter().rfind(|e| e["event"] == "first_idr").and_then(|e| e["at_ms"].as_u64());
    let gap = back.context("a time")? - killed_ms;
    println!("back at the sink after {gap} ms");
    let again = controller.wait_until("media are acknowledged", SOON, |s| is_live(s, "one"))?;
    assert_eq!((&again["restart_count"], &again["last_error"]["exit_code"]), (&1.into(), &137.into()));
    next_item(&controller)?;
    let after = sequence()?;
    assert!(after >= before, "{before:?} then {after:?}");
    controller.go_off_air()?;
    let lost = lost_ms(&sink.recording(1), &sink.recording(2))?;
    println!("{lost:.0} ms of the item were left out");
    assert!(lost.abs() <= 2500.0, "a GOP is at most 2 s here, and a heartbeat half a second old: {lost} ms");
    // Two seconds on a machine that has nothing else to do.
    assert!(gap < 10_000, "{gap} ms");
    Ok(())
}

/// One GOP of the clip, ms.
const GOP_MS: u64 = 2_000;
/// How late a busy machine may be, ms.
const LATE_MS: f64 = 400.0;

/// Kills the worker when about so much of a GOP has been sent, ms; which GOP does not matter.
fn kill_within_gop(controller: &Controller, into_ms: u64) -> Result<()> {
    let position = |status: &Value| status["item"]["position_ms"].as_u64().unwrap_or(0);
    let known = controller.wait_until("the third GOP", ROUND, |s| position(s) > 2 * GOP_MS)?;
    // Just told, so that it is known what is sent by the clock.
    let status = controller.wait_until("a heartbeat", SOON, |s| position(s) != position(&known))?;
    let left_ms = (into_ms + GOP_MS - position(&status) % GOP_MS) % GOP_MS;
    std::thread::sleep(Duration::from_millis(left_ms));
    kill(pid(&status), Signal::KILL);
    Ok(())
}

/// Time between the last picture of a publish and the first one of the next, ms.
fn dark_ms(sink: &Sink, publish: usize) -> Result<f64> {
    let events = sink.events()?;
    let began = |n: usize| events.iter().filter(|e| e["event"] == "publish").nth(n - 1)?["at_ms"].as_u64();
    let at = |n: usize, arrival: Option<&Arrival>| Some(began(n)? + arrival?.at_ms);
    let pictures = |n| -> Result<Vec<Arrival>> {
        Ok(sink.arrivals(n)?.into_iter().filter(|arrival| arrival.video).collect())
    };
    let last = at(publish, pictures(publish)?.last()).context("a picture before")?;
    let first = at(publish + 1, pictures(publish + 1)?.first()).context("a picture after")?;
    Ok(first as f64 - last as f64)
}

/// Kills the worker of a channel with one long item at each of these places of a GOP. It goes on with the IDR picture
/// at or before the place that it had reached: at most one GOP is seen again, and no more is lost than the time without
/// a picture.
fn killed_within_gop(places_ms: &[u64], hls: bool) -> Result<()> {
    let sink = Sink::start()?;
    let plan = Plan::new()?;
    let clip = Clip { size: (320, 180), video: WITH_B, ..Clip::plain("long.mp4", 60) };
    clip.lasting(40.0).put_into(&plan.media())?;
    let controller = plan.start()?;
    let mut body = start(&[destination("one", &sink.url(), "one-key")]);
    body["hls"] = json!({"enabled": hls});
    body["restart"] = json!({"auto": true, "max_attempts": null, "delays_s": [0]});
    controller.go_on_air(&body)?;
    for (before, into_ms) in places_ms.iter().enumerate() {
        sink.wait_for("first_idr", before + 1, SOON)?;
        kill_within_gop(&controller, *into_ms)?;
    }
    sink.wait_for("first_idr", places_ms.len() + 1, SOON)?;
    controller.wait_until("media are acknowledged", SOON, |s| is_live(s, "one"))?;
    controller.go_off_air()?;
    for (n, into_ms) in places_ms.iter().enumerate() {
        let (lost, dark) = (lost_ms(&sink.recording(n + 1), &sink.recording(n + 2))?, dark_ms(&sink, n + 1)?);
        let seen =
            format!("HLS {hls}, {into_ms} ms into a GOP: {lost:.0} ms left out, dark for {dark:.0} ms");
        assert!(-lost <= GOP_MS as f64 + LATE_MS, "more than a GOP is seen again: {seen}");
        assert!(lost <= dark, "more is lost than the outage took: {seen}");
    }
    Ok(())
}

// The heartbeat before a place early in the GOP is from the GOP before: going on from there would show both again.
#[test]
fn a_killed_worker_costs_at_most_a_gop() -> Result<()> {
    killed_within_gop(&[600, 1_800, 1_200], false)
}

#[test]
fn a_killed_worker_costs_at_most_a_gop_with_hls_too() -> Result<()> {
    killed_within_gop(&[100, 600, 1_500], true)
}

fn now_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as u64)
}

#[test]
fn a_worker_that_stands_still_is_replaced() -> Result<()> {
    let sink = Sink::start()?;
    let controller = on_air(&sink.url())?;
    let first = controller.status()?;
    let frozen = Instant::now();
    kill(pid(&first), Signal::STOP);
    let again = controller.wait_until("another run on the air", ROUND, |s| {
        s["run"]["id"] != first["run"]["id"] && is_live(s, "one")
    })?;
    println!("replaced after {} ms", frozen.elapsed().as_millis());
    assert_eq!((&again["restart_count"], &again["last_error"]["exit_code"]), (&1.into(), &137.into()));
    assert!(process::all().iter().all(|p| p.pid != pid(&first)));
    assert!(controller.plan().log().contains("worker_hung"));
    Ok(())
}

#[test]
fn a_stop_that_the_controller_did_not_live_to_carry_out_is_carried_out() -> Result<()> {
    let sink = Sink::start()?;
    let mut controller = on_air(&sink.url())?;
    let worker = pid(&controller.status()?);
    controller.crash()?;
    let path = controller.plan().state().join("channels/main/stream_config.json");
    let mut wish: Value = serde_json::from_slice(&std::fs::read(&path)?)?;
    wish["wish"] = "off".into();
    std::fs::write(&path, wish.to_string())?;
    controller.come_back()?;
    controller.wait_until("the channel is off", SOON, |s| s["phase"] == "off")?;
    assert!(process::all().iter().all(|p| p.pid != worker));
    sink.wait_for("close", 1, SOON)?;
    let events = sink.events()?;
    let close = events.iter().find(|e| e["event"] == "close").context("a close")?;
    assert_eq!(close["reason"], "unpublish", "the worker took its leave");
    Ok(())
}

#[test]
fn a_playlist_that_ends_while_the_controller_is_away_has_ended() -> Result<()> {
    let plan = Plan::new()?;
    zoo::put_into(&plan.media(), &zoo::sample()[..1])?;
    let mut controller = plan.start()?;
    let mut body = start(&[]);
    body["loop"] = false.into();
    controller.go_on_air(&body)?;
    let worker = pid(&controller.wait_until("the file is on the air", SOON, |s| s["phase"] == "live")?);
    controller.crash()?;
    let gone = || Ok(process::all().iter().all(|p| p.pid != worker).then_some(()));
    wait_for("the end of the playlist", ROUND, gone)?;
    controller.come_back()?;
    let status = controller.wait_until("the channel is off", SOON, |s| s["phase"] == "off")?;
    assert_eq!((&status["wish"], &status["restart_count"]), (&"off".into(), &0.into()), "{status:#}");
    Ok(())
}

#[test]
fn a_long_log_is_put_aside_while_the_worker_writes_it() -> Result<()> {
    let plan = Plan::new()?;
    zoo::put_into(&plan.media(), &zoo::sample())?;
    let logs = plan.state().join("logs");
    std::fs::create_dir_all(&logs)?;
    // So long that the controller leaves it, and the worker's first lines do not fit.
    std::fs::write(logs.join("main.log"), vec![b'\n'; 10 * 1024 * 1024 - 100])?;
    let controller = plan.start()?;
    controller.go_on_air(&start(&[]))?;
    next_item(&controller)?;
    let text = std::fs::read_to_string(logs.join("main.log"))?;
    assert!(text.len() < 1024 * 1024 && text.contains("on the air"), "{} bytes: {text:.2000}", text.len());
    assert!(logs.join("main.log.1").metadata()?.len() <= 10 * 1024 * 1024);
    Ok(())
}
