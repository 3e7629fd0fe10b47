//! Real peers and real media for the tests of the RTMP output: nginx-rtmp, FFmpeg's clips, ffprobe's verdict.
#![allow(dead_code, unreachable_pub)]

pub mod clip;
pub mod nginx;
pub mod recording;
pub mod server;

use state::ids::DestinationId;
use state::secret::Secret;
use state::wire::{DestinationSeen, DestinationSpec, DestinationState};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use stream_worker::media::{Tag, Track};
use stream_worker::output::rtmp::{Destination, Tuning};
use tokio::sync::Notify;

/// Nothing that is waited for takes this long, not even on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(40);

pub fn spec(url: &str, key: &str) -> DestinationSpec {
    let id = "test".parse::<DestinationId>().unwrap();
    DestinationSpec::new(id, "Test", state::destination::Platform::Custom, url, Secret::new(key))
}

pub fn start(url: &str, key: &str) -> Destination {
    start_tuned(url, key, None, Tuning::default())
}

pub fn start_tuned(url: &str, key: &str, ca_file: Option<PathBuf>, tuning: Tuning) -> Destination {
    start_spec(spec(url, key), ca_file, tuning)
}

pub fn start_spec(spec: DestinationSpec, ca_file: Option<PathBuf>, tuning: Tuning) -> Destination {
    Destination::start_tuned(spec, ca_file, Arc::new(Notify::new()), tuning)
}

/// A destination whose connections begin at this timestamp, ms.
pub fn start_at(url: &str, key: &str, first_timestamp_ms: u32) -> Destination {
    start_spec(DestinationSpec { first_timestamp_ms, ..spec(url, key) }, None, Tuning::default())
}

/// Waits until the destination looks as wanted.
pub async fn wait_for(
    what: &str,
    destination: &Destination,
    wanted: impl Fn(&DestinationSeen) -> bool,
) -> DestinationSeen {
    let began = Instant::now();
    loop {
        let seen = destination.seen();
        if wanted(&seen) {
            return seen;
        }
        assert!(began.elapsed() < PATIENCE, "waited in vain for {what}: {seen:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub async fn wait_for_state(state: DestinationState, destination: &Destination) -> DestinationSeen {
    wait_for(&format!("{state:?}"), destination, |seen| seen.state == state).await
}

/// Waits until the destination has failed, and returns the code and words of it.
pub async fn wait_for_error(destination: &Destination) -> (String, String) {
    let seen = wait_for("an error", destination, |seen| seen.last_error.is_some()).await;
    let error = seen.last_error.unwrap();
    (error.code, error.words)
}

/// Hands tags over at `speed` times their own pace.
pub async fn play(tags: &[Tag], speed: f64, destinations: &[&Destination]) {
    let began = tokio::time::Instant::now();
    let first = tags.first().map_or(0, |tag| tag.dts);
    for tag in tags {
        let due = Duration::from_secs_f64((tag.dts - first).max(0) as f64 / 1000.0 / speed);
        tokio::time::sleep_until(began + due).await;
        destinations.iter().for_each(|destination| destination.send(tag));
    }
}

/// Plays a clip over and over, each round after the one before, until `enough`.
pub async fn play_until(
    tags: &[Tag],
    speed: f64,
    destinations: &[&Destination],
    enough: impl AsyncFn() -> (),
) {
    let length = tags.iter().map(|tag| tag.dts).max().unwrap() + 33;
    let rounds = async {
        for round in 0.. {
            let moved: Vec<Tag> =
                tags.iter().map(|tag| Tag { dts: tag.dts + round * length, ..tag.clone() }).collect();
            play(&moved, speed, destinations).await;
        }
    };
    tokio::select! {
        () = rounds => {}
        () = enough() => {}
    }
}

pub fn count(tags: &[Tag], track: Track) -> usize {
    tags.iter().filter(|tag| tag.track == track).count()
}
