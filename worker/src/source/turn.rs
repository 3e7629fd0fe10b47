//! Taking turns with the other workers of this machine: whoever holds the lock of a file has it. The kernel drops the lock
//! with the process, however it ends. The file stays: a lock that is removed under somebody is held twice.

use super::disk;
use state::atomic;
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::time::Duration;
use tokio::time::sleep;

/// How often it is asked whether the one before has finished.
const ASK_AGAIN: Duration = Duration::from_millis(250);

/// The right to do something alone, for as long as it is kept.
#[derive(Debug)]
pub(super) struct Turn {
    _lock: disk::Held<File>,
}

impl Turn {
    /// Waits for the turn whose lock is this file, without an end: whoever asks has a deadline.
    ///
    /// # Errors
    /// Why the file cannot be locked, in words.
    pub(super) async fn take(path: PathBuf) -> Result<Self, String> {
        let problem = |error: io::Error| format!("{}: {error}", path.display());
        let place = path.clone();
        let lock = disk::soon(&path, move || {
            atomic::private_folder(place.parent().unwrap_or(&place))?;
            OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(place)
        });
        let mut lock = lock.await.flatten().map_err(problem)?;
        loop {
            let asked;
            (asked, lock) = disk::soon(&path, move || (lock.try_lock(), lock)).await.map_err(problem)?;
            match asked {
                Ok(()) => return Ok(Self { _lock: lock.into() }),
                Err(TryLockError::WouldBlock) => sleep(ASK_AGAIN).await,
                Err(TryLockError::Error(error)) => return Err(problem(error)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::timeout;

    #[tokio::test]
    async fn one_has_it_and_the_next_when_that_one_is_done() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/x.lock");
        let first = Turn::take(path.clone()).await.unwrap();
        assert!(timeout(Duration::from_millis(400), Turn::take(path.clone())).await.is_err());
        drop(first);
        timeout(Duration::from_secs(20), Turn::take(path)).await.unwrap().unwrap();
        assert!(Turn::take("/dev/null/x.lock".into()).await.unwrap_err().starts_with("/dev/null/x.lock: "));
    }
}
