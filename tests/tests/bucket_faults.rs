//! What a bucket and the way to it do on a bad day, one by one: every picture is sent, or the status says why not and
//! the next item follows. Nothing is cut short without a word.

use anyhow::Result;
use e2e::analysis::{Limits, judge};
use e2e::media::{Clip, EVEN};
use e2e::recording::Recording;
use e2e::rig::front::{Fault, Front, Request};
use e2e::rig::program;
use e2e::rig::s3::{self, S3};
use e2e::rig::sink::Sink;
use e2e::rig::worker::{self, Worker};
use e2e::runs::runs;
use e2e::zoo::{self, Animal};
use serde_json::json;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(20);
const WHOLE: Duration = Duration::from_secs(120);
const FAULTY: &str = "10-faulty.mp4";
/// Rather less than the faulty clip has, so that its body is never whole.
const PIECE: usize = 300_000;
/// The item that something happens to, with its index in front.
fn faulty(seconds: f64) -> Animal {
    let clip = Clip::plain(FAULTY, 10).lasting(seconds);
    Animal::new(Clip { video: EVEN, container: &["-movflags", "+faststart"], ..clip })
}

/// The item after it.
fn next() -> Animal {
    Animal::new(Clip::plain("11-next.mp4", 11).lasting(2.0))
}

/// A worker that plays the faulty item and the next one out of a bucket behind a front, once.
struct Scene {
    items: Vec<Animal>,
    s3: S3,
    front: Front,
    sink: Sink,
}

impl Scene {
    fn set(seconds: f64) -> Result<Self> {
        Self::set_with(faulty(seconds))
    }

    fn set_with(faulty: Animal) -> Result<Self> {
        let items = vec![faulty, next()];
        let s3 = S3::start()?;
        zoo::put_into(&s3.bucket(), &items)?;
        let front = Front::start(s3.address())?;
        Ok(Self { items, s3, front, sink: Sink::start()? })
    }

    /// The profile is that of the next item, whatever the faulty one is.
    fn play(&self, link_ttl_s: u64) -> Result<Worker> {
        self.play_in((640, 360), link_ttl_s)
    }

    fn play_in(&self, (width, height): (u32, u32), link_ttl_s: u64) -> Result<Worker> {
        let profile = json!({"width": width, "height": height, "fps": "30", "video_kbps": 1500});
        Worker::start(json!({
            "profile": profile,
            "items": worker::objects(&self.s3.bucket(), &self.items)?,
            "loop": false,
            "destinations": [worker::destination(&self.sink.url())],
            "storage": s3::settings(&self.front.url(), link_ttl_s),
        }))
    }

    fn recording(&mut self) -> Result<Recording> {
        self.sink.wait_for("close", 1, SOON)?;
        self.sink.end();
        Recording::read(&self.sink.recording(1))
    }

    /// Every picture of both items was sent, without a seam, and nothing was reported.
    fn assert_whole(&mut self, worker: &Worker) -> Result<()> {
        let verdict = judge(&self.recording()?, &self.items, &Limits::default());
        let context = || format!("{}\n{}", self.front.table(), worker.tail());
        assert!(verdict.problems.is_empty(), "\n{verdict}\n{}", context());
        assert_eq!(worker.events("fallback.started"), Vec::<serde_json::Value>::new(), "{}", context());
        assert_eq!(worker.reason(FAULTY), None, "{}", context());
        Ok(())
    }

    /// The next item was sent whole, and the reason why the faulty one was left holds these words.
    fn assert_left(&mut self, worker: &Worker, words: &str) -> Result<()> {
        let recording = self.recording()?;
        let context = || format!("{}\n{}", self.front.table(), worker.tail());
        let reason = worker.reason(FAULTY).unwrap_or_default();
        assert!(reason.contains(words), "the reason is {reason:?}\n{}", context());
        let runs = runs(&recording);
        let last = runs.last().map(|run| (run.item, run.pictures.len()));
        assert_eq!(last, Some((11, 60)), "{}", context());
        for run in &runs {
            // Where it breaks off, pictures that are decoded later and shown earlier than the last are missing.
            let numbers: Vec<u16> =
                run.pictures.iter().rev().skip(1).rev().map(|picture| picture.0).collect();
            let expected: Vec<u16> = (0..numbers.len() as u16).collect();
            assert_eq!(numbers, expected, "item {}\n{}", run.item, context());
        }
        Ok(())
    }
}

fn reads_faulty(request: &Request) -> bool {
    request.reads(FAULTY)
}

#[test]
fn a_connection_that_is_reset_again_and_again_costs_no_picture() -> Result<()> {
    let mut scene = Scene::set(10.0)?;
    scene.front.tell(|r| if reads_faulty(r) { Fault::Reset { after: PIECE } } else { Fault::None });
    let mut worker = scene.play(3600)?;
    worker.wait_for_end(WHOLE)?;
    scene.assert_whole(&worker)?;
    assert!(worker.log().contains("asked for again"), "it was not the worker that read\n{}", worker.tail());
    Ok(())
}

#[test]
fn a_body_that_ends_too_early_costs_no_picture() -> Result<()> {
    let mut scene = Scene::set(10.0)?;
    scene.front.tell(|r| if reads_faulty(r) { Fault::EndEarly { after: PIECE } } else { Fault::None });
    let mut worker = scene.play(3600)?;
    worker.wait_for_end(WHOLE)?;
    scene.assert_whole(&worker)
}

/// Only FFmpeg reads Matroska, over links; requests of the worker's own reader are signed each by itself.
#[test]
fn a_link_that_expires_while_it_is_read_is_signed_anew() -> Result<()> {
    let matroska = Clip { container: &["-f", "matroska"], ..faulty(20.0).clip };
    let mut scene = Scene::set_with(Animal::new(matroska))?;
    scene.front.tell(|r| if reads_faulty(r) { Fault::Reset { after: PIECE } } else { Fault::None });
    let mut worker = scene.play(2)?;
    worker.wait_for_end(WHOLE)?;
    scene.assert_whole(&worker)?;
    let reads: Vec<Request> =
        scene.front.answered().into_iter().map(|a| a.request).filter(reads_faulty).collect();
    let span = |from: &Request, to: &Request| to.at.saturating_sub(from.at) > Duration::from_secs(4);
    let (first, last) = (reads.first().cloned(), reads.last().cloned());
    let (Some(first), Some(last)) = (first, last) else { panic!("nothing was read") };
    assert!(span(&first, &last) && first.path != last.path, "{}", scene.front.table());
    // The first link is dead by now, so it was not that one which served the end.
    let agent = ureq::Agent::config_builder().http_status_as_error(false).build().new_agent();
    let status = agent.get(format!("{}{}", scene.s3.url(), first.path)).call()?.status();
    assert_eq!(status, 403);
    Ok(())
}

#[test]
fn a_server_that_is_busy_for_a_moment_costs_no_picture() -> Result<()> {
    let mut scene = Scene::set(10.0)?;
    let mut busy = 0;
    scene.front.tell(move |r| {
        busy += usize::from(reads_faulty(r));
        // Two refusals, a piece, two refusals, a piece.
        match (reads_faulty(r), busy % 3) {
            (true, 1 | 2) => Fault::Status(503),
            (true, _) => Fault::Reset { after: PIECE * 2 },
            (false, _) => Fault::None,
        }
    });
    let mut worker = scene.play(3600)?;
    worker.wait_for_end(WHOLE)?;
    scene.assert_whole(&worker)
}

/// Refuses a later part three times in a row: FFmpeg gives up a refused link after 4 s and 3 tries, and the worker's own
/// reader at once.
fn outlast_ffmpeg(scene: &Scene) {
    let mut refused = 0;
    scene.front.tell(move |r| match r.from {
        Some(from) if reads_faulty(r) && from > PIECE as u64 && refused < 3 => {
            refused += 1;
            Fault::Status(403)
        }
        from if reads_faulty(r) && from <= Some(PIECE as u64) => Fault::EndEarly { after: PIECE * 8 },
        _ => Fault::None,
    });
}

#[test]
fn a_refusal_that_outlasts_ffmpeg_is_outlasted_by_the_worker() -> Result<()> {
    let mut scene = Scene::set(20.0)?;
    outlast_ffmpeg(&scene);
    let mut worker = scene.play(3600)?;
    worker.wait_for_end(WHOLE)?;
    scene.assert_whole(&worker)?;
    assert!(worker.log().contains("reading broke off"), "FFmpeg did it alone\n{}", scene.front.table());
    Ok(())
}

#[test]
fn an_item_that_is_transcoded_is_gone_on_with_at_the_same_picture() -> Result<()> {
    let mut scene = Scene::set(20.0)?;
    outlast_ffmpeg(&scene);
    // Small pictures, so that a busy machine makes them in time.
    let mut worker = scene.play_in((320, 180), 3600)?;
    worker.wait_for_end(WHOLE)?;
    scene.assert_whole(&worker)?;
    assert!(worker.log().contains("reading broke off"), "FFmpeg did it alone\n{}", scene.front.table());
    assert!(worker.log().contains("is larger than 320x180"), "it was not transcoded");
    Ok(())
}

#[test]
fn an_object_that_is_refused_for_ever_is_left_with_the_reason() -> Result<()> {
    let mut scene = Scene::set(20.0)?;
    scene.front.tell(|r| match r.from {
        Some(from) if reads_faulty(r) && from > 0 => Fault::Status(403),
        // A reset would throw away what is on its way, and all of it is on its way.
        _ if reads_faulty(r) => Fault::EndEarly { after: PIECE * 8 },
        _ => Fault::None,
    });
    let mut worker = scene.play(3600)?;
    worker.wait_for_end(WHOLE)?;
    scene.assert_left(&worker, "403")
}

#[test]
fn an_object_that_is_not_there_is_named_and_the_next_follows() -> Result<()> {
    let mut scene = Scene::set(10.0)?;
    let mut worker = {
        let spec = scene.play(3600);
        std::fs::remove_file(scene.s3.bucket().join(FAULTY))?;
        spec?
    };
    worker.wait_for_end(WHOLE)?;
    scene.assert_left(&worker, "there is no media file")
}

#[test]
fn an_object_that_vanishes_while_it_is_read_is_left_with_the_reason() -> Result<()> {
    let mut scene = Scene::set(20.0)?;
    let file = scene.s3.bucket().join(FAULTY);
    scene.front.tell(move |r| {
        if reads_faulty(r) && r.from > Some(0) {
            let _ = std::fs::remove_file(&file);
        }
        if reads_faulty(r) { Fault::Reset { after: PIECE } } else { Fault::None }
    });
    let mut worker = scene.play(3600)?;
    worker.wait_for_end(WHOLE)?;
    scene.assert_left(&worker, "there is no media file")
}

#[test]
fn an_object_that_is_replaced_while_it_is_read_is_left_and_never_mixed() -> Result<()> {
    let mut scene = Scene::set(20.0)?;
    let other = Animal::new(Clip { item: 12, ..faulty(20.0).clip }).clip.make()?;
    let file = scene.s3.bucket().join(FAULTY);
    let mut reads = 0;
    scene.front.tell(move |r| {
        // Replaced between two reads, without a look at it in between: each read demands the content.
        reads += usize::from(reads_faulty(r));
        if reads == 4 && reads_faulty(r) {
            let _ = std::fs::copy(&other, &file);
        }
        if reads_faulty(r) { Fault::Reset { after: PIECE } } else { Fault::None }
    });
    let mut worker = scene.play(3600)?;
    worker.wait_for_end(WHOLE)?;
    scene.assert_left(&worker, "was replaced in the bucket")
}

#[test]
fn a_silence_on_the_line_is_cut_short_and_costs_no_picture() -> Result<()> {
    let mut scene = Scene::set(26.0)?;
    let mut stalls = 0;
    scene.front.tell(move |r| {
        // What is read by then lasts longer than the silence is borne.
        let stalls_now = reads_faulty(r) && r.from.is_none_or(|from| from < 1_000_000) && stalls < 2;
        stalls += usize::from(stalls_now);
        let lasting = Duration::from_secs(60);
        if stalls_now { Fault::Stall { after: 1_800_000, lasting } } else { Fault::None }
    });
    let mut worker = scene.play(3600)?;
    worker.wait_for_end(WHOLE)?;
    scene.assert_whole(&worker)
}

/// The item is on the air and what is read ahead of it is in hand; then the server is gone, and is missed.
fn lose_the_server(scene: &mut Scene, worker: &Worker) -> Result<()> {
    program::wait_for("three seconds of the item", SOON, || {
        Ok((worker.heartbeat()["item"]["position_ms"].as_u64() > Some(3_000)).then_some(()))
    })?;
    scene.s3.go_away();
    scene.front.wait_for("a request in vain", SOON, |a| a.status == 0)
}

#[test]
fn a_server_that_is_away_for_a_few_seconds_costs_no_picture() -> Result<()> {
    let mut scene = Scene::set(26.0)?;
    scene.front.tell(|r| if reads_faulty(r) { Fault::Reset { after: PIECE } } else { Fault::None });
    let mut worker = scene.play(3600)?;
    lose_the_server(&mut scene, &worker)?;
    // Ten seconds are in hand when it is missed.
    std::thread::sleep(Duration::from_secs(3));
    scene.s3.come_back()?;
    worker.wait_for_end(WHOLE)?;
    scene.assert_whole(&worker)
}

#[test]
fn a_way_that_is_too_slow_gives_the_slate_and_says_so() -> Result<()> {
    let mut scene = Scene::set(20.0)?;
    let bytes = scene.s3.bucket().join(FAULTY).metadata()?.len() as usize;
    let per_second = bytes * 8 / 10 / 20;
    scene.front.tell(move |r| if reads_faulty(r) { Fault::Slow { per_second } } else { Fault::None });
    let mut worker = scene.play(3600)?;
    worker.wait_for_end(WHOLE)?;
    let recording = scene.recording()?;
    let context = || format!("{}\n{}", scene.front.table(), worker.tail());
    let fallbacks = worker.events("fallback.started");
    assert!(fallbacks.iter().any(|f| f["reason"] == "the item has stalled"), "{}", context());
    let runs = runs(&recording);
    assert_eq!(runs.last().map(|run| (run.item, run.pictures.len())), Some((11, 60)), "{}", context());
    assert_eq!(recording.decode_errors, Vec::<String>::new(), "{}", context());
    Ok(())
}

#[test]
fn a_list_that_is_played_once_waits_for_a_bucket_that_is_away() -> Result<()> {
    let mut scene = Scene::set(4.0)?;
    let (mut missed, next) = (None, next().clip.file);
    scene.front.tell(move |r| {
        if r.path.contains(next) {
            missed.get_or_insert(r.at);
        }
        // From the first question about the next item on nothing is answered for a while.
        let away = missed.is_some_and(|at| r.at.saturating_sub(at) < Duration::from_secs(12));
        if away { Fault::Status(503) } else { Fault::None }
    });
    let mut worker = scene.play(3600)?;
    worker.wait_for_end(WHOLE)?;
    let recording = scene.recording()?;
    let context = || format!("{}\n{}", scene.front.table(), worker.tail());
    let said = worker.events("item.failed");
    assert_eq!(said.len(), 1, "it is said once\n{}", context());
    assert!(!worker.events("fallback.started").is_empty(), "{}", context());
    let seen: Vec<_> = runs(&recording).iter().map(|run| (run.item, run.pictures.len())).collect();
    let items: Vec<_> = seen.iter().filter(|run| [10, 11].contains(&run.0)).collect();
    assert_eq!(items, [&(10, 120), &(11, 60)], "{seen:?}\n{}", context());
    Ok(())
}

#[test]
fn one_object_that_is_never_answered_for_does_not_hold_a_list_for_ever() -> Result<()> {
    let mut scene = Scene::set(4.0)?;
    scene.front.tell(|r| if r.path.contains(FAULTY) { Fault::Status(503) } else { Fault::None });
    let mut worker = scene.play(3600)?;
    worker.wait_for_end(WHOLE)?;
    scene.assert_left(&worker, "")
}
