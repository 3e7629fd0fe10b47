//! A file in memory that has a path, so that the product opens it as it opens any other.

use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

/// The folder in which it is.
pub const FOLDER: &str = "/proc/self/fd";

/// A file in memory.
pub struct MemoryFile(File);

impl MemoryFile {
    /// An empty one.
    ///
    /// # Panics
    /// When the system has no room.
    pub fn new() -> Self {
        Self(memfd_create("media", MemfdFlags::CLOEXEC).expect("a file in memory").into())
    }

    /// From now on it holds these bytes.
    ///
    /// # Panics
    /// When the system has no room.
    pub fn fill(&self, bytes: &[u8]) {
        ftruncate(&self.0, 0).expect("an empty file");
        self.0.write_all_at(bytes, 0).expect("a full file");
    }

    /// Its name in [`FOLDER`].
    pub fn name(&self) -> String {
        self.0.as_raw_fd().to_string()
    }

    /// Its path.
    pub fn path(&self) -> PathBuf {
        PathBuf::from(FOLDER).join(self.name())
    }
}

impl Default for MemoryFile {
    fn default() -> Self {
        Self::new()
    }
}
