//! Taking a channel over from a worker that still plays: waiting for its lock, and reading in its last words where
//! to go on. What is played then is the session's business.

use crate::lock::{ChannelLock, LockError};
use state::ids::ChannelId;
use state::seen::LastWords;
use state::wire::Cursor;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How often the lock is tried: viewers wait for this.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// After this long nobody gives way any more.
const LONGEST_WAIT: Duration = Duration::from_secs(900);

/// How long a worker whose turn has come waits for a destination before its time begins: pictures that are sent before
/// anybody listens may be lost.
const HEARD_WITHIN: Duration = Duration::from_millis(1500);

/// Whether a worker may send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Turn {
    /// Another worker plays the channel.
    Awaited,
    /// It has gone a moment ago; somebody should listen before time begins.
    Come {
        /// Time begins at this moment at the latest.
        until: Instant,
    },
    /// It is ours.
    Ours,
    /// It will not come, for this reason.
    Never(String),
}

impl Turn {
    /// The worker before has just gone.
    pub fn come(now: Instant) -> Self {
        Turn::Come { until: now + HEARD_WITHIN }
    }

    /// Whether time may begin; `heard` says that somebody listens.
    pub fn may_begin(&mut self, now: Instant, heard: impl FnOnce() -> bool) -> bool {
        if let Turn::Come { until } = self
            && (*until <= now || heard())
        {
            *self = Turn::Ours;
        }
        *self == Turn::Ours
    }
}

/// A turn that is waited for.
#[derive(Debug)]
pub struct Takeover {
    folder: PathBuf,
    channel: ChannelId,
    lock: Arc<OnceLock<ChannelLock>>,
    /// What was there before the worker that plays has left its own.
    old: Option<LastWords>,
}

/// Why a turn does not come.
#[derive(Debug, thiserror::Error)]
pub enum NoTurn {
    /// The worker that played is gone without saying where to go on.
    #[error("the worker before did not hand over")]
    NotHandedOver,
    /// It does not give way.
    #[error("the worker before did not give way within {} s", LONGEST_WAIT.as_secs())]
    TooLong,
    /// The lock cannot be had.
    #[error(transparent)]
    Lock(#[from] LockError),
}

impl Takeover {
    /// For the channel whose lock and last words are in `folder`, while somebody still plays it. The lock, once it
    /// is taken, is put into `lock`.
    pub fn new(folder: &Path, channel: ChannelId, lock: Arc<OnceLock<ChannelLock>>) -> Self {
        let old = LastWords::newest(folder, &channel);
        Self { folder: folder.to_owned(), channel, lock, old }
    }

    /// Waits until the channel is free, holds it, and says where to go on.
    ///
    /// # Errors
    /// [`NoTurn`].
    pub async fn wait(self) -> Result<Cursor, NoTurn> {
        let deadline = Instant::now() + LONGEST_WAIT;
        let path = ChannelLock::path(&self.folder, &self.channel);
        let lock = loop {
            match ChannelLock::take(&path) {
                Err(LockError::Held(_)) if Instant::now() > deadline => return Err(NoTurn::TooLong),
                Err(LockError::Held(_)) => sleep(LOOK_EVERY).await,
                taken => break taken?,
            }
        };
        // There is one turn, so nothing is in there yet.
        let _ = self.lock.set(lock);
        // The words are left while the lock is held: they are there, and they are new.
        let words =
            LastWords::newest(&self.folder, &self.channel).filter(|words| Some(words) != self.old.as_ref());
        words.and_then(|words| words.next).ok_or(NoTurn::NotHandedOver)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use state::ids::Ulid;

    fn words(run: &str, next: Option<&str>) -> LastWords {
        let cursor = |item: &str| Cursor { item: Ulid::from_text(item), key: item.into(), offset_ms: 0 };
        let (run, next) = (Ulid::from_text(run), next.map(cursor));
        LastWords { run, exit_code: 0, finished: false, next, words: "it gave way".into() }
    }

    #[test]
    fn time_begins_when_somebody_listens_or_it_has_been_long_enough() {
        let now = Instant::now();
        assert!(Turn::Ours.may_begin(now, || false));
        assert!(!Turn::Awaited.may_begin(now + LONGEST_WAIT, || true));
        assert!(!Turn::come(now).may_begin(now, || false) && Turn::come(now).may_begin(now, || true));
        let mut turn = Turn::come(now);
        assert!(
            turn.may_begin(now + HEARD_WITHIN, || false),
            "a dead destination does not keep the others waiting"
        );
        assert_eq!(turn, Turn::Ours);
    }

    #[tokio::test]
    async fn it_goes_on_where_the_worker_before_says_and_holds_the_channel() {
        let folder = tempfile::tempdir().unwrap();
        let (channel, path) = (ChannelId::main(), ChannelLock::path(folder.path(), &ChannelId::main()));
        words("a", Some("old")).leave(folder.path(), &channel).unwrap();
        let held = ChannelLock::take(&path).unwrap();
        let lock = Arc::default();
        let turn = tokio::spawn(Takeover::new(folder.path(), channel.clone(), Arc::clone(&lock)).wait());
        words("b", Some("next")).leave(folder.path(), &channel).unwrap();
        tokio::task::yield_now().await;
        assert!(!turn.is_finished(), "the worker before has not gone yet");
        drop(held);
        assert_eq!(turn.await.unwrap().unwrap().key, "next");
        assert!(matches!(ChannelLock::take(&path), Err(LockError::Held(_))) && lock.get().is_some());
    }

    #[tokio::test]
    async fn a_worker_that_died_has_handed_nothing_over() {
        let folder = tempfile::tempdir().unwrap();
        let channel = ChannelId::main();
        words("a", Some("of an earlier hand-over")).leave(folder.path(), &channel).unwrap();
        let died = Takeover::new(folder.path(), channel.clone(), Arc::default()).wait().await;
        assert!(matches!(died, Err(NoTurn::NotHandedOver)));
        let stopped = Takeover::new(folder.path(), channel.clone(), Arc::default());
        words("b", None).leave(folder.path(), &channel).unwrap();
        assert!(matches!(stopped.wait().await, Err(NoTurn::NotHandedOver)));
    }
}
