//! The content zoo, played once into a receiver that nobody here wrote, decoded and measured item by item.

use anyhow::{Context, Result};
use e2e::analysis::{Limits, judge};
use e2e::recording::{RATE, Recording};
use e2e::rig::controller::{Plan, SOON};
use e2e::rig::nginx::Nginx;
use e2e::rig::trap::Trap;
use e2e::rig::wanted::{destination, is_live, start};
use e2e::runs::runs;
use e2e::{sound, zoo};
use std::time::Duration;

/// More than twice the length of all clips.
const LONG: Duration = Duration::from_secs(180);

#[test]
fn every_animal_is_seen_and_heard_from_its_first_picture_to_its_last() -> Result<()> {
    let nginx = Nginx::start()?;
    let trap = Trap::set()?;
    let plan = Plan::new()?;
    let mut animals = zoo::playable();
    animals.extend([zoo::truncated(), zoo::after_the_broken()]);
    zoo::put_into(&plan.media(), &animals)?;
    zoo::put_broken_into(&plan.media(), &trap.url())?;
    let controller = plan.start()?;
    let mut body = start(&[destination("one", &nginx.url(), "zoo")]);
    body["loop"] = false.into();
    controller.go_on_air(&body)?;
    controller.wait_until("media are acknowledged", SOON, |s| is_live(s, "one"))?;
    controller.wait_until("the zoo has been played", LONG, |s| s["phase"] == "off")?;

    assert_eq!(trap.visits(), 0, "the playlist named .mp4 was followed");
    assert_eq!(nginx.publishes(), 1);
    let recordings = nginx.recordings()?;
    let recording = Recording::read(recordings.first().context("nginx recorded nothing")?)?;
    let limits = Limits { audio_step_ms: 24.5, ..Limits::default() };
    let verdict = judge(&recording, &animals, &limits);
    assert!(verdict.problems.is_empty(), "\n{verdict}");
    assert_marker_is_heard(&recording)
}

/// The clip with the marker tone sounds 0.7 s before its first picture; the tone is 0.6 s before it.
fn assert_marker_is_heard(recording: &Recording) -> Result<()> {
    let runs = runs(recording);
    let run = runs.iter().find(|r| r.item == 19).context("the clip with the marker was not seen")?;
    let heard: Vec<f64> = sound::markers(&recording.sound.samples, RATE)
        .into_iter()
        .map(|span| recording.sound.time_of(span.start) - run.start())
        .collect();
    assert!(
        heard.iter().any(|t| (t + 0.6).abs() < 0.04),
        "marker tones at {heard:?} s from the first picture"
    );
    Ok(())
}
