//! What goes wrong on a bad day is answered in words, and what can go on goes on.

use anyhow::{Context, Result};
use e2e::recording::Recording;
use e2e::rig::controller::{Answer, Controller, Plan, SOON};
use e2e::rig::program;
use e2e::rig::sink::Sink;
use e2e::rig::trap::Trap;
use e2e::rig::wanted::{destination, is_live, seen, start};
use e2e::zoo;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::net::TcpListener;

fn assert_problem(answer: &Answer, status: u16) {
    assert_eq!(answer.status, status, "{}", answer.text);
    assert!(answer.kind.starts_with("application/problem+json"), "{}", answer.kind);
    let problem = answer.json();
    for field in ["type", "title", "detail", "request_id"] {
        assert!(problem[field].is_string(), "{field} is missing in {problem:#}");
    }
    assert_eq!(problem["status"], status, "{problem:#}");
}

/// The slate is on the air, the status says so and why, and what is sent can be decoded.
fn assert_slate(plan: Plan) -> Result<()> {
    let mut sink = Sink::start()?;
    let controller = plan.start()?;
    controller.go_on_air(&start(&[destination("one", &sink.url(), "k")]))?;
    let status = controller.wait_until("the slate is on the air", SOON, |s| s["air"]["is"] == "fallback")?;
    assert!(status["air"]["because"].as_str().is_some_and(|why| !why.is_empty()), "{status:#}");
    assert!(is_live(&status, "one"), "{status:#}");
    let enough = |s: &Value| {
        seen(s, "one")["accepted_bytes"].as_u64() > seen(&status, "one")["accepted_bytes"].as_u64()
    };
    controller.wait_until("the slate goes on", SOON, enough)?;
    controller.go_off_air()?;
    sink.wait_for("close", 1, SOON)?;
    sink.end();
    let recording = Recording::read(&sink.recording(1))?;
    assert_eq!(recording.decode_errors, Vec::<String>::new());
    assert!(recording.pictures.len() > 10 && !recording.sound.samples.is_empty());
    Ok(())
}

#[test]
fn an_empty_folder_is_refused_with_what_to_do() -> Result<()> {
    let controller = Plan::new()?.start()?;
    let answer = controller.post("/streams/start", &start(&[]))?;
    assert_problem(&answer, 422);
    assert!(answer.text.contains("STORAGE_LOCAL_DIR"), "{}", answer.text);
    Ok(())
}

#[test]
fn only_broken_files_give_the_slate_and_nothing_is_fetched() -> Result<()> {
    let trap = Trap::set()?;
    let plan = Plan::new()?;
    zoo::put_broken_into(&plan.media(), &trap.url())?;
    assert_slate(plan)?;
    assert_eq!(trap.visits(), 0);
    Ok(())
}

fn with_one_file() -> Result<Plan> {
    let plan = Plan::new()?;
    zoo::put_into(&plan.media(), &zoo::sample()[..1])?;
    Ok(plan)
}

#[test]
fn a_sink_that_is_not_there_is_dark_and_tried_again_while_hls_goes_on() -> Result<()> {
    let controller = with_one_file()?.start()?;
    let nobody = format!("rtmp://127.0.0.1:{}/live", program::free_port()?);
    controller.go_on_air(&start(&[destination("one", &nobody, "k")]))?;
    let tried = |s: &Value| s["phase"] == "live" && seen(s, "one")["attempt"].as_u64() >= Some(2);
    let status = controller.wait_until("media and a second attempt", SOON, tried)?;
    assert_eq!(seen(&status, "one")["last_error"]["code"], "connect", "{status:#}");
    assert_eq!(status["air"]["is"], "dark", "{status:#}");
    controller.wait_until("HLS goes on", SOON, |s| s["hls"]["segments"].as_u64() >= Some(2))?;
    controller.go_off_air()?;
    Ok(())
}

#[test]
fn a_missing_ffmpeg_is_named() -> Result<()> {
    let plan = with_one_file()?.with("FFMPEG_PATH", "/nonexistent/ffmpeg");
    let controller = plan.start()?;
    let answer = controller.post("/streams/start", &start(&[]))?;
    assert!(answer.status >= 400, "{}", answer.text);
    assert_problem(&answer, answer.status);
    assert!(answer.text.contains("FFMPEG_PATH"), "{}", answer.text);
    Ok(())
}

#[test]
fn calls_that_do_not_fit_the_state_are_refused() -> Result<()> {
    let controller = with_one_file()?.start()?;
    assert_problem(&controller.post("/streams/stop", &json!({}))?, 404);
    assert_problem(&controller.post("/streams/start", &json!({"channel": "nobody"}))?, 404);
    assert_problem(&controller.post_text("/streams/start", "{\"channel\": ")?, 400);
    controller.go_on_air(&start(&[]))?;
    assert_problem(&controller.post("/streams/start", &start(&[]))?, 409);
    controller.wait_until("the file is on the air", SOON, |s| s["phase"] == "live")?;
    assert_problem(&controller.post("/streams/start", &start(&[]))?, 409);
    assert_start_while_stopping_is_refused(&controller)
}

/// A worker that is frozen cannot end, so the channel stays between on and off for as long as is needed.
fn assert_start_while_stopping_is_refused(controller: &Controller) -> Result<()> {
    let pid = controller.status()?["run"]["pid"].as_i64().context("the run has a process")?;
    let worker = Pid::from_raw(i32::try_from(pid)?).context("the worker's process id")?;
    kill_process(worker, Signal::STOP)?;
    // The stop call may wait for the worker; then it waits for us.
    let (stop, start) = std::thread::scope(|scope| {
        let stop = scope.spawn(|| controller.post("/streams/stop", &json!({})));
        let stopping = controller.wait_until("the channel is stopping", SOON, |s| s["phase"] == "stopping");
        let start = stopping.and_then(|_| controller.post("/streams/start", &start(&[])));
        let woken = kill_process(worker, Signal::CONT);
        (stop.join(), start.and_then(|answer| Ok(woken.map(|()| answer)?)))
    });
    let stop = stop.map_err(|_| anyhow::anyhow!("the stop call panicked"))??;
    assert!((200..300).contains(&stop.status), "{}", stop.text);
    assert_problem(&start?, 409);
    controller.wait_until("the channel is off", SOON, |s| s["phase"] == "off")?;
    Ok(())
}

#[test]
fn a_port_in_use_is_named() -> Result<()> {
    let taken = TcpListener::bind("127.0.0.1:0")?;
    let address = taken.local_addr()?.to_string();
    let plan = Plan::new()?.with("CONTROLLER_BIND", &address);
    assert!(!plan.start_and_fail()?.success());
    assert!(plan.log().contains(&address), "{}", plan.log());
    Ok(())
}

#[test]
fn a_state_folder_that_cannot_be_written_is_named() -> Result<()> {
    // Below a file there are no folders, not even for root.
    let plan = Plan::new()?;
    let file = plan.root().join("a-file");
    std::fs::write(&file, "")?;
    let plan = plan.with("STATE_DIR", file.join("state"));
    assert!(!plan.start_and_fail()?.success());
    assert!(plan.log().contains("a-file"), "{}", plan.log());
    Ok(())
}

#[test]
fn a_second_controller_is_kept_out_of_the_state_folder() -> Result<()> {
    let first = Plan::new()?.start()?;
    let second = Plan::new()?.with("STATE_DIR", first.plan().state());
    assert!(!second.start_and_fail()?.success());
    assert!(second.log().contains("another controller"), "{}", second.log());
    Ok(())
}
