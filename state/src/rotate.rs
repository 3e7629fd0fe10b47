//! Putting a long file aside: `x` becomes `x.1`, `x.1` becomes `x.2`, and what is older than the last one goes.

use std::path::{Path, PathBuf};
use std::{fs, io};

/// Puts `path` aside and keeps `kept` files beside it. Whoever has the file open goes on writing into `<path>.1`.
///
/// # Errors
/// Whatever the file system says; a file that is not there is an error.
pub fn put_aside(path: &Path, kept: u32) -> io::Result<()> {
    for n in (1..kept).rev() {
        match fs::rename(aside(path, n), aside(path, n + 1)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    fs::rename(path, aside(path, 1))
}

/// The name of the file that was put aside `n` times ago.
pub fn aside(path: &Path, n: u32) -> PathBuf {
    PathBuf::from(format!("{}.{n}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_are_kept_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.log");
        for n in 0..6 {
            fs::write(&path, n.to_string()).unwrap();
            put_aside(&path, 3).unwrap();
        }
        let read = |n: u32| fs::read_to_string(folder.path().join(format!("x.log.{n}"))).unwrap();
        assert_eq!((read(1), read(2), read(3)), ("5".into(), "4".into(), "3".into()));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3);
        assert!(put_aside(&path, 3).is_err());
    }
}
