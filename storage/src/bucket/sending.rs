//! Sending a piece of a file: counted as it leaves, and given up when nothing leaves any more.

use crate::StorageError;
use aws_sdk_s3::primitives::{ByteStream, Length, SdkBody};
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, MissedTickBehavior, interval};

/// Longest time in which no byte is taken; long, because the kernel holds some seconds of a slow uplink and a server
/// may store a part before it answers.
const IDLE: Duration = Duration::from_secs(60);

/// How often progress is told.
const TELL_EVERY: Duration = Duration::from_millis(200);

/// A range of a file as a request body, and the count of what has left of it. A retry sends and counts anew.
pub(super) async fn piece(
    file: &Path,
    from: u64,
    length: u64,
) -> Result<(ByteStream, Arc<AtomicU64>), StorageError> {
    let unreadable = |_| StorageError::Other(format!("{} cannot be read", file.display()));
    let source = ByteStream::read_from().path(file).offset(from).length(Length::Exact(length));
    let source = source.build().await.map_err(unreadable)?;
    let sent = Arc::new(AtomicU64::new(0));
    let count = sent.clone();
    let counted = source.map(move |body| {
        count.store(0, Ordering::Relaxed);
        SdkBody::from_body_1_x(Counted { body, sent: count.clone() })
    });
    Ok((counted, sent))
}

/// Waits for a request while it moves. `progress` hears how much of the piece has left.
pub(super) async fn watched<T>(
    request: impl Future<Output = Result<T, StorageError>>,
    sent: &AtomicU64,
    progress: &mut (dyn FnMut(u64) + Send),
) -> Result<T, StorageError> {
    tokio::pin!(request);
    let mut ticks = interval(TELL_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut moved = (0, Instant::now());
    loop {
        tokio::select! {
            answer = &mut request => return answer,
            now = ticks.tick() => {
                let count = sent.load(Ordering::Relaxed);
                if count != moved.0 {
                    moved = (count, now);
                    progress(count);
                } else if now.duration_since(moved.1) > IDLE {
                    return Err(StorageError::TimedOut(format!(
                        "the storage took no byte for {} s; look at the network, then upload again: it goes on where it \
                         stopped",
                        IDLE.as_secs()
                    )));
                }
            }
        }
    }
}

struct Counted {
    body: SdkBody,
    sent: Arc<AtomicU64>,
}

impl Body for Counted {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &frame
            && let Some(bytes) = frame.data_ref()
        {
            self.sent.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        Body::is_end_stream(&self.body)
    }

    fn size_hint(&self) -> SizeHint {
        Body::size_hint(&self.body)
    }
}
