//! Two destinations: what happens to one is no concern of the other.

use anyhow::Result;
use e2e::analysis::{Limits, judge_loop};
use e2e::recording::Recording;
use e2e::rig::controller::{Controller, Plan, SOON};
use e2e::rig::sink::Sink;
use e2e::rig::wanted::{destination, is_live, plays, seen, start};
use e2e::zoo;
use std::path::Path;
use std::time::Duration;

#[test]
fn a_destination_that_dies_costs_the_other_nothing_and_comes_back() -> Result<()> {
    let (mut good, mut bad) = (Sink::start()?, Sink::start()?);
    let controller = both_live(&good, &bad)?;
    let address = bad.address().to_owned();
    bad.end();
    let status = controller.wait_until("the loss is seen", SOON, |s| !is_live(s, "bad"))?;
    assert_eq!(status["air"]["is"], "on", "{status:#}");
    boundaries(&controller)?;
    let back = Sink::start_at(&address)?;
    controller.wait_until("it is back", Duration::from_secs(60), |s| is_live(s, "bad"))?;
    assert!(seen(&controller.status()?, "bad")["reconnects"].as_u64() >= Some(1));
    controller.go_off_air()?;
    back.wait_for("close", 1, SOON)?;
    assert_untouched(&mut good)
}

#[test]
fn a_destination_that_hangs_costs_the_other_nothing() -> Result<()> {
    let (mut good, bad) = (Sink::start()?, Sink::start()?);
    let controller = both_live(&good, &bad)?;
    bad.freeze(true);
    boundaries(&controller)?;
    controller.wait_until("it is noticed", Duration::from_secs(60), |s| !is_live(s, "bad"))?;
    bad.freeze(false);
    controller.go_off_air()?;
    assert_untouched(&mut good)
}

fn both_live(good: &Sink, bad: &Sink) -> Result<Controller> {
    let plan = Plan::new()?;
    zoo::put_into(&plan.media(), &zoo::sample())?;
    let controller = plan.start()?;
    let both = [destination("good", &good.url(), "a"), destination("bad", &bad.url(), "b")];
    controller.go_on_air(&start(&both))?;
    controller.wait_until("both are live", SOON, |s| is_live(s, "good") && is_live(s, "bad"))?;
    Ok(controller)
}

fn boundaries(controller: &Controller) -> Result<()> {
    for file in ["03-audio-ends-early.mp4", "01-no-b-frames.mp4", "02-b-frames.mp4"] {
        controller.wait_until(&format!("{file} is on the air"), SOON, |s| plays(s, file))?;
    }
    Ok(())
}

fn assert_untouched(sink: &mut Sink) -> Result<()> {
    sink.wait_for("close", 1, SOON)?;
    assert_eq!(sink.count("publish")?, 1);
    sink.end();
    let path = sink.recording(1);
    let limits = Limits { extra_gap_ms: 20.0, audio_step_ms: 24.5, ..Limits::default() };
    let verdict = judge_loop(Recording::read(Path::new(&path))?, &zoo::sample(), 3, &limits);
    assert!(verdict.problems.is_empty(), "\n{verdict}");
    Ok(())
}
