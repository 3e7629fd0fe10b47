//! Bytes in both directions at once: a peer is heard while it is written to, and neither waits for the other.

use super::dial::Link;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// An output buffer larger than this is given back after use: what is due at once is far less, but for an IDR picture.
const KEPT_BUFFER: usize = 64 * 1024;

/// Bytes on their way out.
pub(super) struct Out {
    pub(super) bytes: Vec<u8>,
    sent: usize,
    flushed: bool,
    /// When the kernel last took something, or had nothing to take.
    pub(super) moved: Instant,
}

impl Out {
    pub(super) fn new(now: Instant) -> Self {
        Self { bytes: Vec::new(), sent: 0, flushed: true, moved: now }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.bytes.is_empty() && self.flushed
    }

    /// Bytes were added; the clock of the write deadline starts if it stood still.
    pub(super) fn filled(&mut self, now: Instant) {
        if self.flushed && !self.bytes.is_empty() {
            self.flushed = false;
            self.moved = now;
        }
    }

    fn advance(&mut self, written: usize) {
        self.sent += written;
        self.moved = Instant::now();
        if self.sent == self.bytes.len() {
            self.bytes.clear();
            self.bytes.shrink_to(KEPT_BUFFER);
            self.sent = 0;
        }
    }
}

pub(super) enum Turn {
    /// All that was to be sent is with the kernel.
    Written,
    /// So many bytes came; 0 is the end.
    Read(usize),
}

impl Turn {
    /// Whether the peer has closed its side.
    pub(super) fn is_end(&self) -> bool {
        matches!(self, Self::Read(0))
    }
}

/// Writes and reads at the same time, until one of them has something to say. Nothing is lost when it is dropped.
///
/// When writing fails, what the peer said before is still read: it may be the reason.
pub(super) async fn turn(link: &mut Link, out: &mut Out, input: &mut [u8]) -> io::Result<Turn> {
    poll_fn(|cx| {
        let written = if out.is_idle() { Poll::Pending } else { push(link, out, cx) };
        if let Poll::Ready(Ok(())) = written {
            return Poll::Ready(Ok(Turn::Written));
        }
        let mut buffer = ReadBuf::new(input);
        let read = Pin::new(&mut *link).poll_read(cx, &mut buffer);
        match (read, written) {
            (Poll::Ready(Ok(())), _) if !buffer.filled().is_empty() => {
                Poll::Ready(Ok(Turn::Read(buffer.filled().len())))
            }
            (_, Poll::Ready(Err(error))) | (Poll::Ready(Err(error)), _) => Poll::Ready(Err(error)),
            (Poll::Ready(Ok(())), _) => Poll::Ready(Ok(Turn::Read(0))),
            (Poll::Pending, _) => Poll::Pending,
        }
    })
    .await
}

/// Ready when all is with the kernel. TLS keeps bytes of its own, so that writing is not over before the flush.
fn push(link: &mut Link, out: &mut Out, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
    while !out.bytes.is_empty() {
        match ready!(Pin::new(&mut *link).poll_write(cx, &out.bytes[out.sent..]))? {
            0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            written => out.advance(written),
        }
    }
    ready!(Pin::new(&mut *link).poll_flush(cx))?;
    out.flushed = true;
    Poll::Ready(Ok(()))
}
