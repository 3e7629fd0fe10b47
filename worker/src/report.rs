//! What the worker tells of itself: heartbeats and events.

use crate::air::{Air, Happened};
use crate::output::Outputs;
use crate::programme::Programme;
use serde_json::{Value, json};
use state::Timestamp;
use state::ids::Ulid;
use state::wire::{Event, Heartbeat, ItemFailure, Playing, WorkerSpec};

/// Most events that wait for the next heartbeat.
const MOST_WAITING: usize = 1_000;

/// Counts and remembers.
#[derive(Debug)]
pub struct Report {
    run: Ulid,
    epoch: u64,
    beats: u64,
    events: u64,
    waiting: Vec<Event>,
    playing: Playing,
    since: Timestamp,
}

impl Report {
    /// For this run.
    pub fn new(spec: &WorkerSpec) -> Self {
        let playing = Playing::Nothing;
        let run = spec.run.clone();
        Self {
            run,
            epoch: spec.epoch,
            beats: 0,
            events: 0,
            waiting: Vec::new(),
            playing,
            since: state::now(),
        }
    }

    /// Notes what happened on the air.
    pub fn happened(&mut self, what: Happened, at_media_ms: i64) {
        let (kind, at, data) = match what {
            Happened::Started(key, at) => ("item.started", at, json!({ "key": key })),
            Happened::Ended(key, position, why) => {
                ("item.ended", at_media_ms, json!({ "key": key, "position_ms": position, "reason": why }))
            }
            Happened::Back(key, position) => {
                ("item.resumed", at_media_ms, json!({ "key": key, "position_ms": position }))
            }
            Happened::Fallback(why) => ("fallback.started", at_media_ms, json!({ "reason": why })),
        };
        tracing::info!(event.kind = kind, event.at_media_ms = at, event.data = %data, "on the air");
        self.push(kind, at, data);
    }

    /// Notes an item that could not be opened.
    pub fn item_failed(&mut self, failure: &ItemFailure) {
        self.push("item.failed", 0, json!({ "key": failure.key, "reason": failure.reason }));
    }

    fn push(&mut self, kind: &str, at_media_ms: i64, data: Value) {
        self.events += 1;
        if self.waiting.len() == MOST_WAITING {
            self.waiting.remove(0);
        }
        let (run, seq, kind) = (self.run.clone(), self.events, kind.to_owned());
        self.waiting.push(Event { run, seq, at_wall: state::now(), at_media_ms, kind, data });
    }

    /// Hands events to `take`, oldest first, for as long as it takes them; the rest waits for the next call.
    pub fn hand_over(&mut self, mut take: impl FnMut(Event) -> bool) {
        let taken = self.waiting.iter().take_while(|event| take((*event).clone())).count();
        self.waiting.drain(..taken);
    }

    /// The heartbeat of this moment. `playing` is absent while the profile is searched.
    pub fn heartbeat(
        &mut self,
        playing: Option<(&mut Air, &Programme, bool)>,
        outputs: &Outputs,
        at: Timestamp,
    ) -> Heartbeat {
        self.beats += 1;
        let mut beat = Heartbeat {
            destinations: outputs.destinations_seen(),
            hls: outputs.hls_seen(),
            ..Heartbeat::new(self.run.clone(), self.epoch, self.beats, at)
        };
        if let Some((air, programme, begun)) = playing {
            (beat.playing, beat.because) = air.playing();
            beat.because = beat.because.or_else(|| programme.trouble());
            beat.item = air.item_seen();
            beat.next = programme.next_seen();
            beat.profile = Some(programme.profile().clone());
            beat.cursor = air.cursor();
            beat.failed_items = programme.failures();
            beat.counts = air.group().counts();
            beat.protected = air.is_protected();
            beat.sent_ms = if begun { u64::try_from(air.group().end_ms()).unwrap_or(0) } else { 0 };
        }
        if beat.playing != self.playing {
            (self.playing, self.since) = (beat.playing, at);
        }
        beat.since = self.since;
        beat
    }
}
