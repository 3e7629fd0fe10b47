//! The playlist together with its files: one record on disk brings both back after a restart.

use super::folder::{Folder, PLAYLIST, sequence_of};
use super::janitor::{Janitor, Retired};
use super::playlist::{Finished, Playlist, Segment};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io;
use std::path::PathBuf;

/// Form of the record; one of another form is treated as missing.
const VERSION: u32 = 1;

/// What a run was told.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) dir: PathBuf,
    pub(super) epoch: u64,
    pub(super) target_s: u32,
    pub(super) window: usize,
    pub(super) first_sequence: u64,
    /// Wall time of channel time 0, ms since 1970.
    pub(super) anchor_ms: i64,
}

/// See the module.
pub(super) struct Shelf {
    folder: Folder,
    epoch: u64,
    target_s: u32,
    record: Record,
}

#[derive(Serialize, Deserialize)]
struct Record {
    version: u32,
    playlist: Playlist,
    retired: Janitor,
}

impl Shelf {
    /// Takes up what is in the folder, or begins.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub(super) fn open(plan: &Plan, now_ms: i64) -> io::Result<Self> {
        let folder = Folder::open(&plan.dir)?;
        let found = folder.segments()?;
        let unused = found.last().map_or(0, |newest| newest.sequence.saturating_add(1));
        let lowest = plan.first_sequence.max(unused);
        let mut record = load(&folder)?.unwrap_or_else(|| Record {
            version: VERSION,
            playlist: Playlist::new(plan.target_s, lowest),
            retired: Janitor::default(),
        });
        let exists = |name: &str| found.iter().any(|file| file.name == name);
        let left = record.playlist.resume(plan.target_s, exists);
        record.playlist.skip_to(lowest);
        record.playlist.set_run(plan.window, plan.anchor_ms);
        let mut shelf = Self { folder, epoch: plan.epoch, target_s: plan.target_s, record };
        shelf.retire(left, now_ms);
        for file in found.into_iter().rev() {
            shelf.adopt(file.name, file.bytes, now_ms);
        }
        Ok(shelf)
    }

    /// A file of an earlier run that never got into the playlist, or was forgotten.
    fn adopt(&mut self, name: String, bytes: u64, now_ms: i64) {
        if !self.record.playlist.segments().any(|listed| listed.name == name) {
            // It may have been listed lately: it stays for as long as a full window lasts.
            let until_ms = now_ms.saturating_add(i64::from(self.target_s) * 1000 * 8);
            self.record.retired.adopt(Retired { name, bytes, until_ms });
        }
    }

    fn retire(&mut self, left: Vec<Segment>, now_ms: i64) {
        for segment in left {
            let until_ms = now_ms.saturating_add_unsigned(self.record.playlist.afterlife_ms(&segment));
            self.record.retired.retire(segment, until_ms);
        }
    }

    /// Opens the file of the next segment.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub(super) fn create(&self) -> io::Result<(String, File)> {
        let name = self.folder.free_name(self.epoch, self.record.playlist.next_sequence());
        let file = self.folder.create(&name)?;
        Ok((name, file))
    }

    /// Puts a complete segment at the end of the playlist, not yet published.
    ///
    /// # Errors
    /// Whatever the file system says; the playlist is unchanged then.
    pub(super) fn append(&mut self, name: String, mut new: Finished) -> io::Result<()> {
        self.folder.keep(&name)?;
        new.discontinuity &= self.record.playlist.has_past();
        self.record.playlist.append(name, new);
        Ok(())
    }

    /// Removes an unfinished segment.
    pub(super) fn abandon(&self, name: &str) {
        self.folder.abandon(name);
    }

    /// Publishes the window: the record first, so that a crash in between never lets a number go back.
    ///
    /// # Errors
    /// Whatever the file system says; the same call later puts it right.
    pub(super) fn publish(&mut self, now_ms: i64) -> io::Result<()> {
        let left = self.record.playlist.trim();
        self.retire(left, now_ms);
        self.folder.save(&self.record)?;
        self.folder.replace(PLAYLIST, self.record.playlist.render().as_bytes())
    }

    /// Deletes the files that nobody may want any more.
    ///
    /// # Errors
    /// Whatever the file system says; the rest is tried again next time.
    pub(super) fn sweep(&mut self, now_ms: i64) -> io::Result<()> {
        let window = self.record.playlist.segments().map(|segment| segment.bytes).sum();
        self.record.retired.sweep(&self.folder, window, now_ms)
    }

    /// Gives back whatever is not in the window.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub(super) fn make_room(&mut self) -> io::Result<()> {
        self.record.retired.sweep_all(&self.folder)
    }

    /// Segments in the window.
    pub(super) fn listed(&self) -> u64 {
        self.record.playlist.segments().len() as u64
    }

    /// Number of the segment to come.
    pub(super) fn next_sequence(&self) -> u64 {
        self.record.playlist.next_sequence()
    }
}

/// The record of an earlier run. A broken one costs the old window, not the channel.
fn load(folder: &Folder) -> io::Result<Option<Record>> {
    match folder.load::<Record>() {
        Ok(Some(record)) if record.is_sound() => Ok(Some(record)),
        Ok(None) => Ok(None),
        Ok(Some(_)) => {
            tracing::warn!("HLS record is of another form, the playlist begins anew");
            Ok(None)
        }
        Err(error)
            if error.kind() == io::ErrorKind::InvalidData || error.kind() == io::ErrorKind::UnexpectedEof =>
        {
            tracing::warn!(%error, "HLS record is broken, the playlist begins anew");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

impl Record {
    fn is_sound(&self) -> bool {
        let names = self.playlist.segments().map(|segment| &segment.name);
        let mut names = names.chain(self.retired.names());
        self.version == VERSION && names.all(|name| sequence_of(name).is_some())
    }
}
