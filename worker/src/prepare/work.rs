//! The folder of a job: its parts, a lock against a second job for the same result, and the result's way to its name.

use super::Failure;
use state::atomic;
use state::prepared::{self, Certificate, Job};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Folders of jobs that nobody went on with for this long are removed.
const ABANDONED: Duration = Duration::from_secs(14 * 24 * 3600);

/// A job's folder, held by its lock.
#[derive(Debug)]
pub(super) struct Work {
    cache: PathBuf,
    name: String,
    folder: PathBuf,
    _lock: File,
}

impl Work {
    /// Enters the folder of a job, with what an interrupted one has left in it.
    ///
    /// # Errors
    /// Another process is at it, or the folder cannot be written.
    pub(super) fn enter(job: &Job) -> Result<Self, Failure> {
        let all = prepared::folder(&job.cache_dir).join(".work");
        clear_abandoned(&all);
        let name = prepared::name(&job.item.key, &job.item.content, &job.profile);
        let folder = all.join(&name);
        atomic::private_folder(&folder).map_err(|error| error.to_string())?;
        let path = folder.join("lock");
        let open = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
        let lock = open.map_err(|error| format!("{}: {error}", path.display()))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { cache: job.cache_dir.clone(), name, folder, _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(Failure::Busy),
            Err(TryLockError::Error(error)) => Err(format!("{}: {error}", path.display()).into()),
        }
    }

    /// A file in this folder.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// A finished file whose name begins so, and the rest of its name.
    pub(super) fn finished(&self, prefix: &str) -> Option<(PathBuf, String)> {
        let entries = fs::read_dir(&self.folder).ok()?;
        entries.flatten().find_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let rest = name.strip_prefix(prefix)?.strip_suffix(".mp4")?.to_owned();
            Some((entry.path(), rest))
        })
    }

    /// Gives a file its final name in this folder once all of it is on the disk.
    ///
    /// # Errors
    /// Whatever the file system says, in words.
    pub(super) fn finish(&self, from: &Path, name: &str) -> Result<PathBuf, String> {
        let to = self.folder.join(name);
        settle(from, &to).map_err(|error| format!("{}: {error}", to.display()))?;
        Ok(to)
    }

    /// # Errors
    /// There is not room for `bytes`; in words.
    pub(super) fn check_space(&self, bytes: u64) -> Result<(), String> {
        let room = rustix::fs::statvfs(&self.folder).map_err(|error| error.to_string())?;
        let free = room.f_bavail.saturating_mul(room.f_frsize);
        if free < bytes {
            let (needed, free, place) = (bytes >> 20, free >> 20, self.cache.display());
            return Err(format!("needs up to {needed} MB in {place}, and {free} MB are free"));
        }
        Ok(())
    }

    /// Where the result is until it has its name.
    pub(super) fn result(&self) -> PathBuf {
        self.file("result.mp4.tmp")
    }

    /// Removes the folder: nothing in it will be needed. What cannot be removed is removed as abandoned later.
    pub(super) fn clear(&self) {
        let _ = fs::remove_dir_all(&self.folder);
    }

    /// Gives the result its name, then its certificate, and removes what is not needed any more.
    ///
    /// # Errors
    /// Whatever the file system says, in words.
    pub(super) fn publish(self, certificate: &Certificate) -> Result<(), String> {
        let (media, paper) = prepared::files(&self.cache, &self.name);
        let text = serde_json::to_vec_pretty(certificate).map_err(|error| error.to_string())?;
        let publish = || {
            settle(&self.result(), &media)?;
            atomic::replace(&paper, &text)
        };
        publish().map_err(|error| format!("{}: {error}", media.display()))?;
        self.clear();
        remove_older(&self.cache, certificate);
        Ok(())
    }
}

fn settle(from: &Path, to: &Path) -> std::io::Result<()> {
    File::open(from)?.sync_all()?;
    fs::rename(from, to)?;
    atomic::sync_folder_of(to)
}

/// Results of an earlier content under the same key and profile. A channel that plays one has it open.
fn remove_older(cache: &Path, newest: &Certificate) {
    let Ok(entries) = fs::read_dir(prepared::folder(cache)) else { return };
    let papers =
        entries.flatten().map(|entry| entry.path()).filter(|p| p.extension().is_some_and(|e| e == "json"));
    for paper in papers {
        let Ok(text) = fs::read(&paper) else { continue };
        let Ok(old) = serde_json::from_slice::<Certificate>(&text) else { continue };
        let same_file = (&old.key, &old.profile) == (&newest.key, &newest.profile);
        if same_file && (&old.content, old.settings) != (&newest.content, newest.settings) {
            let _ = fs::remove_file(&paper);
            let _ = fs::remove_file(paper.with_extension("mp4"));
        }
    }
}

fn clear_abandoned(all: &Path) {
    let Ok(entries) = fs::read_dir(all) else { return };
    for entry in entries.flatten() {
        let changed = entry.metadata().and_then(|meta| meta.modified()).unwrap_or_else(|_| SystemTime::now());
        if changed.elapsed().is_ok_and(|age| age > ABANDONED) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}
