//! When a successor is started, announced and dismissed, and what becomes of the channel.

use super::*;
use state::seen::StreamState;
use state::wire::{ItemSeen, Making, NextSeen};

fn process(pid: u32) -> Process {
    Process { pid, started: 1 }
}

fn next(id: &str, ready: bool) -> Option<NextSeen> {
    Some(NextSeen { id: Ulid::from_text(id), key: id.into(), ready })
}

fn cursor(id: &str) -> Cursor {
    Cursor { item: Ulid::from_text(id), key: id.into(), offset_ms: 0 }
}

/// A worker that plays item `a` of this length, with so much of it left.
fn beat(length_ms: Option<u64>, left_ms: u64, now: Now) -> Heartbeat {
    let item = ItemSeen {
        id: Ulid::from_text("a"),
        key: "a".into(),
        position_ms: length_ms.unwrap_or(left_ms) - left_ms,
        duration_ms: length_ms,
        video: Making::Copy,
        audio: Making::Copy,
        reason: String::new(),
        source: "file".into(),
    };
    let playing = Playing::Programme;
    let beat = Heartbeat::new(Ulid::from_text("r"), 1, 1, now.wall);
    Heartbeat { playing, item: Some(item), next: next("b", false), ..beat }
}

/// It plays, and is of an older program.
fn outdated(now: Now) -> Channel {
    let mut channel = Channel::new(StreamState::new(ChannelId::main()), Vec::new(), now);
    channel.attempt(now);
    channel.spawned(Ulid::from_text("r"), process(2), LogMark::default(), now);
    channel.heard(beat(Some(60_000), 10_000, now), now);
    channel.compared(&Ulid::from_text("r"), true);
    channel
}

fn with_successor(now: Now) -> Channel {
    let mut channel = outdated(now);
    channel.await_successor(Ulid::from_text("s"), process(3), LogMark::default(), cursor("b"), now);
    channel
}

fn step(channel: &Channel, now: Now) -> Option<Step> {
    next_step(Wanted::On, channel, true, now.mono)
}

#[test]
fn a_successor_is_started_shortly_before_the_end_of_an_item() {
    let now = Now::read();
    let mut channel = outdated(now);
    for (length, left, due) in [
        (Some(60_000), 31_000, false),
        (Some(60_000), 30_000, true),
        (Some(60_000), 4_000, true),
        (Some(60_000), 3_900, false),
        (Some(5_000), 1_000, true),
        (None, 0, true),
    ] {
        channel.heard(beat(length, left, now), now);
        let expected = due.then(|| Step::Prepare(cursor("b")));
        assert_eq!(step(&channel, now), expected, "{left} of {length:?} ms");
    }
    assert_eq!(next_step(Wanted::On, &channel, false, now.mono), None, "another channel is at it");
    assert_eq!(next_step(Wanted::Off, &channel, true, now.mono), None);
    channel.heard(Heartbeat { next: None, ..beat(Some(60_000), 10_000, now) }, now);
    assert_eq!(step(&channel, now), None, "nothing follows");
    channel.heard(Heartbeat { playing: Playing::Fallback, ..beat(Some(60_000), 10_000, now) }, now);
    assert_eq!(step(&channel, now), None, "no item is on the air");
    let mut same = outdated(now);
    same.compared(&Ulid::from_text("r"), false);
    assert_eq!(step(&same, now), None);
}

#[test]
fn the_old_worker_is_asked_when_the_new_one_is_ready_and_only_once() {
    let now = Now::read();
    let mut channel = with_successor(now);
    let ready =
        |ready| Heartbeat { next: next("b", ready), ..Heartbeat::new(Ulid::from_text("s"), 2, 1, now.wall) };
    assert_eq!(step(&channel, now), None);
    let successor = channel.handover.successor.as_mut().unwrap();
    successor.heard(ready(false), now);
    assert_eq!(step(&channel, now), None);
    channel.handover.successor.as_mut().unwrap().heard(ready(true), now);
    assert_eq!(step(&channel, now), Some(Step::Announce));
    channel.handover.successor.as_mut().unwrap().announced = true;
    assert_eq!(step(&channel, now), None);
    let silent = Now { mono: now.mono + Duration::from_secs(6), ..now };
    assert_eq!(step(&channel, silent), Some(Step::Dismiss("it is silent")));
    assert!(matches!(next_step(Wanted::Off, &channel, true, now.mono), Some(Step::Dismiss(_))));
    channel.gone(Some(137), String::new(), now);
    assert!(matches!(step(&channel, now), Some(Step::Dismiss(_))), "the old one died");
    assert!(!channel.is_over());
}

#[test]
fn for_the_channel_a_change_of_workers_is_no_failure() {
    let now = Now::read();
    let mut channel = with_successor(now);
    let (phase, restarts) = (channel.state.phase, channel.state.restart_count);
    let facts = channel.facts(&Ulid::from_text("s"));
    assert_eq!((facts.cursor, facts.epoch, facts.first_sequence), (Some(cursor("b")), 2, 1000));
    channel.gone(Some(0), "it gave way".into(), now);
    channel.gave_way(Some(cursor("c")), now);
    assert_eq!((channel.state.phase, channel.state.restart_count), (phase, restarts));
    assert_eq!(channel.state.run.as_ref().unwrap().pid, 3);
    assert_eq!((channel.first_sequence, channel.state.cursor.clone()), (1000, Some(cursor("c"))));
    assert!(
        channel.handover.successor.is_none() && step(&channel, now).is_none(),
        "it is of the new program"
    );
}

#[test]
fn a_successor_that_fails_is_not_tried_again_at_once() {
    let now = Now::read();
    let mut channel = with_successor(now);
    channel.successor_gone(Some(1), now);
    assert_eq!(step(&channel, now), None);
    let later = Now { mono: now.mono + TRY_AGAIN, ..now };
    assert!(matches!(step(&channel, later), Some(Step::Prepare(_))));
    channel.gone(Some(0), "it gave way nevertheless".into(), now);
    channel.gave_way(Some(cursor("b")), now);
    assert_eq!((channel.life.clone(), channel.state.phase), (Life::None, state::phase::Phase::Off));
}
