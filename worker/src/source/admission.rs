//! Whether this machine has time to transcode a picture live. Only asked where the item will be prepared if not, and
//! only for pictures: sound costs next to nothing.
//!
//! The workers of a host share a folder of slots. A live transcode holds the lock of one, which the kernel drops
//! with the process, however it ends.

use super::disk;
use state::prepared::WAITS;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A 1-minute load average of this much per core is too much. It counts jobs of the lowest priority, too, which
/// give way, so it is far above 1.
const MOST_LOAD_PER_CORE: f64 = 4.0;

/// The right to transcode live, for as long as it is kept.
#[derive(Debug, Clone)]
pub struct Slot {
    _lock: Arc<Lock>,
}

#[derive(Debug)]
struct Lock(Option<File>);

impl Drop for Lock {
    fn drop(&mut self) {
        disk::let_go(self.0.take());
    }
}

/// Who may transcode live.
#[derive(Debug, Clone)]
pub struct Admission {
    folder: PathBuf,
    /// Whether what is refused will be prepared: otherwise nothing is refused.
    prepares: bool,
    /// There is nothing else to play.
    pub must: bool,
}

impl Admission {
    /// Slots in the cache folder of this host.
    pub fn new(cache_dir: &Path, prepares: bool) -> Self {
        Self { folder: cache_dir.join("transcode-slots"), prepares, must: false }
    }

    /// Takes a slot. Without one it may still go on where it must, or where nobody would prepare the item.
    ///
    /// # Errors
    /// [`WAITS`].
    pub async fn enter(&self) -> Result<Option<Slot>, String> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let folder = self.folder.clone();
        let found = disk::soon(&self.folder, move || look(&folder, cores)).await;
        let Found { free, live } = found.unwrap_or(Found { free: None, live: 0 });
        if self.must || !self.prepares || admits(cores, load(), live) {
            return Ok(free);
        }
        tracing::info!(cores, live, "no time for another live transcode");
        Err(WAITS.to_owned())
    }
}

/// How many pictures are transcoded live at once on a machine with so many cores: one takes up to a core, and
/// everything else has to go on.
fn places(cores: usize) -> usize {
    (cores / 2).max(1)
}

/// Whether one more may be, where `live` are already.
fn admits(cores: usize, load: f64, live: usize) -> bool {
    live < places(cores) && load < MOST_LOAD_PER_CORE * cores as f64
}

/// What was found among the slots.
struct Found {
    free: Option<Slot>,
    /// How many others hold, as far as that was looked at.
    live: usize,
}

/// Takes the first slot that is free. A folder that cannot be used has no slots, and then nobody is refused for
/// want of one.
fn look(folder: &Path, cores: usize) -> Found {
    let _ = fs::create_dir_all(folder);
    let mut live = 0;
    for n in 0..places(cores) {
        let path = folder.join(n.to_string());
        let open = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path);
        let Ok(file) = open else { continue };
        match file.try_lock() {
            Ok(()) => return Found { free: Some(Slot { _lock: Arc::new(Lock(Some(file))) }), live },
            Err(_) => live += 1,
        }
    }
    Found { free: None, live }
}

/// The 1-minute load average (proc_loadavg(5)); 0 where there is none. The kernel makes it up: no disk is asked.
fn load() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_and_load_decide() {
        assert!(admits(1, 0.0, 0) && !admits(1, 0.0, 1));
        assert!(admits(2, 7.9, 0) && !admits(2, 8.0, 0) && !admits(2, 0.0, 1));
        assert!(admits(8, 0.0, 3) && !admits(8, 0.0, 4));
    }

    #[test]
    fn a_slot_is_held_once_and_free_again_when_it_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let taken: Vec<_> = (0..3).map(|_| look(folder.path(), 6)).collect();
        let live: Vec<_> = taken.iter().map(|found| (found.free.is_some(), found.live)).collect();
        assert_eq!(live, [(true, 0), (true, 1), (true, 2)]);
        let none = look(folder.path(), 6);
        assert!(none.free.is_none() && none.live == 3);
        drop(taken);
        assert!(look(folder.path(), 6).free.is_some());
    }

    #[tokio::test]
    async fn whoever_must_is_never_refused() {
        let cache = tempfile::tempdir().unwrap();
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let mut admission = Admission::new(cache.path(), true);
        let _all: Vec<_> = (0..places(cores)).map(|_| look(&admission.folder, cores)).collect();
        assert_eq!(admission.enter().await.unwrap_err(), WAITS);
        assert!(Admission::new(cache.path(), false).enter().await.unwrap().is_none(), "nobody prepares it");
        admission.must = true;
        assert!(admission.enter().await.unwrap().is_none());
    }
}
