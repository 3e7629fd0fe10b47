//! A feed: an opened item, or the slate, that yields tags in its own time. A reader, of a child or of a file, fills
//! the buffer in bursts between two marks, so that FFmpeg and the worker sleep in between.

mod running;

use super::buffer::{Buffer, End};
use super::course::Course;
use super::disk;
use super::flv::{Cutter, NotFlv};
use super::mp4::{Amount, ObjectReader, Reader};
use super::reel::{self, Reel};
use super::slate::Slate;
use crate::media::Shape;
use bytes::BytesMut;
use running::{Running, Stopped, conclude, left, widen};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::io::AsyncReadExt;
use tokio::process::ChildStdout;
use tokio::sync::{Notify, mpsc};

/// The reader stops when the buffer is full and goes on when less than this part of it is in hand.
const LOW: (i64, i64) = (2, 3);
/// The buffer is full when this many bytes are in hand: twelve seconds at 8 Mbit/s.
const HIGH_BYTES: usize = 12 << 20;
/// The first picture of an item is waited for over this much sound, ms.
const LATEST_PICTURE_MS: i64 = 11_000;
const READ_AT_ONCE: usize = 64 * 1024;
/// Read of a file before it is looked whether that is enough: each time a thread is woken.
const BURST: Amount = Amount { ms: 500, bytes: 2 << 20 };
/// The same of an object, which takes no thread.
const PIECE: Amount = Amount { ms: i64::MAX, bytes: 256 * 1024 };

/// A feed. Dropping it ends its child.
#[derive(Debug)]
pub struct Feed {
    shared: Arc<Shared>,
    slate: Option<Arc<Slate>>,
}

#[derive(Debug)]
pub(super) struct Shared {
    buffer: Mutex<Buffer>,
    /// There is space again.
    space: Notify,
    /// Something was read, or the end was reached.
    news: Notify,
    /// Nobody wants the rest.
    stop: Notify,
}

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, Buffer> {
        self.buffer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Held by everything that owns a child; the receiver sees the end when all of them are gone.
pub type Alive = mpsc::Sender<()>;

impl Feed {
    /// Starts FFmpeg and reads what it writes, and starts it again where a link broke off. Call it from the
    /// worker's own thread.
    ///
    /// # Errors
    /// That FFmpeg cannot be started, in words.
    pub fn run(course: Course, shape: Shape, has_audio: bool, alive: &Alive) -> Result<Feed, String> {
        let mut buffer = Buffer::new(shape, has_audio);
        buffer.high_ms = course.input().read_ahead_ms();
        buffer.pictures_follow_sound = course.shows_slate();
        let shared = Arc::new(Shared::new(buffer));
        let first = Running::start(&course, course.arguments())?;
        let reader = Arc::clone(&shared);
        let alive = alive.clone();
        tokio::spawn(async move {
            let end = reader.follow(course, first).await;
            reader.lock().finish(end);
            reader.news.notify_waiters();
            drop(alive);
        });
        Ok(Feed { shared, slate: None })
    }

    /// Reads a file without FFmpeg. Reading blocks, so each burst is done on a thread for that.
    pub fn read_natively(
        reader: Reader,
        path: PathBuf,
        shape: Shape,
        has_audio: bool,
        alive: &Alive,
    ) -> Feed {
        let shared = Arc::new(Shared::new(Buffer::new(shape, has_audio).in_order()));
        let (filled, alive) = (Arc::clone(&shared), alive.clone());
        tokio::spawn(async move {
            let end = filled.burst_by_burst(reader, &path).await;
            filled.lock().end = Some(end);
            filled.news.notify_waiters();
            drop(alive);
        });
        Feed { shared, slate: None }
    }

    /// Reads an object without FFmpeg. Where that breaks off for good, FFmpeg goes on by the course.
    pub fn read_object(
        reader: ObjectReader,
        course: Course,
        shape: Shape,
        has_audio: bool,
        alive: &Alive,
    ) -> Feed {
        let mut buffer = Buffer::new(shape, has_audio);
        buffer.high_ms = course.input().read_ahead_ms();
        let shared = Arc::new(Shared::new(buffer));
        let (filled, alive) = (Arc::clone(&shared), alive.clone());
        tokio::spawn(async move {
            let end = filled.object_then_course(reader, course).await;
            filled.lock().finish(end);
            filled.news.notify_waiters();
            drop(alive);
        });
        Feed { shared, slate: None }
    }

    /// The slate, for as long as it is wanted.
    pub fn of_slate(slate: Arc<Slate>) -> Feed {
        let buffer = Buffer::new(slate.shape(), false);
        Feed { shared: Arc::new(Shared::new(buffer)), slate: Some(slate) }
    }

    /// An endless loop from the disk, read ahead already while nobody wants it.
    pub fn of_reel(reel: Reel, alive: &Alive) -> Feed {
        let mut buffer = Buffer::new(reel.shape(), reel.has_audio());
        buffer.high_ms = reel::AHEAD_MS;
        let shared = Arc::new(Shared::new(buffer));
        let (reader, alive) = (Arc::clone(&shared), alive.clone());
        tokio::spawn(async move {
            let why = reel.turn(&reader).await;
            reader.lock().end = Some(End::Broken(why));
            reader.news.notify_waiters();
            drop(alive);
        });
        Feed { shared, slate: None }
    }

    /// A feed that holds what a test put into it.
    #[cfg(any(test, fuzzing))]
    pub fn of_buffer(buffer: Buffer) -> Feed {
        Feed { shared: Arc::new(Shared::new(buffer)), slate: None }
    }

    /// The same feed, to go on filling it.
    #[cfg(test)]
    pub fn twin(&self) -> Feed {
        Feed { shared: Arc::clone(&self.shared), slate: None }
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
        let buffer = self.shared.lock();
        let wants_more = match buffer.in_order {
            // What is free of a file that comes in order is small already.
            true => !buffer.is_full(),
            false => !buffer.is_above(buffer.high_ms * LOW.0 / LOW.1),
        };
        if wants_more {
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
    /// Whether the reader has stopped because enough is in hand.
    pub fn is_full(&self) -> bool {
        let enough = match (self.reached().video, self.in_order) {
            // Before the first picture sound is read for as long as a picture may be late.
            (None, _) => self.is_above(self.high_ms.max(LATEST_PICTURE_MS)),
            (Some(_), true) => self.has_enough_of_file(),
            (Some(_), false) => self.is_above(self.high_ms),
        };
        enough || self.bytes() >= HIGH_BYTES
    }
}

impl Shared {
    fn new(buffer: Buffer) -> Self {
        Self { buffer: Mutex::new(buffer), space: Notify::new(), news: Notify::new(), stop: Notify::new() }
    }

    /// Reads children one after the other until the item is over or nobody wants the rest.
    async fn follow(&self, mut course: Course, first: Running) -> End {
        let mut running = first;
        loop {
            let Running { stdout, child, said } = running;
            let stopped = self.read(stdout).await;
            let end = conclude(&stopped, child, said).await;
            if stopped == Stopped::Left {
                return end;
            }
            let again = tokio::select! {
                again = course.go_on(end, &self.buffer) => again,
                () = self.stop.notified() => return left(),
            };
            let started = again.and_then(|arguments| Running::start(&course, arguments).map_err(End::Broken));
            match started {
                Ok(next) => running = next,
                Err(end) => return end,
            }
        }
    }

    /// Reads a file to its end, or until nobody wants the rest.
    async fn burst_by_burst(&self, mut reader: Reader, path: &Path) -> End {
        loop {
            if !self.has_room().await {
                disk::let_go(reader);
                return left();
            }
            let burst = disk::ask(path, move || {
                let mut tags = Vec::new();
                let more = reader.read(BURST, &mut tags);
                (reader, tags, more)
            });
            let burst = tokio::select! {
                burst = burst => burst,
                () = self.stop.notified() => return left(),
            };
            let (back, tags, more) = match burst {
                Ok(burst) => burst,
                Err(error) => return End::Broken(error.to_string()),
            };
            reader = back;
            {
                let mut buffer = self.lock();
                tags.into_iter().for_each(|tag| buffer.push(tag));
            }
            self.news.notify_waiters();
            let end = match more {
                Ok(true) => continue,
                Ok(false) => End::Complete,
                Err(why) => End::Broken(why),
            };
            disk::let_go(reader);
            return end;
        }
    }

    async fn object_then_course(&self, reader: ObjectReader, mut course: Course) -> End {
        let end = tokio::select! {
            end = self.piece_by_piece(reader) => end,
            () = self.stop.notified() => return left(),
        };
        let begun = self.lock().reached().shown.is_some();
        let again = match end {
            End::Broken(_) if !begun => Ok(course.arguments()),
            end => tokio::select! {
                again = course.go_on(end, &self.buffer) => again,
                () = self.stop.notified() => return left(),
            },
        };
        match again.and_then(|arguments| Running::start(&course, arguments).map_err(End::Broken)) {
            Ok(first) => self.follow(course, first).await,
            Err(end) => end,
        }
    }

    /// Reads an object to its end.
    async fn piece_by_piece(&self, mut reader: ObjectReader) -> End {
        loop {
            if self.lock().is_full() {
                self.space.notified().await;
                continue;
            }
            let mut tags = Vec::new();
            let more = reader.read(PIECE, &mut tags).await;
            {
                let mut buffer = self.lock();
                tags.into_iter().for_each(|tag| buffer.push(tag));
            }
            self.news.notify_waiters();
            match more {
                Ok(true) => {}
                Ok(false) => return End::Complete,
                Err(why) => return End::Broken(why),
            }
        }
    }

    /// Waits until there is room for more; false when nobody wants the rest.
    pub(super) async fn has_room(&self) -> bool {
        while self.lock().is_full() {
            tokio::select! {
                () = self.space.notified() => {}
                () = self.stop.notified() => return false,
            }
        }
        true
    }

    /// Takes in every whole tag.
    ///
    /// # Errors
    /// That it is not FLV.
    pub(super) fn take_in(&self, cutter: &mut Cutter, bytes: &mut BytesMut) -> Result<(), NotFlv> {
        while let Some(tag) = cutter.next(bytes)? {
            self.lock().push(tag);
        }
        self.news.notify_waiters();
        Ok(())
    }

    /// Reads one child to its end.
    async fn read(&self, mut stdout: ChildStdout) -> Stopped {
        widen(&stdout);
        let (mut cutter, mut bytes) = (Cutter::default(), BytesMut::new());
        loop {
            if !self.has_room().await {
                return Stopped::Left;
            }
            bytes.reserve(READ_AT_ONCE);
            let read = tokio::select! {
                read = stdout.read_buf(&mut bytes) => read,
                () = self.stop.notified() => return Stopped::Left,
            };
            match read {
                Ok(0) => return Stopped::AtTheEnd,
                Ok(_) => {}
                Err(error) => return Stopped::Broken(error.to_string()),
            }
            if let Err(error) = self.take_in(&mut cutter, &mut bytes) {
                return Stopped::Broken(error.to_string());
            }
        }
    }
}
