//! When the source gives nothing: the fallback in the same connection, without a hole in the times and in time by the
//! clock, and the programme again where it stood. Slate by order, and a playlist of which items fail.

use anyhow::{Context, Result};
use e2e::media::{Clip, EVEN};
use e2e::recording::Recording;
use e2e::rig::controller::{Controller, Plan, SOON};
use e2e::rig::front::{Fault, Front};
use e2e::rig::process;
use e2e::rig::program;
use e2e::rig::s3::{self, S3};
use e2e::rig::sink::Sink;
use e2e::rig::wanted::{self, seen};
use e2e::rig::worker::{self, Worker};
use e2e::runs::{Run, runs};
use e2e::sink::Arrival;
use e2e::zoo::{self, Animal};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const WHOLE: Duration = Duration::from_secs(90);
const FILM: &str = "10-film.mp4";
const REEL: &str = "10-film.mkv";
const BREAK: &str = "50-break.mp4";

fn film(seconds: f64) -> Animal {
    let clip = Clip::plain(FILM, 10).lasting(seconds);
    Animal::new(Clip { video: EVEN, container: &["-movflags", "+faststart"], ..clip })
}

/// A fallback video that does not fit the profile: it is conformed before it protects anything.
fn break_video() -> Animal {
    Animal::new(Clip { size: (960, 540), ..Clip::plain(BREAK, 50).lasting(4.0) })
}

fn profile() -> Value {
    json!({"width": 640, "height": 360, "fps": "30", "video_kbps": 1500})
}

/// Most time between the arrivals of two pictures and between their own times, ms.
fn widest(arrivals: &[Arrival]) -> (u64, u64) {
    let pictures: Vec<&Arrival> = arrivals.iter().filter(|a| a.video && a.dts > 0).collect();
    let widest = |of: fn(&Arrival) -> u64| {
        pictures.windows(2).map(|w| of(w[1]).saturating_sub(of(w[0]))).max().unwrap_or(0)
    };
    (widest(|a| a.at_ms), widest(|a| a.dts))
}

/// Pictures and sounds never stood still at the sink, neither by their times nor by its clock. Gives the figures.
fn never_dark(sink: &Sink, context: &str) -> Result<String> {
    never_dark_since(0, sink, context)
}

/// The same from this arrival on.
fn never_dark_since(first: usize, sink: &Sink, context: &str) -> Result<String> {
    let arrivals: Vec<Arrival> = sink.arrivals(1)?.into_iter().skip(first).collect();
    let (by_clock, by_time) = widest(&arrivals);
    assert!(by_time <= 100, "a hole of {by_time} ms\n{context}");
    // A hundred on a machine that has time; machines of tests do not.
    assert!(by_clock <= 600, "{by_clock} ms without a picture\n{context}");
    let rises = |video| {
        let times: Vec<u64> = arrivals.iter().filter(|a| a.video == video).map(|a| a.dts).skip(1).collect();
        times.is_sorted()
    };
    assert!(rises(true) && rises(false), "times went back\n{context}");
    assert_eq!(sink.count("publish")?, 1, "the connection was not kept\n{context}");
    Ok(format!(
        "widest gap between pictures at the sink: {by_time} ms by their times, {by_clock} ms by the clock"
    ))
}

fn shown(run: &Run) -> Vec<u16> {
    run.pictures.iter().map(|picture| picture.0).collect()
}

fn wait_for_heartbeat(worker: &Worker, what: &str, wanted: impl Fn(&Value) -> bool) -> Result<()> {
    let seen = program::wait_for(what, WHOLE, || Ok(wanted(&worker.heartbeat()).then_some(())));
    seen.with_context(|| worker.tail())
}

#[test]
fn a_bucket_that_is_away_gives_the_fallback_video_and_then_the_rest_of_the_film() -> Result<()> {
    let items = vec![film(40.0)];
    let s3 = S3::start()?;
    zoo::put_into(&s3.bucket(), &items)?;
    break_video().clip.put_into(&s3.bucket())?;
    let front = Front::start(s3.address())?;
    let away = Arc::new(AtomicBool::new(false));
    let gone = Arc::clone(&away);
    front.tell(move |r| match gone.load(Ordering::Relaxed) {
        true => Fault::Status(503),
        // A little at a time, so that not everything is read when it goes away.
        false if r.reads(FILM) => Fault::Reset { after: 300_000 },
        false => Fault::None,
    });
    let mut sink = Sink::start()?;
    let size = s3.bucket().join(BREAK).metadata()?.len();
    let mut worker = Worker::start(json!({
        "profile": profile(), "items": worker::objects(&s3.bucket(), &items)?,
        "fallback": {"id": "break", "key": BREAK, "content": "one", "at": {"object": {"size": size}}},
        "destinations": [worker::destination(&sink.url())],
        "storage": s3::settings(&front.url(), 3600),
    }))?;
    wait_for_heartbeat(&worker, "protection", |beat| beat["protected"] == true)?;
    // The fallback is on this machine now: nothing of it is asked for again.
    let asked = front.answered().iter().filter(|a| a.request.reads(BREAK)).count();
    away.store(true, Ordering::Relaxed);
    worker.wait_for("fallback.started", 1, WHOLE)?;
    let paused = worker.heartbeat()["cursor"]["offset_ms"].as_u64();
    std::thread::sleep(Duration::from_secs(6));
    assert_eq!(worker.heartbeat()["cursor"]["offset_ms"].as_u64(), paused, "the position is kept");
    away.store(false, Ordering::Relaxed);
    worker.wait_for("item.resumed", 1, WHOLE)?;
    let resumed = worker.events("item.resumed")[0]["position_ms"].as_u64();
    wait_for_heartbeat(&worker, "two more seconds", |beat| {
        beat["item"]["position_ms"].as_u64() > resumed.map(|ms| ms + 2_000)
    })?;
    worker.end();
    sink.wait_for("close", 1, SOON)?;
    sink.end();
    let context = || format!("{}\n{}", front.table(), worker.tail());
    println!("{}", never_dark(&sink, &context())?);
    assert_eq!(front.answered().iter().filter(|a| a.request.reads(BREAK)).count(), asked, "{}", context());
    let recording = Recording::read(&sink.recording(1))?;
    assert_eq!(recording.decode_errors, Vec::<String>::new(), "{}", context());
    let runs = runs(&recording);
    let film: Vec<u16> = runs.iter().filter(|run| run.item == 10).flat_map(shown).collect();
    assert_eq!((runs.first().map(|r| r.item), runs.last().map(|r| r.item)), (Some(10), Some(10)));
    assert!(film.is_sorted() && film.windows(2).all(|w| w[1] - w[0] <= 61), "{film:?}\n{}", context());
    // Four seconds, looped for longer than that.
    let breaks: Vec<&Run> = runs.iter().filter(|run| run.item == 50).collect();
    assert!(breaks.len() >= 2 && shown(breaks[0]) == (0..120).collect::<Vec<u16>>(), "{}", context());
    Ok(())
}

/// The FFmpeg that reads a file for this worker.
fn reader_of(worker: &Worker, file: &str) -> Option<Pid> {
    let all = process::tree(worker.pid());
    let reader = all.into_iter().find(|p| p.arguments.contains(file) && p.arguments.contains("pipe:1"))?;
    Pid::from_raw(i32::try_from(reader.pid).ok()?)
}

#[test]
fn an_item_that_stalls_is_left_within_two_seconds_of_running_dry() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let next = Animal::new(Clip::plain("11-next.mp4", 11).lasting(4.0));
    // One that FFmpeg reads, which can be stopped.
    let film = Animal::new(Clip { file: REEL, container: &[], ..film(40.0).clip });
    zoo::put_into(folder.path(), &[film, next])?;
    let mut sink = Sink::start()?;
    let at = |name: &str| json!({"path": folder.path().join(name)});
    let mut worker = Worker::start(json!({
        "profile": profile(), "loop": false, "destinations": [worker::destination(&sink.url())],
        "items": [{"id": "1", "key": REEL, "at": at(REEL)}, {"id": "2", "key": "11-next.mp4", "at": at("11-next.mp4")}],
    }))?;
    wait_for_heartbeat(&worker, "protection", |beat| beat["protected"] == true)?;
    let reader = reader_of(&worker, REEL).context("somebody reads the film")?;
    kill_process(reader, Signal::STOP)?;
    let played = worker.wait_for_end(WHOLE);
    let _ = kill_process(reader, Signal::CONT);
    played?;
    sink.wait_for("close", 1, SOON)?;
    sink.end();
    println!("{}", never_dark(&sink, &worker.tail())?);
    let reason = worker.reason(REEL).unwrap_or_default();
    assert!(reason.starts_with("stalled"), "{reason}\n{}", worker.tail());
    let recording = Recording::read(&sink.recording(1))?;
    let runs = runs(&recording);
    let [film, next] = &runs[..] else { panic!("{} runs\n{}", runs.len(), worker.tail()) };
    let slate = next.start() - film.last();
    println!("the slate was on the air for {slate:.3} s");
    assert!(slate > 1.0 && slate <= 2.2, "{slate}\n{}", worker.tail());
    assert_eq!(shown(next), (0..120).collect::<Vec<u16>>(), "{}", worker.tail());
    Ok(())
}

/// A film whose head is as it should be, and whose pictures are noise.
fn undecodable(path: &Path) -> Result<()> {
    let clip = Clip { container: &["-movflags", "+faststart"], ..Clip::plain("12-whole.mp4", 12) };
    let mut bytes = std::fs::read(clip.make()?)?;
    let media = bytes.windows(4).position(|name| name == b"mdat").context("the clip has media data")? + 4;
    bytes[media..].iter_mut().enumerate().for_each(|(n, byte)| *byte = (n * 151 % 251) as u8);
    std::fs::write(path, bytes).with_context(|| path.display().to_string())
}

#[test]
fn items_that_fail_are_tried_again_after_growing_distances_and_never_end_the_channel() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let good = Animal::new(Clip::plain("11-good.mp4", 11).lasting(1.0));
    zoo::put_into(folder.path(), &[good, zoo::truncated()])?;
    std::fs::write(folder.path().join("text.mp4"), "This is not a film.\n".repeat(100))?;
    undecodable(&folder.path().join("undecodable.mp4"))?;
    let mut sink = Sink::start()?;
    let names = ["11-good.mp4", "missing.mp4", "text.mp4", "undecodable.mp4", "33-truncated.mp4"];
    let item = |name: &str| json!({"id": name, "key": name, "at": {"path": folder.path().join(name)}});
    let mut worker = Worker::start(json!({
        "profile": profile(), "loop": true, "destinations": [worker::destination(&sink.url())],
        "items": names.map(item),
    }))?;
    // Before the slate is made nothing can take the place of what is missing.
    wait_for_heartbeat(&worker, "protection", |beat| beat["protected"] == true)?;
    let protected = sink.arrivals(1)?.len();
    // With each round the good one is on the air once.
    let rounds = 9;
    let of = |worker: &Worker, kind: &str, key: &str| {
        worker.events(kind).iter().filter(|e| e["key"] == key).count()
    };
    program::wait_for("nine rounds", WHOLE, || {
        Ok((of(&worker, "item.started", "11-good.mp4") > rounds).then_some(()))
    })
    .with_context(|| worker.tail())?;
    worker.end();
    sink.wait_for("close", 1, SOON)?;
    sink.end();
    println!("{}", never_dark_since(protected, &sink, &worker.tail())?);
    // Tried in rounds 1, 2, 4 and 8; the next round may have been looked at already.
    for name in ["missing.mp4", "text.mp4", "undecodable.mp4"] {
        assert_eq!(of(&worker, "item.failed", name), 4, "{name}\n{}", worker.tail());
    }
    assert_eq!(of(&worker, "item.started", "33-truncated.mp4"), 4, "{}", worker.tail());
    let reason = |name: &str| worker.reason(name).unwrap_or_default();
    assert!(reason("missing.mp4").contains("cannot be opened"), "{}", reason("missing.mp4"));
    assert!(reason("33-truncated.mp4").contains("ended early"), "{}", reason("33-truncated.mp4"));
    Ok(())
}

const SLATE: &str = "/api/channels/main/slate";

fn on_the_air(media: &[Animal]) -> Result<(Controller, Sink)> {
    let plan = Plan::new()?;
    zoo::put_into(&plan.media(), media)?;
    let (sink, controller) = (Sink::start()?, plan.start()?);
    let mut body = wanted::start(&[wanted::destination("one", &sink.url(), "k")]);
    body["media"] = json!([FILM]);
    body["profile"] = profile();
    controller.go_on_air(&body)?;
    Ok((controller, sink))
}

/// What the command line prints.
fn streamctl(controller: &Controller, arguments: &[&str]) -> Result<String> {
    let mut command = Command::new(program::built("streamctl")?);
    let output = command.args(arguments).env("STATE_DIR", controller.plan().state()).output()?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn order(controller: &Controller, on: bool) -> Result<()> {
    let answer = controller.post(SLATE, &json!({ "on": on }))?;
    assert_eq!(answer.status, 202, "{}", answer.text);
    assert_eq!(answer.json()["slate"]["wanted"], on, "{}", answer.text);
    Ok(())
}

/// Waits until the programme is on the air and some of it has been sent; gives the first status that says so.
fn programme_goes_on(controller: &Controller) -> Result<Value> {
    let back = controller.wait_until("the programme", SOON, |s| s["air"]["is"] == "on")?;
    let from = back["item"]["position_ms"].as_u64().unwrap_or(0);
    let sent = |s: &Value| s["item"]["position_ms"].as_u64() > Some(from + 500);
    controller.wait_until("half a second of it", SOON, sent)?;
    Ok(back)
}

#[test]
fn the_slate_by_order_holds_the_programme_and_outlives_the_worker() -> Result<()> {
    let (controller, mut sink) = on_the_air(&[film(40.0)])?;
    let protected = |s: &Value| s["protected"] == true && s["air"]["is"] == "on";
    controller.wait_until("protection", SOON, protected)?;
    order(&controller, true)?;
    let held = controller.wait_until("the slate", SOON, |s| s["air"]["is"] == "fallback")?;
    let because = held["air"]["because"].as_str().unwrap_or_default();
    assert!(because.contains("it was asked for"), "{because}");
    assert_eq!(held["slate"], json!({"wanted": true, "on": true}));
    // The worker dies; the next one shows nothing of the programme.
    let run = held["run"]["id"].clone();
    let pid = held["run"]["pid"].as_i64().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
    kill_process(pid.context("the run has a process")?, Signal::KILL)?;
    controller.wait_until("the slate of the next worker", WHOLE, |s| {
        s["run"]["id"] != run && s["air"]["is"] == "fallback" && seen(s, "one")["accepted"] == true
    })?;
    sink.wait_for("publish", 2, SOON)?;
    order(&controller, false)?;
    let back = programme_goes_on(&controller)?;
    assert_eq!(back["slate"], json!({"wanted": false, "on": false}));
    let told = streamctl(&controller, &["channel", "slate", "main", "on"])?;
    assert!(told.contains("the fallback goes on the air"), "{told}");
    controller.wait_until("the slate again", SOON, |s| s["air"]["is"] == "fallback")?;
    controller.go_off_air()?;
    assert_eq!(controller.status()?["slate"]["wanted"], false, "a stop forgets the order");
    sink.end();
    let recording = Recording::read(&sink.recording(2))?;
    let first = recording.pictures.first().map(|p| p.reading.code.is_some());
    assert_eq!(first, Some(false), "the second worker began with the programme");
    let runs = runs(&recording);
    assert_eq!(runs.iter().map(|run| run.item).collect::<Vec<_>>(), [10]);
    Ok(())
}

#[test]
fn orders_that_cannot_be_followed_are_refused() -> Result<()> {
    let controller = Plan::new()?.start()?;
    let refusals = [
        ("/api/channels/none/slate", json!({"on": true}), 404),
        ("/api/channels/N%20o/slate", json!({"on": true}), 404),
        (SLATE, json!({"on": true}), 409),
        (SLATE, json!({"on": "yes"}), 422),
        (SLATE, json!({}), 422),
        (SLATE, json!({"on": true, "off": false}), 422),
    ];
    for (path, body, status) in refusals {
        let answer = controller.post(path, &body)?;
        assert_eq!(answer.status, status, "{path} {body}: {}", answer.text);
        assert!(answer.kind.starts_with("application/problem+json"), "{}", answer.kind);
    }
    let none = controller.patch("/api/channels/none", &json!({}))?;
    assert_eq!(none.status, 404, "{}", none.text);
    for body in [
        json!({"fallback_video": "missing.mp4"}),
        json!({"fallback_video": "../x"}),
        json!({"fallback_video": 1}),
    ] {
        let answer = controller.patch("/api/channels/main", &body)?;
        assert_eq!(answer.status, 422, "{body}: {}", answer.text);
        assert_eq!(answer.json()["errors"][0]["pointer"], "/fallback_video", "{}", answer.text);
    }
    let start = controller.post("/streams/start", &json!({"fallback_video": "missing.mp4"}))?;
    assert_eq!(start.status, 422, "{}", start.text);
    Ok(())
}

#[test]
fn the_fallback_video_is_changed_while_it_is_on_the_air() -> Result<()> {
    let other = Animal::new(Clip::plain("51-other.mp4", 51).lasting(2.0));
    let (controller, mut sink) = on_the_air(&[film(40.0), break_video(), other])?;
    controller.wait_until("protection", SOON, |s| s["protected"] == true && s["air"]["is"] == "on")?;
    // FFmpeg looks at the recording's first second as if its parameters never changed, and complains.
    let well_begun = |s: &Value| s["item"]["position_ms"].as_u64() > Some(3_000);
    controller.wait_until("three seconds of the film", SOON, well_begun)?;
    let change = |key: Value| -> Result<()> {
        let answer = controller.patch("/api/channels/main", &json!({ "fallback_video": key }))?;
        assert_eq!((answer.status, &answer.json()["fallback_video"]), (200, &key), "{}", answer.text);
        Ok(())
    };
    change(json!(BREAK))?;
    controller.wait_until("no protection", SOON, |s| s["protected"] == false)?;
    controller.wait_until("protection by the video", SOON, |s| s["protected"] == true)?;
    order(&controller, true)?;
    controller.wait_until("the fallback", SOON, |s| s["air"]["is"] == "fallback")?;
    let pictures = |sink: &Sink, item: u8| -> Result<bool> {
        let seen = Recording::read(&sink.recording(1)).map(|r| runs(&r).iter().any(|run| run.item == item));
        Ok(seen.unwrap_or(false))
    };
    program::wait_for("the video at the sink", SOON, || Ok(pictures(&sink, 50)?.then_some(())))?;
    change(json!("51-other.mp4"))?;
    program::wait_for("the other at the sink", SOON, || Ok(pictures(&sink, 51)?.then_some(())))?;
    change(Value::Null)?;
    order(&controller, false)?;
    programme_goes_on(&controller)?;
    controller.go_off_air()?;
    sink.end();
    println!("{}", never_dark(&sink, &controller.plan().log())?);
    let recording = Recording::read(&sink.recording(1))?;
    assert_eq!(recording.decode_errors, Vec::<String>::new());
    let mut items: Vec<u8> = runs(&recording).iter().map(|run| run.item).collect();
    items.dedup();
    assert_eq!(items, [10, 50, 51, 10]);
    Ok(())
}
