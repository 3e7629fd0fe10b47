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

/// Long enough for a worker to be started and ready before the end of one, on a slow machine too.
fn clips() -> [Animal; 2] {
    [("01-first.mp4", 1), ("02-second.mp4", 2)]
        .map(|(file, item)| Animal::new(Clip::plain(file, item).lasting(9.0)))
}

/// Puts a worker program where the controller looks for it, as an installation does: another file under the name.
fn install(program: &Path, more: &[u8]) -> Result<()> {
    let mut bytes = std::fs::read(built("stream-worker")?)?;
    // What comes after the end of a program changes nothing but the file.
    bytes.extend_from_slice(more);
    let half = program.with_extension("new");
    std::fs::write(&half, bytes)?;
    std::fs::set_permissions(&half, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    std::fs::rename(half, program).context("install a worker")
}

fn on_air(nginx: &Nginx, sink: &Sink) -> Result<Controller> {
    let plan = Plan::new()?;
    let program = plan.root().join("stream-worker");
    install(&program, b"")?;
    let plan = plan.with("WORKER_PATH", &program);
    zoo::put_into(&plan.media(), &clips())?;
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
fn assert_no_picture_lost(nginx: &Nginx) -> Result<()> {
    let recordings = nginx.recordings()?;
    let [before, after] = recordings.as_slice() else { anyhow::bail!("two publishes: {recordings:?}") };
    let before = Recording::read(before)?;
    let whole = runs(&before).len();
    let played: Vec<Animal> = clips().into_iter().cycle().take(whole).collect();
    let verdict = judge(&before, &played, &Limits::default());
    assert!(verdict.problems.is_empty(), "before the change\n{verdict}");
    let following: Vec<Animal> = clips().into_iter().cycle().skip(whole).take(2).collect();
    let verdict = judge_loop(Recording::read(after)?, &following, 1, &Limits::default());
    assert!(verdict.problems.is_empty(), "after the change\n{verdict}");
    Ok(())
}

#[test]
fn a_new_worker_takes_over_between_two_items() -> Result<()> {
    let (nginx, sink) = (Nginx::start()?, Sink::start()?);
    let mut controller = on_air(&nginx, &sink)?;
    let first = controller.status()?;
    wait_for("the first segment", ROUND, || playlist(&controller, &first))?;
    let (_, media, _) = playlist(&controller, &first)?.context("a playlist")?;

    // The same program again, and a reload: nobody has to go.
    let program = controller.plan().root().join("stream-worker");
    install(&program, b"")?;
    controller.reload()?;
    install(&program, b"\n")?;
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
    assert_no_picture_lost(&nginx)?;
    let log = controller.plan().log();
    assert!(!log.contains("ERROR") && log.contains("gave way"), "{log}");
    Ok(())
}
