//! What the score says, and that it is never green while viewers see nothing.

use super::*;
use crate::supervisor::air::{self, judge};
use proptest::prelude::*;
use state::ids::Ulid;
use state::phase::{Phase, Wish};
use state::wire::{Flow, NextSeen};
use std::time::Duration;

fn now() -> Timestamp {
    jiff::Timestamp::from_second(1_800_000_000).unwrap()
}

fn ago(ms: i64) -> Timestamp {
    now().checked_sub(jiff::SignedDuration::from_millis(ms)).unwrap()
}

fn beat(states: &[DestinationState]) -> Heartbeat {
    let seen = |(i, state): (usize, &DestinationState)| DestinationSeen {
        bitrate_kbps: 3000,
        ..DestinationSeen::new(format!("d{i}").parse().unwrap(), *state, now())
    };
    Heartbeat {
        playing: Playing::Programme,
        sent_ms: 60_000,
        flow: Flow { fps: 30.0, kbps: 3000, ahead_ms: Some(6000), ..Flow::default() },
        destinations: states.iter().enumerate().map(seen).collect(),
        ..Heartbeat::new(Ulid::from_text("r"), 1, 1, now())
    }
}

fn judged(air: Is, beat: &Heartbeat) -> (State, Option<u32>, Vec<(u32, String)>) {
    let found = quality(View { air, beat: Some(beat), restarted_at: None, left_out: &[], now: now() });
    (found.state, found.score, found.costs.iter().map(|cost| (cost.points, word(cost.code))).collect())
}

#[test]
fn every_line_of_the_table_costs_what_it_says() {
    use DestinationState::{Live, Sending, Waiting};
    let fine = beat(&[Live, Live]);
    assert_eq!(judged(Is::On, &fine), (State::Good, Some(100), vec![]));
    assert_eq!(judged(Is::Off, &fine), (State::Off, None, vec![]));
    assert_eq!(judged(Is::Dark, &fine), (State::Dark, Some(0), vec![(100, "dark".to_owned())]));
    assert_eq!(judged(Is::Unknown, &fine), (State::Unknown, Some(0), vec![(100, "unknown".to_owned())]));
    let with = |how: &dyn Fn(&mut Heartbeat)| {
        let mut changed = fine.clone();
        how(&mut changed);
        judged(Is::On, &changed).2
    };
    assert_eq!(judged(Is::On, &beat(&[Live, Waiting])).2, [(30, "destination_down".to_owned())]);
    assert_eq!(judged(Is::On, &beat(&[Live, Waiting, Sending])).2, [(40, "destination_down".to_owned())]);
    assert_eq!(with(&|b| b.destinations[0].bitrate_kbps = 2399), [(15, "slow_destination".to_owned())]);
    assert_eq!(with(&|b| b.flow.dropped_lately = 1), [(10, "drops".to_owned())]);
    assert_eq!(with(&|b| b.flow.reconnects_lately = 2), [(20, "reconnects".to_owned())]);
    assert_eq!(with(&|b| b.flow.reconnects_lately = 99), [(30, "reconnects".to_owned())]);
    assert_eq!(with(&|b| b.destinations[0].warnings.push("x".into())), [(5, "warnings".to_owned())]);
    assert_eq!(with(&|b| b.flow.fps = 14.0), [(20, "few_pictures".to_owned())]);
    assert_eq!(with(&|b| b.flow.fps = 0.2), [(60, "few_pictures".to_owned())]);
    assert_eq!(with(&|b| b.flow.ahead_ms = Some(900)), [(15, "little_buffer".to_owned())]);
    let next = NextSeen { id: Ulid::from_text("n"), key: "n".into(), ready: true };
    assert_eq!(with(&|b| (b.flow.ahead_ms, b.next) = (Some(900), Some(next.clone()))), []);
    let hls = |last: i64, edge: i64, error: Option<&str>| {
        let (last_segment_at, edge_at) = (Some(ago(last)), Some(ago(edge)));
        let error = error.map(str::to_owned);
        with(&|b| {
            b.hls = Some(HlsSeen { last_segment_at, edge_at, error: error.clone(), ..HlsSeen::default() })
        })
    };
    assert_eq!(hls(4_000, 6_000, None), []);
    assert_eq!(hls(4_000, 21_000, None), [(10, "hls_late".to_owned())]);
    assert_eq!(hls(17_000, 19_000, None), [(20, "hls".to_owned())]);
    assert_eq!(hls(4_000, 6_000, Some("disk full")), [(20, "hls".to_owned())]);
    let restarted_at = Some(ago(300_000));
    let found = quality(View { air: Is::On, beat: Some(&fine), restarted_at, left_out: &[], now: now() });
    assert_eq!((found.score, found.costs[0].code), (Some(90), Code::Restarted));
    let mut slate = fine.clone();
    slate.playing = Playing::Fallback;
    assert_eq!(judged(Is::Fallback, &slate), (State::Fallback, Some(50), vec![(50, "fallback".to_owned())]));
}

#[test]
fn a_destination_that_the_worker_was_not_given_accepts_nothing() {
    let fine = beat(&[DestinationState::Live]);
    let left_out = ["lost".parse().unwrap()];
    let view = View { air: Is::On, beat: Some(&fine), restarted_at: None, left_out: &left_out, now: now() };
    let found = quality(view);
    assert_eq!((found.score, found.costs[0].code), (Some(70), Code::DestinationDown));
    assert_eq!(found.costs[0].words, "1 of 2 destinations accept nothing: lost");
}

#[test]
fn old_words_say_nothing_about_now() {
    let old = Heartbeat { at: ago(6_100), ..beat(&[DestinationState::Live]) };
    assert_eq!(judged(Is::On, &old).0, State::Unknown, "even when nobody has judged the air anew");
    let none = quality(View { air: Is::On, beat: None, restarted_at: None, left_out: &[], now: now() });
    assert_eq!((none.state, none.score), (State::Unknown, Some(0)));
}

#[test]
fn the_table_in_the_docs_has_every_code() {
    use Code as C;
    let known = [
        C::Dark,
        C::Unknown,
        C::Fallback,
        C::DestinationDown,
        C::FewPictures,
        C::Hls,
        C::SlowDestination,
        C::LittleBuffer,
        C::Drops,
        C::Reconnects,
        C::HlsLate,
        C::Restarted,
        C::Warnings,
    ];
    let docs = include_str!("../../../../docs/truth.md");
    let table = docs.split("The score is 100 less what is wrong:").nth(1).unwrap();
    let told = table.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    let told: Vec<_> = told.filter(|code| *code != "code").collect();
    assert_eq!(told, known.map(word));
}

fn word(code: Code) -> String {
    serde_json::to_value(code).unwrap().as_str().unwrap().to_owned()
}

proptest! {
    #[test]
    fn it_is_never_green_while_nobody_sees_anything(
        states in proptest::collection::vec(0usize..5, 0..4),
        age_ms in 0i64..20_000,
        segment_ms in proptest::option::of(0i64..60_000),
        playing in 0usize..3,
        phase in 0usize..6,
        wish in any::<bool>(),
    ) {
        use DestinationState::{Closed, Connecting, Idle, Sending, Waiting};
        // Nobody acknowledges anything, and HLS is old where it is all that there is.
        let states: Vec<_> = states.iter().map(|i| [Idle, Connecting, Sending, Waiting, Closed][*i]).collect();
        let stale_ms = if states.is_empty() { 17_000 } else { 0 };
        let last_segment_at = segment_ms.map(|ms| ago(ms + stale_ms));
        let beat = Heartbeat {
            at: ago(age_ms),
            playing: [Playing::Nothing, Playing::Programme, Playing::Fallback][playing],
            hls: Some(HlsSeen { last_segment_at, edge_at: last_segment_at, ..HlsSeen::default() }),
            ..beat(&states)
        };
        let phases = [Phase::Off, Phase::Starting, Phase::Live, Phase::Retrying, Phase::Stopping, Phase::Error];
        let seen = air::View {
            wish: if wish { Wish::On } else { Wish::Off },
            phase: phases[phase],
            failure: None,
            wanted: 0,
            beat: Some((&beat, Duration::from_millis(age_ms.unsigned_abs()))),
        };
        let before = air::Air { is: Is::On, since: ago(99_000), because: String::new() };
        let is = judge(seen, &before, now()).is;
        let found = quality(View { air: is, beat: Some(&beat), restarted_at: None, left_out: &[], now: now() });
        prop_assert!(!matches!(found.state, State::Good | State::Poor | State::Fallback), "{:?}", found);
        prop_assert_eq!(found.score.unwrap_or(0), 0);
    }
}
