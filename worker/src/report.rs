//! What the worker tells of itself: heartbeats and events.

use crate::air::{Air, Happened};
use crate::airtime::Airtimes;
use crate::flow::FlowMeter;
use crate::media::Tag;
use crate::output::Outputs;
use crate::output::rtmp::News;
use crate::played::Left;
use crate::programme::Programme;
use crate::roll_call::RollCall;
use crate::splice::HOUSE_DELAY_MS;
use jiff::SignedDuration;
use serde_json::{Value, json};
use state::Timestamp;
use state::ids::Ulid;
use state::wire::{Event, Heartbeat, ItemFailure, Playing, WorkerSpec};

/// Most events that wait for the next heartbeat.
const MOST_WAITING: usize = 1_000;

/// An event is dated at most this far from the moment at which it is told, ms.
const FARTHEST_MS: i64 = 2_000;

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
    roll: RollCall,
    airtimes: Airtimes,
    flow: FlowMeter,
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
            roll: RollCall::default(),
            airtimes: Airtimes::new(steady_ms()),
            flow: FlowMeter::default(),
        }
    }

    /// Counts tags that go out.
    pub fn sent(&mut self, tags: &[Tag]) {
        self.flow.sent(tags);
    }

    /// Notes what happened on the air; `due_ms` is the channel time of now.
    pub fn happened(&mut self, what: Happened, due_ms: Option<i64>) {
        let (kind, at, data) = match what {
            Happened::Started(item, at, again) => {
                (if again { "item.resumed" } else { "item.started" }, at, json!(item))
            }
            Happened::Ended(left) => ("item.ended", left.at_ms, shown(&left)),
            Happened::Fallback { at, why, key, left } => {
                let left = left.map(|left| shown(&left));
                ("fallback.started", at, json!({ "reason": why, "key": key, "left": left }))
            }
        };
        tracing::info!(event.kind = kind, event.at_media_ms = at, event.data = %data, "on the air");
        // A picture leaves the house delay before it is shown, and what it follows is decided a little ahead.
        let ahead_ms = due_ms.map_or(0, |due| (at - HOUSE_DELAY_MS - due).clamp(-FARTHEST_MS, FARTHEST_MS));
        let at_wall = state::now().checked_add(SignedDuration::from_millis(ahead_ms));
        self.push(kind, at, at_wall.unwrap_or_else(|_| state::now()), data);
    }

    /// Notes an item that could not be opened.
    pub fn item_failed(&mut self, failure: &ItemFailure) {
        self.push("item.failed", 0, failure.at, json!({ "key": failure.key, "reason": failure.reason }));
    }

    /// Notes what happened to a destination.
    pub fn destination(&mut self, news: News) {
        self.push(news.kind, 0, state::now(), news.data);
    }

    fn push(&mut self, kind: &str, at_media_ms: i64, at_wall: Timestamp, data: Value) {
        self.events += 1;
        if self.waiting.len() == MOST_WAITING {
            self.waiting.remove(0);
        }
        let (run, seq, kind) = (self.run.clone(), self.events, kind.to_owned());
        self.waiting.push(Event { run, seq, at_wall, at_media_ms, kind, data });
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
        let mut ahead_ms = None;
        if let Some((air, programme, begun)) = playing {
            (beat.playing, beat.because) = air.playing();
            beat.because = beat.because.or_else(|| programme.trouble());
            beat.item = air.item_seen();
            let feed = air.group().on_air().filter(|_| beat.item.is_some());
            ahead_ms = feed.map(|feed| u64::try_from(feed.buffer().ahead_ms()).unwrap_or(0));
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
        for (kind, data) in self.roll.call(&beat.destinations) {
            self.push(kind, i64::try_from(beat.sent_ms).unwrap_or(0), state::now(), data);
        }
        let now_ms = steady_ms();
        beat.flow = self.flow.measure(now_ms, &beat.destinations, ahead_ms);
        self.airtimes.count(now_ms, &mut beat);
        beat
    }
}

fn shown(left: &Left) -> Value {
    json!({ "id": left.id, "key": left.key, "position_ms": left.position_ms, "how": left.how, "reason": left.why })
}

/// A clock in ms that nobody sets and that goes on while the machine sleeps.
fn steady_ms() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    u64::try_from(time.tv_sec).unwrap_or(0) * 1000 + u64::try_from(time.tv_nsec).unwrap_or(0) / 1_000_000
}
