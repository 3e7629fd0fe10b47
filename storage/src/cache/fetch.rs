//! The one writer of the cache: fetches one object at a time, within the budget, and makes room for it.
//!
//! It writes to the disk where it is called: run it on a thread that nobody waits for.

use super::part::{After, Finished, Object, Part};
use super::plan::{self, Plan};
use super::shelf::{self, Held, Shelf, Usage};
use super::{FOLDER, Speed, whole};
use crate::{MediaFile, Storage, StorageError};
use state::{atomic, prepared};
use std::collections::HashSet;
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// The disk is never filled up further than this, in bytes: a channel's state must find room.
const RESERVE: u64 = 256 * 1024 * 1024;

/// Why an object was not fetched.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// The bucket did not give it.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The folder does not work.
    #[error("the cache folder {path} cannot be used: {source}")]
    Folder {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another process writes to it.
    #[error("the cache folder {0} is in use by another process")]
    InUse(PathBuf),
    /// It does not fit into the budget beside what must stay.
    #[error("{key} does not fit into the cache: {missing} bytes are missing; raise CACHE_BYTES")]
    NoRoom {
        /// Which.
        key: String,
        /// Bytes that could not be freed.
        missing: u64,
    },
    /// The disk is full.
    #[error("the disk of the cache folder {0} is full; free some of it or lower CACHE_BYTES")]
    NoSpace(PathBuf),
    /// The bytes ended too early.
    #[error("{key} ended after {have} of {size} bytes")]
    Short {
        /// Which.
        key: String,
        /// Bytes that came.
        have: u64,
        /// Bytes it should have.
        size: u64,
    },
    /// The bytes are not those that were listed.
    #[error("{key} is not what was listed: {words}")]
    Other {
        /// Which.
        key: String,
        /// What is different.
        words: &'static str,
    },
}

impl CacheError {
    /// Whether the bucket is away, so that other objects will fare no better for now.
    pub fn is_outage(&self) -> bool {
        match self {
            Self::Storage(error) => error.is_worth_retrying(),
            Self::Short { .. } => true,
            _ => false,
        }
    }

    /// Whether the object is not there any more, so that a part of it is of no use.
    fn is_gone(&self) -> bool {
        let of_storage = |error: &StorageError| {
            matches!(error, StorageError::Changed(_) | StorageError::NoKey(_) | StorageError::Range(_))
        };
        match self {
            Self::Storage(error) => of_storage(error),
            Self::Other { .. } => true,
            _ => false,
        }
    }
}

/// What will be played, in that order.
#[derive(Debug, Clone, Default)]
pub struct Wants {
    /// The objects.
    pub files: Vec<MediaFile>,
    /// How many of the first must be here in time.
    pub near: usize,
    /// Prepared files that will be played, by their names, or by what the names of all results of a file begin with.
    pub prepared: HashSet<String>,
}

impl Wants {
    /// Whether this stays whatever happens.
    pub fn keeps(&self, held: &Held) -> bool {
        let of_file = held.name.split('-').next().unwrap_or_default();
        held.prepared && (self.prepared.contains(&held.name) || self.prepared.contains(of_file))
    }
}

/// The cache of one bucket.
#[derive(Debug)]
pub struct Cache {
    shelf: Shelf,
    speed: Speed,
    /// Parts that this process has written: all of what is in them can be gone on with.
    sure: HashSet<String>,
    /// An object whose bytes were not those of its ETag, and the MD5 that they had.
    doubted: Option<(String, String)>,
    tags_are_md5: bool,
    _lock: File,
}

impl Cache {
    /// Opens the cache below `cache_dir`, removes what a crash left, and what is more than `budget_bytes`.
    /// `bytes_per_s` limits fetching; 0 does not.
    ///
    /// # Errors
    /// [`CacheError::InUse`] and [`CacheError::Folder`].
    pub fn open(
        cache_dir: &Path,
        bucket: &str,
        budget_bytes: u64,
        bytes_per_s: u64,
    ) -> Result<Self, CacheError> {
        let folder = cache_dir.join(FOLDER);
        let broken = |source| CacheError::Folder { path: folder.clone(), source };
        atomic::private_folder(&folder).map_err(broken)?;
        let lock = lock(&folder)?;
        shelf::tidy(&folder).map_err(broken)?;
        let cache = Self {
            shelf: Shelf {
                folder,
                prepared: prepared::folder(cache_dir),
                bucket: bucket.to_owned(),
                budget: budget_bytes,
            },
            speed: Speed::new(bytes_per_s),
            sure: HashSet::new(),
            doubted: None,
            tags_are_md5: true,
            _lock: lock,
        };
        // Which of the prepared files will be played is not known yet.
        let held: Vec<Held> = cache.held()?.into_iter().filter(|held| !held.prepared).collect();
        let used: u64 = held.iter().map(|held| held.bytes).sum();
        let plan = Plan { wants: &[], near: 0, budget: budget_bytes };
        cache.remove(&plan::victims(&held, &plan, "", used.saturating_sub(budget_bytes)))?;
        Ok(cache)
    }

    /// Removes what is more than the budget, because something was prepared. Returns how many bytes.
    ///
    /// # Errors
    /// [`CacheError::Folder`].
    pub fn trim(&self, wants: &Wants) -> Result<u64, CacheError> {
        let (held, budget) = self.shelf.movable(self.held()?, wants);
        let used: u64 = held.iter().map(|held| held.bytes).sum();
        self.free(&held, budget, "", wants, used.saturating_sub(budget))
    }

    /// What it holds, for looking only.
    pub fn shelf(&self) -> &Shelf {
        &self.shelf
    }

    /// Fetches an object, from where an earlier try ended. Copies are removed for it as `wants` allows. `progress`
    /// is told the bytes that are there, and how many of them just came.
    ///
    /// # Errors
    /// [`CacheError`]; what has come stays and is gone on with, unless it is of no use.
    pub async fn fetch(
        &mut self,
        storage: &Storage,
        file: &MediaFile,
        wants: &Wants,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<PathBuf, CacheError> {
        self.fetch_step_by_step(storage, file, wants, progress, &mut |_| Ok(())).await
    }

    /// [`Cache::fetch`], with `after` called after every step. An error from `after` is that of the disk.
    ///
    /// # Errors
    /// Those of [`Cache::fetch`].
    pub async fn fetch_step_by_step(
        &mut self,
        storage: &Storage,
        file: &MediaFile,
        wants: &Wants,
        progress: &mut dyn FnMut(u64, u64),
        after: After<'_>,
    ) -> Result<PathBuf, CacheError> {
        let object = self.shelf.object(file);
        if let Some(path) = whole(&self.shelf.folder, &object.name(), &object.key) {
            return Ok(path);
        }
        self.make_room(&object, wants)?;
        let mut result = self.download(storage, &object, progress, after).await;
        if matches!(result, Err(CacheError::NoSpace(_))) && self.give_up_some(&object, wants)? > 0 {
            result = self.download(storage, &object, progress, after).await;
        }
        if result.as_ref().is_err_and(CacheError::is_gone) {
            self.forget(&object)?;
        }
        result
    }

    async fn download(
        &mut self,
        storage: &Storage,
        object: &Object,
        progress: &mut dyn FnMut(u64, u64),
        after: After<'_>,
    ) -> Result<PathBuf, CacheError> {
        let sure = !self.sure.insert(object.name());
        let opened = Part::open(&self.shelf.folder, object.clone(), sure, after);
        let mut part = opened.map_err(|source| self.broken(source))?;
        progress(part.have(), 0);
        if part.have() < object.size {
            self.fill(&mut part, storage, object, progress, after).await?;
        }
        let doubts = |md5: &str| self.doubts(object, md5);
        let finished = part.finish(doubts, after);
        let finished = finished.map_err(|source| self.broken(source))?;
        match finished {
            Finished::Whole(path) => {
                self.sure.remove(&object.name());
                Ok(path)
            }
            Finished::Short { have } => {
                Err(CacheError::Short { key: object.key.clone(), have, size: object.size })
            }
            Finished::Other { .. } => {
                let words = "its bytes do not fit its ETag";
                Err(CacheError::Other { key: object.key.clone(), words })
            }
        }
    }

    async fn fill(
        &mut self,
        part: &mut Part,
        storage: &Storage,
        object: &Object,
        progress: &mut dyn FnMut(u64, u64),
        after: After<'_>,
    ) -> Result<(), CacheError> {
        let mut body = storage.get(&object.key, part.have(), Some(&object.content)).await?;
        if body.size != object.size {
            let words = "it has another length";
            return Err(CacheError::Other { key: object.key.clone(), words });
        }
        while let Some(bytes) = body.chunk().await? {
            part.grow(&bytes, after).map_err(|source| self.broken(source))?;
            progress(part.have(), bytes.len() as u64);
            let wait = self.speed.after(bytes.len(), Instant::now());
            if !wait.is_zero() {
                tokio::time::sleep(wait).await;
            }
        }
        Ok(())
    }

    /// Whether bytes that are not those of the ETag are wrong. If the same ones came twice, it is the ETag that is no
    /// MD5 (KMS), and no object of this bucket is measured by it any more.
    fn doubts(&mut self, object: &Object, md5: &str) -> bool {
        let seen = (object.name(), md5.to_owned());
        self.tags_are_md5 &= self.doubted.as_ref() != Some(&seen);
        self.doubted = Some(seen);
        self.tags_are_md5
    }

    /// Removes what is in the way of the budget and of the disk.
    fn make_room(&self, object: &Object, wants: &Wants) -> Result<(), CacheError> {
        let (held, budget) = self.shelf.movable(self.held()?, wants);
        let used: u64 = held.iter().map(|held| held.bytes).sum();
        let begun = held.iter().find(|held| held.name == object.name()).map_or(0, |held| held.bytes);
        let need = object.size.saturating_sub(begun);
        let free = free_bytes(&self.shelf.folder).map_err(|source| self.broken(source))?;
        let over_budget = (used + need).saturating_sub(budget);
        let over_disk = (need + RESERVE).saturating_sub(free);
        let freed = self.free(&held, budget, &object.name(), wants, over_budget.max(over_disk))?;
        if freed < over_budget {
            return Err(CacheError::NoRoom { key: object.key.clone(), missing: over_budget - freed });
        }
        if freed < over_disk { Err(CacheError::NoSpace(self.shelf.folder.clone())) } else { Ok(()) }
    }

    fn held(&self) -> Result<Vec<Held>, CacheError> {
        self.shelf.held().map_err(|source| self.broken(source))
    }

    /// The disk was full although there should have been room: as much again is removed. Returns how much.
    fn give_up_some(&self, object: &Object, wants: &Wants) -> Result<u64, CacheError> {
        let (held, budget) = self.shelf.movable(self.held()?, wants);
        self.free(&held, budget, &object.name(), wants, object.size)
    }

    fn free(
        &self,
        held: &[Held],
        budget: u64,
        fetching: &str,
        wants: &Wants,
        bytes: u64,
    ) -> Result<u64, CacheError> {
        let named = self.shelf.named(wants);
        let plan = Plan { wants: &named, near: wants.near, budget };
        let victims = plan::victims(held, &plan, fetching, bytes);
        self.remove(&victims)?;
        Ok(victims.iter().map(|held| held.bytes).sum())
    }

    /// Removes the part of an object.
    fn forget(&self, object: &Object) -> Result<(), CacheError> {
        let held = self.held()?;
        let parts: Vec<&Held> =
            held.iter().filter(|held| held.name == object.name() && !held.whole).collect();
        self.remove(&parts)
    }

    fn remove(&self, victims: &[&Held]) -> Result<(), CacheError> {
        for held in victims {
            tracing::debug!(cache.name = held.name, cache.bytes = held.bytes, "evicted");
            let removed = match held.prepared {
                true => shelf::remove_prepared(&self.shelf.prepared, held),
                false => shelf::remove(&self.shelf.folder, held),
            };
            removed.map_err(|source| self.broken(source))?;
        }
        Ok(())
    }

    fn broken(&self, source: io::Error) -> CacheError {
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                CacheError::NoSpace(self.shelf.folder.clone())
            }
            _ => CacheError::Folder { path: self.shelf.folder.clone(), source },
        }
    }
}

/// How full the cache below `cache_dir` is, whoever writes to it.
///
/// # Errors
/// Whatever the file system says; a folder that is not there yet is empty.
pub fn usage(cache_dir: &Path) -> io::Result<Usage> {
    let mut held = match shelf::look(&cache_dir.join(FOLDER)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        held => held?,
    };
    held.extend(shelf::prepared(&prepared::folder(cache_dir))?);
    Ok(Usage::of(&held))
}

/// Bytes on the folder's disk that may be used.
///
/// # Errors
/// Whatever the file system says.
pub fn free_bytes(folder: &Path) -> io::Result<u64> {
    let disk = rustix::fs::statvfs(folder)?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// The file is never removed: that would let two hold "the" lock.
fn lock(folder: &Path) -> Result<File, CacheError> {
    let broken = |source| CacheError::Folder { path: folder.to_owned(), source };
    let path = folder.join("lock");
    let file = OpenOptions::new().write(true).create(true).truncate(false).open(path).map_err(broken)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(CacheError::InUse(folder.to_owned())),
        Err(TryLockError::Error(source)) => Err(broken(source)),
    }
}
