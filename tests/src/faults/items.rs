//! What happens to an item while it is on the air, and to the bucket that it comes from.

use super::scene::{PATIENCE, Watchers};
use super::{Fault, Measured, Scale};
use crate::media::{Clip, EVEN};
use crate::rig::controller::SOON;
use crate::rig::front::{Fault as Mishap, Front, Request};
use crate::rig::program::wait_for;
use crate::rig::s3::{self, S3};
use crate::rig::worker::{self, Worker};
use crate::zoo::{self, Animal};
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::fs;
use std::time::Duration;

/// The item that something happens to, and the one after it.
const HIT: &str = "10-hit.mp4";
const NEXT: &str = "11-next.mp4";
/// Bytes of a body that are let through, rather less than the item has.
const PIECE: usize = 300_000;
/// Bytes of the item that come before its line falls silent.
const HEAD: usize = 900_000;

const SAME: &str = "the same connection; the next item, or the fallback at most 100 ms late";

pub(super) const FAULTS: &[Fault] = &[
    fault("item-404", SAME, false, missing),
    fault("item-403", SAME, false, forbidden),
    fault("item-truncated", SAME, false, truncated),
    fault("item-undecodable", SAME, false, undecodable),
    fault(
        "item-stalled",
        "the fallback at most 100 ms late, then the rest of the item, in the same connection",
        true,
        stalled,
    ),
    fault(
        "item-too-slow",
        "the fallback and the item take turns without flapping, in the same connection",
        false,
        too_slow,
    ),
    fault("connection-lost", "read again where it broke off; nobody notices", false, resets),
    fault(
        "bucket-gone",
        "the fallback while it is away, then the programme again, in the same connection",
        false,
        bucket_gone,
    ),
];

const fn fault(
    name: &'static str,
    promise: &'static str,
    short: bool,
    run: fn(&Scale) -> Result<Measured>,
) -> Fault {
    Fault { name, group: "item", promise, short, run }
}

pub(super) struct Scene {
    pub(super) s3: S3,
    pub(super) front: Front,
    pub(super) watchers: Watchers,
    items: Vec<Animal>,
}

impl Scene {
    pub(super) fn set(seconds: f64) -> Result<Self> {
        let clip = Clip::plain(HIT, 10).lasting(seconds);
        let hit = Animal::new(Clip { video: EVEN, container: &["-movflags", "+faststart"], ..clip });
        let items = vec![hit, Animal::new(Clip::plain(NEXT, 11).lasting(4.0))];
        let s3 = S3::start()?;
        zoo::put_into(&s3.bucket(), &items)?;
        let front = Front::start(s3.address())?;
        Ok(Self { s3, front, watchers: Watchers::start()?, items })
    }

    fn play(&self) -> Result<Worker> {
        self.play_with(&Value::Null)
    }

    /// Plays with this fallback.
    pub(super) fn play_with(&self, fallback: &Value) -> Result<Worker> {
        self.play_so(fallback, false)
    }

    fn play_so(&self, fallback: &Value, looped: bool) -> Result<Worker> {
        Worker::start(json!({
            "fallback": fallback,
            "profile": {"width": 640, "height": 360, "fps": "30", "video_kbps": 1500},
            "items": worker::objects(&self.s3.bucket(), &self.items)?,
            "loop": looped,
            "destinations": self.watchers.destinations(),
            "storage": s3::settings(&self.front.url(), 3600),
        }))
    }

    /// Plays to the end; the hit item was left with a reason that holds one of these words.
    fn left(&self, worker: &mut Worker, words: &[&str]) -> Result<Measured> {
        worker.wait_for_end(PATIENCE)?;
        let reason = worker.reason(HIT).context("no reason is told")?;
        ensure!(words.iter().any(|word| reason.contains(word)), "the reason is {reason:?}");
        self.watchers.judge(reason)
    }

    fn whole(&self, worker: &mut Worker) -> Result<Measured> {
        worker.wait_for_end(PATIENCE)?;
        let reason = worker.reason(HIT);
        ensure!(reason.is_none(), "it was left: {reason:?}");
        let fallbacks = worker.events("fallback.started").len();
        self.watchers.judge(format!("played whole, {fallbacks} times the fallback"))
    }
}

pub(super) fn hits(request: &Request) -> bool {
    request.reads(HIT)
}

fn missing(_: &Scale) -> Result<Measured> {
    let scene = Scene::set(10.0)?;
    scene.front.tell(|r| if hits(r) { Mishap::Status(404) } else { Mishap::None });
    let mut worker = scene.play()?;
    scene.left(&mut worker, &["404", "no media file", "Not Found"])
}

fn forbidden(_: &Scale) -> Result<Measured> {
    let scene = Scene::set(20.0)?;
    scene.front.tell(|r| match r.from {
        Some(from) if hits(r) && from > 0 => Mishap::Status(403),
        _ if hits(r) => Mishap::EndEarly { after: PIECE * 8 },
        _ => Mishap::None,
    });
    let mut worker = scene.play()?;
    scene.left(&mut worker, &["403"])
}

fn truncated(_: &Scale) -> Result<Measured> {
    let scene = Scene::set(10.0)?;
    let file = scene.s3.bucket().join(HIT);
    let whole = fs::metadata(&file)?.len();
    fs::File::options().write(true).open(&file)?.set_len(whole / 2)?;
    let mut worker = scene.play()?;
    scene.left(&mut worker, &["ended early", "ended with an error"])
}

fn undecodable(_: &Scale) -> Result<Measured> {
    let scene = Scene::set(10.0)?;
    fs::write(scene.s3.bucket().join(HIT), vec![0x5a; 2_000_000])?;
    let mut worker = scene.play()?;
    scene.left(&mut worker, &[""])
}

fn stalled(scale: &Scale) -> Result<Measured> {
    let scene = Scene::set(26.0)?;
    // Five seconds are in hand when the line falls silent, and ten seconds of silence are borne.
    let lasting = scale.seconds(20.0).max(Duration::from_secs(12));
    let mut stalls = 0;
    scene.front.tell(move |r| match hits(r) {
        true if r.from.is_none_or(|from| from < HEAD as u64) => Mishap::Reset { after: HEAD },
        true if stalls < 2 => {
            stalls += 1;
            Mishap::Stall { after: PIECE / 3, lasting }
        }
        _ => Mishap::None,
    });
    let mut worker = scene.play()?;
    worker.wait_for_end(PATIENCE * 2)?;
    let fallbacks = worker.events("fallback.started").len();
    ensure!(fallbacks > 0, "nobody felt the silence");
    scene.watchers.judge(format!("{fallbacks} times the fallback"))
}

fn too_slow(_: &Scale) -> Result<Measured> {
    let scene = Scene::set(20.0)?;
    let bytes = scene.s3.bucket().join(HIT).metadata()?.len() as usize;
    let per_second = bytes * 8 / 10 / 20;
    scene.front.tell(move |r| if hits(r) { Mishap::Slow { per_second } } else { Mishap::None });
    let mut worker = scene.play()?;
    worker.wait_for_end(PATIENCE)?;
    let fallbacks = worker.events("fallback.started").len();
    ensure!((1..=6).contains(&fallbacks), "{fallbacks} times the fallback");
    scene.watchers.judge(format!("{fallbacks} times the fallback"))
}

fn resets(_: &Scale) -> Result<Measured> {
    let scene = Scene::set(10.0)?;
    scene.front.tell(|r| if hits(r) { Mishap::Reset { after: PIECE } } else { Mishap::None });
    let mut worker = scene.play()?;
    scene.whole(&mut worker)
}

fn bucket_gone(scale: &Scale) -> Result<Measured> {
    let mut scene = Scene::set(30.0)?;
    scene.front.tell(|r| if hits(r) { Mishap::Reset { after: PIECE } } else { Mishap::None });
    let mut worker = scene.play_so(&Value::Null, true)?;
    let on_air = |w: &Worker| w.heartbeat()["item"]["position_ms"].as_u64() > Some(3_000);
    wait_for("three seconds of the item", SOON, || Ok(on_air(&worker).then_some(())))?;
    scene.s3.go_away();
    worker.wait_for("fallback.started", 1, PATIENCE)?;
    std::thread::sleep(scale.seconds(20.0));
    scene.s3.come_back()?;
    let next = |w: &Worker| w.heartbeat()["item"]["key"] == NEXT;
    let came = wait_for("the next item", Duration::from_secs(150), || Ok(next(&worker).then_some(())));
    came.with_context(|| worker.tail())?;
    worker.end();
    scene.watchers.judge("back by itself")
}
