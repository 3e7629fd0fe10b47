//! A destination: the handle that the session holds. Its task is in `pusher`.

use super::board::{Board, News};
use super::pusher::{Orders, Pusher, Wish};
use super::tuning::Tuning;
use crate::media::Tag;
use state::wire::{DestinationSeen, DestinationSpec};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// One place that the channel is sent to. Dropping it ends its task without a goodbye.
pub struct Destination {
    spec: Arc<DestinationSpec>,
    board: Arc<Board>,
    wish: watch::Sender<Wish>,
    task: JoinHandle<()>,
}

impl Destination {
    /// Starts the task. `changed` is notified at every change of state, so that a heartbeat goes out at once.
    pub fn start(spec: DestinationSpec, tls_ca_file: Option<PathBuf>, changed: Arc<Notify>) -> Self {
        Self::start_tuned(spec, tls_ca_file, changed, Tuning::default())
    }

    /// [`Self::start`] where one of ours was a moment ago and the server may not have noticed that it left.
    pub fn start_again(spec: DestinationSpec, tls_ca_file: Option<PathBuf>, changed: Arc<Notify>) -> Self {
        Self::start_tuned(spec, tls_ca_file, changed, Tuning { came_before: true, ..Tuning::default() })
    }

    /// [`Self::start`] with other numbers.
    pub fn start_tuned(
        spec: DestinationSpec,
        tls_ca_file: Option<PathBuf>,
        changed: Arc<Notify>,
        tuning: Tuning,
    ) -> Self {
        let board = Arc::new(Board::new(spec.id.clone(), changed));
        let spec = Arc::new(spec);
        let (wish, wishes) = watch::channel(Wish::Publish(Arc::clone(&spec)));
        let pusher = Pusher::new(tls_ca_file, tuning, Arc::clone(&board));
        let task = tokio::spawn(pusher.run(Orders::new(wishes)));
        Self { spec, board, wish, task }
    }

    /// What it was told last.
    pub fn spec(&self) -> &DestinationSpec {
        &self.spec
    }

    /// Follows new words. Another address or key begins a new connection at the next IDR, at once where there is
    /// none; everything else is followed in the connection that there is. The same words again change nothing.
    pub fn update(&mut self, spec: DestinationSpec) {
        if spec != *self.spec {
            self.spec = Arc::new(spec);
            self.wish.send_replace(Wish::Publish(Arc::clone(&self.spec)));
        }
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

    /// What has happened since the last call.
    pub fn news(&self) -> Vec<News> {
        self.board.news()
    }

    /// Sends what is waiting, FCUnpublish and deleteStream, and closes; what takes longer than `deadline` is cut off.
    pub async fn close(mut self, deadline: Duration) {
        self.wish.send_replace(Wish::Leave);
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
