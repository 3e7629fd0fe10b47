//! Tries, bounds, and what a webhook hears in which order.

use super::super::book::{Alert, Finding, What};
use super::super::kind::Kind;
use super::*;

fn notice(now: Now) -> Notice {
    about("x", What::Opened, now)
}

fn about(name: &str, what: What, now: Now) -> Notice {
    let Finding { subject, sentence } = Finding::new(Kind::Dark, "x").about(name);
    let severity = subject.kind.manner().severity;
    let (id, since, told_at) = (Ulid::new(now.wall), now.wall, now.wall);
    let alert = Alert { id, subject, severity, sentence, since, told_at, ended_at: None, lasted_s: None };
    Notice { what, at: now.wall, alert }
}

fn later(now: Now, seconds: u64) -> Now {
    let passed = Duration::from_secs(seconds);
    Now { mono: now.mono + passed, wall: now.wall.checked_add(passed).unwrap() }
}

fn refused() -> Result<(), Failure> {
    Err(Failure::passing("answered 500"))
}

#[test]
fn tries_grow_apart_and_end_among_the_dead_letters() {
    let now = Now::read();
    let mut outbox = Outbox::new(Letters::default(), now);
    outbox.add("a", notice(now), now);
    let (mut at, mut waits) = (now, Vec::new());
    while let Some(letter) = outbox.take_due(at).pop() {
        outbox.tried(&letter.id, refused(), 0.0, at);
        let Some(due) = outbox.due.get(&letter.id) else { break };
        let wait = (*due - at.mono).as_secs();
        assert!(outbox.take_due(later(at, wait - 1)).is_empty(), "too early");
        waits.push(wait);
        at = later(at, wait);
    }
    assert_eq!(waits, DELAYS_S);
    let dead = &outbox.letters().dead[0].delivery;
    assert_eq!((dead.failures, dead.error.as_deref()), (7, Some("answered 500")));
    assert!(outbox.letters().waiting.is_empty());
}

#[test]
fn what_fails_holds_up_nothing_else_of_its_webhook_or_another() {
    let now = Now::read();
    let mut outbox = Outbox::new(Letters::default(), now);
    for (webhook, name) in [("a", "one"), ("a", "two"), ("b", "one")] {
        outbox.add(webhook, about(name, What::Opened, now), now);
    }
    let due = outbox.take_due(now);
    assert_eq!(due.iter().map(|d| d.webhook.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    assert!(outbox.take_due(now).is_empty(), "both are busy");
    outbox.tried(&due[1].id, Ok(()), 0.0, now);
    outbox.tried(&due[0].id, refused(), 0.0, now);
    let second = outbox.take_due(now);
    assert!(second.len() == 1 && second[0].id != due[0].id, "the second does not wait for the first");
    outbox.tried(&second[0].id, refused(), 0.0, now);
    assert!(outbox.take_due(later(now, 4)).is_empty(), "each is tried again at its own time");
    assert_eq!(outbox.trouble("a"), Some((2, "answered 500")));
    // What comes up meanwhile is told at once, and before what failed.
    let soon = later(now, 6);
    outbox.add("a", about("three", What::Opened, soon), soon);
    let third = outbox.take_due(soon);
    assert_eq!(third[0].notice.alert.subject.about.as_deref(), Some("three"));
    // The webhook is back: nothing waits for its time any longer.
    outbox.tried(&third[0].id, Ok(()), 0.0, soon);
    assert_eq!(outbox.trouble("a"), None);
    for expected in [&due[0], &second[0]] {
        let again = outbox.take_due(soon);
        assert_eq!(again[0].id, expected.id);
        outbox.tried(&again[0].id, Ok(()), 0.0, soon);
    }
    assert!(outbox.letters().waiting.is_empty());
}

#[test]
fn a_webhook_that_was_away_hears_the_newest_of_each_thing() {
    let now = Now::read();
    let mut outbox = Outbox::new(Letters::default(), now);
    let mut whats = vec![What::Opened];
    whats.extend([What::Reminder; 50]);
    whats.push(What::Ended);
    for (second, what) in whats.into_iter().enumerate() {
        let now = later(now, second as u64);
        for name in ["one", "two"] {
            outbox.add("a", about(name, what, now), now);
        }
        for letter in outbox.take_due(now) {
            outbox.tried(&letter.id, refused(), 0.0, now);
        }
    }
    let now = later(now, 10_000);
    let mut heard = Vec::new();
    while let Some(letter) = outbox.take_due(now).pop() {
        outbox.tried(&letter.id, Ok(()), 0.0, now);
        heard.push((letter.notice.alert.subject.about.unwrap(), letter.notice.what));
    }
    heard.sort_by_key(|(name, _)| name.clone());
    assert_eq!(heard, [("one".to_owned(), What::Ended), ("two".to_owned(), What::Ended)]);
    assert!(outbox.letters().dead.is_empty(), "what is outdated is no dead letter");
}

#[test]
fn what_is_under_way_is_told_before_its_end() {
    let now = Now::read();
    let mut outbox = Outbox::new(Letters::default(), now);
    outbox.add("a", about("one", What::Opened, now), now);
    let begun = outbox.take_due(now).pop().unwrap();
    outbox.add("a", about("one", What::Ended, now), now);
    assert!(outbox.take_due(now).is_empty(), "it is not known yet whether the beginning arrives");
    outbox.tried(&begun.id, Ok(()), 0.0, now);
    assert_eq!(outbox.take_due(now).pop().unwrap().notice.what, What::Ended);
    // Had it failed, it would not be told any more.
    let mut outbox = Outbox::new(Letters::default(), now);
    outbox.add("a", about("one", What::Opened, now), now);
    let begun = outbox.take_due(now).pop().unwrap();
    outbox.add("a", about("one", What::Ended, now), now);
    outbox.tried(&begun.id, refused(), 0.0, now);
    assert_eq!(outbox.letters().waiting.len(), 1);
    assert_eq!(outbox.take_due(now).pop().unwrap().notice.what, What::Ended);
}

#[test]
fn what_was_on_its_way_is_on_its_way_after_a_crash_and_never_waits_longer() {
    let now = Now::read();
    let mut before = Outbox::new(Letters::default(), now);
    before.add("a", notice(now), now);
    let id = before.take_due(now)[0].id.clone();
    before.tried(&id, refused(), 0.0, now);
    let text = serde_json::to_string(before.letters()).unwrap();
    let again = |now| Outbox::new(serde_json::from_str(&text).unwrap(), now);
    assert!(again(later(now, 2)).take_due(later(now, 2)).is_empty());
    assert_eq!(again(later(now, 6)).take_due(later(now, 6))[0].id, id);
    let a_year = Duration::from_secs(365 * 86_400);
    let set_back = Now { wall: now.wall.checked_sub(a_year).unwrap(), ..now };
    assert!(again(set_back).due[&id] <= now.mono + LONGEST);
}

#[test]
fn a_server_may_ask_for_more_time_within_reason() {
    let asked = |seconds| delay(1, Some(Duration::from_secs(seconds)), 0.0).unwrap().as_secs();
    assert_eq!((asked(1), asked(60), asked(1_000_000)), (5, 60, 7200));
    assert_eq!((delay(0, None, 0.0), delay(7, None, 0.0)), (None, None));
}

#[test]
fn the_outbox_is_bounded_and_old_news_is_dropped() {
    let now = Now::read();
    let mut outbox = Outbox::new(Letters::default(), now);
    (0..2 * MOST_WAITING).for_each(|n| outbox.add("a", about(&n.to_string(), What::Opened, now), now));
    assert_eq!((outbox.letters().waiting.len(), outbox.letters().dead.len()), (MOST_WAITING, MOST_DEAD));
    let tomorrow = later(now, OLDEST_S + 1);
    let letter = outbox.take_due(tomorrow).pop().unwrap();
    outbox.tried(&letter.id, refused(), 0.0, tomorrow);
    assert_eq!(outbox.letters().dead[0].delivery.id, letter.id);
    outbox.keep_only(&BTreeSet::new(), now);
    assert!(outbox.letters().waiting.is_empty());
}
