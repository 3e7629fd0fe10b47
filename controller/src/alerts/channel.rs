//! What is wrong with one channel, judged from what is seen of it. Pure.

use super::book::{Finding, seconds_between};
use super::kind::Kind;
use crate::supervisor::air::Is;
use crate::supervisor::backoff::ALERT_AFTER;
use crate::supervisor::seen::Sight;
use state::Timestamp;
use state::ids::ChannelId;
use state::phase::Phase;
use state::wire::{DestinationSeen, DestinationState, Heartbeat, ItemFailure, Playing};
use std::collections::BTreeMap;

/// A destination that accepts nothing for so long is failing, however often it was tried, s.
const SILENT_S: u64 = 60;

/// An item that failed is an alert for this long after its newest failure, s.
const ITEM_S: u64 = 6 * 3600;

/// Everything that is wrong with a channel.
pub fn findings(sight: &Sight, mended: &Mended, now: Timestamp) -> Vec<Finding> {
    let mut found = of_life(sight);
    found.extend(of_files(sight));
    found.extend(of_air(sight));
    if let Some(beat) = sight.beat.as_deref().filter(|_| sight.alive) {
        found.extend(beat.destinations.iter().flat_map(|seen| of_destination(seen, beat, now)));
        found.extend(of_beat(beat));
        found.extend(of_items(beat, |failure| mended.since(&sight.state.id, failure), now));
    }
    let id = &sight.state.id;
    found.into_iter().map(|finding| finding.of(id)).collect()
}

fn of_air(sight: &Sight) -> Option<Finding> {
    let (id, because) = (&sight.state.id, one_clause(&sight.air.because));
    let ordered = sight.beat.as_ref().is_some_and(|beat| beat.slate_on);
    match sight.air.is {
        Is::Dark => Some(Finding::new(
            Kind::Dark,
            format!("Channel {id} is dark, its viewers see nothing: {because}; see docs/runbook-dark.md."),
        )),
        Is::Fallback if !ordered => Some(Finding::new(
            Kind::Fallback,
            format!(
                "Channel {id} shows its fallback instead of the programme: {because}; mend what it plays or where that comes from."
            ),
        )),
        Is::Unknown => Some(Finding::new(
            Kind::Dark,
            format!(
                "Nobody knows what channel {id} shows: {because}; look whether its worker lives, and in logs/{id}.log."
            ),
        )),
        _ => None,
    }
}

/// Words of several sentences as a part of one; names in capitals stay as they are.
fn one_clause(words: &str) -> String {
    let clauses = words.trim_end_matches(['.', ' ']).split(". ").enumerate().map(|(n, clause)| {
        let mut letters = clause.chars();
        let first = letters.next().map(String::from).unwrap_or_default();
        let is_word = n > 0 && letters.clone().next().is_some_and(char::is_lowercase);
        let first = if is_word { first.to_lowercase() } else { first };
        format!("{first}{}", letters.as_str())
    });
    clauses.collect::<Vec<_>>().join("; ")
}

fn of_life(sight: &Sight) -> Vec<Finding> {
    let state = &sight.state;
    let id = &state.id;
    let words = state.failed_run.as_ref().and_then(|run| run.exit_words.as_deref()).unwrap_or("no words");
    let failures = state.retry_count.saturating_add(u32::from(state.phase == Phase::Error));
    let mut found = Vec::new();
    if state.gave_up {
        let sentence = format!(
            "Channel {id} is not started again after its worker failed ({words}); mend that and start it with POST /streams/start."
        );
        found.push(Finding::new(Kind::GaveUp, sentence));
    } else if failures >= ALERT_AFTER {
        let sentence = format!(
            "The worker of channel {id} failed {failures} times in a row ({words}); it is tried again by itself, and logs/{id}.log says more."
        );
        found.push(Finding::new(Kind::WorkerFailing, sentence));
    }
    if sight.held_by_unknown {
        let sentence = format!(
            "An unknown process holds channel {id} and does not call; look who it is with fuser run/{id}.lock and end it."
        );
        found.push(Finding::new(Kind::WorkerUnknown, sentence));
    }
    found
}

fn of_files(sight: &Sight) -> Vec<Finding> {
    let broken = sight.broken_files.iter().map(|words| {
        Finding::new(Kind::StateBroken, format!("A file was broken: {words}; look what it held."))
            .about(words)
    });
    let unsaved = sight.save_failed.iter().map(|words| {
        Finding::new(
            Kind::StateUnsaved,
            format!("What is seen cannot be put on the disk, but stays on the air: {words}; make room on it or mend it."),
        )
    });
    broken.chain(unsaved).collect()
}

fn of_beat(beat: &Heartbeat) -> Vec<Finding> {
    let mut found = Vec::new();
    if let Some(error) = beat.hls.as_ref().and_then(|hls| hls.error.as_deref()) {
        let sentence = format!("HLS cannot be written: {error}; make room in HLS_DIR or mend its disk.");
        found.push(Finding::new(Kind::HlsUnwritable, sentence));
    }
    if beat.playing != Playing::Nothing && !beat.protected {
        let sentence = "The fallback is not ready, so that a source that fails leaves no picture; see in the worker's log why, or name another fallback video.";
        found.push(Finding::new(Kind::Unprotected, sentence));
    }
    found
}

fn of_destination(seen: &DestinationSeen, beat: &Heartbeat, now: Timestamp) -> Vec<Finding> {
    let mut found = Vec::new();
    let accepts = matches!(seen.state, DestinationState::Live | DestinationState::Closed);
    let silent = beat.playing != Playing::Nothing && seconds_between(seen.since, now) >= SILENT_S;
    if !accepts && (seen.attempt >= ALERT_AFTER || silent) {
        let why = seen.last_error.as_ref().map_or("nothing is acknowledged", |error| error.words.as_str());
        let sentence = format!(
            "Destination {} accepts nothing, after {} failures in a row: {}; it is tried again by itself.",
            seen.id,
            seen.attempt,
            one_clause(why)
        );
        found.push(Finding::new(Kind::DestinationFailing, sentence).at(&seen.id));
    }
    if !seen.warnings.is_empty() {
        let sentence = format!("Destination {}: {}", seen.id, seen.warnings.join(" "));
        found.push(Finding::new(Kind::DestinationWarning, sentence).at(&seen.id));
    }
    found
}

/// Of the failures of one item the book takes the first, which is the newest.
fn of_items(beat: &Heartbeat, is_mended: impl Fn(&ItemFailure) -> bool, now: Timestamp) -> Vec<Finding> {
    let recent = beat.failed_items.iter().rev();
    let recent = recent.filter(|failure| seconds_between(failure.at, now) < ITEM_S && !is_mended(failure));
    recent.map(of_failure).collect()
}

/// The file is not to blame when its reader could not be started.
fn of_failure(failure: &ItemFailure) -> Finding {
    let (key, reason) = (&failure.key, failure.reason.trim_end_matches('.'));
    if is_out_of_descriptors(reason) {
        let sentence = format!(
            "The worker has no file descriptors left, so that {key} and others cannot be opened ({reason}); raise LimitNOFILE and restart the channel."
        );
        return Finding::new(Kind::DescriptorsLow, sentence);
    }
    let sentence = format!(
        "{key} cannot be played to its end and is left out for now: {reason}; mend or replace the file, or where it comes from."
    );
    Finding::new(Kind::ItemFailing, sentence).about(key)
}

/// As the system words EMFILE and ENFILE.
fn is_out_of_descriptors(words: &str) -> bool {
    words.contains("(os error 24)") || words.contains("(os error 23)")
}

/// Items that failed and were played to their end later.
#[derive(Debug, Default)]
pub struct Mended {
    /// What each channel plays, and since when that is seen.
    playing: BTreeMap<ChannelId, (String, Timestamp)>,
    /// When each item was last played to its end, of those that failed before.
    at: BTreeMap<(ChannelId, String), Timestamp>,
}

impl Mended {
    /// Looks at what a channel plays now.
    pub fn look(&mut self, sight: &Sight, now: Timestamp) {
        let id = &sight.state.id;
        let Some(beat) = sight.beat.as_deref() else {
            self.playing.remove(id);
            return;
        };
        let key = beat.item.as_ref().filter(|_| beat.playing == Playing::Programme).map(|item| &item.key);
        if let Some((before, since)) = self.playing.get(id).filter(|(before, _)| key != Some(before)) {
            let failed =
                |after: Timestamp| beat.failed_items.iter().any(|f| f.key == *before && f.at >= after);
            if key.is_some() && !failed(*since) && beat.failed_items.iter().any(|f| f.key == *before) {
                self.at.insert((id.clone(), before.clone()), now);
            }
            self.playing.remove(id);
        }
        if let Some(key) = key {
            self.playing.entry(id.clone()).or_insert_with(|| (key.clone(), now));
        }
        // What is not among the failures any more needs no excuse.
        self.at.retain(|(channel, key), _| channel != id || beat.failed_items.iter().any(|f| f.key == *key));
    }

    fn since(&self, channel: &ChannelId, failure: &ItemFailure) -> bool {
        self.at.get(&(channel.clone(), failure.key.clone())).is_some_and(|at| *at > failure.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::supervisor::air::Air;
    use state::ids::Ulid;
    use state::seen::StreamState;
    use state::wire::{DestinationError, HlsSeen, ItemSeen, Making};
    use std::sync::Arc;

    fn at(second: i64) -> Timestamp {
        jiff::Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn beat() -> Heartbeat {
        let mut beat = Heartbeat::new(Ulid::from_text("r"), 1, 1, at(0));
        (beat.playing, beat.protected) = (Playing::Programme, true);
        beat
    }

    fn sight(is: Is, beat: Heartbeat) -> Sight {
        let air = Air { is, since: at(0), because: "the reason".into() };
        let seen = Sight::of(StreamState::new(ChannelId::main()), air);
        Sight { beat: Some(Arc::new(beat)), alive: true, ..seen }
    }

    fn kinds(sight: &Sight) -> Vec<Kind> {
        findings(sight, &Mended::default(), at(100)).into_iter().map(|finding| finding.subject.kind).collect()
    }

    #[test]
    fn a_channel_in_good_health_is_no_news() {
        assert_eq!(kinds(&sight(Is::On, beat())), []);
        let state = StreamState::new(ChannelId::main());
        assert_eq!(kinds(&Sight { beat: None, alive: false, state, ..sight(Is::Off, beat()) }), []);
    }

    #[test]
    fn several_sentences_become_one() {
        assert_eq!(
            one_clause("It is away (x). Check it. TLS failed."),
            "It is away (x); check it; TLS failed"
        );
        assert_eq!(one_clause("plain"), "plain");
        assert_eq!(one_clause("a. Ä. "), "a; Ä");
    }

    #[test]
    fn a_dark_one_says_why_and_an_ordered_slate_is_nobodys_trouble() {
        let dark = findings(&sight(Is::Dark, beat()), &Mended::default(), at(100));
        assert!(dark[0].sentence.contains("the reason"), "{dark:?}");
        assert_eq!(kinds(&sight(Is::Fallback, beat())), [Kind::Fallback]);
        assert_eq!(kinds(&sight(Is::Fallback, Heartbeat { slate_on: true, ..beat() })), []);
        assert_eq!(kinds(&sight(Is::On, Heartbeat { protected: false, ..beat() })), [Kind::Unprotected]);
    }

    #[test]
    fn a_worker_is_failing_from_the_third_time_on_until_it_is_stable() {
        let mut seen = sight(Is::On, beat());
        let mut kinds_at = |retries, phase, gave_up| {
            (seen.state.retry_count, seen.state.phase, seen.state.gave_up) = (retries, phase, gave_up);
            kinds(&seen)
        };
        assert_eq!(kinds_at(1, Phase::Error, false), []);
        assert_eq!(kinds_at(2, Phase::Live, false), []);
        assert_eq!(kinds_at(2, Phase::Error, false), [Kind::WorkerFailing]);
        assert_eq!(kinds_at(3, Phase::Live, false), [Kind::WorkerFailing]);
        assert_eq!(kinds_at(0, Phase::Error, true), [Kind::GaveUp]);
    }

    #[test]
    fn a_destination_fails_when_it_was_tried_thrice_or_stays_silent() {
        let kinds_of = |state, attempt, since| {
            let seen = DestinationSeen::new("yt".parse().unwrap(), state, at(since));
            let error =
                DestinationError { code: "connect".into(), words: "Connection refused.".into(), at: at(0) };
            let seen = DestinationSeen { attempt, last_error: Some(error), ..seen };
            kinds(&sight(Is::On, Heartbeat { destinations: vec![seen], ..beat() }))
        };
        use DestinationState::{Live, Sending, Waiting};
        assert_eq!(kinds_of(Waiting, 2, 90), []);
        assert_eq!(kinds_of(Waiting, 3, 90), [Kind::DestinationFailing]);
        assert_eq!(kinds_of(Live, 3, 90), []);
        assert_eq!(kinds_of(Sending, 0, 90), []);
        assert_eq!(kinds_of(Sending, 0, 40), [Kind::DestinationFailing]);
    }

    fn failed(key: &str, second: i64) -> ItemFailure {
        ItemFailure { key: key.into(), reason: "404".into(), at: at(second) }
    }

    fn playing(key: &str, failures: &[ItemFailure]) -> Sight {
        let item = ItemSeen {
            id: Ulid::from_text(key),
            key: key.into(),
            position_ms: 0,
            duration_ms: None,
            video: Making::Copy,
            audio: Making::Copy,
            reason: String::new(),
            source: String::new(),
        };
        sight(Is::On, Heartbeat { item: Some(item), failed_items: failures.to_vec(), ..beat() })
    }

    #[test]
    fn an_item_fails_until_it_was_played_to_its_end_or_long_after() {
        assert_eq!(kinds(&playing("b", &[failed("a", 50)])), [Kind::ItemFailing]);
        assert_eq!(kinds(&playing("b", &[failed("a", -21_600)])), []);
        let reason = "ffprobe cannot be started: Too many open files (os error 24)".to_owned();
        let starved = ItemFailure { reason, ..failed("a", 50) };
        assert_eq!(kinds(&playing("b", &[starved])), [Kind::DescriptorsLow]);
        let mut mended = Mended::default();
        let mut count = |key: &str, failures: &[ItemFailure], second| {
            let seen = playing(key, failures);
            mended.look(&seen, at(second));
            findings(&seen, &mended, at(second)).len()
        };
        assert_eq!(count("b", &[failed("a", 50)], 51), 1);
        // It fails again in the middle: that is no recovery.
        assert_eq!(count("a", &[failed("a", 50)], 60), 1);
        assert_eq!(count("b", &[failed("a", 50), failed("a", 70)], 70), 2);
        assert_eq!(count("a", &[failed("a", 50), failed("a", 70)], 80), 2);
        assert_eq!(count("b", &[failed("a", 50), failed("a", 70)], 90), 0);
        assert_eq!(count("c", &[failed("a", 50), failed("a", 70)], 95), 0);
        assert_eq!(count("c", &[failed("a", 70), failed("a", 99)], 100), 1);
    }

    #[test]
    fn files_and_hls_are_told_in_their_own_words() {
        let hls = HlsSeen {
            segments: 1,
            next_sequence: 1,
            last_segment_at: None,
            edge_at: None,
            error: Some("no space".into()),
        };
        let mut seen = sight(Is::On, Heartbeat { hls: Some(hls), ..beat() });
        seen.save_failed = Some("channel main: no space".into());
        seen.broken_files = vec!["x.json: is not JSON".into()];
        seen.held_by_unknown = true;
        let all = [Kind::WorkerUnknown, Kind::StateBroken, Kind::StateUnsaved, Kind::HlsUnwritable];
        assert_eq!(kinds(&seen), all);
    }
}
