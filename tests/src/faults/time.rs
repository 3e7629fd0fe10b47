//! Clocks that come to their end: timestamps that wrap, at the receivers that nobody here wrote.

use super::scene::{PATIENCE, Watchers};
use super::{Fault, Measured, Scale};
use crate::rig::browser;
use crate::rig::files::Files;
use crate::rig::program::wait_for;
use crate::rig::worker::Worker;
use crate::trace::Trace;
use crate::zoo;
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

/// How long before the wrap a connection begins, ms.
const BEFORE_MS: u64 = 6_000;
/// Ticks of 90 kHz until they begin again (ISO 13818-1, 2.4.3.7).
const TS_WRAP: u64 = 1 << 33;
/// How long a player watches, seconds: across the wrap.
const WATCHED_S: u32 = 30;

pub(super) const FAULTS: &[Fault] = &[
    fault("rtmp-2^24", "timestamps pass 2^24 ms (4 h 39 min): sinks and recorders go through", false, |_| {
        rtmp(24)
    }),
    fault("rtmp-2^31", "timestamps pass 2^31 ms (24.8 days): sinks and recorders go through", false, |_| {
        rtmp(31)
    }),
    fault("rtmp-2^32", "timestamps pass 2^32 ms (49.7 days): sinks and recorders go through", false, |_| {
        rtmp(32)
    }),
    fault("hls-2^33", "HLS passes 2^33 ticks (26.5 h): hls.js goes through without an error", false, hls),
];

const fn fault(
    name: &'static str,
    promise: &'static str,
    short: bool,
    run: fn(&Scale) -> Result<Measured>,
) -> Fault {
    Fault { name, group: "time", promise, short, run }
}

/// The clips of the sample as entries of a playlist.
fn items(folder: &std::path::Path) -> Result<Value> {
    zoo::put_into(folder, &zoo::sample())?;
    let entry = |(n, animal): (usize, zoo::Animal)| {
        let file = animal.clip.file;
        json!({"id": format!("item-{n}"), "key": file, "at": {"path": folder.join(file)}})
    };
    Ok(zoo::sample().into_iter().enumerate().map(entry).collect())
}

fn rtmp(bits: u32) -> Result<Measured> {
    let folder = tempfile::tempdir().context("make a folder for media")?;
    let watchers = Watchers::start()?;
    let first = (1_u64 << bits) - BEFORE_MS;
    let mut destinations = watchers.destinations();
    for destination in destinations.as_array_mut().context("destinations are a list")? {
        destination["first_timestamp_ms"] = first.into();
    }
    let mut worker =
        Worker::start(json!({"items": items(folder.path())?, "loop": true, "destinations": destinations}))?;
    let passed = |ms: u32| u64::from(ms) < first && ms > 4_000 || u64::from(ms) > (1 << bits) + 4_000;
    wait_for("pictures after the wrap", PATIENCE, || {
        let trace = Trace::read(&watchers.sink.recording(1)).unwrap_or_default();
        Ok(trace.video.last().copied().filter(|ms| passed(*ms)).map(drop))
    })?;
    worker.end();
    let trace = Trace::read(&watchers.sink.recording(1))?;
    let (begin, end) = (trace.video.first().copied(), trace.video.last().copied());
    let begun = u64::from(begin.context("no picture came")?);
    ensure!((first..first + 1_000).contains(&begun), "the connection began at {begun} ms and not at {first}");
    watchers.judge(format!("from {begun} ms to {} ms", end.unwrap_or_default()))
}

fn hls(_: &Scale) -> Result<Measured> {
    let folder = tempfile::tempdir().context("make folders")?;
    let (media, dir) = (folder.path().join("media"), folder.path().join("hls"));
    std::fs::create_dir_all(&media)?;
    // A player begins three segments before the end, so the wrap is far enough for it to begin before.
    let first_pts = TS_WRAP - 90_000 * 26;
    let hls = json!({"dir": dir, "public_id": "A".repeat(22), "first_pts": first_pts});
    let mut worker =
        Worker::start(json!({"items": items(&media)?, "loop": true, "destinations": [], "hls": hls}))?;
    let files = Files::serve(dir.clone())?;
    let playlist = dir.join("index.m3u8");
    wait_for("five segments", PATIENCE, || {
        let text = std::fs::read_to_string(&playlist).unwrap_or_default();
        Ok((text.matches("#EXTINF").count() >= 5).then_some(()))
    })?;
    let seen = browser::watch(&files.url("index.m3u8"), WATCHED_S)?;
    worker.end();
    ensure!(seen["errors"] == json!([]), "errors: {}", seen["errors"]);
    ensure!(seen["black_samples"] == 0, "{} black samples", seen["black_samples"]);
    ensure!(seen["played_s"].as_f64() >= Some(f64::from(WATCHED_S)), "played {} s", seen["played_s"]);
    Ok(Measured { gap_ms: None, words: format!("hls.js played {} s across the wrap", seen["played_s"]) })
}
