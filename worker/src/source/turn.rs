//! Taking turns with the other workers of this machine: whoever holds the lock of a file has it. The kernel drops the lock
//! with the process, however it ends. The file stays: a lock that is removed under somebody is held twice.

use super::disk;
use state::atomic;
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;
use tokio::time::sleep;

/// How often it is asked whether the one before has finished.
const ASK_AGAIN: Duration = Duration::from_millis(250);

/// The right to do something alone, for as long as it is kept.
#[derive(Debug)]
pub(super) struct Turn(Option<File>);

impl Drop for Turn {
    fn drop(&mut self) {
        disk::let_go(self.0.take());
    }
}

impl Turn {
    /// Waits for the turn whose lock is this file, without an end: whoever asks has a deadline.
    ///
    /// # Errors
    /// Why the file cannot be locked, in words.
    pub(super) async fn take(path: &Path) -> Result<Self, String> {
        loop {
            let lock = path.to_owned();
            match disk::soon(path, move || try_lock(&lock)).await.flatten() {
                Ok(Some(lock)) => return Ok(Self(Some(lock))),
                Ok(None) => sleep(ASK_AGAIN).await,
                Err(error) => return Err(format!("{}: {error}", path.display())),
            }
        }
    }
}

fn try_lock(path: &Path) -> io::Result<Option<File>> {
    path.parent().map_or(Ok(()), atomic::private_folder)?;
    let lock = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path)?;
    match lock.try_lock() {
        Ok(()) => Ok(Some(lock)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
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
        let first = Turn::take(&path).await.unwrap();
        assert!(timeout(Duration::from_millis(400), Turn::take(&path)).await.is_err());
        drop(first);
        timeout(Duration::from_secs(20), Turn::take(&path)).await.unwrap().unwrap();
        assert!(
            Turn::take(Path::new("/dev/null/x.lock")).await.unwrap_err().starts_with("/dev/null/x.lock: ")
        );
    }
}
