//! The fallback: by order and back, and a video of one's own.

use super::items::{self, Scene};
use super::programs::Stage;
use super::scene::PATIENCE;
use super::{Fault, Measured, Scale};
use crate::media::Clip;
use crate::recording::Recording;
use crate::rig::front::Fault as Mishap;
use crate::rig::program::wait_for;
use crate::runs::runs;
use anyhow::{Result, ensure};
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const SLATE: &str = "/api/channels/main/slate";
const BREAK: &str = "50-break.mp4";
const GROUP: &str = "item";
/// Bytes of a body that are let through at a time.
const PIECE: usize = 300_000;

pub(super) const FAULTS: &[Fault] = &[
    Fault::new(
        GROUP,
        "slate-by-order",
        "the fallback at once, and back at the item's next IDR, in the same connection",
        by_order,
    ),
    Fault::new(
        GROUP,
        "fallback-video",
        "an item without media gives way to the video at most 100 ms late, in the same connection",
        video,
    ),
];

fn by_order(scale: &Scale) -> Result<Measured> {
    let stage = Stage::set()?;
    stage.controller.wait_until("protection", PATIENCE, |s| s["protected"] == true)?;
    for (on, air) in [(true, "fallback"), (false, "on")] {
        let answer = stage.controller.post(SLATE, &json!({"on": on}))?;
        ensure!(answer.status == 202, "the order was answered {} {}", answer.status, answer.text);
        stage.controller.wait_until(&format!("the air is {air}"), PATIENCE, |s| s["air"]["is"] == air)?;
        std::thread::sleep(scale.seconds(3.0));
    }
    stage.one_connection(scale)
}

fn video(scale: &Scale) -> Result<Measured> {
    let scene = Scene::set(26.0)?;
    let path = Clip::plain(BREAK, 50).lasting(4.0).put_into(&scene.s3.bucket())?;
    let fallback = json!({"id": "break", "key": BREAK, "content": "one", "at": {"object": {"size": path.metadata()?.len()}}});
    let away = Arc::new(AtomicBool::new(false));
    let gone = Arc::clone(&away);
    scene.front.tell(move |r| match gone.load(Ordering::Relaxed) {
        true => Mishap::Status(503),
        // A little at a time, so that not everything is read when it goes away.
        false if items::hits(r) => Mishap::Reset { after: PIECE },
        false => Mishap::None,
    });
    let mut worker = scene.play_with(&fallback)?;
    let protected = || worker.heartbeat()["protected"] == true;
    wait_for("protection", PATIENCE, || Ok(protected().then_some(())))?;
    away.store(true, Ordering::Relaxed);
    worker.wait_for("fallback.started", 1, PATIENCE)?;
    std::thread::sleep(scale.seconds(10.0));
    away.store(false, Ordering::Relaxed);
    worker.wait_for_end(PATIENCE * 2)?;
    let measured = scene.watchers.judge("the video, and the rest of the programme")?;
    let seen = runs(&Recording::read(&scene.watchers.sink.recording(1))?);
    ensure!(seen.iter().any(|run| run.item == 50), "the video was not seen");
    Ok(measured)
}
