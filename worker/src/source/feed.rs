//! A feed: an opened item, or the slate, that yields tags in its own time. A child's reader fills the buffer in
//! bursts between two marks, so that FFmpeg and the worker sleep in between.

use super::buffer::{Buffer, End};
use super::child::{self, Said};
use super::flv::Cutter;
use super::slate::Slate;
use crate::media::Shape;
use bytes::BytesMut;
use std::ffi::OsString;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::process::{Child, ChildStdout};
use tokio::sync::{Notify, mpsc};

/// The reader stops when this much is in hand, ms, and goes on below [`LOW_MS`].
pub const HIGH_MS: i64 = 6_000;
const LOW_MS: i64 = 4_000;
/// Or when this many bytes are: twelve seconds at 8 Mbit/s.
const HIGH_BYTES: usize = 12 << 20;
const READ_AT_ONCE: usize = 64 * 1024;
const GRACE: Duration = Duration::from_secs(10);

/// A feed. Dropping it ends its child.
#[derive(Debug)]
pub struct Feed {
    shared: Arc<Shared>,
    slate: Option<Arc<Slate>>,
}

#[derive(Debug)]
struct Shared {
    buffer: Mutex<Buffer>,
    /// There is space again.
    space: Notify,
    /// Something was read, or the end was reached.
    news: Notify,
    /// Nobody wants the rest.
    stop: Notify,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Buffer> {
        self.buffer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Held by everything that owns a child; the receiver sees the end when all of them are gone.
pub type Alive = mpsc::Sender<()>;

impl Feed {
    /// Runs FFmpeg with `arguments` and reads what it writes. Call it from the worker's own thread.
    ///
    /// # Errors
    /// That FFmpeg cannot be started, in words.
    pub fn run(
        tools: &child::Tools,
        arguments: Vec<OsString>,
        shape: Shape,
        has_audio: bool,
        key: &str,
        alive: &Alive,
    ) -> Result<Feed, String> {
        let mut command = child::command(&tools.ffmpeg, &tools.secrets_free_environment());
        command.args(arguments);
        let mut child = command.spawn().map_err(|error| format!("FFmpeg cannot be started: {error}"))?;
        let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
            return Err("FFmpeg has no output".to_owned());
        };
        let shared = Arc::new(Shared::new(Buffer::new(shape, has_audio)));
        let said = tokio::spawn(child::listen(stderr, key.to_owned()));
        let reader = Arc::clone(&shared);
        let alive = alive.clone();
        tokio::spawn(async move {
            let broken = reader.read(stdout).await;
            let end = conclude(broken, child, said).await;
            reader.lock().end = Some(end);
            reader.news.notify_waiters();
            drop(alive);
        });
        Ok(Feed { shared, slate: None })
    }

    /// The slate, for as long as it is wanted.
    pub fn of_slate(slate: Arc<Slate>) -> Feed {
        let buffer = Buffer::new(slate.shape(), false);
        Feed { shared: Arc::new(Shared::new(buffer)), slate: Some(slate) }
    }

    /// A feed that holds what a test put into it.
    #[cfg(test)]
    pub fn of_buffer(buffer: Buffer) -> Feed {
        Feed { shared: Arc::new(Shared::new(buffer)), slate: None }
    }

    /// Whether it is the slate.
    pub fn is_slate(&self) -> bool {
        self.slate.is_some()
    }

    /// What has been read and not been taken. Hold it shortly: the reader waits meanwhile.
    pub fn buffer(&self) -> MutexGuard<'_, Buffer> {
        let mut buffer = self.shared.lock();
        if let Some(slate) = &self.slate {
            slate.top_up(&mut buffer);
        }
        buffer
    }

    /// Tells the reader that tags were taken.
    pub fn taken(&self) {
        if !self.shared.lock().is_above(LOW_MS) {
            self.shared.space.notify_one();
        }
    }

    /// Waits until something new has been read since `check` last said no.
    pub async fn wait_until<T>(&self, mut check: impl FnMut(&mut Buffer) -> Option<T>) -> T {
        loop {
            let news = self.shared.news.notified();
            tokio::pin!(news);
            news.as_mut().enable();
            if let Some(found) = check(&mut self.shared.lock()) {
                return found;
            }
            news.await;
        }
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.shared.stop.notify_one();
    }
}

impl Buffer {
    fn is_above(&self, mark_ms: i64) -> bool {
        let span =
            |tags: &std::collections::VecDeque<super::buffer::SourceTag>| match (tags.front(), tags.back()) {
                (Some(first), Some(last)) => last.dts - first.dts,
                _ => 0,
            };
        span(&self.video).max(span(&self.audio)) >= mark_ms
    }

    /// Whether the reader has stopped because enough is in hand.
    pub fn is_full(&self) -> bool {
        self.is_above(HIGH_MS) || self.bytes() >= HIGH_BYTES
    }
}

impl Shared {
    fn new(buffer: Buffer) -> Self {
        Self { buffer: Mutex::new(buffer), space: Notify::new(), news: Notify::new(), stop: Notify::new() }
    }

    /// Reads to the end; says what broke it off, if something did.
    async fn read(&self, mut stdout: ChildStdout) -> Option<String> {
        widen(&stdout);
        let (mut cutter, mut bytes) = (Cutter::default(), BytesMut::new());
        loop {
            if self.lock().is_full() {
                tokio::select! {
                    () = self.space.notified() => {}
                    () = self.stop.notified() => return None,
                }
                continue;
            }
            bytes.reserve(READ_AT_ONCE);
            let read = tokio::select! {
                read = stdout.read_buf(&mut bytes) => read,
                () = self.stop.notified() => return None,
            };
            match read {
                Ok(0) => return None,
                Ok(_) => {}
                Err(error) => return Some(error.to_string()),
            }
            loop {
                match cutter.next(&mut bytes) {
                    Ok(Some(tag)) => self.lock().push(tag),
                    Ok(None) => break,
                    Err(error) => return Some(error.to_string()),
                }
            }
            self.news.notify_waiters();
        }
    }
}

/// A larger pipe lets FFmpeg write a burst and sleep; the kernel may refuse, and nothing is lost then.
fn widen(stdout: &ChildStdout) {
    let _ = rustix::pipe::fcntl_setpipe_size(stdout, 256 * 1024);
}

async fn conclude(broken: Option<String>, mut child: Child, said: tokio::task::JoinHandle<Said>) -> End {
    // The pipe is closed by now: a child that still writes ends by itself, one that reads is told to.
    let status = match tokio::time::timeout(Duration::from_millis(500), child.wait()).await {
        Ok(status) => status.ok(),
        Err(_) => {
            child::end(child, GRACE).await;
            None
        }
    };
    let said = said.await.unwrap_or_default();
    match (broken, status) {
        (Some(why), _) => End::Broken(why),
        (None, Some(status)) if status.success() => End::Complete,
        (None, Some(_)) => {
            End::Broken(said.last().unwrap_or_else(|| "FFmpeg failed without a word".to_owned()))
        }
        (None, None) => End::Broken("was left".to_owned()),
    }
}
