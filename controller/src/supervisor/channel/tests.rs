//! One event after another, and what a channel has become by them.

use super::*;
use std::time::Duration;

#[test]
fn only_the_end_of_a_list_that_does_not_loop_is_a_good_end_unasked() {
    use Verdict::{AsAsked, Crashed, Finished, GaveWay};
    let cases = [
        (Wish::On, None, true, Finished),
        (Wish::On, None, false, Crashed),
        (Wish::On, Some(Why::Hung), true, Crashed),
        (Wish::On, Some(Why::Hung), false, Crashed),
        (Wish::On, Some(Why::Asked), true, AsAsked),
        (Wish::On, Some(Why::Asked), false, AsAsked),
        (Wish::Off, None, false, AsAsked),
        (Wish::Off, Some(Why::Hung), false, AsAsked),
    ];
    for (wish, ending, finished, expected) in cases {
        assert_eq!(verdict(wish, ending, finished, false), expected, "{wish:?} {ending:?} {finished}");
    }
    assert_eq!(verdict(Wish::On, None, false, true), GaveWay);
    assert_eq!(verdict(Wish::On, Some(Why::Hung), false, true), GaveWay);
    assert_eq!(verdict(Wish::On, Some(Why::Asked), false, true), AsAsked);
    assert_eq!(verdict(Wish::Off, None, false, true), AsAsked, "nobody wants it any more");
}

fn process(pid: u32) -> Process {
    Process { pid, started: 1 }
}

fn channel(now: Now) -> Channel {
    Channel::new(StreamState::new(state::ids::ChannelId::main()), Vec::new(), now)
}

#[test]
fn what_was_waited_for_is_waited_for_by_the_next_controller() {
    let now = Now::read();
    let policy = Restart::default();
    let mut before = channel(now);
    before.attempt(now);
    before.spawned(Ulid::from_text("a"), process(2), LogMark::default(), now);
    before.gone(Some(1), String::new(), now);
    before.state.retry_count = 1;
    before.failed(Happening::Crashed, &policy, now);
    let again = |state: StreamState, wall| {
        let mut after = Channel::new(state, Vec::new(), now);
        after.found_none(None, Now { wall, ..now });
        after.bound_wait(&policy, now);
        after
    };
    let later = now.wall.checked_add(Duration::from_secs(20)).unwrap();
    let Life::Waiting { due } = again(before.state.clone(), later).life else { panic!("it waits") };
    assert!(due <= now.mono + Duration::from_secs(13));
    let much_later = now.wall.checked_add(Duration::from_secs(40)).unwrap();
    assert_eq!(again(before.state.clone(), much_later).life, Life::None);
    // A wall clock that went back a year does not make a channel wait for a year.
    let long_ago = now.wall.checked_sub(Duration::from_secs(365 * 86_400)).unwrap();
    let Life::Waiting { due } = again(before.state.clone(), long_ago).life else { panic!("it waits") };
    assert!(due <= now.mono + Duration::from_secs(133));
    before.failed(Happening::SpawnFailed, &Restart { auto: false, ..policy.clone() }, now);
    assert_eq!(again(before.state.clone(), later).life, Life::GaveUp);
}

#[test]
fn an_adoption_counts_nothing_and_keeps_the_phase() {
    let now = Now::read();
    let mut before = channel(now);
    before.attempt(now);
    before.spawned(Ulid::from_text("a"), process(2), LogMark::default(), now);
    before.happen(Happening::Sending, now);
    let mut after = Channel::new(before.state.clone(), Vec::new(), now);
    after.found(Ulid::from_text("a"), process(2), now);
    assert_eq!(after.state, before.state);
    // One that was told to end has nothing to expect but its end.
    before.happen(Happening::StopAsked, now);
    let mut after = Channel::new(before.state, Vec::new(), now);
    after.found(Ulid::from_text("a"), process(2), now);
    assert!(matches!(&after.life, Life::Running(Run { ending: Some(_), .. })));
    // One that nobody had written down yet has the next fencing number.
    let mut unknown = channel(now);
    unknown.adopted(Ulid::from_text("b"), process(3), now);
    assert_eq!((unknown.state.phase, unknown.state.epoch), (Phase::Starting, 1));
    assert_eq!((unknown.state.restart_count, unknown.state.run.unwrap().pid), (0, 3));
}

#[test]
fn the_end_is_told_in_words() {
    assert_eq!(exit_words(Some(137), None), "killed by signal 9");
    assert_eq!(exit_words(Some(2), Some("no disk".into())), "exit code 2: no disk");
    assert_eq!(exit_words(Some(0), Some("on the air".into())), "exit code 0");
}

#[test]
fn sequence_numbers_never_go_back_and_stay_ahead() {
    let now = Now::read();
    let mut channel = channel(now);
    let log = LogMark::default();
    channel.attempt(now);
    channel.spawned(Ulid::from_text("a"), process(2), log.clone(), now);
    assert_eq!((channel.first_sequence, channel.state.hls_sequence_reserved), (0, 1000));
    assert!(!channel.reserve(400));
    assert!(channel.reserve(600));
    assert_eq!(channel.state.hls_sequence_reserved, 1600);
    channel.gone(Some(1), String::new(), now);
    channel.failed(Happening::Crashed, &Restart::default(), now);
    channel.attempt(now);
    channel.spawned(Ulid::from_text("b"), process(3), log, now);
    assert_eq!(channel.first_sequence, 1600);
    assert_eq!((channel.state.restart_count, channel.state.retry_count, channel.state.epoch), (1, 1, 2));
}

#[test]
fn numbers_at_the_end_of_their_range_neither_panic_nor_go_back() {
    let now = Now::read();
    let mut channel = channel(now);
    (channel.state.hls_sequence_reserved, channel.state.retry_count) = (u64::MAX, u32::MAX);
    (channel.state.phase, channel.life) = (Phase::Error, Life::Waiting { due: now.mono });
    assert_eq!((channel.next_sequences(), channel.next_sequences()), (u64::MAX, u64::MAX));
    channel.state.hls_sequence_reserved = 1000;
    assert!(channel.reserve(u64::MAX - 1));
    assert_eq!(channel.state.hls_sequence_reserved, u64::MAX);
    assert_eq!(channel.sight(Wish::On, 0, now).alerts.len(), 1);
}
