//! One copy on its way in: a `.part` that grows, can be gone on with after a crash, and takes its name at the end.
//!
//! A crash at any step leaves nothing, a part, or a whole copy: the document is written before the file has its
//! name, and a document without a file is nothing.

use super::{Copied, document, file_name, hex, name_of};
use md5::{Digest, Md5};
use state::atomic;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Ending of a copy that is not whole.
pub(super) const PART: &str = "part";

/// A part is put on the disk each time it has grown by this much. After a power cut the bytes before the last such
/// step are sure; what comes after them may be zeros and is fetched again.
pub const SURE_EVERY: u64 = 4 * 1024 * 1024;

/// The moments at which a crash can hit; tests stop at each of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The part exists.
    Begun,
    /// Some more of it is written.
    Grown,
    /// All of it is on the disk.
    Synced,
    /// The document says what it is.
    Described,
    /// It has its name.
    Named,
}

/// Called after every step; an error ends the work there, as a crash would.
pub type After<'a> = &'a mut dyn FnMut(Step) -> io::Result<()>;

/// What is being copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// Its bucket.
    pub bucket: String,
    /// Its key.
    pub key: String,
    /// What tells this content from another: an ETag.
    pub content: String,
    /// Bytes.
    pub size: u64,
}

impl Object {
    /// Its name in the cache.
    pub fn name(&self) -> String {
        name_of(&self.bucket, &self.key, &self.content)
    }

    /// The MD5 that the ETag of an object is, if it was sent in one piece and not encrypted with a key of KMS (S3 API
    /// reference, "Object"). Whether it was encrypted so cannot be seen from here.
    fn md5(&self) -> Option<String> {
        let tag = &self.content;
        (tag.len() == 32 && tag.bytes().all(|b| b.is_ascii_hexdigit())).then(|| tag.to_ascii_lowercase())
    }
}

/// What came of a part when its last byte was there.
#[derive(Debug, PartialEq, Eq)]
pub enum Finished {
    /// It is a copy now, here.
    Whole(PathBuf),
    /// Bytes are missing; they can be fetched.
    Short {
        /// How many there are.
        have: u64,
    },
    /// Its bytes are not those that the ETag names. It is gone. This is what they were.
    Other {
        /// In hexadecimal digits.
        md5: String,
    },
}

/// A copy on its way in.
#[derive(Debug)]
pub struct Part {
    folder: PathBuf,
    path: PathBuf,
    object: Object,
    file: File,
    have: u64,
    sure: u64,
    md5: Option<Md5>,
}

impl Part {
    /// Begins, or goes on with what is there. With `sure` all that is there counts, because the system has not
    /// gone down since it was written; else only what is known to be on the disk.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub fn open(folder: &Path, object: Object, sure: bool, after: After<'_>) -> io::Result<Self> {
        let path = folder.join(format!("{}.{PART}", object.name()));
        let options =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).clone();
        let mut file = options.open(&path)?;
        let there = file.metadata()?.len();
        let have = usable(there, object.size, sure);
        if have < there {
            file.set_len(have)?;
        }
        let md5 = if object.md5().is_some() { Some(digest_of(&mut file)?) } else { None };
        file.seek(SeekFrom::Start(have))?;
        after(Step::Begun)?;
        Ok(Self { folder: folder.to_owned(), path, object, file, have, sure: have, md5 })
    }

    /// Bytes that are there: where to go on.
    pub fn have(&self) -> u64 {
        self.have
    }

    /// Takes the next bytes. Bytes past the end are refused.
    ///
    /// # Errors
    /// Whatever the file system says, `StorageFull` above all; `InvalidData` past the end.
    pub fn grow(&mut self, bytes: &[u8], after: After<'_>) -> io::Result<()> {
        if self.have + bytes.len() as u64 > self.object.size {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "more bytes came than the object has"));
        }
        self.file.write_all(bytes)?;
        if let Some(md5) = &mut self.md5 {
            md5.update(bytes);
        }
        self.have += bytes.len() as u64;
        if self.have / SURE_EVERY > self.sure / SURE_EVERY {
            self.file.sync_data()?;
            self.sure = self.have;
        }
        after(Step::Grown)
    }

    /// Ends: checks the length and the digest, and gives the copy its name. `doubts` is asked about a digest that is
    /// not the ETag's, and says whether the bytes are to be thrown away.
    ///
    /// # Errors
    /// Whatever the file system says; the part stays.
    pub fn finish(mut self, doubts: impl FnOnce(&str) -> bool, after: After<'_>) -> io::Result<Finished> {
        if self.have != self.object.size {
            return Ok(Finished::Short { have: self.have });
        }
        let found = self.md5.take().map(|md5| hex(&md5.finalize()));
        let strange = found.filter(|found| self.object.md5().as_ref() != Some(found));
        if let Some(found) = strange.filter(|found| doubts(found)) {
            fs::remove_file(&self.path)?;
            return Ok(Finished::Other { md5: found });
        }
        self.file.sync_all()?;
        after(Step::Synced)?;
        self.describe()?;
        after(Step::Described)?;
        let path = self.folder.join(file_name(&self.object.name(), &self.object.key));
        fs::rename(&self.path, &path)?;
        after(Step::Named)?;
        atomic::sync_folder_of(&path)?;
        Ok(Finished::Whole(path))
    }

    fn describe(&self) -> io::Result<()> {
        let Object { bucket, key, content, size } = self.object.clone();
        let copied = Copied { key, bucket, content, size, fetched_at: state::now() };
        let text = serde_json::to_vec(&copied).map_err(io::Error::other)?;
        let path = document(&self.folder, &self.object.name());
        // An old document would stay as a previous copy, and nobody needs that.
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => atomic::replace(&path, &text),
        }
    }
}

/// How much of a part of `there` bytes can be gone on with. A part is put on the disk when it passes a multiple of
/// [`SURE_EVERY`]; if it stands exactly on one, that may not have come to its end.
fn usable(there: u64, size: u64, sure: bool) -> u64 {
    match there {
        there if there > size => 0,
        there if sure => there,
        there => there.saturating_sub(1) / SURE_EVERY * SURE_EVERY,
    }
}

fn digest_of(file: &mut File) -> io::Result<Md5> {
    let mut md5 = Md5::new();
    let mut buffer = vec![0; 256 * 1024];
    file.seek(SeekFrom::Start(0))?;
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(md5),
            read => md5.update(&buffer[..read]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::{FOLDER, find, shelf};
    use proptest::prelude::*;

    fn object(bytes: &[u8], with_md5: bool) -> Object {
        let content = if with_md5 { hex(&Md5::digest(bytes)) } else { "x-2".into() };
        Object { bucket: "b".into(), key: "a.mp4".into(), content, size: bytes.len() as u64 }
    }

    fn copy(
        folder: &Path,
        object: &Object,
        bytes: &[u8],
        piece: usize,
        after: After<'_>,
    ) -> io::Result<Finished> {
        let mut part = Part::open(folder, object.clone(), false, after)?;
        for piece in bytes[part.have() as usize..].chunks(piece) {
            part.grow(piece, after)?;
        }
        part.finish(|_| true, after)
    }

    #[test]
    fn other_bytes_never_become_a_copy() {
        let folder = tempfile::tempdir().unwrap();
        let object = object(b"right", true);
        let after: After<'_> = &mut |_| Ok(());
        let finished = copy(folder.path(), &object, b"wrong", 2, after).unwrap();
        assert_eq!(finished, Finished::Other { md5: hex(&Md5::digest(b"wrong")) });
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        let more = copy(folder.path(), &object, b"right!", 3, after).unwrap_err();
        assert_eq!(more.kind(), io::ErrorKind::InvalidData);
        assert_eq!(copy(folder.path(), &object, b"rig", 3, after).unwrap(), Finished::Short { have: 3 });
        assert!(matches!(copy(folder.path(), &object, b"right", 3, after).unwrap(), Finished::Whole(_)));
    }

    #[test]
    fn after_a_power_cut_only_what_was_put_on_the_disk_counts() {
        let step = SURE_EVERY;
        let cases = [(0, 0), (1, 0), (step, 0), (step + 1, step), (2 * step, step), (2 * step + 5, 2 * step)];
        for (there, usable_then) in cases {
            assert_eq!(usable(there, 10 * step, false), usable_then, "{there}");
            assert_eq!(usable(there, 10 * step, true), there);
        }
        assert_eq!(usable(11, 10, true), 0, "it is longer than the object");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        /// Whatever the size of the pieces and wherever it crashes, again and again: there is never a copy that is not
        /// the object, and in the end there is one.
        #[test]
        fn a_crash_leaves_nothing_or_a_part_or_the_whole(
            length in 0usize..5_000,
            piece in 1usize..2_000,
            with_md5: bool,
            crashes in prop::collection::vec(0usize..12, 0..6),
        ) {
            let folder = tempfile::tempdir().unwrap();
            let media = folder.path().join(FOLDER);
            fs::create_dir(&media).unwrap();
            let bytes: Vec<u8> = (0..length).map(|i| (i * 31 % 251) as u8).collect();
            let object = object(&bytes, with_md5);
            let found = || find(folder.path(), &object.bucket, &object.key, &object.content);
            for crash_at in crashes.into_iter().map(Some).chain([None]) {
                let mut steps = 0;
                let result = copy(&media, &object, &bytes, piece, &mut |_| {
                    steps += 1;
                    if Some(steps) == crash_at { Err(io::Error::other("crash")) } else { Ok(()) }
                });
                if let Some(path) = found() {
                    prop_assert_eq!(fs::read(path).unwrap(), bytes.clone());
                }
                if result.is_ok() {
                    prop_assert!(found().is_some());
                }
                shelf::tidy(&media).unwrap();
                prop_assert_eq!(found().is_some(), shelf::look(&media).unwrap().iter().any(|held| held.whole));
            }
            prop_assert!(found().is_some());
        }
    }
}
