//! The channel's folder: names, and files that are complete whenever they can be seen. Nothing is synced to the
//! disk; after a power cut a live playlist is worth nothing.

use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The playlist.
pub(super) const PLAYLIST: &str = "index.m3u8";
/// What the writer remembers.
pub(super) const RECORD: &str = "state.json";
const UNFINISHED: &str = ".tmp";

/// An open folder.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
}

/// A segment's file as found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) name: String,
    pub(super) bytes: u64,
    pub(super) sequence: u64,
}

impl Folder {
    /// Makes the folder if it is missing, and removes what an earlier run left unfinished.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o750).create(path)?;
        let folder = Self { path: path.to_owned() };
        for (name, _) in folder.names()? {
            if name.starts_with('.') && name.ends_with(UNFINISHED) {
                folder.remove(&name)?;
            }
        }
        Ok(folder)
    }

    fn names(&self) -> io::Result<Vec<(String, u64)>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            if let (Ok(name), Ok(about)) = (entry.file_name().into_string(), entry.metadata()) {
                names.push((name, about.len()));
            }
        }
        Ok(names)
    }

    /// Every segment in it, lowest number first.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub(super) fn segments(&self) -> io::Result<Vec<Found>> {
        let found =
            |(name, bytes): (String, u64)| sequence_of(&name).map(|sequence| Found { name, bytes, sequence });
        let mut segments: Vec<_> = self.names()?.into_iter().filter_map(found).collect();
        segments.sort_by_key(|segment| segment.sequence);
        Ok(segments)
    }

    /// A name for this segment that no file has.
    pub(super) fn free_name(&self, epoch: u64, sequence: u64) -> String {
        let plain = format!("{epoch}-{sequence}.ts");
        let others = (1..).map(|again: u64| format!("{epoch}-{sequence}-{again}.ts"));
        let free = |name: &String| !self.path.join(name).exists();
        std::iter::once(plain).chain(others).find(free).unwrap_or_default()
    }

    /// Opens a file that nobody sees under its name until [`Folder::keep`].
    ///
    /// # Errors
    /// Whatever the file system says.
    pub(super) fn create(&self, name: &str) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o640).open(self.unfinished(name))
    }

    /// Gives a finished file its name.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub(super) fn keep(&self, name: &str) -> io::Result<()> {
        fs::rename(self.unfinished(name), self.path.join(name))
    }

    /// Removes an unfinished file. One that cannot be removed is found at the next start.
    pub(super) fn abandon(&self, name: &str) {
        let _ = fs::remove_file(self.unfinished(name));
    }

    /// Replaces a file: readers see the old or the new content.
    ///
    /// # Errors
    /// Whatever the file system says; the old content is untouched then.
    pub(super) fn replace(&self, name: &str, content: &[u8]) -> io::Result<()> {
        let written = self.create(name).and_then(|mut file| file.write_all(content));
        written.and_then(|()| self.keep(name)).inspect_err(|_| self.abandon(name))
    }

    /// Replaces the record.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub(super) fn save(&self, record: &impl Serialize) -> io::Result<()> {
        self.replace(RECORD, &serde_json::to_vec(record)?)
    }

    /// Reads the record; `None` when there is none.
    ///
    /// # Errors
    /// When it cannot be read or understood.
    pub(super) fn load<T: DeserializeOwned>(&self) -> io::Result<Option<T>> {
        match fs::read(self.path.join(RECORD)) {
            Ok(text) => Ok(Some(serde_json::from_slice(&text)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Removes a file; one that is gone already is fine.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub(super) fn remove(&self, name: &str) -> io::Result<()> {
        match fs::remove_file(self.path.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn unfinished(&self, name: &str) -> PathBuf {
        self.path.join(format!(".{name}{UNFINISHED}"))
    }
}

/// The number in `<epoch>-<number>.ts` or `<epoch>-<number>-<again>.ts`; `None` for any other name.
pub(super) fn sequence_of(name: &str) -> Option<u64> {
    let mut parts = name.strip_suffix(".ts")?.split('-');
    let number = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit()).then(|| part.parse().ok())?;
    let _epoch: u64 = number(parts.next()?)?;
    let sequence = number(parts.next()?)?;
    let again = parts.next();
    let legal = again.is_none_or(|again| number(again).is_some()) && parts.next().is_none();
    legal.then_some(sequence)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names() {
        let table = [
            ("7-104.ts", Some(104)),
            ("7-104-2.ts", Some(104)),
            ("7-.ts", None),
            ("7.ts", None),
            ("+7-1.ts", None),
            ("7-104-2-3.ts", None),
            ("../7-104.ts", None),
            (".7-104.ts.tmp", None),
            ("index.m3u8", None),
        ];
        for (name, expected) in table {
            assert_eq!(sequence_of(name), expected, "{name}");
        }
    }

    #[test]
    fn a_name_is_never_reused_and_unfinished_files_go() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(&dir.path().join("a/b")).unwrap();
        assert_eq!(folder.free_name(3, 9), "3-9.ts");
        folder.create("3-9.ts").unwrap();
        folder.keep("3-9.ts").unwrap();
        assert_eq!(folder.free_name(3, 9), "3-9-1.ts");
        folder.create("3-9-1.ts").unwrap();
        let folder = Folder::open(&dir.path().join("a/b")).unwrap();
        assert_eq!(folder.names().unwrap().len(), 1);
    }

    proptest! {
        #[test]
        fn any_name_is_safe(name: String) {
            sequence_of(&name);
        }
    }
}
