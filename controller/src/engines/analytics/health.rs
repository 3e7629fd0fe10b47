//! The health of a channel: figures, a score and a word.

use super::quality::{Quality, View, edge_latency_ms, quality};
use super::shown::{self, ChannelTimes, Times};
use crate::engines::House;
use crate::engines::unknown_channel;
use crate::error::Problem;
use crate::supervisor::air::Air;
use crate::supervisor::seen::Sight;
use serde::Serialize;
use state::Timestamp;
use state::ids::{ChannelId, DestinationId};
use state::phase::Phase;
use state::seen::Began;
use state::totals::Totals;
use state::wire::{DestinationSeen, DestinationState, Heartbeat};

/// How a channel is.
#[derive(Debug, Serialize)]
pub struct Health {
    channel: ChannelId,
    at: Timestamp,
    #[serde(flatten)]
    quality: Quality,
    air: Option<Air>,
    phase: Phase,
    /// Age of the newest word of the worker.
    heartbeat_age_ms: Option<i64>,
    /// Pictures per second that leave the timeline, and those of the profile.
    fps: Option<f64>,
    profile_fps: Option<f64>,
    /// What leaves the timeline for every output, kbit/s.
    sent_kbps: Option<u32>,
    /// What all destinations together acknowledge, kbit/s.
    accepted_kbps: Option<u32>,
    /// Tags that destinations dropped in this run, and in the last minute.
    dropped: u64,
    dropped_lately: u64,
    /// Read ahead of the item on the air.
    buffer_ms: Option<u64>,
    /// Whether the fallback could be on the air at once.
    protected: Option<bool>,
    /// Largest delay between a tag's due time and its sending in this run.
    max_late_ms: Option<u64>,
    hls: Option<HlsHealth>,
    destinations: Vec<DestinationHealth>,
    /// Sums over all runs.
    totals: Option<ChannelTimes>,
}

#[derive(Debug, Serialize)]
struct HlsHealth {
    last_segment_at: Option<Timestamp>,
    last_segment_age_ms: Option<i64>,
    /// Programme date time at which the newest published segment ends, and how long ago that is.
    edge_at: Option<Timestamp>,
    edge_latency_ms: Option<i64>,
    error: Option<String>,
}

#[derive(Debug, Serialize)]
struct DestinationHealth {
    id: DestinationId,
    state: DestinationState,
    accepted: bool,
    accepted_kbps: u32,
    accepted_at: Option<Timestamp>,
    dropped: u64,
    queue_ms: u32,
    rtt_ms: Option<u32>,
    warnings: Vec<String>,
    totals: Option<Times>,
}

/// The health of a channel.
///
/// # Errors
/// 404 unknown channel.
pub fn health(house: &House, channel: &ChannelId) -> Result<Health, Problem> {
    let wish = house.wishes.get(channel).ok_or_else(|| unknown_channel(channel))?;
    let enabled = house.keyring.of(&wish).into_iter().filter(|wanted| wanted.shown.enabled);
    let wanted: Vec<DestinationId> = enabled.map(|wanted| wanted.shown.id).collect();
    let sight = house.supervisor.sight(channel);
    Ok(judged(channel, &wanted, sight.as_ref(), state::now()))
}

fn judged(channel: &ChannelId, wanted: &[DestinationId], sight: Option<&Sight>, now: Timestamp) -> Health {
    let beat = sight.and_then(|sight| sight.beat.as_deref());
    let totals = sight.and_then(|sight| sight.totals.as_deref());
    let run = sight.and_then(|sight| sight.state.run.as_ref());
    let restarted_at = run.filter(|run| run.began == Some(Began::Retry)).map(|run| run.started_at);
    let air = sight.map_or(crate::supervisor::air::Is::Unknown, |sight| sight.air.is);
    let flow = beat.map(|beat| beat.flow);
    let destinations = beat.map(|beat| beat.destinations.as_slice()).unwrap_or_default();
    let unknown = |id: &&DestinationId| destinations.iter().all(|seen| seen.id != **id);
    let left_out: Vec<_> = wanted.iter().filter(unknown).cloned().collect();
    Health {
        channel: channel.clone(),
        at: now,
        quality: quality(View { air, beat, restarted_at, left_out: &left_out, now }),
        air: sight.map(|sight| sight.air.clone()),
        phase: sight.map_or(Phase::Off, |sight| sight.state.phase),
        heartbeat_age_ms: beat.map(|beat| age_ms(beat.at, now)),
        fps: flow.map(|flow| flow.fps),
        profile_fps: beat.and_then(|beat| Some(beat.profile.as_ref()?.fps.per_second())),
        sent_kbps: flow.map(|flow| flow.kbps),
        accepted_kbps: beat.map(|_| destinations.iter().map(|seen| seen.bitrate_kbps).sum()),
        dropped: destinations.iter().map(|seen| seen.dropped).sum(),
        dropped_lately: flow.map_or(0, |flow| flow.dropped_lately),
        buffer_ms: flow.and_then(|flow| flow.ahead_ms),
        protected: beat.map(|beat| beat.protected),
        max_late_ms: beat.map(|beat| beat.counts.max_late_ms),
        hls: beat.and_then(|beat| hls(beat, now)),
        destinations: destinations.iter().map(|seen| destination(seen, totals)).collect(),
        totals: totals.map(shown::channel),
    }
}

fn age_ms(at: Timestamp, now: Timestamp) -> i64 {
    now.as_millisecond() - at.as_millisecond()
}

fn hls(beat: &Heartbeat, now: Timestamp) -> Option<HlsHealth> {
    let hls = beat.hls.as_ref()?;
    Some(HlsHealth {
        last_segment_at: hls.last_segment_at,
        last_segment_age_ms: hls.last_segment_at.map(|at| age_ms(at, now)),
        edge_at: hls.edge_at,
        edge_latency_ms: edge_latency_ms(hls, now),
        error: hls.error.clone(),
    })
}

fn destination(seen: &DestinationSeen, totals: Option<&Totals>) -> DestinationHealth {
    DestinationHealth {
        id: seen.id.clone(),
        state: seen.state,
        accepted: seen.state == DestinationState::Live,
        accepted_kbps: seen.bitrate_kbps,
        accepted_at: seen.accepted_at,
        dropped: seen.dropped,
        queue_ms: seen.queue_ms,
        rtt_ms: seen.rtt_ms,
        warnings: seen.warnings.clone(),
        totals: totals.and_then(|totals| shown::destination(totals, &seen.id)),
    }
}
