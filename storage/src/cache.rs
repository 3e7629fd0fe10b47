//! Copies of bucket media on this machine, so that a file is paid for once and plays on while the bucket is away.
//!
//! `<cache_dir>/media/` holds for each copy the file itself, named by a hash of what it is, and a small JSON document
//! that says it in words; a `.part` is a copy that is still being fetched. One process writes, [`Cache`], and holds
//! the folder's lock; any process reads, [`find`]. When a copy was used last is its file's time of change.
//!
//! A copy that is evicted while a worker has it open does no harm: on Linux its bytes live until the last reader
//! closes it. Nothing here knows channels, and nothing else removes files from the folder. Files that were prepared
//! ([`state::prepared`]) count in the same budget; who makes them puts them beside the folder.

mod fetch;
pub mod part;
pub mod plan;
mod shelf;
mod speed;

pub use fetch::{Cache, CacheError, Wants, free_bytes, usage};
pub use shelf::{Held, Shelf, Usage};
pub use speed::Speed;

use ring::digest;
use serde::{Deserialize, Serialize};
use state::Timestamp;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Below the folder for things that can be made again.
const FOLDER: &str = "media";

/// What a copy is, as its JSON document says it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Copied {
    /// The object's key.
    pub key: String,
    /// Its bucket.
    pub bucket: String,
    /// What tells this content from another under the same key.
    pub content: String,
    /// Bytes.
    pub size: u64,
    /// When the last byte came.
    pub fetched_at: Timestamp,
}

/// The copy of an object, if there is a whole one. It counts as used from now on.
///
/// An object whose content has no name is never found: nobody could tell an old copy from a new one.
pub fn find(cache_dir: &Path, bucket: &str, key: &str, content: &str) -> Option<PathBuf> {
    let folder = cache_dir.join(FOLDER);
    let name = name_of(bucket, key, content);
    let path = whole(&folder, &name, key).filter(|_| !content.is_empty())?;
    // A copy that cannot be marked as used is still a copy.
    let _ = File::open(&path).and_then(|file| file.set_modified(SystemTime::now()));
    Some(path)
}

/// The file of a copy whose length is what its document says.
fn whole(folder: &Path, name: &str, key: &str) -> Option<PathBuf> {
    let copied: Copied = serde_json::from_slice(&fs::read(document(folder, name)).ok()?).ok()?;
    let path = folder.join(file_name(name, key));
    let length = fs::metadata(&path).ok().filter(fs::Metadata::is_file)?.len();
    (length == copied.size).then_some(path)
}

/// The first 32 hexadecimal digits of SHA-256 over bucket, key and content, separated by NUL.
fn name_of(bucket: &str, key: &str, content: &str) -> String {
    let mut hash = digest::Context::new(&digest::SHA256);
    for (i, text) in [bucket, key, content].into_iter().enumerate() {
        if i > 0 {
            hash.update(&[0]);
        }
        hash.update(text.as_bytes());
    }
    hex(&hash.finish().as_ref()[..16])
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// FFmpeg and people look at the ending, so a copy keeps that of its key.
fn file_name(name: &str, key: &str) -> String {
    let ending = key.rsplit_once('.').map(|(_, ending)| ending.to_ascii_lowercase());
    let known = ending.filter(|ending| crate::MEDIA_EXTENSIONS.contains(&ending.as_str()));
    format!("{name}.{}", known.as_deref().unwrap_or("media"))
}

fn document(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.json"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_of_what_an_object_is_counts_and_its_ending_stays() {
        let name = name_of("b", "a.mp4", "e");
        assert_eq!(name.len(), 32);
        let others = [name_of("c", "a.mp4", "e"), name_of("b", "b.mp4", "e"), name_of("b", "a.mp4", "f")];
        assert!(others.iter().all(|other| *other != name));
        assert_ne!(name_of("b", "a", "b"), name_of("ba", "", "b"), "the parts are kept apart");
        assert_eq!(file_name("x", "a/B.MP4"), "x.mp4");
        assert_eq!(file_name("x", "a/b.sh/../c"), "x.media");
    }

    #[test]
    fn only_a_copy_of_the_right_length_is_found_and_then_counts_as_used() {
        let folder = tempfile::tempdir().unwrap();
        let media = folder.path().join(FOLDER);
        fs::create_dir(&media).unwrap();
        let name = name_of("b", "a.mp4", "e");
        let find = |content: &str| super::find(folder.path(), "b", "a.mp4", content);
        let path = media.join(file_name(&name, "a.mp4"));
        fs::write(&path, b"12345").unwrap();
        assert_eq!(find("e"), None, "nobody says how long it must be");
        let copied = Copied {
            key: "a.mp4".into(),
            bucket: "b".into(),
            content: "e".into(),
            size: 5,
            fetched_at: state::now(),
        };
        fs::write(document(&media, &name), serde_json::to_vec(&copied).unwrap()).unwrap();
        let long_ago = SystemTime::UNIX_EPOCH;
        File::open(&path).unwrap().set_modified(long_ago).unwrap();
        assert_eq!(find("e"), Some(path.clone()));
        assert!(fs::metadata(&path).unwrap().modified().unwrap() > long_ago);
        assert_eq!((find("other"), find("")), (None, None));
        fs::write(&path, b"1234").unwrap();
        assert_eq!(find("e"), None, "it lost a byte");
    }
}
