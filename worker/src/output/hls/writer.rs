//! The thread that does the disk's work, and the bounded queue in front of it. Nothing here can make the
//! timeline wait.

use super::playlist::{self, Finished};
use super::segmenter::{Begin, CHUNK, Chunk, End};
use super::shelf::{Plan, Shelf};
use state::wire::HlsSeen;
use std::fs::File;
use std::io::{self, Write};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender, TrySendError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// Chunks that wait while the disk is slow: 4 MiB, 11 s of 3 Mbit/s.
const QUEUE: usize = 32;
/// Empty buffers that wait to be used again.
const SPARES: usize = 2;
/// A buffer that a large picture made larger than this is given back.
const LARGEST_SPARE: usize = 3 * CHUNK;
/// Pause between attempts to hand over the last order.
const LAST_ORDER_PAUSE: Duration = Duration::from_millis(5);

enum Order {
    Chunk(Chunk),
    /// Publish what is complete, before then, and end.
    Finish(Instant),
}

/// The thread as others see it.
pub(super) struct Writer {
    orders: SyncSender<Order>,
    spares: Receiver<Vec<u8>>,
    done: Receiver<()>,
    shared: Arc<Shared>,
}

/// What the thread has seen, and whom to tell.
struct Shared {
    seen: Mutex<HlsSeen>,
    changed: Arc<Notify>,
}

impl Writer {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the system has no thread left. What is wrong with the disk shows in [`Writer::seen`].
    pub(super) fn start(plan: Plan, changed: Arc<Notify>) -> io::Result<Self> {
        let (orders, inbox) = mpsc::sync_channel(QUEUE);
        let (empties, spares) = mpsc::sync_channel(SPARES);
        let (ended, done) = mpsc::sync_channel(1);
        let shared = Arc::new(Shared { seen: Mutex::default(), changed });
        let work = Work::new(plan, shared.clone());
        let span = tracing::Span::current();
        thread::Builder::new().name("hls".to_owned()).stack_size(256 * 1024).spawn(move || {
            let _entered = span.entered();
            work.run(&inbox, &empties);
            let _ = ended.try_send(());
        })?;
        Ok(Self { orders, spares, done, shared })
    }

    /// Hands a chunk over and gives an empty buffer back; `None` when the queue is full and the chunk is lost.
    pub(super) fn offer(&self, chunk: Chunk) -> Option<Vec<u8>> {
        self.orders.try_send(Order::Chunk(chunk)).ok()?;
        Some(self.spares.try_recv().unwrap_or_else(|_| Vec::with_capacity(CHUNK + CHUNK / 2)))
    }

    /// Reports what the thread cannot see: that its queue is full.
    pub(super) fn report(&self, words: String) {
        self.shared.fail(words);
    }

    /// The output as it is now.
    pub(super) fn seen(&self) -> HlsSeen {
        self.shared.lock().clone()
    }

    /// Ends the thread after its queue, or leaves it alone when that takes longer than until `by`.
    pub(super) fn finish(self, by: Instant) {
        let mut order = Order::Finish(by);
        while let Err(TrySendError::Full(again)) = self.orders.try_send(order) {
            if Instant::now() >= by {
                return;
            }
            order = again;
            thread::sleep(LAST_ORDER_PAUSE);
        }
        let _ = self.done.recv_timeout(by.saturating_duration_since(Instant::now()));
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, HlsSeen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fail(&self, words: String) {
        let mut seen = self.lock();
        if seen.error.as_ref() != Some(&words) {
            tracing::warn!(hls.error = words, "HLS output is in trouble");
            seen.error = Some(words);
            self.changed.notify_one();
        }
    }

    fn published(&self, shelf: &Shelf) {
        let mut seen = self.lock();
        let news = seen.last_segment_at.is_none() || seen.error.is_some();
        if seen.error.take().is_some() {
            tracing::info!("HLS output is in order again");
        }
        seen.segments = shelf.listed();
        seen.next_sequence = shelf.next_sequence();
        seen.last_segment_at = Some(state::now());
        seen.edge_at = shelf.edge();
        if news {
            self.changed.notify_one();
        }
    }
}

/// What the thread owns.
struct Work {
    plan: Plan,
    shared: Arc<Shared>,
    /// `None` until the folder could be opened.
    shelf: Option<Shelf>,
    file: Option<Unfinished>,
    /// A segment was lost, or this is the first of the run.
    torn: bool,
    /// Something is complete and not yet in the published playlist.
    unpublished: bool,
    /// The last attempt to publish.
    tried_at: Option<Instant>,
}

struct Unfinished {
    name: String,
    file: File,
    bytes: u64,
    begin: Begin,
}

impl Work {
    fn new(plan: Plan, shared: Arc<Shared>) -> Self {
        Self { plan, shared, shelf: None, file: None, torn: true, unpublished: false, tried_at: None }
    }

    fn run(mut self, inbox: &Receiver<Order>, empties: &SyncSender<Vec<u8>>) {
        self.attempt("open the folder", Self::open);
        loop {
            match self.next(inbox) {
                Ok(Order::Chunk(chunk)) => {
                    let mut bytes = self.take(chunk);
                    bytes.clear();
                    if bytes.capacity() <= LARGEST_SPARE {
                        let _ = empties.try_send(bytes);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Ok(Order::Finish(by)) => return self.finish(by),
                Err(RecvTimeoutError::Disconnected) => return self.finish(Instant::now()),
            }
            if self.unpublished && self.due() <= Instant::now() {
                self.publish();
            }
        }
    }

    /// The next order, or a timeout when it is time to publish.
    fn next(&self, inbox: &Receiver<Order>) -> Result<Order, RecvTimeoutError> {
        match self.unpublished {
            true => inbox.recv_timeout(self.due().saturating_duration_since(Instant::now())),
            false => inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
        }
    }

    fn due(&self) -> Instant {
        playlist::due(self.tried_at, self.plan.target_s, Instant::now())
    }

    /// The last version waits for its time too, unless the deadline is nearer.
    fn finish(mut self, by: Instant) {
        self.abandon();
        if self.unpublished {
            thread::sleep(self.due().min(by).saturating_duration_since(Instant::now()));
            self.publish();
        }
    }

    fn take(&mut self, chunk: Chunk) -> Vec<u8> {
        if let Some(begin) = chunk.begin {
            self.attempt("begin a segment", |work| work.begin(begin));
        }
        self.attempt("write a segment", |work| work.write(&chunk.bytes));
        if let Some(end) = chunk.end {
            self.attempt("end a segment", |work| work.end(end));
        }
        chunk.bytes
    }

    /// Does something that the disk may refuse; then the open segment is lost, and the next one tries again.
    fn attempt(&mut self, what: &str, act: impl FnOnce(&mut Self) -> io::Result<()>) {
        if let Err(error) = act(self) {
            self.abandon();
            self.trouble(what, &error);
        }
    }

    fn trouble(&mut self, what: &str, error: &io::Error) {
        self.shared.fail(format!("cannot {what} in {}: {error}", self.plan.dir.display()));
        let Some(shelf) = &mut self.shelf else { return };
        match error.kind() {
            io::ErrorKind::StorageFull => {
                if let Err(error) = shelf.make_room() {
                    tracing::warn!(%error, "cannot delete old HLS segments");
                }
            }
            // Somebody deleted the folder: begin a new one, and count on.
            io::ErrorKind::NotFound => {
                self.plan.first_sequence = shelf.next_sequence();
                (self.shelf, self.unpublished) = (None, false);
            }
            _ => {}
        }
    }

    fn open(&mut self) -> io::Result<()> {
        if self.shelf.is_none() {
            let shelf = Shelf::open(&self.plan, state::now().as_millisecond())?;
            let mut seen = self.shared.lock();
            (seen.segments, seen.next_sequence) = (shelf.listed(), shelf.next_sequence());
            self.shelf = Some(shelf);
        }
        Ok(())
    }

    fn begin(&mut self, begin: Begin) -> io::Result<()> {
        self.abandon();
        self.open()?;
        let Some(shelf) = &self.shelf else { return Ok(()) };
        let (name, file) = shelf.create()?;
        self.file = Some(Unfinished { name, file, bytes: 0, begin });
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Some(open) = &mut self.file else { return Ok(()) };
        open.bytes += bytes.len() as u64;
        open.file.write_all(bytes)
    }

    fn end(&mut self, end: End) -> io::Result<()> {
        let (Some(open), Some(shelf)) = (self.file.take(), &mut self.shelf) else { return Ok(()) };
        let new = Finished {
            start_ms: open.begin.start_ms,
            duration_ms: end.duration_ms,
            wall_ms: open.begin.wall_ms,
            discontinuity: open.begin.discontinuity || self.torn,
            independent: end.independent,
            bytes: open.bytes,
        };
        // Should the name be refused, the loss must still show.
        self.torn = true;
        shelf.append(open.name, new)?;
        (self.torn, self.unpublished) = (false, true);
        Ok(())
    }

    fn abandon(&mut self) {
        if let (Some(open), Some(shelf)) = (self.file.take(), &self.shelf) {
            shelf.abandon(&open.name);
            self.torn = true;
        }
    }

    fn publish(&mut self) {
        self.tried_at = Some(Instant::now());
        let now_ms = state::now().as_millisecond();
        let Some(shelf) = &mut self.shelf else { return };
        match shelf.publish(now_ms) {
            Ok(()) => {
                self.unpublished = false;
                self.shared.published(shelf);
                if let Err(error) = shelf.sweep(now_ms) {
                    self.trouble("delete old segments", &error);
                }
            }
            Err(error) => self.trouble("publish", &error),
        }
    }
}
