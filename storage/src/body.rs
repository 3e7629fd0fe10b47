//! The bytes of a media file as they come.

use crate::StorageError;
use bytes::{Bytes, BytesMut};
use tokio::io::AsyncReadExt;

/// Longest wait for the next bytes.
#[cfg(feature = "s3")]
const IDLE: std::time::Duration = std::time::Duration::from_secs(10);

/// How much of a local file is read at once.
const CHUNK: usize = 64 * 1024;

/// An open media file, from some offset to its end.
pub struct Body {
    /// Length of the whole media file in bytes, not of what is left.
    pub size: u64,
    /// Which content this is, as in [`crate::MediaFile::content`].
    pub content: String,
    /// Bytes that must still come.
    left: u64,
    key: String,
    flow: Flow,
}

enum Flow {
    File(tokio::fs::File),
    #[cfg(feature = "s3")]
    Bucket(aws_sdk_s3::primitives::ByteStream),
}

impl Body {
    /// A local file, already at its offset.
    pub(crate) fn of_file(file: tokio::fs::File, media: crate::MediaFile, from: u64) -> Self {
        let crate::MediaFile { key, size, content } = media;
        Self { size, content, left: size - from, key, flow: Flow::File(file) }
    }

    /// An object; `left` bytes of it follow.
    #[cfg(feature = "s3")]
    pub(crate) fn of_object(
        stream: aws_sdk_s3::primitives::ByteStream,
        media: crate::MediaFile,
        left: u64,
    ) -> Self {
        let crate::MediaFile { key, size, content } = media;
        Self { size, content, left, key, flow: Flow::Bucket(stream) }
    }

    /// The next bytes, never an empty piece; `None` only when every byte has come, so an end too early is an error.
    /// Dropping the body ends the transfer.
    ///
    /// # Errors
    /// [`StorageError::TimedOut`] after 10 s without a byte, [`StorageError::Unreachable`] when the connection broke.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, StorageError> {
        if self.left == 0 {
            return Ok(None);
        }
        let next = match &mut self.flow {
            Flow::File(file) => read(file, self.left, &self.key).await?,
            #[cfg(feature = "s3")]
            Flow::Bucket(stream) => receive(stream, &self.key).await?,
        };
        let Some(bytes) = next else {
            return Err(StorageError::Unreachable(format!(
                "{:?} ended {} bytes too early; the connection was cut, or the file is being replaced; it can be read on",
                self.key, self.left
            )));
        };
        self.left = self.left.saturating_sub(bytes.len() as u64);
        Ok(Some(bytes))
    }
}

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Body")
            .field("key", &self.key)
            .field("size", &self.size)
            .field("left", &self.left)
            .finish()
    }
}

async fn read(file: &mut tokio::fs::File, left: u64, key: &str) -> Result<Option<Bytes>, StorageError> {
    let wanted = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
    let mut piece = BytesMut::with_capacity(wanted);
    let mut limited = file.take(wanted as u64);
    let got =
        limited.read_buf(&mut piece).await.map_err(|e| StorageError::file(&format!("read {key:?}"), &e))?;
    Ok((got > 0).then(|| piece.freeze()))
}

#[cfg(feature = "s3")]
async fn receive(
    stream: &mut aws_sdk_s3::primitives::ByteStream,
    key: &str,
) -> Result<Option<Bytes>, StorageError> {
    loop {
        match tokio::time::timeout(IDLE, stream.try_next()).await {
            Ok(Ok(Some(bytes))) if bytes.is_empty() => {}
            Ok(Ok(next)) => return Ok(next),
            Ok(Err(_)) => {
                return Err(StorageError::Unreachable(format!(
                    "the connection broke while reading {key:?}; it can be read on"
                )));
            }
            Err(_) => {
                return Err(StorageError::TimedOut(format!(
                    "no byte of {key:?} came for {} s; the storage or the network is slow or down",
                    IDLE.as_secs()
                )));
            }
        }
    }
}
