//! What destinations and the way to them do. The promise is always the same: the others lose nothing.

use super::scene::{PATIENCE, Pair};
use super::{Fault, Measured, Scale};
use crate::media::{Clip, EVEN, ffmpeg};
use crate::rig::nginx::Nginx;
use crate::rig::sink::Sink;
use crate::rig::wanted::destination;
use crate::rig::wire::{Weather, Wire};
use crate::zoo::Animal;
use anyhow::{Context, Result, ensure};
use std::process::Stdio;

const SPARED: &str = "the other destination loses no frame";

pub(super) const FAULTS: &[Fault] = &[
    fault(
        "frozen-peer",
        "noticed, reconnected when it wakes; the other destination loses no frame",
        true,
        frozen_peer,
    ),
    fault("reset", "a new connection within seconds; the other destination loses no frame", true, reset),
    fault(
        "half-open",
        "noticed without a word from anybody; the other destination loses no frame",
        false,
        half_open,
    ),
    fault(
        "slow-reader",
        "drops to the next IDR and counts; the other destination loses no frame",
        false,
        slow_reader,
    ),
    fault(
        "busy-key",
        "taken over once the key is free; the other destination loses no frame",
        false,
        busy_key,
    ),
    fault(
        "refused-publish",
        "said in the server's words, tried again; the other loses no frame",
        false,
        refused,
    ),
    fault(
        "tls-error",
        "refused and said so, never in clear text; the other destination loses no frame",
        false,
        tls_error,
    ),
    fault("dns-failure", "said so, tried again; the other destination loses no frame", false, dns_failure),
    fault(
        "long-outage",
        "back by itself within 35 s of its end; the other destination loses no frame",
        false,
        outage,
    ),
];

const fn fault(
    name: &'static str,
    promise: &'static str,
    short: bool,
    run: fn(&Scale) -> Result<Measured>,
) -> Fault {
    Fault { name, group: "destination", promise, short, run }
}

fn behind_a_wire() -> Result<(Sink, Wire, Pair)> {
    let sink = Sink::start()?;
    let wire = Wire::start(sink.address())?;
    let pair = Pair::on_air(destination("hit", &wire.url(), "b"))?;
    pair.hit_is_live(PATIENCE)?;
    Ok((sink, wire, pair))
}

fn reconnects(pair: &Pair) -> Result<u64> {
    pair.seen()?["reconnects"].as_u64().context("no count of reconnects")
}

fn frozen_peer(scale: &Scale) -> Result<Measured> {
    let (_sink, wire, pair) = behind_a_wire()?;
    wire.turn(Weather::Frozen);
    pair.hit_is_lost(PATIENCE)?;
    std::thread::sleep(scale.seconds(5.0));
    wire.turn(Weather::Fair);
    pair.hit_is_live(PATIENCE)?;
    pair.spared_is_untouched(SPARED)
}

fn reset(scale: &Scale) -> Result<Measured> {
    let (sink, wire, pair) = behind_a_wire()?;
    wire.reset();
    sink.wait_for("first_idr", 2, PATIENCE)?;
    pair.hit_is_live(PATIENCE)?;
    std::thread::sleep(scale.seconds(3.0));
    let back = super::scene::darkest_ms(&sink)?;
    ensure!(reconnects(&pair)? == 1, "{} reconnects", reconnects(&pair)?);
    pair.spared_is_untouched(format!("back after {back} ms"))
}

fn half_open(scale: &Scale) -> Result<Measured> {
    let (_sink, wire, pair) = behind_a_wire()?;
    wire.turn(Weather::Silent);
    pair.hit_is_lost(PATIENCE)?;
    std::thread::sleep(scale.seconds(10.0));
    wire.turn(Weather::Fair);
    pair.hit_is_live(PATIENCE)?;
    pair.spared_is_untouched(SPARED)
}

fn slow_reader(scale: &Scale) -> Result<Measured> {
    let sink = Sink::start()?;
    let wire = Wire::start(sink.address())?;
    // As many bytes as real media have: a peer that takes next to nothing is a dead one, and not a slow one.
    let full = Animal::new(Clip { video: EVEN, ..Clip::plain("40-full.mp4", 40) }.lasting(20.0));
    let pair = Pair::playing(&[full], destination("hit", &wire.url(), "b"))?;
    pair.hit_is_live(PATIENCE)?;
    wire.turn(Weather::Slow { per_second: 80_000 });
    let dropped = pair.controller.wait_until("dropped tags are counted", PATIENCE, |s| {
        crate::rig::wanted::seen(s, "hit")["dropped"].as_u64() > Some(0)
    });
    dropped?;
    std::thread::sleep(scale.seconds(5.0));
    wire.turn(Weather::Fair);
    pair.hit_is_live(PATIENCE)?;
    let dropped = pair.seen()?["dropped"].as_u64().unwrap_or(0);
    pair.spared_is_untouched(format!("{dropped} tags dropped at the slow one"))
}

fn busy_key(scale: &Scale) -> Result<Measured> {
    let sink = Sink::start()?;
    let mut other = ffmpeg();
    other.args([
        "-re",
        "-f",
        "lavfi",
        "-i",
        "testsrc2=s=320x180:r=30",
        "-c:v",
        "libx264",
        "-preset",
        "ultrafast",
    ]);
    other.args(["-f", "flv"]).arg(format!("{}/b", sink.url())).stderr(Stdio::null());
    let mut other = other.spawn().context("start the one that has the key")?;
    let taken = sink.wait_for("publish", 1, PATIENCE);
    let pair = taken.and_then(|()| Pair::on_air(destination("hit", &sink.url(), "b")));
    let refused = pair.and_then(|pair| pair.hit_says("BadName", PATIENCE).map(|()| pair));
    std::thread::sleep(scale.seconds(3.0));
    crate::rig::program::end(&mut other, PATIENCE);
    let pair = refused?;
    pair.hit_is_live(PATIENCE)?;
    pair.spared_is_untouched(SPARED)
}

fn refused(_: &Scale) -> Result<Measured> {
    let nginx = Nginx::start()?;
    let url = nginx.url().replace("/live", "/no-such-application");
    let pair = Pair::on_air(destination("hit", &url, "b"))?;
    let seen = pair.controller.wait_until("it is refused", PATIENCE, |s| {
        crate::rig::wanted::seen(s, "hit")["attempt"].as_u64() >= Some(1)
    })?;
    let code = crate::rig::wanted::seen(&seen, "hit")["last_error"]["code"].to_string();
    ensure!(!code.contains("null"), "no code is shown");
    pair.spared_is_untouched(format!("it says {code}"))
}

fn tls_error(_: &Scale) -> Result<Measured> {
    let tls = Nginx::start()?;
    let pair = Pair::on_air(destination("hit", &tls.tls_url(), "b"))?;
    pair.hit_says("tls", PATIENCE)?;
    ensure!(tls.publishes() == 0, "it was published in spite of the certificate");
    pair.spared_is_untouched(SPARED)
}

fn dns_failure(_: &Scale) -> Result<Measured> {
    let pair = Pair::on_air(destination("hit", "rtmp://ingest.invalid/live", "b"))?;
    pair.hit_says("resolve", PATIENCE)?;
    pair.spared_is_untouched(SPARED)
}

fn outage(scale: &Scale) -> Result<Measured> {
    let (sink, wire, pair) = behind_a_wire()?;
    wire.turn(Weather::Down);
    pair.hit_is_lost(PATIENCE)?;
    std::thread::sleep(scale.seconds(60.0));
    wire.turn(Weather::Fair);
    let began = std::time::Instant::now();
    sink.wait_for("first_idr", 2, std::time::Duration::from_secs(45))?;
    let back = began.elapsed().as_secs_f64();
    pair.spared_is_untouched(format!("back {back:.1} s after the outage ended"))
}
