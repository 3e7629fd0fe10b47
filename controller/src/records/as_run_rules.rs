//! What the log of what was on the air says about events.

use super::*;
use proptest::prelude::*;
use serde_json::json;

fn event(run: &str, kind: &str, at_media_ms: i64, data: Value) -> Kept {
    let at_wall = jiff::Timestamp::from_millisecond(1_800_000_000_000 + at_media_ms).unwrap();
    let (run, kind) = (Ulid::from_text(run), kind.to_owned());
    Kept { event: Event { run, seq: 1, at_wall, at_media_ms, kind, data }, session: None }
}

fn started(run: &str, id: &str, at: i64, from: u64) -> Kept {
    let seen = json!({"id": id, "key": format!("{id}.mp4"), "position_ms": from, "duration_ms": 9000,
        "video": "copy", "audio": "transcode", "reason": "fits", "source": "file"});
    event(run, "item.started", at, seen)
}

fn ended(run: &str, id: &str, at: i64, position: u64, how: &str, reason: Value) -> Kept {
    let data = json!({"id": id, "key": "k", "position_ms": position, "how": how, "reason": reason});
    event(run, "item.ended", at, data)
}

fn entries(events: &[Kept]) -> Vec<Entry> {
    let (mut as_run, mut out) = (AsRun::default(), Vec::new());
    events.iter().for_each(|event| as_run.take(event, &mut out));
    out.extend(as_run.rest(Some(&Ulid::from_text("living"))));
    out
}

/// Key, media time, duration, in, out, end.
type Row<'a> = (Option<&'a str>, Option<i64>, Option<i64>, Option<u64>, Option<u64>, Ended);

fn rows(entries: &[Entry]) -> Vec<Row<'_>> {
    entries.iter().map(row).collect()
}

fn row(e: &Entry) -> Row<'_> {
    (e.key.as_deref(), e.media_ms, e.duration_ms, e.in_ms, e.out_ms, e.ended)
}

#[test]
fn items_follow_each_other_to_the_millisecond() {
    let played: [Row; 3] = [
        (Some("a.mp4"), Some(100), Some(8000), Some(0), Some(8000), Ended::Played),
        (Some("b.mp4"), Some(8100), Some(1033), Some(500), Some(1533), Ended::Skipped),
        (Some("c.mp4"), Some(9133), None, Some(0), None, Ended::OnAir),
    ];
    let found = entries(&[
        started("living", "a", 100, 0),
        ended("living", "a", 8100, 8000, "played", Value::Null),
        started("living", "b", 8100, 500),
        ended("living", "b", 9133, 1533, "skipped", Value::Null),
        started("living", "c", 9133, 0),
    ]);
    assert_eq!(rows(&found), played);
    assert!(found[0].exact && found[0].audio == Some(Making::Transcode));
}

#[test]
fn an_item_that_stalls_gives_way_to_the_fallback_and_comes_back() {
    let left = json!({"id": "a", "key": "a.mp4", "position_ms": 3000, "how": "stalled", "reason": null});
    let mut again = started("living", "a", 7000, 3000);
    again.event.kind = "item.resumed".into();
    let found = entries(&[
        started("living", "a", 100, 0),
        event("living", "fallback.started", 3100, json!({"reason": "the item has stalled", "left": left})),
        event("living", "item.failed", 0, json!({"key": "x.mp4", "reason": "404"})),
        again,
        ended("living", "a", 9000, 5000, "early", json!("ended early")),
    ]);
    let expected: [Row; 4] = [
        (Some("a.mp4"), Some(100), Some(3000), Some(0), Some(3000), Ended::Stalled),
        (Some("x.mp4"), None, Some(0), None, None, Ended::Failed),
        (None, Some(3100), Some(3900), None, None, Ended::Played),
        (Some("a.mp4"), Some(7000), Some(2000), Some(3000), Some(5000), Ended::Early),
    ];
    assert_eq!(rows(&found), expected);
    for n in [0, 2] {
        assert_eq!(found[n].reason.as_deref(), Some("the item has stalled"));
    }
    assert!(found[3].resumed && found[3].reason.as_deref() == Some("ended early"));
}

#[test]
fn a_worker_that_dies_leaves_an_end_that_is_not_exact() {
    let data =
        json!({"exit_code": 137, "reason": "killed by signal 9", "as_asked": false, "position_ms": 4000});
    let found = entries(&[
        started("one", "a", 100, 0),
        event("one", "run.ended", 4100, data),
        started("two", "a", 100, 3800),
        started("three", "a", 100, 0),
    ]);
    let expected: [Row; 3] = [
        (Some("a.mp4"), Some(100), Some(4000), Some(0), Some(4000), Ended::RunEnded),
        (Some("a.mp4"), Some(100), None, Some(3800), None, Ended::RunEnded),
        (Some("a.mp4"), Some(100), None, Some(0), None, Ended::RunEnded),
    ];
    assert_eq!(rows(&found), expected);
    assert!(found.iter().all(|entry| !entry.exact));
}

#[test]
fn a_run_that_another_one_follows_may_have_its_last_words_late() {
    let found = entries(&[
        started("old", "a", 100, 0),
        event("new", "item.failed", 0, json!({"key": "x.mp4", "reason": "404"})),
        started("new", "b", 100, 0),
        ended("old", "a", 8100, 8000, "played", Value::Null),
        event("old", "run.ended", 8100, json!({"as_asked": true, "position_ms": 8000})),
        ended("new", "b", 5100, 5000, "played", Value::Null),
    ]);
    let expected: [Row<'_>; 3] = [
        (Some("x.mp4"), None, Some(0), None, None, Ended::Failed),
        (Some("a.mp4"), Some(100), Some(8000), Some(0), Some(8000), Ended::Played),
        (Some("b.mp4"), Some(100), Some(5000), Some(0), Some(5000), Ended::Played),
    ];
    assert_eq!(rows(&found), expected);
}

proptest! {
    #[test]
    fn whatever_is_started_is_listed_once(
        kinds in proptest::collection::vec((0usize..6, 0usize..3, 0usize..3), 0..60)
    ) {
        let names = ["item.started", "item.resumed", "item.ended", "fallback.started", "item.failed", "run.ended"];
        let ids = ["a", "b", "c"];
        let events: Vec<_> = kinds.iter().enumerate().map(|(n, (kind, id, run))| {
            let mut event = started(ids[*run], ids[*id], n as i64 * 10, 0);
            event.event.kind = names[*kind].into();
            event
        }).collect();
        let begun = events.iter().filter(|e| !matches!(e.event.kind.as_str(), "item.ended" | "run.ended")).count();
        let found = entries(&events);
        prop_assert_eq!(found.len(), begun);
        prop_assert!(found.iter().all(|e| e.duration_ms.is_none_or(|ms| ms >= 0)));
    }
}
