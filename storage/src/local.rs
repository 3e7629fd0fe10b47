//! A folder on this machine.

pub use crate::MediaFile;
use crate::folder::content_of;
use crate::{StorageError, is_media_key, natural};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Why the folder could not be used.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// There is no such folder.
    #[error(
        "the media folder {0} does not exist; make it and put media files in it, or set STORAGE_LOCAL_DIR"
    )]
    NoFolder(PathBuf),
    /// It cannot be read.
    #[error("the media folder {path} cannot be read: {source}")]
    Unreadable {
        /// Which folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl From<LocalError> for StorageError {
    fn from(error: LocalError) -> Self {
        match &error {
            LocalError::NoFolder(_) => Self::NoBucket(error.to_string()),
            LocalError::Unreadable { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                Self::RefusedCredentials(format!("{error}; give this user access to it"))
            }
            LocalError::Unreadable { .. } => Self::Other(error.to_string()),
        }
    }
}

/// Deepest level of folders that is listed.
const MAX_DEPTH: usize = 32;

/// Every media file below `folder` and `prefix`, in natural order. Hidden files and folders are left out;
/// links are followed, but not back into a folder that they are in.
///
/// # Errors
/// [`LocalError`], when the folder itself cannot be listed. A subfolder that cannot be read is left out.
pub fn list(folder: &Path, prefix: &str) -> Result<Vec<MediaFile>, LocalError> {
    readable(folder)?;
    let mut found = Vec::new();
    let unreadable = |source| LocalError::Unreadable { path: folder.to_owned(), source };
    let root = fs::metadata(folder).map_err(unreadable)?;
    walk(folder, "", &mut vec![identity(&root)], &mut found).map_err(unreadable)?;
    found.retain(|file| file.key.starts_with(prefix));
    found.sort_by(|a, b| natural(&a.key, &b.key));
    Ok(found)
}

/// Whether the folder is there and can be listed.
pub(crate) fn readable(folder: &Path) -> Result<(), LocalError> {
    if !folder.is_dir() {
        return Err(LocalError::NoFolder(folder.to_owned()));
    }
    let unreadable = |source| LocalError::Unreadable { path: folder.to_owned(), source };
    fs::read_dir(folder).map(drop).map_err(unreadable)
}

/// `above` is the key so far, `inside` the folders that lead here.
fn walk(
    folder: &Path,
    above: &str,
    inside: &mut Vec<(u64, u64)>,
    found: &mut Vec<MediaFile>,
) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        if name.starts_with('.') {
            continue;
        }
        let key = format!("{above}{name}");
        let Ok(meta) = fs::metadata(entry.path()) else { continue };
        if meta.is_dir() && inside.len() <= MAX_DEPTH && !inside.contains(&identity(&meta)) {
            inside.push(identity(&meta));
            let _ = walk(&entry.path(), &format!("{key}/"), inside, found);
            inside.pop();
        } else if meta.is_file() && is_media_key(&key) {
            found.push(MediaFile { key, size: meta.len(), content: content_of(&meta) });
        }
    }
    Ok(())
}

/// What a file or folder is, by whatever name.
fn identity(meta: &fs::Metadata) -> (u64, u64) {
    (meta.dev(), meta.ino())
}

/// The file behind a key, or `None` when there is none.
pub fn path_of(folder: &Path, key: &str) -> Option<PathBuf> {
    let inside =
        !key.is_empty() && key.split('/').all(|part| !part.is_empty() && part != "." && part != "..");
    let path = folder.join(key);
    (inside && path.is_file()).then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn media_is_listed_recursively_in_natural_order_without_hidden_files() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b/2.mp4", "b/10.MP4", "a.mkv", ".hidden.mp4", ".git/x.mp4", "notes.txt", "ü.opus"] {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, b"x").unwrap();
        }
        let keys: Vec<_> = list(folder.path(), "").unwrap().into_iter().map(|f| f.key).collect();
        assert_eq!(keys, ["a.mkv", "b/2.mp4", "b/10.MP4", "ü.opus"]);
        assert_eq!(list(folder.path(), "b/").unwrap().len(), 2);
    }

    #[test]
    fn links_that_lead_back_are_not_followed_and_others_are() {
        use std::os::unix::fs::symlink;
        let folder = tempfile::tempdir().unwrap();
        let (shows, elsewhere) = (folder.path().join("shows"), tempfile::tempdir().unwrap());
        fs::create_dir(&shows).unwrap();
        fs::write(shows.join("a.mp4"), b"x").unwrap();
        fs::write(elsewhere.path().join("b.mp4"), b"x").unwrap();
        for (name, to) in [("1", folder.path()), ("2", folder.path()), ("3", &shows), ("4", elsewhere.path())]
        {
            symlink(to, shows.join(name)).unwrap();
        }
        let keys: Vec<_> = list(folder.path(), "").unwrap().into_iter().map(|f| f.key).collect();
        assert_eq!(keys, ["shows/4/b.mp4", "shows/a.mp4"]);
    }

    #[test]
    fn a_key_cannot_leave_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a.mp4"), b"x").unwrap();
        assert!(path_of(folder.path(), "a.mp4").is_some());
        assert!(path_of(folder.path(), "../a.mp4").is_none());
        assert!(path_of(folder.path(), "missing.mp4").is_none());
    }

    #[test]
    fn a_missing_folder_says_what_to_do() {
        let error = list(Path::new("/nonexistent/media"), "").unwrap_err();
        assert!(error.to_string().contains("STORAGE_LOCAL_DIR"), "{error}");
    }
}
