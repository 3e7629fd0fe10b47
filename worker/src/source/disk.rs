//! Disks. They may hang (a network mount, a dying drive), so nothing that asks one runs on the worker's own thread, and
//! what hangs keeps a few threads and nobody else: media, the cache, and the system's files have places of their own.
//! Names and HLS have threads of their own.

use std::fs::Metadata;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};

/// Questions to one disk at the same time. What never comes back holds its place, so that hanging threads do not add
/// up.
const MOST_AT_ONCE: usize = 4;
/// Disks that are told apart.
const DISKS: usize = 3;
/// Threads that may block at the same time in the whole worker: more than all disks may keep.
pub const BLOCKING_THREADS: usize = MOST_AT_ONCE * DISKS + 8;
/// A short question about media is not waited for any longer: a drive that sleeps takes its time.
const DEADLINE: Duration = Duration::from_secs(10);
/// The same about the cache: what is in there can be had otherwise.
const CACHE_DEADLINE: Duration = Duration::from_secs(3);
/// Threads that stream to or from a disk at the same time. Those that hang are counted, too.
const MOST_STREAMS: usize = 4;

static MEDIA: Disk = Disk::new(DEADLINE);
static CACHE: Disk = Disk::new(CACHE_DEADLINE);
/// Certificates and what the worker leaves behind.
pub static SYSTEM: Disk = Disk::new(DEADLINE);

static CACHE_FOLDER: OnceLock<PathBuf> = OnceLock::new();
static STREAMS: OnceLock<Arc<Semaphore>> = OnceLock::new();

/// Files of this folder do not share the places of media. Said once in a worker's life.
pub fn cache_is(folder: &Path) {
    let _ = CACHE_FOLDER.set(folder.to_owned());
}

fn disk_of(path: &Path) -> &'static Disk {
    if CACHE_FOLDER.get().is_some_and(|cache| path.starts_with(cache)) { &CACHE } else { &MEDIA }
}

/// Asks the disk that a path is on: [`Disk::ask`].
///
/// # Errors
/// When the question panicked.
pub async fn ask<T: Send + 'static>(
    path: &Path,
    question: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    disk_of(path).ask(path, question).await
}

/// Asks the disk that a path is on a short question: [`Disk::soon`].
///
/// # Errors
/// `TimedOut` when the disk does not answer.
pub async fn soon<T: Send + 'static>(
    path: &Path,
    question: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    disk_of(path).soon(path, question).await
}

/// What is known of a file.
///
/// # Errors
/// As `std::fs::metadata`, and `TimedOut` when the disk does not answer.
pub async fn metadata(path: &Path) -> io::Result<Metadata> {
    let file = path.to_owned();
    soon(path, move || std::fs::metadata(file)).await.flatten()
}

/// Lets go of something that was opened. That may wait for a disk: for the space of a file that was removed, or for a
/// server that keeps locks.
pub fn let_go(opened: impl Send + 'static) {
    if let Ok(runtime) = Handle::try_current() {
        runtime.spawn_blocking(move || drop(opened));
    }
}

/// Streams to or from a disk on a thread of its own.
///
/// # Errors
/// When the system has no thread left, or too many such threads hang.
pub fn stream(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let places = Arc::clone(STREAMS.get_or_init(|| Arc::new(Semaphore::new(MOST_STREAMS))));
    let place: OwnedSemaphorePermit = places.try_acquire_owned().map_err(|_| hangs())?;
    let thread = thread::Builder::new().name(name.to_owned());
    thread.spawn(move || {
        let _place = place;
        work();
    })?;
    Ok(())
}

/// A disk, or several that are one to whoever asks.
#[derive(Debug)]
pub struct Disk {
    places: Semaphore,
    patience: Duration,
    open: Mutex<Vec<Question>>,
}

/// A question that has no answer yet.
#[derive(Debug)]
struct Question {
    path: PathBuf,
    since: Instant,
}

impl Disk {
    const fn new(patience: Duration) -> Self {
        Self { places: Semaphore::const_new(MOST_AT_ONCE), patience, open: Mutex::new(Vec::new()) }
    }

    /// Does something with the disk on a thread that may block, once there is a place. Without a deadline: whoever
    /// asks has one.
    ///
    /// # Errors
    /// When the question panicked.
    pub async fn ask<T: Send + 'static>(
        &'static self,
        path: &Path,
        question: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<T> {
        let place = self.places.acquire().await.map_err(io::Error::other)?;
        let since = Instant::now();
        self.lock().push(Question { path: path.to_owned(), since });
        let path = path.to_owned();
        let asked = tokio::task::spawn_blocking(move || {
            // Kept until the answer is there, even if nobody waits for it any more.
            let _kept = (Answered { disk: self, path, since }, place);
            question()
        });
        asked.await.map_err(|_| io::Error::other("an error of this program broke it off"))
    }

    /// The same for a short question: not waited for any longer than this disk deserves, and not at all where an
    /// earlier one about the same path hangs, or as many as there are places.
    ///
    /// # Errors
    /// `TimedOut` when the disk does not answer.
    pub async fn soon<T: Send + 'static>(
        &'static self,
        path: &Path,
        question: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<T> {
        if self.is_hopeless(path, Instant::now()) {
            return Err(hangs());
        }
        timeout(self.patience, self.ask(path, question)).await.unwrap_or_else(|_| Err(hangs()))
    }

    fn is_hopeless(&self, path: &Path, now: Instant) -> bool {
        let open = self.lock();
        let late: Vec<_> = open.iter().filter(|question| question.since + self.patience < now).collect();
        late.len() >= MOST_AT_ONCE || late.iter().any(|question| question.path == path)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Question>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn hangs() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "the disk does not answer")
}

/// Takes a question off the list when it is answered.
struct Answered {
    disk: &'static Disk,
    path: PathBuf,
    since: Instant,
}

impl Drop for Answered {
    fn drop(&mut self) {
        let mut open = self.disk.lock();
        let found =
            open.iter().position(|question| question.path == self.path && question.since == self.since);
        found.map(|at| open.swap_remove(at));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    fn run(test: impl Future<Output = ()>) {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = builder.enable_all().max_blocking_threads(BLOCKING_THREADS).build().unwrap();
        runtime.block_on(test);
    }

    /// Something that hangs until the sender is dropped.
    fn stuck() -> (mpsc::Sender<()>, impl Fn() -> Box<dyn FnOnce() + Send>) {
        let (answer, disk) = mpsc::channel::<()>();
        let disk = Arc::new(Mutex::new(disk));
        let question = move || -> Box<dyn FnOnce() + Send> {
            let disk = Arc::clone(&disk);
            Box::new(move || drop(disk.lock().map(|disk| disk.recv())))
        };
        (answer, question)
    }

    #[test]
    fn a_disk_that_hangs_keeps_its_own_places_and_nobody_elses() {
        static OWN: Disk = Disk::new(Duration::from_millis(5));
        static OTHER: Disk = Disk::new(Duration::from_secs(20));
        let (answer, question) = stuck();
        run(async {
            for n in 0..BLOCKING_THREADS * 2 {
                let path = PathBuf::from(n.to_string());
                // Given up by whoever asked, still hanging.
                let asked = OWN.soon(&path, question()).await;
                assert_eq!(asked.unwrap_err().kind(), io::ErrorKind::TimedOut);
            }
            assert_eq!(OWN.places.available_permits(), 0);
            assert_eq!(OTHER.soon(Path::new("0"), || 7).await.unwrap(), 7);
            drop(answer);
            let again = timeout(Duration::from_secs(20), OWN.ask(Path::new("0"), || 8)).await;
            assert_eq!(again.unwrap().unwrap(), 8, "once it answers, its places are free");
        });
    }

    #[test]
    fn a_file_that_hangs_is_asked_about_once_and_the_others_go_on() {
        static OWN: Disk = Disk::new(Duration::from_millis(50));
        let (answer, question) = stuck();
        let (bad, good) = (Path::new("bad"), Path::new("good"));
        run(async {
            for _ in 0..MOST_AT_ONCE * 3 {
                assert!(OWN.soon(bad, question()).await.is_err());
                // The question has to be later than late.
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            assert_eq!(OWN.places.available_permits(), MOST_AT_ONCE - 1);
            assert_eq!(OWN.ask(good, || 7).await.unwrap(), 7);
            drop(answer);
            let again = timeout(Duration::from_secs(20), async {
                while OWN.soon(bad, || 8).await.is_err() {
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
            });
            assert!(again.await.is_ok() && OWN.lock().is_empty(), "once it answers, it may be asked");
        });
    }

    #[test]
    fn a_question_that_panics_gives_its_place_back() {
        static OWN: Disk = Disk::new(DEADLINE);
        run(async {
            for _ in 0..MOST_AT_ONCE * 2 {
                assert!(OWN.soon(Path::new("a"), || panic!("a parser met something new")).await.is_err());
            }
            assert!(OWN.lock().is_empty());
        });
    }
}
