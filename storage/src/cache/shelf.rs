//! What is in the folder: read anew each time, because the folder is the truth.

use super::part::{Object, PART};
use super::plan::{self, Plan, Want};
use super::{Copied, Wants, document};
use crate::MediaFile;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// A copy, the part of one, or a prepared file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Its name.
    pub name: String,
    /// Bytes on the disk.
    pub bytes: u64,
    /// When it was used last.
    pub used: SystemTime,
    /// Whether it is a copy and not a part.
    pub whole: bool,
    /// Whether it is what was made of a file once ([`state::prepared`]).
    pub prepared: bool,
}

/// How full the folder is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Bytes, parts and prepared files included.
    pub bytes: u64,
    /// Whole copies.
    pub files: usize,
    /// Bytes of prepared files.
    pub prepared_bytes: u64,
    /// Prepared files.
    pub prepared_files: usize,
}

impl Usage {
    /// Adds up.
    pub fn of(held: &[Held]) -> Self {
        Self {
            bytes: held.iter().map(|held| held.bytes).sum(),
            files: held.iter().filter(|held| held.whole && !held.prepared).count(),
            prepared_bytes: held.iter().filter(|held| held.prepared).map(|held| held.bytes).sum(),
            prepared_files: held.iter().filter(|held| held.prepared).count(),
        }
    }
}

/// What the cache of a bucket holds, for looking only. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Shelf {
    pub(super) folder: PathBuf,
    /// The folder of prepared files.
    pub(super) prepared: PathBuf,
    pub(super) bucket: String,
    pub(super) budget: u64,
}

impl Shelf {
    /// Most bytes it may hold.
    pub fn budget(&self) -> u64 {
        self.budget
    }

    /// Everything that it holds, prepared files included. A cache that is off counts none of those.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub fn held(&self) -> io::Result<Vec<Held>> {
        let mut held = look(&self.folder)?;
        if self.budget > 0 {
            held.extend(prepared(&self.prepared)?);
        }
        Ok(held)
    }

    /// What may have to go, and what of the budget is left for it: prepared files that are in use stay. To make them
    /// again would cost more than any copy, and to make them in turns would never end.
    pub(super) fn movable(&self, mut held: Vec<Held>, wants: &Wants) -> (Vec<Held>, u64) {
        let kept: u64 = held.iter().filter(|held| wants.keeps(held)).map(|held| held.bytes).sum();
        held.retain(|held| !wants.keeps(held));
        (held, self.budget.saturating_sub(kept))
    }

    /// Whether a whole copy of this is held. It does not count as used.
    pub fn has(&self, file: &MediaFile) -> bool {
        super::whole(&self.folder, &self.object(file).name(), &file.key).is_some()
    }

    /// What to fetch next.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub fn next<'a>(&self, wants: &'a Wants) -> io::Result<Option<&'a MediaFile>> {
        let named = self.named(wants);
        let (held, budget) = self.movable(self.held()?, wants);
        let at = plan::next(&held, &Plan { wants: &named, near: wants.near, budget });
        Ok(at.and_then(|at| wants.files.get(at)))
    }

    pub(super) fn named(&self, wants: &Wants) -> Vec<Want> {
        wants.files.iter().map(|file| Want { name: self.object(file).name(), size: file.size }).collect()
    }

    pub(super) fn object(&self, file: &MediaFile) -> Object {
        Object {
            bucket: self.bucket.clone(),
            key: file.key.clone(),
            content: file.content.clone(),
            size: file.size,
        }
    }
}

/// Everything that is held. Documents are too small to count.
pub(super) fn look(folder: &Path) -> io::Result<Vec<Held>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let Some((name, ending)) = parts_of(&entry.file_name()) else { continue };
        // Gone since the folder was read: evicted.
        let Ok(meta) = entry.metadata() else { continue };
        if !is_document(&ending) && meta.is_file() {
            let used = meta.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            found.push(Held { name, bytes: meta.len(), used, whole: ending != PART, prepared: false });
        }
    }
    Ok(found)
}

/// Prepared files. Their certificates are too small to count; a folder that is not there is empty.
pub(super) fn prepared(folder: &Path) -> io::Result<Vec<Held>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        let file = entry.file_name();
        let Some(name) = file.to_str().and_then(|file| file.strip_suffix(".mp4")) else { continue };
        let Ok(meta) = entry.metadata() else { continue };
        let used = meta.modified().unwrap_or(SystemTime::UNIX_EPOCH);
        found.push(Held { name: name.to_owned(), bytes: meta.len(), used, whole: true, prepared: true });
    }
    Ok(found)
}

/// Removes a prepared file, its certificate first: without it the file is nothing.
pub(super) fn remove_prepared(folder: &Path, held: &Held) -> io::Result<()> {
    gone(fs::remove_file(folder.join(format!("{}.json", held.name))))?;
    gone(fs::remove_file(folder.join(format!("{}.mp4", held.name))))
}

/// Removes what a crash left that is nothing: copies without a document or of the wrong length, documents without a
/// copy. Parts stay: they can be gone on with.
pub(super) fn tidy(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let Some((name, ending)) = path.file_name().and_then(parts_of) else { continue };
        let told = fs::read(document(folder, &name)).ok();
        let told = told.and_then(|text| serde_json::from_slice::<Copied>(&text).ok());
        let sound = match ending.as_str() {
            PART => true,
            "json" => told.is_some_and(|told| super::whole(folder, &name, &told.key).is_some()),
            _ if is_document(&ending) => false,
            _ => told.is_some_and(|told| fs::metadata(&path).is_ok_and(|meta| meta.len() == told.size)),
        };
        if !sound {
            tracing::info!(file = %path.display(), "removed what a crash had left");
            gone(fs::remove_file(&path))?;
        }
    }
    Ok(())
}

/// Removes a copy or a part, and its document. The document goes last: without it a copy is nothing.
pub(super) fn remove(folder: &Path, held: &Held) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let Some((name, ending)) = path.file_name().and_then(parts_of) else { continue };
        if name == held.name && !is_document(&ending) && (ending != PART) == held.whole {
            gone(fs::remove_file(&path))?;
        }
    }
    if held.whole { gone(fs::remove_file(document(folder, &held.name))) } else { Ok(()) }
}

/// Something that is not there any more was removed as wanted.
fn gone(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Name and ending of a file of ours; `None` for anything else, which is left alone.
fn parts_of(file: &std::ffi::OsStr) -> Option<(String, String)> {
    let (name, ending) = file.to_str()?.split_once('.')?;
    let ours = name.len() == 32 && name.bytes().all(|b| b.is_ascii_hexdigit());
    ours.then(|| (name.to_owned(), ending.to_owned()))
}

fn is_document(ending: &str) -> bool {
    ending == "json" || ending.starts_with("json.")
}
