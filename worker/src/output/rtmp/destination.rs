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

use super::board::Board;
use super::dial;
use super::failure::{self, Failure, Kind, Stage};
use super::protocol::handshake;
use super::protocol::publish::{self, Publication};
use super::protocol::url::Target;
use super::retry;
use super::sending::{Ended, Sending};
use super::tuning::Tuning;
use crate::media::Tag;
use state::wire::{DestinationSeen, DestinationSpec, DestinationState};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
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
        self.board.give(tag);
    }

    /// How it stands.
    pub fn seen(&self) -> DestinationSeen {
        self.board.snapshot()
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
        self.board.published(self.ended_at.is_some());
        let sending = Sending::new(link, publication, self.spec.boundary, target, &self.board, &self.tuning);
        let ended = sending.run(closing).await;
        self.ended_at = Some(Instant::now());
        ended
    }

    /// Notes a failure and says how long to wait.
    fn failed(&self, failure: Failure) -> Duration {
        let ours = self.ended_at.is_some_and(|at| at.elapsed() < retry::SHADOW);
        let kind = if ours && failure::is_busy(&failure.code) { Kind::Busy } else { failure.kind };
        let attempt = self.board.attempt().saturating_add(1);
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
