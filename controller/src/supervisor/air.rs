//! What viewers get, judged from the wish and the newest heartbeat. Pure.

use super::seen::STALE;
use serde::Serialize;
use state::Timestamp;
use state::phase::{Phase, Wish};
use state::wire::{DestinationSeen, DestinationState, Heartbeat, HlsSeen, Playing};
use std::time::Duration;

/// HLS counts as accepted while its newest segment is younger than this, in seconds: three target durations
/// and a little.
const HLS_FRESH_S: i64 = 15;

/// What is on the air.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Air {
    /// In one word.
    pub is: Is,
    /// Since when.
    pub since: Timestamp,
    /// Why, in words.
    pub because: String,
}

/// What is on the air, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Is {
    /// The programme is accepted by at least one destination, or by HLS when there is none.
    On,
    /// Something else than the programme is.
    Fallback,
    /// It is wanted, and accepted by none.
    Dark,
    /// Nobody wants it.
    Off,
    /// A worker may live, but this controller has not heard of it yet.
    Unknown,
}

/// What can be seen of a channel at this moment.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// Whether it is wanted.
    pub wish: Wish,
    /// Where it stands.
    pub phase: Phase,
    /// How the last worker ended, in words, when it failed.
    pub failure: Option<&'a str>,
    /// How many destinations are wanted.
    pub wanted: usize,
    /// The newest heartbeat of the living run and its age.
    pub beat: Option<(&'a Heartbeat, Duration)>,
}

/// The air after `before`. `since` moves only when the word changes.
pub fn judge(view: View<'_>, before: &Air, now: Timestamp) -> Air {
    let (is, because) = word(view, now);
    let since = if is == before.is { before.since } else { now };
    Air { is, since, because }
}

fn word(view: View<'_>, now: Timestamp) -> (Is, String) {
    if view.wish == Wish::Off {
        return (Is::Off, "nobody wants it on the air".to_owned());
    }
    match (view.beat, view.phase) {
        (Some((beat, age)), Phase::Starting | Phase::Live) if age <= STALE => {
            by_heartbeat(beat, view.wanted, now)
        }
        (Some((_, age)), Phase::Starting | Phase::Live) => {
            (Is::Dark, format!("the worker has said nothing for {} s", age.as_secs()))
        }
        (None, Phase::Live) => (Is::Unknown, "the worker has not been heard yet".to_owned()),
        (_, phase) => (Is::Dark, without_worker(phase, view.failure)),
    }
}

fn without_worker(phase: Phase, failure: Option<&str>) -> String {
    match (phase, failure) {
        (Phase::Error | Phase::Retrying, Some(words)) => format!("the worker failed: {words}"),
        (Phase::Error | Phase::Retrying, None) => "the worker failed".to_owned(),
        (Phase::Stopping, _) => "the worker is ending".to_owned(),
        (Phase::Off, _) => "no worker has been started yet".to_owned(),
        (Phase::Starting | Phase::Live, _) => "the worker is starting".to_owned(),
    }
}

fn by_heartbeat(beat: &Heartbeat, wanted: usize, now: Timestamp) -> (Is, String) {
    let accepted = match (beat.destinations.as_slice(), wanted) {
        ([], 0) => by_hls(beat.hls.as_ref(), now),
        // HLS alone is not what was asked for: a key does not open, or another channel uses it.
        ([], _) => {
            Err(format!("the worker sends to none of {wanted} wanted destinations; GET /health says why"))
        }
        (all, _) => by_destinations(all),
    };
    match (accepted, beat.playing) {
        (Err(because), _) => (Is::Dark, because),
        (Ok(_), Playing::Nothing) => {
            (Is::Dark, beat.because.clone().unwrap_or_else(|| "the worker sends nothing".to_owned()))
        }
        (Ok(by), Playing::Programme) => (Is::On, by),
        (Ok(by), Playing::Fallback) => {
            let why = beat.because.as_deref().unwrap_or("there is nothing to play");
            (Is::Fallback, format!("{why}; the fallback is {by}"))
        }
    }
}

fn by_destinations(all: &[DestinationSeen]) -> Result<String, String> {
    let live = all.iter().filter(|d| d.state == DestinationState::Live).count();
    match (live, all) {
        (0, [only]) => Err(format!("{} does not accept it: {}", only.id, trouble(only))),
        (0, [first, ..]) => {
            Err(format!("none of {} destinations accepts it; {}: {}", all.len(), first.id, trouble(first)))
        }
        (live, all) => Ok(format!("accepted by {live} of {} destinations", all.len())),
    }
}

fn trouble(destination: &DestinationSeen) -> String {
    match (&destination.last_error, destination.state) {
        (Some(error), _) => error.words.clone(),
        (None, DestinationState::Idle | DestinationState::Connecting) => "it is being connected".to_owned(),
        (None, _) => "nothing has been acknowledged yet".to_owned(),
    }
}

fn by_hls(hls: Option<&HlsSeen>, now: Timestamp) -> Result<String, String> {
    let Some(hls) = hls else { return Err("there is neither a destination nor HLS".to_owned()) };
    if let Some(error) = &hls.error {
        return Err(format!("HLS cannot be written: {error}"));
    }
    match hls.last_segment_at {
        None => Err("no HLS segment has been written yet".to_owned()),
        // A time to come was told by a clock that was set back since: it says nothing about now.
        Some(at) if at.as_second() - now.as_second() > HLS_FRESH_S => {
            Err("no HLS segment has been written since the clock was set".to_owned())
        }
        Some(at) if now.as_second() - at.as_second() > HLS_FRESH_S => {
            Err(format!("no HLS segment has been written for {} s", now.as_second() - at.as_second()))
        }
        Some(_) => Ok("accepted by HLS".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use state::ids::Ulid;
    use state::wire::DestinationError;

    fn at(second: i64) -> Timestamp {
        jiff::Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn beat(playing: Playing, destinations: &[DestinationState], segment: Option<i64>) -> Heartbeat {
        let seen = |(i, state): (usize, &DestinationState)| DestinationSeen {
            last_error: (*state == DestinationState::Waiting).then(|| DestinationError {
                code: "connect".into(),
                words: "connection refused".into(),
                at: at(0),
            }),
            ..DestinationSeen::new(format!("d{i}").parse().unwrap(), *state, at(0))
        };
        let hls = segment.map(|s| HlsSeen { last_segment_at: Some(at(s)), ..HlsSeen::default() });
        Heartbeat {
            playing,
            destinations: destinations.iter().enumerate().map(seen).collect(),
            hls,
            ..Heartbeat::new(Ulid::from_text("r"), 1, 1, at(0))
        }
    }

    fn is(wish: Wish, phase: Phase, beat: Option<(&Heartbeat, u64)>) -> (Is, String) {
        let beat = beat.map(|(beat, age)| (beat, Duration::from_secs(age)));
        word(View { wish, phase, failure: Some("exit code 7"), wanted: 0, beat }, at(20))
    }

    #[test]
    fn a_green_sender_that_nobody_accepts_is_dark() {
        use DestinationState::{Live, Sending, Waiting};
        use Playing::{Fallback, Nothing, Programme};
        let cases = [
            (beat(Programme, &[Live], None), Is::On),
            (beat(Programme, &[Waiting, Live], None), Is::On),
            (beat(Fallback, &[Live], None), Is::Fallback),
            (beat(Programme, &[Sending], None), Is::Dark),
            (beat(Programme, &[Sending], Some(19)), Is::Dark),
            (beat(Programme, &[Waiting, Sending], None), Is::Dark),
            (beat(Nothing, &[Live], None), Is::Dark),
            (beat(Programme, &[], Some(6)), Is::On),
            (beat(Programme, &[], Some(4)), Is::Dark),
            (beat(Programme, &[], Some(3620)), Is::Dark),
            (beat(Programme, &[], None), Is::Dark),
        ];
        for (beat, expected) in cases {
            assert_eq!(is(Wish::On, Phase::Live, Some((&beat, 5))).0, expected, "{beat:?}");
            assert_eq!(is(Wish::On, Phase::Live, Some((&beat, 6))).0, Is::Dark, "stale");
            assert_eq!(is(Wish::Off, Phase::Stopping, Some((&beat, 0))).0, Is::Off);
        }
    }

    #[test]
    fn hls_does_not_stand_in_for_destinations_that_were_left_out() {
        let heard = beat(Playing::Programme, &[], Some(19));
        let (phase, beat) = (Phase::Live, Some((&heard, Duration::ZERO)));
        let is = |wanted| word(View { wish: Wish::On, phase, failure: None, wanted, beat }, at(20)).0;
        assert_eq!((is(0), is(1)), (Is::On, Is::Dark));
    }

    #[test]
    fn without_a_worker_the_reason_is_named() {
        assert_eq!(is(Wish::Off, Phase::Off, None).0, Is::Off);
        assert_eq!(is(Wish::On, Phase::Starting, None), (Is::Dark, "the worker is starting".into()));
        assert_eq!(is(Wish::On, Phase::Error, None), (Is::Dark, "the worker failed: exit code 7".into()));
        assert_eq!(is(Wish::On, Phase::Live, None).0, Is::Unknown);
        let refused = beat(Playing::Programme, &[DestinationState::Waiting], None);
        let (_, because) = is(Wish::On, Phase::Live, Some((&refused, 0)));
        assert_eq!(because, "d0 does not accept it: connection refused");
    }

    #[test]
    fn since_moves_only_with_the_word() {
        let before = Air { is: Is::Dark, since: at(1), because: "x".into() };
        let view = View { wish: Wish::On, phase: Phase::Error, failure: None, wanted: 0, beat: None };
        assert_eq!(judge(view, &before, at(9)).since, at(1));
        assert_eq!(judge(View { wish: Wish::Off, ..view }, &before, at(9)).since, at(9));
    }
}
