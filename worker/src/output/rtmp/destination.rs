//! A destination: the handle that the session holds, and the task that keeps trying.
//!
//! | from | to | when |
//! |---|---|---|
//! | Idle, Waiting | Connecting | the task starts, the wait is over |
//! | Connecting | Sending | Publish.Start |
//! | Sending | Live | acknowledged bytes advance |
//! | Live | Sending | they have not for 5 s |
//! | Connecting, Sending, Live | Waiting | a failure; the next try has a time |
//! | Sending, Live | Connecting | a planned reconnect |
//! | any | Closed | asked to close |

use super::dial;
use super::failure::{self, Failure, Kind, Stage};
use super::protocol::handshake;
use super::protocol::publish::{self, Publication};
use super::protocol::url::Target;
use super::queue::Queue;
use super::retry;
use super::sending::{Ended, Sending};
use super::tuning::Tuning;
use crate::media::{Tag, TrackConfig};
use state::ids::DestinationId;
use state::wire::{DestinationError, DestinationSeen, DestinationSpec, DestinationState};
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// One place that the channel is sent to. Dropping it ends its task without a goodbye.
pub struct Destination {
    board: Arc<Board>,
    close: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Destination {
    /// Starts the task. `changed` is notified at every change of state, so that a heartbeat goes out at once.
    pub fn start(spec: DestinationSpec, tls_ca_file: Option<PathBuf>, changed: Arc<Notify>) -> Self {
        Self::start_tuned(spec, tls_ca_file, changed, Tuning::default())
    }

    /// [`Self::start`] with other numbers.
    pub fn start_tuned(
        spec: DestinationSpec,
        tls_ca_file: Option<PathBuf>,
        changed: Arc<Notify>,
        tuning: Tuning,
    ) -> Self {
        let board = Arc::new(Board::new(spec.id.clone(), changed));
        let (close, asked) = watch::channel(false);
        let pusher = Pusher { spec, tls_ca_file, tuning, board: Arc::clone(&board), ended_at: None };
        let task = tokio::spawn(pusher.run(Closing(asked)));
        Self { board, close, task }
    }

    /// Hands a tag over. Never waits: without a connection the newest GOP is kept for the next one, and what is
    /// too much for a slow peer is dropped up to an IDR and counted.
    pub fn send(&self, tag: &Tag) {
        self.board.queue().push(tag);
        self.board.filled.notify_one();
    }

    /// How it stands.
    pub fn seen(&self) -> DestinationSeen {
        let mut seen = self.board.seen().clone();
        seen.dropped = self.board.queue().dropped();
        seen
    }

    /// Sends what is waiting, FCUnpublish and deleteStream, and closes; what takes longer than `deadline` is cut off.
    pub async fn close(mut self, deadline: Duration) {
        let _ = self.close.send(true);
        let _ = timeout(deadline, &mut self.task).await;
    }
}

impl fmt::Debug for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Destination").field(&self.seen()).finish()
    }
}

impl Drop for Destination {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Told once that the end is wanted.
pub(super) struct Closing(watch::Receiver<bool>);

impl Closing {
    /// Returns when the end is wanted, at once if it is already.
    pub(super) async fn asked(&mut self) {
        let _ = self.0.wait_for(|asked| *asked).await;
    }
}

/// What handle and task share: the queue between them, and what is seen of the task.
pub(super) struct Board {
    queue: Mutex<Queue>,
    filled: Notify,
    seen: Mutex<DestinationSeen>,
    changed: Arc<Notify>,
}

impl Board {
    fn new(id: DestinationId, changed: Arc<Notify>) -> Self {
        let seen = DestinationSeen {
            id,
            state: DestinationState::Idle,
            since: state::now(),
            accepted_bytes: 0,
            accepted_at: None,
            bitrate_kbps: 0,
            reconnects: 0,
            dropped: 0,
            attempt: 0,
            next_retry_at: None,
            last_error: None,
        };
        Self { queue: Mutex::new(Queue::new()), filled: Notify::new(), seen: Mutex::new(seen), changed }
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

    /// The connection is over; `unsent` belongs to the next.
    pub(super) fn close_queue(&self, unsent: Vec<Tag>) {
        self.queue().shut(unsent);
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

    /// It has been sending for a while: earlier failures count no more.
    pub(super) fn stable(&self) {
        self.seen().attempt = 0;
    }

    /// The one place where the state changes.
    fn set(&self, state: DestinationState) {
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
        }
        drop(seen);
        self.changed.notify_one();
    }

    fn failed(&self, failure: &Failure, attempt: u32, wait: Duration) {
        let mut seen = self.seen();
        let now = state::now();
        tracing::warn!(
            destination.id = %seen.id, error.code = %failure.code, attempt, wait_ms = wait.as_millis() as u64,
            "destination failed: {}", failure.words
        );
        let (code, words) = (failure.code.clone(), failure.words.clone());
        seen.attempt = attempt;
        seen.last_error = Some(DestinationError { code, words, at: now });
        seen.next_retry_at =
            jiff::SignedDuration::try_from(wait).ok().and_then(|wait| now.checked_add(wait).ok());
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

/// The task: the one owner of this destination's retries.
struct Pusher {
    spec: DestinationSpec,
    tls_ca_file: Option<PathBuf>,
    tuning: Tuning,
    board: Arc<Board>,
    /// When our newest publication ended; the server may not have noticed yet.
    ended_at: Option<Instant>,
}

impl Pusher {
    async fn run(mut self, mut closing: Closing) {
        loop {
            self.board.set(DestinationState::Connecting);
            let failure = match self.once(&mut closing).await {
                Ended::Closed => break,
                Ended::Planned => continue,
                Ended::Failed(failure) => failure,
            };
            let wait = self.failed(failure);
            if timeout(wait, closing.asked()).await.is_ok() {
                break;
            }
        }
        self.board.set(DestinationState::Closed);
    }

    /// One connection, from the name of the server to the end of the publication.
    async fn once(&mut self, closing: &mut Closing) -> Ended {
        let target = match Target::parse(&self.spec.url, &self.spec.key) {
            Ok(target) => target,
            Err(error) => return Ended::Failed(Failure::bad_url(&error)),
        };
        let opened = tokio::select! {
            opened = self.open(&target) => opened,
            () = closing.asked() => return Ended::Closed,
        };
        let ended = match opened {
            Ok((link, publication)) => self.publish(link, publication, &target, closing).await,
            Err(failure) => Ended::Failed(failure),
        };
        match ended {
            Ended::Failed(failure) => Ended::Failed(failure.cleaned(&target)),
            other => other,
        }
    }

    async fn open(&self, target: &Target) -> Result<(dial::Link, Publication), Failure> {
        let limit = self.tuning.opening;
        let mut link = dial::open(target, self.tls_ca_file.as_deref(), limit).await?;
        let shaken = timeout(limit, handshake::shake(&mut link)).await;
        let c2 = shaken
            .map_err(|_| Failure::timeout(target, "shake hands", limit))?
            .map_err(|error| Failure::publish(target, Stage::Handshake, &error))?;
        let published = timeout(limit, publish::publish(&mut link, c2, target)).await;
        let publication = published
            .map_err(|_| Failure::timeout(target, "accept the publication", limit))?
            .map_err(|error| Failure::publish(target, Stage::Publish, &error))?;
        Ok((link, publication))
    }

    async fn publish(
        &mut self,
        link: dial::Link,
        publication: Publication,
        target: &Target,
        closing: &mut Closing,
    ) -> Ended {
        self.board.seen().reconnects += u64::from(self.ended_at.is_some());
        self.board.queue().open();
        self.board.set(DestinationState::Sending);
        let sending = Sending::new(link, publication, self.spec.boundary, target, &self.board, &self.tuning);
        let ended = sending.run(closing).await;
        self.ended_at = Some(Instant::now());
        ended
    }

    /// Notes a failure and says how long to wait.
    fn failed(&self, failure: Failure) -> Duration {
        let ours = self.ended_at.is_some_and(|at| at.elapsed() < retry::SHADOW);
        let kind = if ours && failure::is_busy(&failure.code) { Kind::Busy } else { failure.kind };
        let attempt = self.board.seen().attempt.saturating_add(1);
        let wait = retry::delay(kind, attempt, random_unit());
        self.board.failed(&failure, attempt, wait);
        wait
    }
}

/// A random number in 0..1.
fn random_unit() -> f64 {
    let mut bytes = [0; 4];
    state::ids::fill_random(&mut bytes);
    f64::from(u32::from_ne_bytes(bytes)) / (f64::from(u32::MAX) + 1.0)
}
