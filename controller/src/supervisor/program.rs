//! Which program a living process runs, whatever has become of its file since.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Read at a time, in bytes.
const CHUNK: usize = 256 * 1024;

/// Whether the process runs another program than the one that is installed: not the same bytes. The kernel keeps
/// those of a living process, also when its file was replaced or removed.
///
/// # Errors
/// One of them cannot be read.
pub(super) fn is_another(pid: u32, installed: &Path) -> io::Result<bool> {
    let (own, other) = (File::open(format!("/proc/{pid}/exe"))?, File::open(installed)?);
    let (a, b) = (own.metadata()?, other.metadata()?);
    if (a.dev(), a.ino()) == (b.dev(), b.ino()) {
        return Ok(false);
    }
    Ok(a.len() != b.len() || !same_bytes(own, other)?)
}

fn same_bytes(a: File, b: File) -> io::Result<bool> {
    let (mut a, mut b) = (BufReader::with_capacity(CHUNK, a), BufReader::with_capacity(CHUNK, b));
    loop {
        let (left, right) = (a.fill_buf()?, b.fill_buf()?);
        let length = left.len().min(right.len());
        if left[..length] != right[..length] || left.is_empty() != right.is_empty() {
            return Ok(false);
        }
        if length == 0 {
            return Ok(true);
        }
        a.consume(length);
        b.consume(length);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn a_copy_is_the_same_program_and_one_byte_makes_another() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::copy("/bin/sleep", path("running")).unwrap();
        let mut child = Command::new(path("running")).arg("60").spawn().unwrap();
        assert!(!is_another(child.id(), &path("running")).unwrap());
        std::fs::remove_file(path("running")).unwrap();
        std::fs::copy("/bin/sleep", path("installed")).unwrap();
        assert!(!is_another(child.id(), &path("installed")).unwrap(), "the same bytes in another file");
        let mut bytes = std::fs::read("/bin/sleep").unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(path("changed"), &bytes).unwrap();
        bytes.push(0);
        std::fs::write(path("longer"), &bytes).unwrap();
        for other in ["changed", "longer"] {
            assert!(is_another(child.id(), &path(other)).unwrap(), "{other}");
        }
        assert!(is_another(child.id(), &path("missing")).is_err());
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
