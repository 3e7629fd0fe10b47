//! What a destination's handle and its task share: the queue between them, and what is seen of the task.

use super::failure::Failure;
use super::queue::Queue;
use crate::media::{Tag, TrackConfig};
use serde_json::{Value, json};
use state::ids::DestinationId;
use state::wire::{DestinationError, DestinationSeen, DestinationState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// What handle and task share: the queue between them, and what is seen of the task.
pub(super) struct Board {
    queue: Mutex<Queue>,
    filled: Notify,
    seen: Mutex<DestinationSeen>,
    news: Mutex<Vec<News>>,
    changed: Arc<Notify>,
}

/// Something that happened to a destination and is to be kept.
#[derive(Debug, Clone, PartialEq)]
pub struct News {
    /// The event's kind.
    pub kind: &'static str,
    /// Its data.
    pub data: Value,
}

/// Most news that wait to be fetched.
const MOST_NEWS: usize = 32;

impl Board {
    pub(super) fn new(id: DestinationId, changed: Arc<Notify>) -> Self {
        let seen = DestinationSeen::new(id, DestinationState::Idle, state::now());
        let news = Mutex::new(Vec::new());
        Self { queue: Mutex::new(Queue::new()), filled: Notify::new(), seen: Mutex::new(seen), news, changed }
    }

    /// Adds a tag and wakes the task. Never waits.
    pub(super) fn give(&self, tag: &Tag) {
        self.queue().push(tag);
        self.filled.notify_one();
    }

    /// How it stands.
    pub(super) fn snapshot(&self) -> DestinationSeen {
        let (dropped, queue_ms) = {
            let queue = self.queue();
            (queue.dropped(), queue.waiting_ms())
        };
        DestinationSeen { dropped, queue_ms, ..self.seen().clone() }
    }

    /// Returns when tags may have come.
    pub(super) async fn filled(&self) {
        self.filled.notified().await;
    }

    /// Waiting tags of up to about `bytes`, and the newest audio configuration.
    pub(super) fn take(&self, bytes: usize) -> (Vec<Tag>, Option<Arc<TrackConfig>>) {
        let mut queue = self.queue();
        (queue.take(bytes), queue.audio())
    }

    /// A publication began; `again` when it is not the first.
    pub(super) fn published(&self, again: bool) {
        self.queue().open();
        self.seen().reconnects += u64::from(again);
        self.set(DestinationState::Sending);
    }

    /// The connection is over; `unsent` and all that comes belongs to the next, which is begun at once.
    pub(super) fn hold_queue(&self, unsent: Vec<Tag>) {
        self.queue().hold(unsent);
    }

    /// The connection is over.
    pub(super) fn close_queue(&self) {
        self.queue().shut();
    }

    /// A sample of the acknowledged bytes: how many more, how fast, and whether that makes it live.
    pub(super) fn sampled(&self, more: u64, kbps: u32, live: bool) {
        let mut seen = self.seen();
        seen.bitrate_kbps = kbps;
        if more > 0 {
            seen.accepted_bytes += more;
            seen.accepted_at = Some(state::now());
        }
        drop(seen);
        self.set(if live { DestinationState::Live } else { DestinationState::Sending });
    }

    /// The way that is tried or in use, masked.
    pub(super) fn on_the_way(&self, way: String) {
        self.seen().way = Some(way);
    }

    /// Round-trip time of the connection, ms.
    pub(super) fn round_trip(&self, rtt_ms: Option<u32>) {
        self.seen().rtt_ms = rtt_ms;
    }

    /// What the platform will not like.
    pub(super) fn warned(&self, warnings: Vec<String>) {
        let mut seen = self.seen();
        // Their figures change from second to second, so only the first of them is logged.
        if let (true, Some(warning)) = (seen.warnings.is_empty(), warnings.first()) {
            tracing::warn!(destination.id = %seen.id, "{warning}");
        }
        seen.warnings = warnings;
    }

    /// The session will end in so many seconds.
    pub(super) fn session_ending(&self, in_s: u64) {
        let data = json!({ "destination": self.seen().id, "in_s": in_s });
        let mut news = self.news.lock().unwrap_or_else(PoisonError::into_inner);
        if news.len() < MOST_NEWS {
            news.push(News { kind: "destination.session_ending", data });
        }
        drop(news);
        self.changed.notify_one();
    }

    /// What has happened since the last call.
    pub(super) fn news(&self) -> Vec<News> {
        std::mem::take(&mut *self.news.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// It has been sending for a while: earlier failures count no more.
    pub(super) fn stable(&self) {
        self.seen().attempt = 0;
    }

    /// It has a new address or key.
    pub(super) fn forget_failures(&self) {
        self.seen().attempt = 0;
    }

    /// Failures in a row.
    pub(super) fn attempt(&self) -> u32 {
        self.seen().attempt
    }

    /// The one place where the state changes.
    pub(super) fn set(&self, state: DestinationState) {
        let mut seen = self.seen();
        if seen.state == state {
            return;
        }
        tracing::info!(destination.id = %seen.id, from = ?seen.state, to = ?state, "destination changed");
        seen.state = state;
        seen.since = state::now();
        if state != DestinationState::Waiting {
            seen.next_retry_at = None;
        }
        if !matches!(state, DestinationState::Sending | DestinationState::Live) {
            seen.bitrate_kbps = 0;
            seen.rtt_ms = None;
            seen.warnings = Vec::new();
        }
        drop(seen);
        self.changed.notify_one();
    }

    /// A failure, and how long until the next try.
    pub(super) fn failed(&self, failure: &Failure, attempt: u32, wait: Duration) {
        self.close_queue();
        let mut seen = self.seen();
        let now = state::now();
        tracing::warn!(
            destination.id = %seen.id, error.code = %failure.code, attempt, wait_ms = wait.as_millis() as u64,
            "destination failed: {}", failure.words
        );
        let (code, words) = (failure.code.clone(), failure.words.clone());
        seen.attempt = attempt;
        seen.last_error = Some(DestinationError { code, words, at: now });
        seen.next_retry_at = state::after(now, wait);
        drop(seen);
        self.set(DestinationState::Waiting);
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn seen(&self) -> MutexGuard<'_, DestinationSeen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
