//! How good a channel is at this moment, as a number and a word. Pure. The table in `docs/truth.md` is this file.

use crate::supervisor::air::Is;
use crate::supervisor::seen::STALE;
use serde::Serialize;
use state::Timestamp;
use state::ids::DestinationId;
use state::wire::{DestinationSeen, DestinationState, Heartbeat, HlsSeen, Playing};

/// A channel is good from this score on.
const GOOD: u32 = 80;
/// A newest segment older than this is one that did not come, s: three target durations and a little.
const SEGMENT_FRESH_S: i64 = 15;
/// Viewers who see HLS later than this wait long, ms.
const FAR_EDGE_MS: i64 = 20_000;
/// Less than this read ahead does not outlast a hiccup, ms.
const LITTLE_AHEAD_MS: u64 = 1_000;
/// A restart within this time still counts, s.
const RESTART_COUNTS_S: i64 = 600;
/// A run younger than this has no rates yet, ms.
const TOO_YOUNG_MS: u64 = 8_000;

/// What can be seen.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// The judgement of the air.
    pub air: Is,
    /// The newest heartbeat of the living run.
    pub beat: Option<&'a Heartbeat>,
    /// When the present worker was started in the place of one that failed.
    pub restarted_at: Option<Timestamp>,
    /// Destinations that are wanted and that the worker does not know.
    pub left_out: &'a [DestinationId],
    /// Now.
    pub now: Timestamp,
}

/// How good it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Quality {
    /// In one word.
    pub state: State,
    /// 0 to 100; none while nobody wants it.
    pub score: Option<u32>,
    /// What costs points, dearest first.
    pub costs: Vec<Cost>,
}

/// In one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Viewers get the programme, and nothing much is wrong.
    Good,
    /// Viewers get the programme, and something is wrong.
    Poor,
    /// Viewers get the fallback.
    Fallback,
    /// Viewers get nothing.
    Dark,
    /// Nobody knows what viewers get.
    Unknown,
    /// Nobody wants it.
    Off,
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Cost {
    /// What it costs, of 100.
    pub points: u32,
    /// Names it for programs; stable.
    pub code: Code,
    /// Names it for people.
    pub words: String,
}

/// What can cost points.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// Wanted, and nobody accepts anything.
    Dark,
    /// The worker is not heard.
    Unknown,
    /// The fallback is on the air.
    Fallback,
    /// Destinations that accept nothing.
    DestinationDown,
    /// Too few pictures leave.
    FewPictures,
    /// HLS cannot be written.
    Hls,
    /// A destination accepts slower than it is sent.
    SlowDestination,
    /// Too little is read ahead.
    LittleBuffer,
    /// Tags were dropped.
    Drops,
    /// Connections were begun anew.
    Reconnects,
    /// HLS is far behind.
    HlsLate,
    /// The worker failed lately.
    Restarted,
    /// A platform will not like what is sent.
    Warnings,
}

/// Judges.
pub fn quality(view: View<'_>) -> Quality {
    let state = match view.air {
        Is::Off => return Quality { state: State::Off, score: None, costs: Vec::new() },
        Is::Dark => State::Dark,
        // What was on the air when the worker was last heard says nothing about now.
        Is::On | Is::Fallback if !is_heard(view) => State::Unknown,
        Is::Unknown => State::Unknown,
        Is::Fallback => State::Fallback,
        Is::On => State::Good,
    };
    let mut costs = match (state, view.beat) {
        (State::Dark, _) => vec![cost(100, Code::Dark, "nobody accepts anything")],
        (State::Unknown, _) | (_, None) => vec![cost(100, Code::Unknown, "the worker is not heard")],
        (_, Some(beat)) => costs(beat, view),
    };
    costs.sort_by_key(|cost| std::cmp::Reverse(cost.points));
    let score = 100u32.saturating_sub(costs.iter().map(|cost| cost.points).sum());
    let state = if state == State::Good && score < GOOD { State::Poor } else { state };
    Quality { state, score: Some(score), costs }
}

fn is_heard(view: View<'_>) -> bool {
    let age_ms = |beat: &Heartbeat| view.now.as_millisecond().abs_diff(beat.at.as_millisecond());
    // The supervisor has a second to look.
    view.beat.is_some_and(|beat| u128::from(age_ms(beat)) <= STALE.as_millis() + 1_000)
}

fn cost(points: u32, code: Code, words: impl Into<String>) -> Cost {
    Cost { points, code, words: words.into() }
}

fn costs(beat: &Heartbeat, view: View<'_>) -> Vec<Cost> {
    let mut found = Vec::new();
    if beat.playing == Playing::Fallback {
        let why = beat.because.as_deref().unwrap_or("there is nothing to play");
        found.push(cost(50, Code::Fallback, format!("the fallback is on the air: {why}")));
    }
    found.extend(of_destinations(beat, view.left_out));
    found.extend(of_flow(beat));
    if let Some(hls) = &beat.hls {
        found.extend(of_hls(hls, beat.sent_ms, view.now));
    }
    let restarted_s = view.restarted_at.map(|at| view.now.as_second() - at.as_second());
    if let Some(seconds) = restarted_s.filter(|seconds| (0..RESTART_COUNTS_S).contains(seconds)) {
        found.push(cost(
            10,
            Code::Restarted,
            format!("the worker failed and was started again {seconds} s ago"),
        ));
    }
    found
}

fn of_destinations(beat: &Heartbeat, left_out: &[DestinationId]) -> Vec<Cost> {
    let mut found = Vec::new();
    let all = &beat.destinations;
    let silent = all.iter().filter(|d| d.state != DestinationState::Live).map(|d| &d.id);
    let away: Vec<&str> = silent.chain(left_out).map(DestinationId::as_str).collect();
    if !away.is_empty() {
        let (few, many) = (away.len(), all.len() + left_out.len());
        let points = (60 * few).div_ceil(many);
        let words = format!("{few} of {many} destinations accept nothing: {}", away.join(", "));
        found.push(cost(points as u32, Code::DestinationDown, words));
    }
    let behind = |d: &&DestinationSeen| {
        let full = u64::from(beat.flow.kbps) * 80;
        beat.sent_ms >= TOO_YOUNG_MS
            && d.state == DestinationState::Live
            && u64::from(d.bitrate_kbps) * 100 < full
    };
    let behind: Vec<&str> = all.iter().filter(behind).map(|d| d.id.as_str()).collect();
    if !behind.is_empty() {
        let words = format!("accepted slower than it is sent: {}", behind.join(", "));
        found.push(cost(15, Code::SlowDestination, words));
    }
    if beat.flow.dropped_lately > 0 {
        let words = format!("{} tags were dropped in the last minute", beat.flow.dropped_lately);
        found.push(cost(10, Code::Drops, words));
    }
    let reconnects = u32::try_from(beat.flow.reconnects_lately).unwrap_or(u32::MAX);
    if reconnects > 0 {
        let words = format!("{reconnects} reconnects in the last minute");
        found.push(cost(reconnects.saturating_mul(10).min(30), Code::Reconnects, words));
    }
    let warned: Vec<&str> = all.iter().filter(|d| !d.warnings.is_empty()).map(|d| d.id.as_str()).collect();
    if !warned.is_empty() {
        found.push(cost(
            5,
            Code::Warnings,
            format!("a platform will not like what is sent: {}", warned.join(", ")),
        ));
    }
    found
}

fn of_flow(beat: &Heartbeat) -> Vec<Cost> {
    let mut found = Vec::new();
    let full = beat.profile.as_ref().map_or(30.0, |profile| profile.fps.per_second());
    if beat.sent_ms >= TOO_YOUNG_MS && beat.flow.fps < full / 2.0 {
        let words = format!("{:.1} pictures per second; the profile has {full:.0}", beat.flow.fps);
        found.push(cost(if beat.flow.fps < 1.0 { 60 } else { 20 }, Code::FewPictures, words));
    }
    let next_is_ready = beat.next.as_ref().is_some_and(|next| next.ready);
    if let Some(ahead) = beat.flow.ahead_ms.filter(|ms| *ms < LITTLE_AHEAD_MS && !next_is_ready) {
        found.push(cost(15, Code::LittleBuffer, format!("only {ahead} ms are read ahead")));
    }
    found
}

fn of_hls(hls: &HlsSeen, sent_ms: u64, now: Timestamp) -> Option<Cost> {
    if let Some(error) = &hls.error {
        return Some(cost(20, Code::Hls, format!("HLS cannot be written: {error}")));
    }
    let age_s = hls.last_segment_at.map(|at| now.as_second() - at.as_second());
    match age_s {
        Some(age) if age > SEGMENT_FRESH_S => {
            Some(cost(20, Code::Hls, format!("the newest HLS segment is {age} s old")))
        }
        None if sent_ms > SEGMENT_FRESH_S.unsigned_abs() * 1000 => {
            Some(cost(20, Code::Hls, "there is no HLS segment"))
        }
        _ => {
            let late = edge_latency_ms(hls, now).filter(|ms| *ms > FAR_EDGE_MS)?;
            Some(cost(10, Code::HlsLate, format!("the newest HLS picture is {} s old", late / 1000)))
        }
    }
}

/// How far behind now the newest picture is that a viewer of HLS can see, ms.
pub fn edge_latency_ms(hls: &HlsSeen, now: Timestamp) -> Option<i64> {
    hls.edge_at.map(|edge| now.as_millisecond() - edge.as_millisecond())
}

#[cfg(test)]
#[path = "quality_rules.rs"]
mod rules;
