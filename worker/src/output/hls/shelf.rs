//! The playlist together with its files: one record on disk brings both back after a restart.

use super::folder::{Folder, PLAYLIST, sequence_of};
use super::janitor::{Janitor, Retired};
use super::playlist::{Finished, Playlist, Segment};
use serde::{Deserialize, Serialize};
use state::Timestamp;
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

    /// Programme date time at which the newest segment ends.
    pub(super) fn edge(&self) -> Option<Timestamp> {
        self.record.playlist.ends_ms().and_then(|ms| Timestamp::from_millisecond(ms).ok())
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::hls::folder::RECORD;
    use std::collections::BTreeSet;
    use std::io::Write;
    use std::path::Path;

    fn plan(dir: &Path, epoch: u64) -> Plan {
        Plan { dir: dir.to_owned(), epoch, target_s: 4, window: 6, first_sequence: 0, anchor_ms: 0 }
    }

    fn write(shelf: &mut Shelf, start_ms: i64) {
        let (name, mut file) = shelf.create().unwrap();
        file.write_all(b"segment").unwrap();
        let new = Finished {
            start_ms,
            duration_ms: 4_000,
            wall_ms: start_ms,
            discontinuity: start_ms == 0,
            independent: true,
            bytes: 7,
        };
        shelf.append(name, new).unwrap();
    }

    /// A run of `count` segments, published one by one, from `wall_ms` on.
    fn run(plan: &Plan, count: i64, wall_ms: i64) -> Shelf {
        let mut shelf = Shelf::open(plan, wall_ms).unwrap();
        for number in 0..count {
            write(&mut shelf, number * 4_000);
            shelf.publish(wall_ms + number * 4_000).unwrap();
            shelf.sweep(wall_ms + number * 4_000).unwrap();
        }
        shelf
    }

    fn playlist(dir: &Path) -> String {
        std::fs::read_to_string(dir.join(PLAYLIST)).unwrap()
    }

    fn files(dir: &Path) -> BTreeSet<String> {
        let names =
            std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.ends_with(".ts")).collect()
    }

    #[test]
    fn a_segment_stays_for_its_length_and_that_of_the_playlist_and_goes_then() {
        let dir = tempfile::tempdir().unwrap();
        // The window is 24 s, so the segment that left at the seventh publication (24 s) is due at 24 + 28 s.
        let mut shelf = run(&plan(dir.path(), 1), 7, 0);
        assert!(!playlist(dir.path()).contains("1-0.ts"));
        shelf.sweep(51_999).unwrap();
        assert!(files(dir.path()).contains("1-0.ts"));
        shelf.sweep(52_000).unwrap();
        assert!(!files(dir.path()).contains("1-0.ts"));
        assert_eq!(files(dir.path()).len(), 6);
    }

    #[test]
    fn a_run_goes_on_where_the_one_before_ended_and_its_files_go() {
        let dir = tempfile::tempdir().unwrap();
        run(&plan(dir.path(), 1), 7, 0);
        run(&plan(dir.path(), 2), 1, 100_000);
        let text = playlist(dir.path());
        assert!(text.contains("#EXT-X-MEDIA-SEQUENCE:2\n"), "{text}");
        assert!(text.contains("1-6.ts\n#EXT-X-DISCONTINUITY\n"), "{text}");
        run(&plan(dir.path(), 3), 40, 200_000);
        assert!(files(dir.path()).iter().all(|name| name.starts_with("3-")), "{:?}", files(dir.path()));
        assert!(playlist(dir.path()).contains("#EXT-X-DISCONTINUITY-SEQUENCE:2\n"));
    }

    #[test]
    fn a_broken_or_missing_record_never_takes_numbers_back() {
        for broken in [Some("{\"version\":1,"), Some("{}"), Some(""), None] {
            let dir = tempfile::tempdir().unwrap();
            run(&plan(dir.path(), 1), 9, 0);
            match broken {
                Some(text) => std::fs::write(dir.path().join(RECORD), text).unwrap(),
                None => std::fs::remove_file(dir.path().join(RECORD)).unwrap(),
            }
            let mut shelf = run(&plan(dir.path(), 1), 1, 100_000);
            let text = playlist(dir.path());
            assert!(text.contains("#EXT-X-MEDIA-SEQUENCE:9\n#EXT-X-DISCONTINUITY-SEQUENCE:9\n"), "{text}");
            assert!(text.contains("#EXT-X-DISCONTINUITY\n"), "{text}");
            shelf.sweep(200_000).unwrap();
            assert_eq!(files(dir.path()), BTreeSet::from(["1-9.ts".to_owned()]), "{broken:?}");
        }
    }

    #[test]
    fn an_empty_folder_begins_where_it_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let shelf = run(&Plan { first_sequence: 5_000, ..plan(dir.path(), 9) }, 1, 0);
        assert_eq!(shelf.next_sequence(), 5_001);
        assert_eq!(files(dir.path()), BTreeSet::from(["9-5000.ts".to_owned()]));
    }

    #[test]
    fn a_listed_file_that_is_gone_takes_those_before_it_along() {
        let dir = tempfile::tempdir().unwrap();
        run(&plan(dir.path(), 1), 6, 0);
        std::fs::remove_file(dir.path().join("1-3.ts")).unwrap();
        run(&plan(dir.path(), 2), 1, 24_000);
        let text = playlist(dir.path());
        let listed: Vec<_> = text.lines().filter(|line| line.ends_with(".ts")).collect();
        assert_eq!(listed, ["1-4.ts", "1-5.ts", "2-6.ts"]);
        assert!(text.contains("#EXT-X-MEDIA-SEQUENCE:4\n"), "{text}");
    }

    #[test]
    fn a_record_that_names_foreign_files_is_not_believed() {
        let dir = tempfile::tempdir().unwrap();
        run(&plan(dir.path(), 1), 2, 0);
        let record = std::fs::read_to_string(dir.path().join(RECORD)).unwrap();
        std::fs::write(dir.path().join(RECORD), record.replace("1-0.ts", "../../secret.ts")).unwrap();
        run(&plan(dir.path(), 2), 1, 0);
        assert!(!playlist(dir.path()).contains("secret"));
    }

    #[test]
    fn a_segment_that_was_never_published_is_not_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let mut shelf = run(&plan(dir.path(), 1), 2, 0);
        write(&mut shelf, 8_000);
        drop(shelf);
        run(&plan(dir.path(), 1), 1, 20_000);
        assert!(playlist(dir.path()).contains("1-2-1.ts\n"));
    }
}
