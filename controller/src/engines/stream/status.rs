//! The status of a channel as everybody sees it. Wish, sight and confirmation stay three things, addresses are
//! masked, and no key gets in here.

use crate::alerts::Alert;
use crate::engines::analytics::shown::{self as analytics, ChannelTimes};
use crate::engines::distribution::shown::{self as distribution, DestinationShown};
use crate::engines::{House, unknown_channel};
use crate::error::Problem;
use crate::media;
use crate::supervisor::air::{Air, Is};
use crate::supervisor::seen::Sight;
use serde::Serialize;
use state::Timestamp;
use state::channel::StreamConfig;
use state::ids::{ChannelId, ClientId, PublicId, Ulid};
use state::phase::{Phase, Wish};
use state::profile::Profile;
use state::seen::StreamState;
use state::wire::{Counts, Heartbeat, ItemFailure, ItemSeen, NextSeen};

/// Everything that is wanted and seen of a channel.
#[derive(Debug, Serialize)]
pub struct Status {
    channel: ChannelId,
    name: String,
    client: ClientId,
    public_id: PublicId,
    wish: Wish,
    wish_since: Option<Timestamp>,
    phase: Phase,
    phase_since: Option<Timestamp>,
    air: Air,
    /// The fallback is made, on this machine's disk and open, so that it can be on the air at once.
    protected: bool,
    fallback_video: Option<String>,
    slate: SlateShown,
    session_id: Option<Ulid>,
    run: Option<RunShown>,
    /// Since the present worker was started; 0 without one.
    uptime_s: i64,
    restart_count: u64,
    retry_count: u32,
    next_retry_at: Option<Timestamp>,
    last_error: Option<LastError>,
    last_health_check: Option<Timestamp>,
    last_heartbeat: Option<Timestamp>,
    #[serde(rename = "loop")]
    looped: bool,
    profile: Option<Profile>,
    item: Option<ItemSeen>,
    next: Option<NextSeen>,
    /// Acknowledged bytes of all destinations in this run.
    accepted_bytes: u64,
    /// Acknowledged kbit/s of all destinations.
    bitrate_kbps: u32,
    destinations: Vec<DestinationShown>,
    hls: HlsShown,
    failed_items: Vec<ItemFailure>,
    counts: Counts,
    /// Sums over all runs.
    totals: Option<ChannelTimes>,
    /// What is wrong with it now and was told.
    alerts: Vec<Alert>,
    /// What the copies on this machine were good for; null where media are files.
    cache: Option<media::Counts>,
}

/// The fallback by order.
#[derive(Debug, Serialize)]
struct SlateShown {
    wanted: bool,
    /// The worker knows of it.
    on: bool,
}

#[derive(Debug, Serialize)]
struct RunShown {
    id: Ulid,
    epoch: u64,
    pid: u32,
    started_at: Timestamp,
    exit_code: Option<i32>,
}

/// How the last worker failed; it stays until the next start by the API.
#[derive(Debug, Serialize)]
struct LastError {
    run: Ulid,
    exit_code: Option<i32>,
    words: String,
}

#[derive(Debug, Serialize)]
struct HlsShown {
    enabled: bool,
    public: bool,
    url: Option<String>,
    segments: u64,
    last_segment_at: Option<Timestamp>,
    error: Option<String>,
}

/// The status of a channel.
///
/// # Errors
/// 404 unknown channel.
pub fn status(house: &House, channel: &ChannelId) -> Result<Status, Problem> {
    let wish = house.wishes.get(channel).ok_or_else(|| unknown_channel(channel))?;
    let sight = house.supervisor.sight(channel).unwrap_or_else(|| unseen(&wish));
    let cache = house.media.of(channel);
    let destinations = distribution::all(&wish, &house.keyring, Some(&sight));
    let alerts = house.alerts.of(channel);
    Ok(Status { cache, alerts, ..shown(wish, destinations, sight, state::now()) })
}

fn unseen(wish: &StreamConfig) -> Sight {
    let air = Air { is: Is::Off, since: state::now(), because: String::new() };
    Sight::of(StreamState::new(wish.id.clone()), air)
}

fn shown(wish: StreamConfig, destinations: Vec<DestinationShown>, sight: Sight, now: Timestamp) -> Status {
    let beat = sight.beat.as_deref();
    let Sight { state, .. } = &sight;
    let started = state.run.as_ref().filter(|_| sight.alive).map(|run| run.started_at);
    Status {
        hls: hls(&wish, beat),
        channel: wish.id,
        name: wish.name,
        client: wish.client,
        public_id: wish.public_id,
        wish: wish.wish,
        wish_since: wish.wish_since,
        phase: state.phase,
        phase_since: state.phase_since,
        air: sight.air.clone(),
        protected: beat.is_some_and(|beat| beat.protected),
        fallback_video: wish.fallback_video,
        slate: SlateShown { wanted: wish.slate_on, on: beat.is_some_and(|beat| beat.slate_on) },
        session_id: wish.session_id,
        run: run(state),
        uptime_s: started.map_or(0, |at| (now.as_second() - at.as_second()).max(0)),
        restart_count: state.restart_count,
        retry_count: state.retry_count,
        next_retry_at: state.next_retry_at,
        last_error: last_error(state),
        last_health_check: state.last_health_check,
        last_heartbeat: beat.map(|beat| beat.at),
        looped: wish.looped,
        profile: beat.and_then(|beat| beat.profile.clone()).or(wish.profile),
        item: beat.and_then(|beat| beat.item.clone()),
        next: beat.and_then(|beat| beat.next.clone()),
        accepted_bytes: destinations.iter().map(|d| d.accepted_bytes).sum(),
        bitrate_kbps: destinations.iter().map(|d| d.bitrate_kbps).sum(),
        destinations,
        failed_items: beat.map(|beat| beat.failed_items.clone()).unwrap_or_default(),
        counts: beat.map(|beat| beat.counts).unwrap_or_default(),
        totals: sight.totals.as_deref().map(analytics::channel),
        alerts: Vec::new(),
        cache: None,
    }
}

fn run(state: &StreamState) -> Option<RunShown> {
    state.run.as_ref().map(|run| RunShown {
        id: run.id.clone(),
        epoch: state.epoch,
        pid: run.pid,
        started_at: run.started_at,
        exit_code: run.exit_code,
    })
}

fn last_error(state: &StreamState) -> Option<LastError> {
    let failed = state.failed_run.as_ref()?;
    let words = failed.exit_words.clone().unwrap_or_default();
    Some(LastError { run: failed.id.clone(), exit_code: failed.exit_code, words })
}

fn hls(wish: &StreamConfig, beat: Option<&Heartbeat>) -> HlsShown {
    let seen = beat.and_then(|beat| beat.hls.as_ref());
    HlsShown {
        enabled: wish.hls.enabled,
        public: wish.hls.public,
        url: wish.hls.enabled.then(|| format!("/hls/{}/index.m3u8", wish.public_id)),
        segments: seen.map_or(0, |seen| seen.segments),
        last_segment_at: seen.and_then(|seen| seen.last_segment_at),
        error: seen.and_then(|seen| seen.error.clone()),
    }
}
