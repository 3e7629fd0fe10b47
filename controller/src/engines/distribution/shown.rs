//! A destination as everybody sees it: what is wanted of it and what its worker sees. Addresses are masked, and no key
//! gets in here.

use super::links;
use crate::engines::analytics::shown::{self as analytics, Times};
use crate::supervisor::seen::Sight;
use crate::wishes::destinations::{Keyring, Wanted};
use ring::digest;
use serde::Serialize;
use state::Timestamp;
use state::channel::StreamConfig;
use state::destination::{Boundary, Destination, Platform};
use state::ids::{ChannelId, DestinationId};
use state::mask;
use state::wire::{DestinationError, DestinationSeen, DestinationState, Heartbeat};

/// A destination, wanted and seen.
#[derive(Debug, Serialize)]
pub struct DestinationShown {
    id: DestinationId,
    name: String,
    platform: Platform,
    url: String,
    /// When a key was last given for it.
    keyed_at: Option<Timestamp>,
    backup_url: Option<String>,
    /// The destination whose second ingest this is.
    linked_to: Option<DestinationId>,
    boundary: Boundary,
    /// The limit that holds: its own, or its platform's.
    max_session_s: Option<u64>,
    /// Where the next key is asked for: scheme and host, because the rest may be a secret.
    key_url: Option<String>,
    enabled: bool,
    /// Its key comes from the environment, and so it cannot be changed here.
    read_only: bool,
    state: DestinationState,
    since: Option<Timestamp>,
    /// Media leaves for it.
    sending: bool,
    /// It acknowledges media.
    accepted: bool,
    /// The platform itself says that it is live; nobody can know without a connected account.
    confirmed: &'static str,
    pub(crate) accepted_bytes: u64,
    accepted_at: Option<Timestamp>,
    pub(crate) bitrate_kbps: u32,
    reconnects: u64,
    dropped: u64,
    attempt: u32,
    next_retry_at: Option<Timestamp>,
    last_error: Option<DestinationError>,
    /// The address in use or tried; another one than `url` while another way in is used.
    way: Option<String>,
    /// What the platform will not like about what is sent.
    warnings: Vec<String>,
    /// In this run.
    on_air_ms: u64,
    /// In this run.
    dark_ms: u64,
    rtt_ms: Option<u32>,
    queue_ms: u32,
    /// Its second ingests, and how they do.
    linked: Vec<Linked>,
    /// Sums over all runs.
    totals: Option<Times>,
    #[serde(skip)]
    tag: String,
}

/// A second ingest beside its first one.
#[derive(Debug, Serialize)]
struct Linked {
    id: DestinationId,
    state: DestinationState,
    accepted: bool,
}

impl DestinationShown {
    /// Names it within its channel.
    pub fn id(&self) -> &DestinationId {
        &self.id
    }

    /// Tells one version of what is wanted of it from another (RFC 9110 section 8.8.3, without quotes). How it does
    /// is not part of it.
    pub fn tag(&self) -> &str {
        &self.tag
    }
}

/// Every destination of a channel.
pub(crate) fn all(wish: &StreamConfig, keyring: &Keyring, sight: Option<&Sight>) -> Vec<DestinationShown> {
    let beat = sight.and_then(|sight| sight.beat.as_deref());
    let totals = sight.and_then(|sight| sight.totals.as_deref());
    let times = |id: &DestinationId| totals.and_then(|totals| analytics::destination(totals, id));
    let shown = |wanted: &Wanted| DestinationShown {
        totals: times(&wanted.shown.id),
        ..shown(wish, wanted, keyring, beat)
    };
    keyring.of(wish).iter().map(shown).collect()
}

fn shown(
    wish: &StreamConfig,
    wanted: &Wanted,
    keyring: &Keyring,
    beat: Option<&Heartbeat>,
) -> DestinationShown {
    let saved = &wanted.shown;
    // The newest heartbeat may be older than the wish.
    let seen = seen(beat, &saved.id).filter(|_| saved.enabled);
    let state = seen.map_or(DestinationState::Idle, |seen| seen.state);
    let figure = |of: fn(&DestinationSeen) -> u64| seen.map_or(0, of);
    DestinationShown {
        id: saved.id.clone(),
        name: saved.name.clone(),
        platform: saved.platform,
        url: mask::url(&saved.url),
        keyed_at: saved.keyed_at,
        backup_url: saved.backup_url.as_deref().map(mask::url),
        linked_to: saved.linked_to.clone(),
        boundary: saved.boundary,
        max_session_s: saved.session_limit_s(),
        key_url: key_url(&wish.id, saved, keyring),
        enabled: saved.enabled,
        read_only: wanted.implied,
        state,
        since: seen.map(|seen| seen.since),
        sending: matches!(state, DestinationState::Sending | DestinationState::Live),
        accepted: state == DestinationState::Live,
        confirmed: "unknown",
        accepted_bytes: figure(|seen| seen.accepted_bytes),
        accepted_at: seen.and_then(|seen| seen.accepted_at),
        bitrate_kbps: seen.map_or(0, |seen| seen.bitrate_kbps),
        reconnects: figure(|seen| seen.reconnects),
        dropped: figure(|seen| seen.dropped),
        attempt: seen.map_or(0, |seen| seen.attempt),
        next_retry_at: seen.and_then(|seen| seen.next_retry_at),
        last_error: seen.and_then(|seen| seen.last_error.clone()),
        way: seen.and_then(|seen| seen.way.as_deref().map(mask::url)),
        warnings: seen.map(|seen| seen.warnings.clone()).unwrap_or_default(),
        on_air_ms: figure(|seen| seen.on_air_ms),
        dark_ms: figure(|seen| seen.dark_ms),
        rtt_ms: seen.and_then(|seen| seen.rtt_ms),
        queue_ms: seen.map_or(0, |seen| seen.queue_ms),
        linked: links::followers(wish, &saved.id).map(|second| linked(second, beat)).collect(),
        totals: None,
        tag: tag(saved),
    }
}

fn seen<'a>(beat: Option<&'a Heartbeat>, id: &DestinationId) -> Option<&'a DestinationSeen> {
    beat.and_then(|beat| beat.destinations.iter().find(|seen| seen.id == *id))
}

fn linked(second: &Destination, beat: Option<&Heartbeat>) -> Linked {
    let seen = seen(beat, &second.id).filter(|_| second.enabled);
    let state = seen.map_or(DestinationState::Idle, |seen| seen.state);
    Linked { id: second.id.clone(), state, accepted: state == DestinationState::Live }
}

/// `https://host/…`: hooks often have a secret in their path.
fn key_url(channel: &ChannelId, saved: &Destination, keyring: &Keyring) -> Option<String> {
    let Ok(url) = keyring.key_url_of(channel, saved) else { return Some("***".to_owned()) };
    let masked = mask::url(url?.expose());
    let host_from = masked.find("://").map_or(0, |at| at + 3);
    let end = masked[host_from..].find('/').map_or(masked.len(), |at| host_from + at);
    Some(format!("{}/…", &masked[..end]))
}

pub(super) fn tag(saved: &Destination) -> String {
    let text = serde_json::to_vec(saved).unwrap_or_default();
    let digest = digest::digest(&digest::SHA256, &text);
    digest.as_ref()[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}
