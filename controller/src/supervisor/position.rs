//! Where the programme stood when its worker ended: what the last heartbeat said, and what was sent after it.

use super::channel::Channel;
use super::seen::{Life, Now};
use state::Timestamp;
use state::wire::{Cursor, Heartbeat, ItemSeen, NextSeen, Playing};
use std::time::Duration;

/// A worker that lived on for longer than this would have sent another heartbeat: they are due every second.
const LONGEST: Duration = Duration::from_millis(1_500);

/// Where less than this is left of an item, ms, the next one is gone on with.
const REST_MS: u64 = 250;

impl Channel {
    /// Its worker has ended: where the next one goes on.
    pub(super) fn keep_position(&mut self, now: Now) {
        let (Life::Running(run), Some(beat)) = (&self.life, &self.beat) else { return };
        let silent = now.mono.saturating_duration_since(run.heard);
        self.state.cursor = reached(beat, silent, now.wall).or(self.state.cursor.take());
    }
}

/// Where to go on after a worker that was gone at `end` and was last heard `silent` before that. An item is played in
/// real time, so that the age of the heartbeat is what was sent after it. A change of item is told at once, so that no
/// boundary lies in between.
fn reached(beat: &Heartbeat, silent: Duration, end: Timestamp) -> Option<Cursor> {
    let cursor = beat.cursor.clone()?;
    let playing = beat.item.as_ref().filter(|item| item.id == cursor.item);
    match playing {
        Some(item) if beat.playing == Playing::Programme => {
            // A busy machine hears late what was said in time. Where the clock was set back, the silence is true.
            let said = Duration::try_from(end.duration_since(beat.at)).unwrap_or_default();
            Some(advanced(cursor, said.max(silent).min(LONGEST), item, beat.next.as_ref()))
        }
        _ => Some(cursor),
    }
}

fn advanced(cursor: Cursor, age: Duration, item: &ItemSeen, next: Option<&NextSeen>) -> Cursor {
    let offset_ms = cursor.offset_ms.saturating_add(u64::try_from(age.as_millis()).unwrap_or(0));
    let last_ms = item.duration_ms.map_or(u64::MAX, |length| length.saturating_sub(REST_MS));
    match next {
        _ if offset_ms < last_ms => Cursor { offset_ms, ..cursor },
        Some(next) => Cursor { item: next.id.clone(), key: next.key.clone(), offset_ms: 0 },
        None => Cursor { offset_ms: last_ms.max(cursor.offset_ms), ..cursor },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use state::ids::Ulid;
    use state::wire::Making;

    const LENGTH_MS: u64 = 40_000;

    fn beat(position_ms: u64) -> Heartbeat {
        let (id, key) = (Ulid::from_text("a"), "a.mp4".to_owned());
        let cursor = Cursor { item: id.clone(), key: key.clone(), offset_ms: position_ms };
        let item = ItemSeen {
            id,
            key,
            position_ms,
            duration_ms: Some(LENGTH_MS),
            video: Making::Copy,
            audio: Making::Copy,
            reason: String::new(),
            source: "file".into(),
        };
        Heartbeat {
            playing: Playing::Programme,
            cursor: Some(cursor),
            item: Some(item),
            next: Some(NextSeen { id: Ulid::from_text("b"), key: "b.mp4".into(), ready: true }),
            ..Heartbeat::new(Ulid::from_text("run"), 1, 1, state::now())
        }
    }

    /// Key and position after a beat that was said and heard so many ms before the end.
    fn after(beat: &Heartbeat, said_ms: i64, heard_ms: u64) -> Option<(String, u64)> {
        let end = beat.at.checked_add(jiff::SignedDuration::from_millis(said_ms)).unwrap();
        let cursor = reached(beat, Duration::from_millis(heard_ms), end)?;
        Some((cursor.key, cursor.offset_ms))
    }

    #[test]
    fn what_was_sent_after_the_last_heartbeat_counts() {
        let at = |said, heard| after(&beat(10_000), said, heard).unwrap().1;
        assert_eq!(at(0, 0), 10_000);
        assert_eq!(at(900, 880), 10_900);
        assert_eq!(at(900, 100), 10_900, "a beat that was heard late");
        assert_eq!(at(-3_600_000, 700), 10_700, "a clock that was set back");
        assert_eq!(at(8_000, 8_000), 11_500, "a worker that stood still");
    }

    #[test]
    fn what_is_not_the_programme_does_not_move() {
        let fallback = Heartbeat { playing: Playing::Fallback, item: None, ..beat(10_000) };
        assert_eq!(after(&fallback, 900, 900), Some(("a.mp4".into(), 10_000)));
        let starved = Heartbeat { playing: Playing::Nothing, ..beat(10_000) };
        assert_eq!(after(&starved, 900, 900), Some(("a.mp4".into(), 10_000)));
        assert_eq!(after(&Heartbeat { cursor: None, ..beat(0) }, 900, 900), None);
    }

    #[test]
    fn at_the_end_of_an_item_the_next_one_is_gone_on_with() {
        assert_eq!(after(&beat(39_000), 700, 700), Some(("a.mp4".into(), 39_700)));
        assert_eq!(after(&beat(39_000), 800, 800), Some(("b.mp4".into(), 0)));
        let last = |position| Heartbeat { next: None, ..beat(position) };
        assert_eq!(after(&last(39_000), 900, 900), Some(("a.mp4".into(), 39_750)));
        assert_eq!(after(&last(39_900), 90, 90), Some(("a.mp4".into(), 39_900)), "never back");
        let mut unknown = beat(39_000);
        unknown.item.as_mut().unwrap().duration_ms = None;
        assert_eq!(after(&unknown, 900, 900), Some(("a.mp4".into(), 39_900)));
    }
}
