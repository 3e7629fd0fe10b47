//! One worker per channel: a lock that the kernel drops with the process, however it ends.

use state::ids::ChannelId;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Held for the life of the worker.
#[derive(Debug)]
pub struct ChannelLock {
    _file: File,
}

/// Why the channel could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another worker lives.
    #[error("another worker holds {0}")]
    Held(String),
    /// The file system said no.
    #[error("{0}: {1}")]
    Io(String, io::Error),
}

impl ChannelLock {
    /// The lock file of a channel, beside the controller's socket.
    pub fn path(run_folder: &Path, channel: &ChannelId) -> PathBuf {
        run_folder.join(format!("{channel}.lock"))
    }

    /// Takes the lock file. The file stays when the lock is gone: removing it would let two workers hold two locks.
    ///
    /// # Errors
    /// [`LockError`].
    pub fn take(path: &Path) -> Result<Self, LockError> {
        let shown = path.display().to_string();
        let open = || {
            if let Some(folder) = path.parent() {
                fs::create_dir_all(folder)?;
            }
            OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path)
        };
        let file = open().map_err(|error| LockError::Io(shown.clone(), error))?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => Err(LockError::Held(shown)),
            Err(TryLockError::Error(error)) => Err(LockError::Io(shown, error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_is_taken_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run/main.lock");
        let held = ChannelLock::take(&path).unwrap();
        assert!(matches!(ChannelLock::take(&path), Err(LockError::Held(_))));
        drop(held);
        ChannelLock::take(&path).unwrap();
    }
}
