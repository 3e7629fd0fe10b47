//! The disk that media are read from. It may hang (a network mount, a dying drive), so nothing that asks it runs on the
//! worker's own thread, and what hangs keeps a few threads and nobody else: certificates, names and HLS have theirs.

use std::fs::Metadata;
use std::io;
use std::path::Path;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// Questions at the same time. What never comes back holds its place, so that hanging threads do not add up.
const MOST_AT_ONCE: usize = 4;
/// Threads that may block at the same time in the whole worker: far more than the disk may keep.
pub const BLOCKING_THREADS: usize = MOST_AT_ONCE + 12;
/// A short question is not waited for any longer.
const DEADLINE: Duration = Duration::from_secs(10);

static PLACES: Semaphore = Semaphore::const_new(MOST_AT_ONCE);

/// Does something with the disk on a thread that may block, once there is a place. `None` when it panicked. Without a
/// deadline: whoever asks has one.
pub async fn ask<T: Send + 'static>(question: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    ask_in(&PLACES, question).await
}

async fn ask_in<T: Send + 'static>(
    places: &'static Semaphore,
    question: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let place = places.acquire().await.ok()?;
    let asked = tokio::task::spawn_blocking(move || {
        // Kept until the answer is there, even if nobody waits for it any more.
        let _place = place;
        question()
    });
    asked.await.ok()
}

/// What is known of a file.
///
/// # Errors
/// As `std::fs::metadata`, and `TimedOut` when the disk does not answer within ten seconds.
pub async fn metadata(path: &Path) -> io::Result<Metadata> {
    let path = path.to_owned();
    let hangs = || io::Error::new(io::ErrorKind::TimedOut, "the disk does not answer");
    timeout(DEADLINE, ask(move || std::fs::metadata(path)))
        .await
        .ok()
        .flatten()
        .unwrap_or_else(|| Err(hangs()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn a_disk_that_hangs_keeps_its_own_places_and_nobody_elses() {
        static OWN: Semaphore = Semaphore::const_new(MOST_AT_ONCE);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(BLOCKING_THREADS)
            .build()
            .unwrap();
        let (answer, disk) = mpsc::channel::<()>();
        let disk = std::sync::Arc::new(std::sync::Mutex::new(disk));
        runtime.block_on(async {
            for _ in 0..BLOCKING_THREADS * 2 {
                let disk = std::sync::Arc::clone(&disk);
                let asked = ask_in(&OWN, move || drop(disk.lock().map(|disk| disk.recv())));
                // Given up by whoever asked, still hanging.
                assert!(timeout(Duration::from_millis(5), asked).await.is_err());
            }
            assert_eq!(OWN.available_permits(), 0);
            let other = timeout(Duration::from_secs(20), tokio::task::spawn_blocking(|| 7)).await;
            assert_eq!(other.unwrap().unwrap(), 7);
            drop(answer);
            let again = timeout(Duration::from_secs(20), ask_in(&OWN, || 8)).await;
            assert_eq!(again.unwrap(), Some(8), "once it answers, its places are free");
        });
    }
}
