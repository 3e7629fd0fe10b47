//! The bytes of an object as they come, from any place on. A connection that breaks is begun again where it stopped,
//! a few times; every request is signed in its moment and asks for the content that was there in the beginning.

use bytes::{Bytes, BytesMut};
use std::time::Duration;
use storage::{Body, Storage, StorageError};
use tokio::time::{sleep, timeout};

/// Longest time in which nothing may come.
const SILENCE: Duration = Duration::from_secs(4);
/// Longest time until an answer begins, the tries of the storage room included.
const ANSWER: Duration = Duration::from_secs(8);
/// Before each try that begins where the one before it ended.
const TRIES: [Duration; 3] = [Duration::from_millis(100), Duration::from_millis(500), Duration::from_secs(1)];
/// Read past rather than asked for anew, bytes.
const SKIPPED: u64 = 256 * 1024;
/// Given at once, bytes, where there is as much.
const PIECE: usize = 256 * 1024;

/// An object that is read.
#[derive(Debug)]
pub struct Stream {
    storage: Storage,
    key: String,
    content: String,
    size: u64,
    /// An answer, and the place of its next byte.
    open: Option<(u64, Body)>,
    /// Came and was not asked for yet, at that place.
    spare: Bytes,
}

impl Stream {
    /// This content of an object of so many bytes. Asks nobody yet.
    pub fn new(storage: Storage, key: String, content: String, size: u64) -> Self {
        Self { storage, key, content, size, open: None, spare: Bytes::new() }
    }

    /// Length of the object, bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// At least so many bytes from this place on, where the object is that long.
    ///
    /// # Errors
    /// When they cannot be had, or the object has changed.
    pub async fn read(&mut self, from: u64, least: usize) -> Result<Bytes, StorageError> {
        let left = usize::try_from(self.size.saturating_sub(from)).unwrap_or(usize::MAX);
        let wanted = least.max(PIECE).min(left);
        let (mut bytes, mut failures) = (BytesMut::new(), 0);
        while bytes.len() < wanted {
            match self.next(from + bytes.len() as u64).await {
                Ok(piece) => {
                    bytes.extend_from_slice(&piece);
                    failures = 0;
                }
                Err(error) => {
                    self.open = None;
                    let Some(pause) = TRIES.get(failures).filter(|_| error.is_worth_retrying()) else {
                        return Err(error);
                    };
                    tracing::debug!(item.key = %self.key, at = from + bytes.len() as u64, %error, "asked for again");
                    sleep(*pause).await;
                    failures += 1;
                }
            }
        }
        // Exactly: pieces overlap nowhere, and the next read begins where this one ends.
        self.spare = bytes.split_off(wanted).freeze();
        Ok(bytes.freeze())
    }

    /// The next bytes from this place on, of the open answer or of a new one.
    async fn next(&mut self, from: u64) -> Result<Bytes, StorageError> {
        let silent = |_| StorageError::TimedOut(format!("no byte of {:?} came for some seconds", self.key));
        let spare = std::mem::take(&mut self.spare);
        let (mut at, mut body) = match self.open.take() {
            Some((at, body)) if at - spare.len() as u64 == from && !spare.is_empty() => {
                self.open = Some((at, body));
                return Ok(spare);
            }
            Some((at, body)) if (at..=at.saturating_add(SKIPPED)).contains(&from) => (at, body),
            _ => {
                let asked = self.storage.get(&self.key, from, Some(&self.content));
                (from, timeout(ANSWER, asked).await.map_err(silent)??)
            }
        };
        loop {
            let piece = timeout(SILENCE, body.chunk()).await.map_err(silent)??;
            let Some(mut piece) = piece else {
                return Err(StorageError::Unreachable(format!("{:?} ended too early", self.key)));
            };
            let before = usize::try_from(from - at).unwrap_or(usize::MAX).min(piece.len());
            at += piece.len() as u64;
            let wanted = piece.split_off(before);
            if !wanted.is_empty() {
                self.open = Some((at, body));
                return Ok(wanted);
            }
        }
    }
}
