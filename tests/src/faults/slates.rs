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

const SLATE: &str = "/api/channels/main/slate";
const BREAK: &str = "50-break.mp4";
const GROUP: &str = "item";

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
        "a stalled item gives way to the video at most 100 ms late, in the same connection",
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
    let lasting = scale.seconds(20.0);
    let mut stalls = 0;
    scene.front.tell(move |r| {
        let now = items::hits(r) && stalls < 6;
        stalls += usize::from(now);
        if now { Mishap::Stall { after: 1_200_000, lasting } } else { Mishap::None }
    });
    let size = path.metadata()?.len();
    let fallback = json!({"id": "break", "key": BREAK, "content": "one", "at": {"object": {"size": size}}});
    let mut worker = scene.play_with(&fallback)?;
    let beat = || worker.heartbeat()["protected"] == true;
    wait_for("protection", PATIENCE, || Ok(beat().then_some(())))?;
    worker.wait_for_end(PATIENCE * 2)?;
    let fallbacks = worker.events("fallback.started").len();
    let measured = scene.watchers.judge(format!("{fallbacks} times the video"))?;
    let seen = runs(&Recording::read(&scene.watchers.sink.recording(1))?);
    ensure!(fallbacks == 0 || seen.iter().any(|run| run.item == 50), "the video was not seen");
    ensure!(fallbacks > 0, "the item did not stall");
    Ok(measured)
}
