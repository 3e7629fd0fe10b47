//! A new worker program takes over at the end of an item. Judged at two receivers, picture by picture, and in HLS.

use anyhow::{Context, Result};
use e2e::analysis::{Limits, judge, judge_loop};
use e2e::media::Clip;
use e2e::recording::Recording;
use e2e::rig::controller::{Controller, Plan, SOON};
use e2e::rig::nginx::Nginx;
use e2e::rig::program::{built, wait_for};
use e2e::rig::sink::Sink;
use e2e::rig::wanted::{destination, is_live, start};
use e2e::runs::runs;
use e2e::zoo::{self, Animal};
use serde_json::Value;
use std::path::Path;
use std::time::Duration;

const ROUND: Duration = Duration::from_secs(60);

/// Two items of this length.
fn clips(seconds: f64) -> [Animal; 2] {
    [("01-first.mp4", 1), ("02-second.mp4", 2)]
        .map(|(file, item)| Animal::new(Clip::plain(file, item).lasting(seconds)))
}

/// Puts a worker program where the controller looks for it, as an installation does: another file under the name.
/// What comes after the end of a program changes nothing but the file.
fn install(program: &Path, from: &Path, more: &[u8]) -> Result<()> {
    let bytes = [std::fs::read(from)?, more.to_vec()].concat();
    let half = program.with_extension("new");
    std::fs::write(&half, bytes)?;
    std::fs::set_permissions(&half, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    std::fs::rename(half, program).context("install a worker")
}

fn on_air(nginx: &Nginx, sink: &Sink, seconds: f64) -> Result<Controller> {
    let plan = Plan::new()?;
    let program = plan.root().join("stream-worker");
    install(&program, &built("stream-worker")?, b"")?;
    let plan = plan.with("WORKER_PATH", &program);
    zoo::put_into(&plan.media(), &clips(seconds))?;
    let controller = plan.start()?;
    let both = [destination("nginx", &nginx.url(), "one-key"), destination("sink", &sink.url(), "other-key")];
    controller.go_on_air(&start(&both))?;
    controller.wait_until("media are acknowledged", SOON, are_live)?;
    Ok(controller)
}

fn are_live(status: &Value) -> bool {
    is_live(status, "nginx") && is_live(status, "sink")
}

/// Marks of discontinuity in the playlist, and its sequence numbers.
fn playlist(controller: &Controller, status: &Value) -> Result<Option<(usize, u64, u64)>> {
    let url = controller.url(status["hls"]["url"].as_str().context("an HLS address")?);
    let Ok(bytes) = controller.view(&url) else { return Ok(None) };
    let text = String::from_utf8(bytes)?;
    let number = |tag: &str| -> Result<u64> {
        let found = text.lines().find_map(|line| line.strip_prefix(tag));
        found.map_or(Ok(0), str::parse).with_context(|| format!("{tag} in {text}"))
    };
    let marks = text.lines().filter(|line| *line == "#EXT-X-DISCONTINUITY").count();
    Ok(Some((marks, number("#EXT-X-MEDIA-SEQUENCE:")?, number("#EXT-X-DISCONTINUITY-SEQUENCE:")?)))
}

/// Time at the sink from the end of the first publish to the first picture of the second, ms.
fn gap(sink: &Sink) -> Result<u64> {
    let events = sink.events()?;
    let at = |event: &str, nth: usize| {
        let found = events.iter().filter(|e| e["event"] == event).nth(nth);
        found.and_then(|e| e["at_ms"].as_u64()).with_context(|| format!("{event} in {events:?}"))
    };
    Ok(at("first_idr", 1)?.saturating_sub(at("close", 0)?))
}

/// Every picture of every item, the seam included: none is missing and none is shown twice.
fn assert_no_picture_lost(nginx: &Nginx, seconds: f64) -> Result<()> {
    let recordings = nginx.recordings()?;
    let [before, after] = recordings.as_slice() else { anyhow::bail!("two publishes: {recordings:?}") };
    let before = Recording::read(before)?;
    let whole = runs(&before).len();
    let played: Vec<Animal> = clips(seconds).into_iter().cycle().take(whole).collect();
    let verdict = judge(&before, &played, &Limits::default());
    assert!(verdict.problems.is_empty(), "before the change\n{verdict}");
    let following: Vec<Animal> = clips(seconds).into_iter().cycle().skip(whole).take(2).collect();
    let verdict = judge_loop(Recording::read(after)?, &following, 1, &Limits::default());
    assert!(verdict.problems.is_empty(), "after the change\n{verdict}");
    Ok(())
}

#[test]
fn a_new_worker_takes_over_between_two_items() -> Result<()> {
    let (nginx, sink) = (Nginx::start()?, Sink::start()?);
    let mut controller = on_air(&nginx, &sink, 6.0)?;
    let first = controller.status()?;
    wait_for("the first segment", ROUND, || playlist(&controller, &first))?;
    let (_, media, _) = playlist(&controller, &first)?.context("a playlist")?;

    // The same program again, and a reload: nobody has to go.
    let (program, worker) = (controller.plan().root().join("stream-worker"), built("stream-worker")?);
    install(&program, &worker, b"")?;
    controller.reload()?;
    install(&program, &worker, b"\n")?;
    controller.reload()?;
    let another = |s: &Value| s["run"]["id"] != first["run"]["id"];
    let second = controller.wait_until("the next worker", ROUND, |s| another(s) && are_live(s))?;
    assert_eq!((&second["restart_count"], &second["phase"]), (&0.into(), &"live".into()));
    let of_the_second = || Ok(playlist(&controller, &second)?.filter(|(marks, ..)| *marks > 0));
    let (marks, later, skipped) = wait_for("its first segment", ROUND, of_the_second)?;
    assert!(
        later >= media && (marks, skipped) == (1, 0),
        "{marks} marks, {skipped} gone, {media} then {later}"
    );
    let item = second["item"]["key"].clone();
    controller.wait_until("some of the next item", ROUND, |s| {
        s["item"]["key"] != item && s["item"]["position_ms"].as_u64() >= Some(1000)
    })?;
    let last = controller.go_off_air()?;
    assert_eq!(last["restart_count"], 0);

    println!("nothing arrived for {} ms", gap(&sink)?);
    // Two seconds on a machine that has nothing else to do.
    assert!(gap(&sink)? < 10_000, "{} ms", gap(&sink)?);
    assert_eq!((nginx.publishes(), sink.count("publish")?), (2, 2));
    assert_no_picture_lost(&nginx, 6.0)?;
    let log = controller.plan().log();
    assert!(!log.contains("ERROR") && log.contains("gave way"), "{log}");
    Ok(())
}

/// Items that are over before a worker has started: what it has opened is not what comes next, and is put away.
#[test]
fn where_items_are_short_no_picture_is_lost_either() -> Result<()> {
    let (nginx, sink) = (Nginx::start()?, Sink::start()?);
    let mut controller = on_air(&nginx, &sink, 1.0)?;
    let first = controller.status()?["run"]["id"].clone();
    install(&controller.plan().root().join("stream-worker"), &built("stream-worker")?, b"\n")?;
    controller.reload()?;
    controller.wait_until("the next worker", ROUND, |s| s["run"]["id"] != first && are_live(s))?;
    controller.wait_until("some boundaries", ROUND, |s| s["counts"]["boundaries"].as_u64() >= Some(3))?;
    controller.go_off_air()?;
    println!("nothing arrived for {} ms", gap(&sink)?);
    assert_no_picture_lost(&nginx, 1.0)
}

#[test]
fn a_worker_program_that_does_not_work_takes_nobody_off_the_air() -> Result<()> {
    let (nginx, sink) = (Nginx::start()?, Sink::start()?);
    let mut controller = on_air(&nginx, &sink, 6.0)?;
    let first = controller.status()?["run"]["id"].clone();
    install(&controller.plan().root().join("stream-worker"), Path::new("/bin/false"), b"")?;
    controller.reload()?;
    let failed = || Ok(controller.plan().log().contains("handover_failed").then_some(()));
    wait_for("word of the failure", ROUND, failed)?;
    let status = controller.status()?;
    assert_eq!((&status["run"]["id"], &status["restart_count"]), (&first, &0.into()));
    assert!(are_live(&status) && sink.count("publish")? == 1, "{status:#}");
    controller.go_off_air()?;
    Ok(())
}
