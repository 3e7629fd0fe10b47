//! Replacing a file so that a crash at any moment leaves the old or the new content, never a mixture.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The moments at which a crash can hit a replacement; tests stop at each of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The temporary file exists and is empty.
    Created,
    /// Half of the new content is in the temporary file.
    HalfWritten,
    /// All of it is, but perhaps not on the disk.
    Written,
    /// It is on the disk.
    Synced,
    /// The old content has a second name, the previous good copy.
    KeptPrevious,
    /// The new content has the file's name.
    Renamed,
}

/// Replaces `path` with `content`, mode 0600; it is on the disk when this returns.
///
/// The old content stays beside it as `<name>.prev`.
///
/// # Errors
/// Whatever the file system says; the old content is untouched then.
pub fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    replace_step_by_step(path, content, &mut |_| Ok(()))
}

/// [`replace`], with `after` called after every step. An error from `after` ends it there, as a crash would.
///
/// # Errors
/// Those of [`replace`] and of `after`.
pub fn replace_step_by_step(
    path: &Path,
    content: &[u8],
    after: &mut dyn FnMut(Step) -> io::Result<()>,
) -> io::Result<()> {
    let temporary = sibling(path, "tmp")?;
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    after(Step::Created)?;
    let (first, second) = content.split_at(content.len() / 2);
    file.write_all(first)?;
    after(Step::HalfWritten)?;
    file.write_all(second)?;
    after(Step::Written)?;
    file.sync_all()?;
    after(Step::Synced)?;
    keep_previous(path)?;
    after(Step::KeptPrevious)?;
    fs::rename(&temporary, path)?;
    after(Step::Renamed)?;
    sync_folder_of(path)
}

fn keep_previous(path: &Path) -> io::Result<()> {
    let link = sibling(path, "prev.tmp")?;
    match fs::remove_file(&link) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    match fs::hard_link(path, &link) {
        Ok(()) => fs::rename(&link, previous_of(path)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// Puts the previous good copy in the place of `path`, at once. It stays beside it as well.
///
/// # Errors
/// Whatever the file system says; `path` is untouched then.
pub fn bring_back(path: &Path) -> io::Result<()> {
    // A name that nobody ever writes to: it is the previous copy itself.
    let link = sibling(path, "back")?;
    match fs::remove_file(&link) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fs::hard_link(previous_of(path)?, &link)?;
    fs::rename(&link, path)?;
    sync_folder_of(path)
}

/// Where the previous good copy of `path` is.
///
/// # Errors
/// When `path` has no file name.
pub fn previous_of(path: &Path) -> io::Result<PathBuf> {
    sibling(path, "prev")
}

/// A name for what was broken and is put aside, which nothing overwrites.
pub fn aside_of(path: &Path, now: crate::Timestamp) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".broken-{}", now.as_millisecond()));
    path.with_file_name(name)
}

fn sibling(path: &Path, suffix: &str) -> io::Result<PathBuf> {
    let name = path
        .file_name()
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "path has no file name"))?;
    let mut name = name.to_owned();
    name.push(".");
    name.push(suffix);
    Ok(path.with_file_name(name))
}

/// Puts the folder's entries on the disk, so that a rename in it survives a power cut.
///
/// # Errors
/// Whatever the file system says.
pub fn sync_folder_of(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

/// Makes a folder and its parents, mode 0700; one that exists is left as it is.
///
/// # Errors
/// Whatever the file system says, with the path in the message.
pub fn private_folder(path: &Path) -> io::Result<()> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn content_is_replaced_and_private_and_the_previous_copy_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.json");
        replace(&path, b"one").unwrap();
        replace(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::read(previous_of(&path).unwrap()).unwrap(), b"one");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
