//! What holds whatever comes and goes: nobody is told twice, nothing is told over that was not told begun, and
//! addresses may be any text.

use super::address::Address;
use super::book::{Book, Finding, Notice, Pages, What};
use super::kind::Kind;
use super::outbox::{Failure, Letters, Outbox};
use super::webhooks::{Shape, Webhook, Written};
use crate::supervisor::seen::Now;
use proptest::prelude::*;
use state::secret::Secret;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

const KINDS: [Kind; 4] = [Kind::Dark, Kind::GaveUp, Kind::DiskLow, Kind::ClockStepped];

fn at(start: Now, seconds: u64, set: i64) -> Now {
    let passed = Duration::from_secs(seconds);
    let wall = start.wall.checked_add(passed).unwrap();
    let set_by = Duration::from_secs(set.unsigned_abs());
    let wall = if set < 0 { wall.checked_sub(set_by) } else { wall.checked_add(set_by) };
    Now { mono: start.mono + passed, wall: wall.unwrap() }
}

fn findings(which: u8) -> Vec<Finding> {
    let present = KINDS.iter().enumerate().filter(|(n, _)| which & (1 << n) != 0);
    present.map(|(_, kind)| Finding::new(*kind, "words")).collect()
}

/// What somebody who hears everything believes to be open.
fn hear(open: &mut BTreeSet<Kind>, notice: &Notice) -> Result<(), TestCaseError> {
    let kind = notice.alert.subject.kind;
    match notice.what {
        What::Opened => prop_assert!(open.insert(kind) || kind.manner().happens, "{kind:?} begins twice"),
        What::Reminder => prop_assert!(open.contains(&kind), "{kind:?} is still open, but never began"),
        What::Ended => prop_assert!(open.remove(&kind), "{kind:?} is over, but never began"),
        What::Test => prop_assert!(false, "nobody tests"),
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn whoever_listens_always_knows_what_is_open(
        steps in prop::collection::vec((0u8..16, 1u64..40, -4000i64..4000, prop::bool::weighted(0.1)), 1..80)
    ) {
        let start = Now::read();
        let remind = Some(Duration::from_secs(300));
        let mut book = Book::new(Pages::default(), remind, start);
        let (mut heard, mut seconds) = (BTreeSet::new(), 0);
        for (which, passed, set, restart) in steps {
            seconds += passed;
            let now = at(start, seconds, set);
            if restart {
                let text = serde_json::to_string(book.pages()).unwrap();
                book = Book::new(serde_json::from_str(&text).unwrap(), remind, now);
            }
            for notice in book.take_in(findings(which), now) {
                hear(&mut heard, &notice)?;
            }
            let lasting = |kind: &Kind| !kind.manner().happens;
            let open: BTreeSet<_> = book.pages().open.iter().map(|alert| alert.subject.kind).collect();
            prop_assert!(open.iter().filter(|k| lasting(k)).eq(heard.iter().filter(|k| lasting(k))));
            prop_assert_eq!(open.len(), book.pages().open.len(), "one alert for each");
        }
    }

    #[test]
    fn the_newest_of_each_thing_arrives_and_nothing_older_after_it(
        steps in prop::collection::vec(
            (0u8..3, 0u8..16, prop::bool::ANY, 1u64..4000, prop::bool::weighted(0.1)), 1..80)
    ) {
        let start = Now::read();
        let mut outbox = Outbox::new(Letters::default(), start);
        let (mut newest, mut last, mut seconds) = (BTreeMap::new(), BTreeMap::new(), 0);
        let mut deliver = |outbox: &mut Outbox, now, takes| {
            let due = outbox.take_due(now);
            for letter in &due {
                let result = if takes { Ok(()) } else { Err(Failure::passing("no")) };
                if takes {
                    let subject = (letter.webhook.clone(), letter.notice.alert.subject.kind);
                    let before = last.insert(subject, letter.notice.at);
                    prop_assert!(before.is_none_or(|before| before <= letter.notice.at), "out of order");
                }
                outbox.tried(&letter.id, result, 0.5, now);
            }
            Ok(due.len())
        };
        for (webhook, which, takes, passed, crash) in steps {
            seconds += passed;
            let now = at(start, seconds, 0);
            for notice in Book::new(Pages::default(), None, now).take_in(findings(which), now) {
                let webhook = webhook.to_string();
                newest.insert((webhook.clone(), notice.alert.subject.kind), notice.at);
                outbox.add(&webhook, notice, now);
            }
            deliver(&mut outbox, now, takes)?;
            if crash {
                let text = serde_json::to_string(outbox.letters()).unwrap();
                outbox = Outbox::new(serde_json::from_str(&text).unwrap(), now);
            }
            prop_assert!(outbox.letters().waiting.len() <= newest.len(), "one for each thing");
        }
        while deliver(&mut outbox, at(start, seconds + 10_000, 0), true)? > 0 {}
        prop_assert!(outbox.letters().waiting.is_empty());
        for letter in &outbox.letters().dead {
            let subject = (letter.delivery.webhook.clone(), letter.delivery.notice.alert.subject.kind);
            let arrived = last.entry(subject).or_insert(letter.delivery.notice.at);
            *arrived = (*arrived).max(letter.delivery.notice.at);
        }
        prop_assert_eq!(newest, last);
    }

    #[test]
    fn any_text_may_be_an_address(text in "\\PC{0,80}", start in "(https?://)?[\\[0-9a-f:.%@]{0,20}") {
        for text in [text.clone(), format!("{start}{text}"), format!("https://{text}")] {
            let secret = Secret::new(text.clone());
            if let Ok(address) = Address::parse(&secret, false) {
                prop_assert!(address.is_secure() && !address.host().is_empty());
            }
            for kind in [Shape::Telegram, Shape::Ntfy] {
                let severity = super::Severity::Warning;
                let written = Written { kind, url: secret.clone(), secret: None, severity };
                let _ = Webhook::make("w".into(), written, super::webhooks::Origin::Api, true);
            }
        }
    }
}
