//! What becomes of segments that left the window: they stay readable for as long as RFC 8216 asks, within a
//! budget of disk space, and are deleted then.

use super::folder::Folder;
use super::playlist::Segment;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::io;

/// Most files that wait for their deletion.
const MOST_FILES: usize = 64;
/// Most bytes of a channel, window included.
const MOST_BYTES: u64 = 512 * 1024 * 1024;

/// A file outside the window.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Retired {
    pub(super) name: String,
    pub(super) bytes: u64,
    /// Wall time from which on nobody may want it, ms since 1970.
    pub(super) until_ms: i64,
}

/// The files outside the window, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Janitor {
    retired: VecDeque<Retired>,
}

impl Janitor {
    /// Takes over a segment that left the window.
    pub(super) fn retire(&mut self, segment: Segment, until_ms: i64) {
        let Segment { name, bytes, .. } = segment;
        self.retired.push_back(Retired { name, bytes, until_ms });
    }

    /// Names of the files.
    pub(super) fn names(&self) -> impl Iterator<Item = &String> {
        self.retired.iter().map(|file| &file.name)
    }

    /// Takes over a file that an earlier run left behind, unless it is known.
    pub(super) fn adopt(&mut self, file: Retired) {
        if !self.retired.iter().any(|known| known.name == file.name) {
            self.retired.push_front(file);
        }
    }

    /// Deletes what is due. `window_bytes` is what the window takes.
    ///
    /// # Errors
    /// Whatever the file system says; the rest is tried again next time.
    pub(super) fn sweep(&mut self, folder: &Folder, window_bytes: u64, now_ms: i64) -> io::Result<()> {
        self.delete(folder, self.due(window_bytes, now_ms))
    }

    /// Deletes everything outside the window: on a full disk, new segments matter more than old ones.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub(super) fn sweep_all(&mut self, folder: &Folder) -> io::Result<()> {
        self.delete(folder, self.retired.len())
    }

    fn delete(&mut self, folder: &Folder, count: usize) -> io::Result<()> {
        for _ in 0..count {
            let Some(oldest) = self.retired.front() else { break };
            folder.remove(&oldest.name)?;
            self.retired.pop_front();
        }
        Ok(())
    }

    /// How many of the oldest are due: past their time, or over the budget.
    fn due(&self, window_bytes: u64, now_ms: i64) -> usize {
        let mut bytes = window_bytes + self.retired.iter().map(|file| file.bytes).sum::<u64>();
        let mut files = self.retired.len();
        let due = self.retired.iter().take_while(|file| {
            let over = files > MOST_FILES || bytes > MOST_BYTES;
            files -= 1;
            bytes -= file.bytes;
            over || file.until_ms <= now_ms
        });
        due.count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn janitor(files: impl IntoIterator<Item = (u64, i64)>) -> Janitor {
        let file = |(number, (bytes, until_ms)): (usize, (u64, i64))| Retired {
            name: format!("1-{number}.ts"),
            bytes,
            until_ms,
        };
        Janitor { retired: files.into_iter().enumerate().map(file).collect() }
    }

    #[test]
    fn files_go_when_their_time_is_over() {
        let janitor = janitor([(1, 100), (1, 200), (1, 300)]);
        assert_eq!(janitor.due(0, 99), 0);
        assert_eq!(janitor.due(0, 200), 2);
    }

    #[test]
    fn the_oldest_go_when_there_are_too_many_or_they_are_too_large() {
        assert_eq!(janitor((0..70).map(|_| (1, i64::MAX))).due(0, 0), 6);
        let large = [(200 << 20, i64::MAX), (200 << 20, i64::MAX), (1, i64::MAX)];
        assert_eq!(janitor(large).due(200 << 20, 0), 1);
    }
}
