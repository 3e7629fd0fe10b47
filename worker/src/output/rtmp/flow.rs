//! Bytes in both directions at once: a peer is heard while it is written to, and neither waits for the other.

use super::dial::Link;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::Poll;
use std::time::Instant;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// An output buffer larger than this is given back after use.
const KEPT_BUFFER: usize = 512 * 1024;

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

/// Writes and reads at the same time, until one of them has something to say. Nothing is lost when it is dropped.
pub(super) async fn turn(link: &mut Link, out: &mut Out, input: &mut [u8]) -> io::Result<Turn> {
    poll_fn(|cx| {
        while !out.bytes.is_empty() {
            match Pin::new(&mut *link).poll_write(cx, &out.bytes[out.sent..])? {
                Poll::Ready(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(written) => out.advance(written),
                Poll::Pending => break,
            }
        }
        if out.bytes.is_empty() && !out.flushed && Pin::new(&mut *link).poll_flush(cx)?.is_ready() {
            out.flushed = true;
            return Poll::Ready(Ok(Turn::Written));
        }
        let mut buffer = ReadBuf::new(input);
        match Pin::new(&mut *link).poll_read(cx, &mut buffer)? {
            Poll::Ready(()) => Poll::Ready(Ok(Turn::Read(buffer.filled().len()))),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}
