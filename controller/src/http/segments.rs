//! Recent segments in memory, filled on demand, bounded in bytes. However many viewers ask for a new segment at
//! once, the disk is asked once.

use bytes::Bytes;
use std::collections::{HashMap, VecDeque};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::OnceCell;

/// What is kept at most, in bytes.
pub const MOST: usize = 64 * 1024 * 1024;

/// A cache of files that never change.
pub struct Segments {
    most: usize,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    slots: HashMap<PathBuf, Slot>,
    /// Oldest first. A slot that was used since it came here gets a second round.
    order: VecDeque<PathBuf>,
    bytes: usize,
}

struct Slot {
    cell: Arc<OnceCell<Bytes>>,
    used: bool,
}

impl Segments {
    /// An empty cache of at most `most` bytes.
    pub fn new(most: usize) -> Self {
        Self { most, kept: Mutex::default() }
    }

    /// The content of a file, from memory if it is there.
    ///
    /// # Errors
    /// The file cannot be read; that is not remembered.
    pub async fn get(&self, path: PathBuf) -> io::Result<Bytes> {
        let cell = self.slot(&path);
        let file = path.clone();
        let read = || async move { crate::off_thread(move || std::fs::read(file)).await.map(Bytes::from) };
        let fresh = !cell.initialized();
        let result = cell.get_or_try_init(read).await.cloned();
        match &result {
            Ok(bytes) if fresh => self.keep(&path, &cell, bytes.len()),
            Err(_) => self.forget(&path, &cell),
            Ok(_) => {}
        }
        result
    }

    fn slot(&self, path: &PathBuf) -> Arc<OnceCell<Bytes>> {
        let mut kept = self.kept();
        if let Some(slot) = kept.slots.get_mut(path) {
            slot.used = true;
            return slot.cell.clone();
        }
        let cell = Arc::new(OnceCell::new());
        kept.slots.insert(path.clone(), Slot { cell: cell.clone(), used: false });
        cell
    }

    /// Counts a segment that was just read, once, and makes room for it.
    fn keep(&self, path: &PathBuf, cell: &Arc<OnceCell<Bytes>>, size: usize) {
        let mut kept = self.kept();
        let ours = kept.slots.get(path).is_some_and(|slot| Arc::ptr_eq(&slot.cell, cell));
        if !ours || kept.order.contains(path) {
            return;
        }
        kept.order.push_back(path.clone());
        kept.bytes += size;
        kept.shrink(self.most);
    }

    fn forget(&self, path: &PathBuf, cell: &Arc<OnceCell<Bytes>>) {
        let mut kept = self.kept();
        let empty = |slot: &Slot| Arc::ptr_eq(&slot.cell, cell) && !slot.cell.initialized();
        if kept.slots.get(path).is_some_and(empty) {
            kept.slots.remove(path);
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn shrink(&mut self, most: usize) {
        while self.bytes > most {
            let Some(path) = self.order.pop_front() else { return };
            match self.slots.get_mut(&path) {
                Some(slot) if slot.used => {
                    slot.used = false;
                    self.order.push_back(path);
                }
                _ => {
                    let gone = self.slots.remove(&path);
                    self.bytes -= gone.and_then(|slot| slot.cell.get().map(Bytes::len)).unwrap_or_default();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn memory_stays_bounded_and_what_is_used_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = |n: u32| folder.path().join(format!("{n}.ts"));
        for n in 0..10 {
            std::fs::write(path(n), vec![0u8; 100]).unwrap();
        }
        let cache = Segments::new(350);
        cache.get(path(0)).await.unwrap();
        for n in 1..10 {
            cache.get(path(0)).await.unwrap();
            cache.get(path(n)).await.unwrap();
            assert!(cache.kept().bytes <= 350);
        }
        std::fs::remove_file(path(0)).unwrap();
        assert_eq!(cache.get(path(0)).await.unwrap().len(), 100, "it was used all the time");
        std::fs::remove_file(path(1)).unwrap();
        assert!(cache.get(path(1)).await.is_err(), "it was not");
    }

    #[tokio::test]
    async fn a_file_that_is_missing_now_may_come() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("1.ts");
        let cache = Segments::new(1000);
        assert!(cache.get(path.clone()).await.is_err());
        assert!(cache.kept().slots.is_empty());
        std::fs::write(&path, b"x").unwrap();
        assert_eq!(cache.get(path).await.unwrap(), Bytes::from_static(b"x"));
    }

    #[tokio::test]
    async fn a_segment_larger_than_the_cache_is_served_and_not_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("1.ts");
        std::fs::write(&path, vec![0u8; 100]).unwrap();
        let cache = Segments::new(10);
        assert_eq!(cache.get(path).await.unwrap().len(), 100);
        assert_eq!(cache.kept().bytes, 0);
    }
}
