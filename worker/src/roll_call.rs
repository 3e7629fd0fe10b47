//! Which destinations came and went, went live and failed, from one heartbeat to the next. Pure; what is noticed
//! becomes an event that is kept.

use serde_json::{Value, json};
use state::Timestamp;
use state::ids::DestinationId;
use state::wire::{DestinationSeen, DestinationState};

/// What was seen last.
#[derive(Debug, Default)]
pub struct RollCall {
    /// `None` before the first call: those that are there from the start were not added.
    known: Option<Vec<Known>>,
}

#[derive(Debug)]
struct Known {
    id: DestinationId,
    /// Its present connection has been live.
    live: bool,
    failed_at: Option<Timestamp>,
}

/// Kind and data of an event.
pub type Noticed = (&'static str, Value);

impl RollCall {
    /// What has happened since the last call.
    pub fn call(&mut self, seen: &[DestinationSeen]) -> Vec<Noticed> {
        let mut noticed = Vec::new();
        let before = self.known.take();
        let gone = before.iter().flatten().filter(|known| seen.iter().all(|now| now.id != known.id));
        noticed.extend(gone.map(|known| ("destination.removed", json!({ "destination": known.id }))));
        let known = seen.iter().map(|now| {
            let old = before.iter().flatten().find(|known| known.id == now.id);
            if old.is_none() && before.is_some() {
                noticed.push(("destination.added", json!({ "destination": now.id })));
            }
            noticed.extend(failure(old, now));
            let live = is_live(old, now);
            if live && !old.is_some_and(|old| old.live) {
                noticed.push(("destination.live", json!({ "destination": now.id, "way": now.way })));
            }
            let failed_at = now.last_error.as_ref().map(|error| error.at);
            Known { id: now.id.clone(), live, failed_at }
        });
        self.known = Some(known.collect());
        noticed
    }
}

/// A pause in what the peer acknowledges does not end a connection.
fn is_live(old: Option<&Known>, now: &DestinationSeen) -> bool {
    match now.state {
        DestinationState::Live => true,
        DestinationState::Sending => old.is_some_and(|old| old.live),
        _ => false,
    }
}

fn failure(old: Option<&Known>, now: &DestinationSeen) -> Option<Noticed> {
    let error = now.last_error.as_ref()?;
    let known = old.is_some_and(|old| old.failed_at == Some(error.at));
    let data =
        json!({ "destination": now.id, "code": error.code, "words": error.words, "attempt": now.attempt });
    (!known).then_some(("destination.failed", data))
}

#[cfg(test)]
mod tests {
    use super::*;
    use DestinationState::{Connecting, Live, Sending, Waiting};
    use state::wire::DestinationError;

    fn seen(id: &str, state: DestinationState) -> DestinationSeen {
        DestinationSeen::new(id.parse().unwrap(), state, state::now())
    }

    fn kinds(roll: &mut RollCall, now: &[DestinationSeen]) -> Vec<String> {
        let words = |(kind, data): Noticed| {
            let kind = kind.strip_prefix("destination.").unwrap();
            format!("{} {kind}", data["destination"].as_str().unwrap())
        };
        roll.call(now).into_iter().map(words).collect()
    }

    #[test]
    fn each_connection_goes_live_once() {
        let mut roll = RollCall::default();
        let mut expect = |state, expected: &[&str]| {
            assert_eq!(kinds(&mut roll, &[seen("a", state)]), expected, "{state:?}");
        };
        expect(Connecting, &[]);
        expect(Sending, &[]);
        expect(Live, &["a live"]);
        expect(Sending, &[]);
        expect(Live, &[]);
        expect(Connecting, &[]);
        expect(Live, &["a live"]);
    }

    #[test]
    fn who_comes_and_goes_is_noticed_but_not_who_was_there_from_the_start() {
        let mut roll = RollCall::default();
        assert!(kinds(&mut roll, &[seen("a", Connecting)]).is_empty());
        let both = [seen("b", Live), seen("a", Connecting)];
        assert_eq!(kinds(&mut roll, &both), ["b added", "b live"]);
        assert_eq!(kinds(&mut roll, &[seen("b", Live)]), ["a removed"]);
        assert_eq!(kinds(&mut roll, &[]), ["b removed"]);
    }

    #[test]
    fn a_failure_is_told_once() {
        let mut roll = RollCall::default();
        let failed = |at: &str| DestinationSeen {
            last_error: Some(DestinationError {
                code: "connect".into(),
                words: "refused".into(),
                at: at.parse().unwrap(),
            }),
            ..seen("a", Waiting)
        };
        let (first, second) = (failed("2026-01-01T00:00:00Z"), failed("2026-01-01T00:00:05Z"));
        assert_eq!(kinds(&mut roll, std::slice::from_ref(&first)), ["a failed"]);
        assert!(kinds(&mut roll, &[first]).is_empty());
        assert_eq!(kinds(&mut roll, &[second]), ["a failed"]);
    }
}
