//! Documents on disk: load with quarantine, put if nobody else changed it, disk first and memory after.

use crate::Timestamp;
use crate::atomic::{self, Step};
use crate::channel::FieldProblem;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::{fs, io};

/// A document that is kept as one JSON file.
pub trait Document: Serialize + DeserializeOwned + Clone {
    /// Name of the file.
    const FILE: &'static str;
    /// The newest shape this program writes. A file of a newer version is read as far as it is understood.
    const VERSION: u32;
    /// How often it has been changed.
    fn revision(&self) -> u64;
    /// Sets the count of changes.
    fn set_revision(&mut self, revision: u64);
    /// Everything that is wrong with its content.
    fn problems(&self) -> Vec<FieldProblem> {
        Vec::new()
    }
}

/// Makes a type with a field `revision` a [`Document`]: the name of its file, the version of its shape, and what finds
/// everything that is wrong with its content, where something can be.
#[macro_export]
macro_rules! document {
    ($type:ty, $file:literal, version $version:expr $(, problems $problems:path)?) => {
        impl $crate::store::Document for $type {
            const FILE: &'static str = $file;
            const VERSION: u32 = $version;

            fn revision(&self) -> u64 {
                self.revision
            }

            fn set_revision(&mut self, revision: u64) {
                self.revision = revision;
            }

            $(fn problems(&self) -> Vec<$crate::channel::FieldProblem> {
                $problems(self)
            })?
        }
    };
}

/// Why a document could not be loaded or saved.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file system said no.
    #[error("{path}: {source}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// Someone else changed it in between.
    #[error("{path}: revision {found} is on disk, {expected} was expected")]
    Conflict {
        /// Which file.
        path: PathBuf,
        /// The revision that the change was made from.
        expected: u64,
        /// The revision that is there.
        found: u64,
    },
    /// The content may not be saved.
    #[error("{path}: {}", list(problems))]
    Invalid {
        /// Which file.
        path: PathBuf,
        /// Everything that is wrong with it.
        problems: Vec<FieldProblem>,
    },
}

fn list(problems: &[FieldProblem]) -> String {
    problems.iter().map(|p| format!("{} {}", p.pointer, p.detail)).collect::<Vec<_>>().join("; ")
}

/// What loading found.
#[derive(Debug)]
pub struct Loaded<T> {
    /// The document; `None` when there is neither a good file nor a good previous copy.
    pub document: Option<T>,
    /// What an operator must know: a file was broken and where it was put.
    pub alerts: Vec<String>,
}

/// Loads the document in `folder`.
///
/// A broken file is renamed to `<name>.broken-<time>` and reported; the previous good copy takes its place, on the disk
/// as well.
///
/// # Errors
/// [`StoreError::Io`] when a file is there and cannot be read or moved.
pub fn load<T: Document>(folder: &Path, now: Timestamp) -> Result<Loaded<T>, StoreError> {
    let path = folder.join(T::FILE);
    let why = match read::<T>(&path)? {
        Read::Good(document) => return Ok(Loaded { document: Some(document), alerts: Vec::new() }),
        Read::Missing => return Ok(Loaded { document: None, alerts: Vec::new() }),
        Read::Broken(why) => why,
    };
    let mut alerts = vec![put_aside(&path, &why, now)?];
    let previous = atomic::previous_of(&path).map_err(|source| io_error(&path, source))?;
    let document = match read::<T>(&previous)? {
        Read::Good(document) => {
            // Before the broken one goes, so that a crash here does not make this a document that is missing.
            atomic::bring_back(&path).map_err(|source| io_error(&path, source))?;
            let (path, revision) = (path.display(), document.revision());
            alerts.push(format!("{path}: the previous good copy (revision {revision}) is used"));
            return Ok(Loaded { document: Some(document), alerts });
        }
        Read::Broken(why) => {
            alerts.push(put_aside(&previous, &why, now)?);
            remove(&previous)?;
            None
        }
        Read::Missing => None,
    };
    remove(&path)?;
    Ok(Loaded { document, alerts })
}

enum Read<T> {
    Good(T),
    Missing,
    Broken(String),
}

fn read<T: Document>(path: &Path) -> Result<Read<T>, StoreError> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Read::Missing),
        Err(source) => return Err(io_error(path, source)),
    };
    Ok(parse(&bytes).map_or_else(Read::Broken, Read::Good))
}

/// Reads a document from text: any version of its shape up to the present one, and newer ones as far as understood.
///
/// # Errors
/// What is wrong, in words, with the place of it.
pub fn parse<T: Document>(bytes: &[u8]) -> Result<T, String> {
    let value: Value = serde_json::from_slice(bytes).map_err(|error| format!("is not JSON: {error}"))?;
    if value.get("version").and_then(Value::as_u64).is_none_or(|v| v == 0) {
        return Err("/version must be a positive number".to_owned());
    }
    let document: T = serde_json::from_value(value).map_err(|error| error.to_string())?;
    let problems = document.problems();
    if problems.is_empty() { Ok(document) } else { Err(list(&problems)) }
}

/// Gives a broken file a second name that nothing overwrites; says what was wrong with it.
fn put_aside(path: &Path, why: &str, now: Timestamp) -> Result<String, StoreError> {
    let aside = atomic::aside_of(path, now);
    match fs::hard_link(path, &aside) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(io_error(path, error)),
        _ => {}
    }
    atomic::sync_folder_of(path).map_err(|source| io_error(path, source))?;
    Ok(format!("{}: {why}; it was put aside as {}", path.display(), aside.display()))
}

fn remove(path: &Path) -> Result<(), StoreError> {
    let removed = fs::remove_file(path).and_then(|()| atomic::sync_folder_of(path));
    removed.map_err(|source| io_error(path, source))
}

/// Saves `document` in `folder` if the revision on disk is still the one it was made from; returns it with
/// its new revision. It is on the disk when this returns.
///
/// # Errors
/// [`StoreError::Conflict`], [`StoreError::Invalid`], [`StoreError::Io`]; nothing is changed then.
pub fn put<T: Document>(folder: &Path, document: &T) -> Result<T, StoreError> {
    put_step_by_step(folder, document, &mut |_| Ok(()))
}

/// [`put`], with `after` called after every step of the replacement.
///
/// # Errors
/// Those of [`put`] and of `after`.
pub fn put_step_by_step<T: Document>(
    folder: &Path,
    document: &T,
    after: &mut dyn FnMut(Step) -> io::Result<()>,
) -> Result<T, StoreError> {
    let path = folder.join(T::FILE);
    if let Read::Good(present) = read::<T>(&path)?
        && present.revision() != document.revision()
    {
        return Err(StoreError::Conflict { path, expected: document.revision(), found: present.revision() });
    }
    replace(folder, document, after)
}

/// Saves a document that nobody but the caller ever writes: what is on the disk is not looked at, whatever its
/// revision. Else as [`put`].
///
/// # Errors
/// [`StoreError::Invalid`], [`StoreError::Io`]; nothing is changed then.
pub fn put_own<T: Document>(folder: &Path, document: &T) -> Result<T, StoreError> {
    replace(folder, document, &mut |_| Ok(()))
}

fn replace<T: Document>(
    folder: &Path,
    document: &T,
    after: &mut dyn FnMut(Step) -> io::Result<()>,
) -> Result<T, StoreError> {
    let path = folder.join(T::FILE);
    let problems = document.problems();
    if !problems.is_empty() {
        return Err(StoreError::Invalid { path, problems });
    }
    let mut saved = document.clone();
    saved.set_revision(document.revision() + 1);
    let mut text = serde_json::to_vec_pretty(&saved).map_err(|error| io_error(&path, error.into()))?;
    text.push(b'\n');
    atomic::private_folder(folder).map_err(|source| io_error(&path, source))?;
    atomic::replace_step_by_step(&path, &text, after).map_err(|source| io_error(&path, source))?;
    Ok(saved)
}

fn io_error(path: &Path, source: io::Error) -> StoreError {
    StoreError::Io { path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::StreamConfig;
    use crate::ids::ChannelId;

    #[test]
    fn a_missing_file_is_no_document_and_no_alert() {
        let folder = tempfile::tempdir().unwrap();
        let loaded = load::<StreamConfig>(folder.path(), crate::now()).unwrap();
        assert!(loaded.document.is_none() && loaded.alerts.is_empty());
    }

    #[test]
    fn a_broken_file_is_put_aside_and_the_previous_copy_is_used() {
        let folder = tempfile::tempdir().unwrap();
        let first = put(folder.path(), &StreamConfig::new(ChannelId::main())).unwrap();
        let second = put(folder.path(), &first).unwrap();
        assert_eq!(second.revision, 2);
        fs::write(folder.path().join(StreamConfig::FILE), b"{\"version\":1,").unwrap();
        let loaded = load::<StreamConfig>(folder.path(), crate::now()).unwrap();
        assert_eq!(loaded.document, Some(first));
        assert_eq!(loaded.alerts.len(), 2);
        let aside =
            |e: io::Result<fs::DirEntry>| e.unwrap().file_name().to_string_lossy().contains(".broken-");
        assert_eq!(
            fs::read_dir(folder.path())
                .unwrap()
                .filter(|_| true)
                .filter_map(|e| aside(e).then_some(()))
                .count(),
            1
        );
    }

    #[test]
    fn the_previous_copy_that_took_the_place_is_found_again_and_can_be_changed() {
        let folder = tempfile::tempdir().unwrap();
        let first = put(folder.path(), &StreamConfig::new(ChannelId::main())).unwrap();
        put(folder.path(), &first).unwrap();
        fs::write(folder.path().join(StreamConfig::FILE), b"{\"version\":1,").unwrap();
        assert_eq!(load::<StreamConfig>(folder.path(), crate::now()).unwrap().alerts.len(), 2);
        let again = load::<StreamConfig>(folder.path(), crate::now()).unwrap();
        assert_eq!((again.document, again.alerts), (Some(first.clone()), Vec::new()));
        let changed = put(folder.path(), &first).unwrap();
        assert_eq!(load(folder.path(), crate::now()).unwrap().document, Some(changed));
    }

    #[test]
    fn two_broken_copies_are_put_aside_and_stay_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(StreamConfig::FILE);
        for path in [&atomic::previous_of(&path).unwrap(), &path] {
            fs::write(path, b"{").unwrap();
        }
        let loaded = load::<StreamConfig>(folder.path(), crate::now()).unwrap();
        assert!(loaded.document.is_none() && loaded.alerts.len() == 2, "{:?}", loaded.alerts);
        let again = load::<StreamConfig>(folder.path(), crate::now()).unwrap();
        assert!(again.document.is_none() && again.alerts.is_empty(), "{:?}", again.alerts);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_change_made_from_an_old_revision_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let config = StreamConfig::new(ChannelId::main());
        put(folder.path(), &config).unwrap();
        assert!(matches!(
            put(folder.path(), &config),
            Err(StoreError::Conflict { expected: 0, found: 1, .. })
        ));
    }

    #[test]
    fn what_is_ones_own_replaces_whatever_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(StreamConfig::FILE);
        let config = StreamConfig::new(ChannelId::main());
        for _ in 0..2 {
            assert_eq!(put_own(folder.path(), &config).unwrap().revision, 1);
        }
        fs::write(&path, b"half a docu").unwrap();
        let saved = put_own(folder.path(), &StreamConfig { revision: 8, ..config }).unwrap();
        let loaded = load::<StreamConfig>(folder.path(), crate::now()).unwrap();
        assert_eq!((loaded.document, saved.revision), (Some(saved), 9));
    }

    #[test]
    fn unknown_fields_of_a_newer_version_survive_a_save() {
        let folder = tempfile::tempdir().unwrap();
        let mut value = serde_json::to_value(StreamConfig::new(ChannelId::main())).unwrap();
        value["version"] = 7.into();
        value["ad_breaks"] = serde_json::json!([1, 2]);
        fs::write(folder.path().join(StreamConfig::FILE), value.to_string()).unwrap();
        let config = load::<StreamConfig>(folder.path(), crate::now()).unwrap().document.unwrap();
        put(folder.path(), &config).unwrap();
        let text = fs::read_to_string(folder.path().join(StreamConfig::FILE)).unwrap();
        assert!(text.contains("ad_breaks"), "{text}");
    }
}
