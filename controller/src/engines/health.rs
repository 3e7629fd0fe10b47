//! What is missing or broken, in words for whoever has to fix it.

use super::House;
use crate::supervisor::air::Is;
use serde::Serialize;
use state::channel::StreamConfig;
use state::ids::{ChannelId, DestinationId};
use state::phase::Wish;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The media folder is looked at no more often than this, because anybody may ask.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// The answer to "how are you?".
#[derive(Debug, Serialize)]
pub struct Health {
    /// `degraded` when there is a problem.
    pub status: &'static str,
    /// Of this program.
    pub version: &'static str,
    /// Since the controller started.
    pub uptime_s: u64,
    /// What someone must do something about.
    pub problems: Vec<String>,
    /// What is good to know.
    pub notices: Vec<String>,
    /// How many channels there should be and are.
    pub channels: Channels,
}

/// Counts of channels.
#[derive(Debug, Serialize)]
pub struct Channels {
    /// Their wish is on.
    pub wanted: usize,
    /// They are on the air, with the programme or the slate.
    pub on: usize,
}

/// A destination that is not sent to, and why.
type LeftOut = (ChannelId, DestinationId, String);

/// So many changes of so many channels.
type AsOf = (u64, usize);

/// Remembers what takes long to find out: the last look at the media folder, and which destinations are left out.
#[derive(Default)]
pub struct Checkup {
    media: Mutex<Option<(Instant, Option<String>)>>,
    left_out: Mutex<Option<(AsOf, Vec<LeftOut>)>>,
}

/// How the controller is.
pub async fn health(house: &House) -> Health {
    let wanted: Vec<_> = house.wishes.all().into_iter().filter(|wish| wish.wish == Wish::On).collect();
    let sights = house.wishes.all().into_iter().filter_map(|wish| house.supervisor.sight(&wish.id));
    let sights: Vec<_> = sights.collect();
    let mut problems = missing(house).await;
    problems.extend(house.broken.iter().cloned());
    problems.extend(house.reload_failed.lock().unwrap_or_else(PoisonError::into_inner).clone());
    problems.extend(sights.iter().flat_map(|sight| sight.alerts.clone()));
    problems.extend(house.alerts.of_machine());
    let dark = sights.iter().filter(|sight| sight.air.is == Is::Dark);
    problems.extend(dark.map(|sight| format!("channel {} is dark: {}", sight.state.id, sight.air.because)));
    Health {
        status: if problems.is_empty() { "ok" } else { "degraded" },
        version: env!("CARGO_PKG_VERSION"),
        uptime_s: house.started.elapsed().as_secs(),
        problems,
        notices: notices(house),
        channels: Channels {
            wanted: wanted.len(),
            on: sights.iter().filter(|sight| matches!(sight.air.is, Is::On | Is::Fallback)).count(),
        },
    }
}

/// What stands in the way of going on the air: programs, media and keys.
pub async fn missing(house: &House) -> Vec<String> {
    let mut missing = programs(house);
    missing.extend(media_problem(house).await);
    missing.extend(house.media.alert());
    missing.extend(house.keyring.lost().map(str::to_owned));
    let left_out = left_out(house).into_iter();
    missing.extend(
        left_out.map(|(id, destination, why)| format!("channel {id}, destination {destination}: {why}")),
    );
    missing
}

/// Programs that cannot be used.
pub fn programs(house: &House) -> Vec<String> {
    let mut missing = house.briefing.tools().problems;
    if !house.config.worker.is_file() {
        missing.push(format!(
            "the worker program {} is missing; set WORKER_PATH",
            house.config.worker.display()
        ));
    }
    missing
}

/// Destinations that are not sent to, and why: their key cannot be opened, or another one has it.
pub fn left_out(house: &House) -> Vec<LeftOut> {
    let mut known = house.checkup.left_out.lock().unwrap_or_else(PoisonError::into_inner);
    let as_of = (house.wishes.changes(), house.wishes.count());
    match &*known {
        Some((at, left_out)) if *at == as_of => left_out.clone(),
        _ => known.insert((as_of, find_left_out(house))).1.clone(),
    }
}

/// Every key is opened for this, and each channel's are compared with those of the others.
fn find_left_out(house: &House) -> Vec<LeftOut> {
    let mut left_out = Vec::new();
    let all = house.wishes.all();
    for wish in &all {
        let enabled = house.keyring.of(wish).into_iter().filter(|wanted| wanted.shown.enabled);
        let closed = enabled.filter_map(|wanted| {
            let error = house.keyring.spec(&wish.id, &wanted).err()?;
            Some((wish.id.clone(), wanted.shown.id, error.to_string()))
        });
        left_out.extend(closed);
        left_out.extend(shared(house, wish, &all));
    }
    left_out
}

/// Destinations that are left out because another wanted channel sends to the same place with the same key.
fn shared(house: &House, wish: &StreamConfig, all: &[StreamConfig]) -> Vec<LeftOut> {
    if wish.wish == Wish::Off {
        return Vec::new();
    }
    let taken = house.keyring.taken(wish, all).into_iter();
    taken.map(|(id, by)| (wish.id.clone(), id, format!("left out, channel {by} uses the same key"))).collect()
}

/// What is good to know but may well be meant so.
pub fn notices(house: &House) -> Vec<String> {
    let mut notices = house.config.notices.clone();
    for wish in house.wishes.all() {
        if !house.keyring.of(&wish).iter().any(|wanted| wanted.shown.enabled) {
            notices.push(format!(
                "channel {} has no destination: {}",
                wish.id,
                if wish.hls.enabled { "it is served over HLS only" } else { "it cannot be started" }
            ));
        }
    }
    notices
}

/// Why the media cannot be listed, or that there are none, as of a moment ago.
pub async fn media_problem(house: &House) -> Option<String> {
    let known = |checkup: &Checkup| checkup.media.lock().unwrap_or_else(PoisonError::into_inner).clone();
    if let Some((at, problem)) = known(&house.checkup)
        && at.elapsed() < LOOK_EVERY
    {
        return problem;
    }
    let problem = house.library.problem().await;
    *house.checkup.media.lock().unwrap_or_else(PoisonError::into_inner) =
        Some((Instant::now(), problem.clone()));
    problem
}
