//! Destinations that somebody changes while the channel is on the air.

use super::scene::{PATIENCE, Pair, changed_over_ms, took_its_leave};
use super::{Fault, Measured, Scale};
use crate::rig::controller::Plan;
use crate::rig::sink::Sink;
use crate::rig::wanted::destination;
use crate::rig::wire::{Weather, Wire};
use crate::trace::Trace;
use crate::zoo;
use anyhow::{Result, ensure};
use serde_json::{Value, json};
use std::time::Instant;

const ALL: &str = "/api/channels/main/destinations";
const HIT: &str = "/api/channels/main/destinations/hit";
const GROUP: &str = "destination";
/// Longest step of a picture where nothing is wrong, ms.
const EVEN_MS: u32 = 60;

pub(super) const FAULTS: &[Fault] = &[
    Fault::new(
        GROUP,
        "added-on-air",
        "begins at the next IDR picture; the other destination loses no frame",
        added,
    ),
    Fault::new(GROUP, "removed-on-air", "takes its leave; the other destination loses no frame", removed),
    Fault::new(
        GROUP,
        "off-and-on",
        "takes its leave and comes back; the other destination loses no frame",
        switched,
    ),
    Fault::new(
        GROUP,
        "new-key-on-air",
        "a new publication at the next IDR picture; the other destination loses no frame",
        rekeyed,
    ),
    Fault::new(
        GROUP,
        "refused-key",
        "said in the server's words; a right key is used at once; the other loses no frame",
        refused,
    ),
    Fault::new(
        GROUP,
        "linked-pair",
        "one of two ingests of a broadcast goes down: its twin loses no frame",
        linked,
    )
    .in_short(),
    Fault::new(
        GROUP,
        "session-limit",
        "a planned new connection before the session ends; the other destination loses no frame",
        session,
    ),
];

fn alone() -> Result<Pair> {
    Pair::arranged(Plan::new()?, &zoo::sample(), &[])
}

fn live_at(sink: &Sink, key: &str) -> Result<Pair> {
    let pair = Pair::on_air(destination("hit", &sink.url(), key))?;
    pair.hit_is_live(PATIENCE)?;
    Ok(pair)
}

fn change(pair: &Pair, body: &Value) -> Result<()> {
    let answer = pair.controller.patch(HIT, body)?;
    ensure!(answer.status == 200, "the change was answered {} {}", answer.status, answer.text);
    Ok(())
}

/// Waits for the first picture of this publish; ms since `asked`.
fn picture(sink: &Sink, publish: usize, asked: Instant) -> Result<u128> {
    sink.wait_for("first_idr", publish, PATIENCE)?;
    Ok(asked.elapsed().as_millis())
}

fn added(scale: &Scale) -> Result<Measured> {
    let (sink, pair, asked) = (Sink::start()?, alone()?, Instant::now());
    let answer = pair.controller.post(ALL, &destination("hit", &sink.url(), "b"))?;
    ensure!(answer.status == 201, "it was answered {} {}", answer.status, answer.text);
    let after = picture(&sink, 1, asked)?;
    pair.hit_is_live(PATIENCE)?;
    std::thread::sleep(scale.seconds(3.0));
    pair.spared_is_untouched(format!("its first picture {after} ms after the call"))
}

fn removed(scale: &Scale) -> Result<Measured> {
    let sink = Sink::start()?;
    let (pair, asked) = (live_at(&sink, "b")?, Instant::now());
    let answer = pair.controller.delete(HIT)?;
    ensure!(answer.status == 204, "it was answered {} {}", answer.status, answer.text);
    took_its_leave(&sink, 1)?;
    let after = asked.elapsed().as_millis();
    std::thread::sleep(scale.seconds(3.0));
    pair.spared_is_untouched(format!("its goodbye {after} ms after the call"))
}

fn switched(scale: &Scale) -> Result<Measured> {
    let sink = Sink::start()?;
    let pair = live_at(&sink, "b")?;
    change(&pair, &json!({"enabled": false}))?;
    took_its_leave(&sink, 1)?;
    std::thread::sleep(scale.seconds(3.0));
    let asked = Instant::now();
    change(&pair, &json!({"enabled": true}))?;
    let after = picture(&sink, 2, asked)?;
    pair.hit_is_live(PATIENCE)?;
    pair.spared_is_untouched(format!("back {after} ms after the call"))
}

fn rekeyed(scale: &Scale) -> Result<Measured> {
    let sink = Sink::start()?;
    let pair = live_at(&sink, "b")?;
    change(&pair, &json!({"stream_key": "c"}))?;
    let gap = changed_over_ms(&sink, &sink, 2)?;
    took_its_leave(&sink, 1)?;
    pair.hit_is_live(PATIENCE)?;
    std::thread::sleep(scale.seconds(3.0));
    pair.spared_is_untouched(format!("{gap} ms from the goodbye to the next picture"))
}

fn refused(scale: &Scale) -> Result<Measured> {
    let sink = Sink::start()?;
    let pair = Pair::on_air(destination("hit", &sink.url(), "bad-key"))?;
    pair.hit_says("NetStream.Publish.Denied", PATIENCE)?;
    std::thread::sleep(scale.seconds(3.0));
    let (tries, asked) = (sink.count("refused")?, Instant::now());
    change(&pair, &json!({"stream_key": "good-key"}))?;
    let after = picture(&sink, 1, asked)?;
    pair.hit_is_live(PATIENCE)?;
    pair.spared_is_untouched(format!("{tries} tries; {after} ms after the right key it is on the air"))
}

fn linked(scale: &Scale) -> Result<Measured> {
    let (sink, twin) = (Sink::start()?, Sink::start()?);
    let wire = Wire::start(sink.address())?;
    let pair = Pair::on_air(destination("hit", &wire.url(), "b"))?;
    pair.hit_is_live(PATIENCE)?;
    let body = json!({"linked_to": "hit", "url": twin.url(), "stream_key": "b"});
    let answer = pair.controller.post(ALL, &body)?;
    ensure!(answer.status == 201, "it was answered {} {}", answer.status, answer.text);
    twin.wait_for("first_idr", 1, PATIENCE)?;
    wire.turn(Weather::Down);
    pair.hit_is_lost(PATIENCE)?;
    std::thread::sleep(scale.seconds(5.0));
    wire.turn(Weather::Fair);
    sink.wait_for("first_idr", 2, PATIENCE)?;
    let measured = pair.spared_is_untouched("")?;
    ensure!(twin.count("publish")? == 1, "the twin was interrupted");
    let trace = Trace::read(&twin.recording(1))?;
    let step = trace.longest_step_ms();
    ensure!(trace.backward_steps() == 0 && step <= EVEN_MS, "{step} ms between two pictures at the twin");
    Ok(Measured { words: format!("pictures of the twin at most {step} ms apart"), ..measured })
}

fn session(_: &Scale) -> Result<Measured> {
    let sink = Sink::start()?;
    let mut hit = destination("hit", &sink.url(), "b");
    hit["max_session_s"] = 16.into();
    let pair = Pair::on_air(hit)?;
    pair.hit_is_live(PATIENCE)?;
    let gap = changed_over_ms(&sink, &sink, 2)?;
    took_its_leave(&sink, 1)?;
    pair.hit_is_live(PATIENCE)?;
    pair.spared_is_untouched(format!("{gap} ms from the goodbye to the next picture"))
}
