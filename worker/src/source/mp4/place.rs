//! Where the bytes of a media file are: in a file of this machine, or in hand as far as they came from a bucket.

use crate::source::stream::Stream;
use bytes::{Bytes, BytesMut};
use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use storage::StorageError;

/// Read at once of a file, for each track.
const WINDOW: usize = 64 * 1024;
/// Parts of an object that are kept: of its head, its tables, and for each track where it is read.
const PARTS: usize = 4;

/// The bytes of a media file.
#[derive(Debug)]
pub(super) enum Place {
    /// A file, and its length when it was opened.
    File(File, u64),
    /// An object of a bucket.
    Object(Held),
}

impl Place {
    /// Length of the whole, bytes.
    pub(super) fn size(&self) -> u64 {
        match self {
            Self::File(_, size) => *size,
            Self::Object(held) => held.size,
        }
    }

    /// These bytes, which must be there.
    ///
    /// # Errors
    /// When they cannot be read, or are not in hand yet.
    pub(super) fn whole(&mut self, at: u64, length: usize) -> io::Result<Bytes> {
        match self {
            Self::File(file, _) => {
                let mut bytes = BytesMut::zeroed(length);
                file.read_exact_at(&mut bytes, at)?;
                Ok(bytes.freeze())
            }
            Self::Object(held) => held.find(at, length).ok_or_else(|| io::ErrorKind::WouldBlock.into()),
        }
    }
}

/// What is in hand of an object. Whoever misses something notes it here and is asked again once it has come.
#[derive(Debug)]
pub(super) struct Held {
    size: u64,
    /// Each with its place; the one that was used last is in front.
    parts: VecDeque<(u64, Bytes)>,
    missing: Option<Range<u64>>,
}

impl Held {
    /// Nothing yet of an object of so many bytes.
    pub(super) fn new(size: u64) -> Self {
        Self { size, parts: VecDeque::new(), missing: None }
    }

    /// What was looked for in vain since the last call.
    pub(super) fn missing(&mut self) -> Option<Range<u64>> {
        self.missing.take()
    }

    /// Whether something was.
    pub(super) fn misses(&self) -> bool {
        self.missing.is_some()
    }

    /// How much is in hand, bytes.
    pub(super) fn in_hand(&self) -> usize {
        self.parts.iter().map(|(_, bytes)| bytes.len()).sum()
    }

    /// What is in hand from this place on; it may be nothing.
    fn from(&self, at: u64) -> Bytes {
        let within = |(from, bytes): &(u64, Bytes)| {
            let skip = usize::try_from(at.checked_sub(*from)?).ok()?;
            (skip < bytes.len()).then(|| bytes.slice(skip..))
        };
        self.parts.iter().find_map(within).unwrap_or_default()
    }

    /// A part has come.
    fn put(&mut self, at: u64, bytes: Bytes) {
        self.parts.truncate(PARTS - 1);
        self.parts.push_front((at, bytes));
    }

    /// Gets what is missing, with what follows it.
    ///
    /// # Errors
    /// When it cannot be had.
    pub(super) async fn fetch(
        &mut self,
        missing: Range<u64>,
        stream: &mut Stream,
    ) -> Result<(), StorageError> {
        // What is in hand of a sample that was cut is kept, so that the stream is read in one go.
        let begun = self.from(missing.start);
        let from = missing.start + begun.len() as u64;
        let rest = stream.read(from, usize::try_from(missing.end - from).unwrap_or(usize::MAX)).await?;
        let mut whole = BytesMut::with_capacity(begun.len() + rest.len());
        whole.extend_from_slice(&begun);
        whole.extend_from_slice(&rest);
        self.put(missing.start, whole.freeze());
        Ok(())
    }

    fn find(&mut self, at: u64, length: usize) -> Option<Bytes> {
        let found = self.parts.iter().position(|(from, bytes)| {
            let skip = at.checked_sub(*from).and_then(|skip| usize::try_from(skip).ok());
            skip.and_then(|skip| skip.checked_add(length)).is_some_and(|end| end <= bytes.len())
        });
        let Some(part) = found.and_then(|index| self.parts.remove(index)) else {
            let end = at.saturating_add(length as u64);
            // What is behind the end never comes.
            self.missing = (end <= self.size).then_some(at..end);
            return None;
        };
        let skip = usize::try_from(at - part.0).ok()?;
        let bytes = part.1.slice(skip..skip + length);
        self.parts.push_front(part);
        Some(bytes)
    }
}

/// A part of a file in memory, for one track.
#[derive(Debug, Default)]
pub(super) struct Window {
    at: u64,
    bytes: Vec<u8>,
    /// The sample that was read last of an object.
    sample: Bytes,
}

impl Window {
    /// These bytes. What is read ahead of a file serves the samples that follow.
    pub(super) fn read(&mut self, place: &mut Place, offset: u64, size: u32) -> io::Result<&[u8]> {
        let size = size as usize;
        let file = match place {
            Place::File(file, _) => file,
            Place::Object(_) => {
                self.sample = place.whole(offset, size)?;
                return Ok(&self.sample);
            }
        };
        let within = offset.checked_sub(self.at).and_then(|from| usize::try_from(from).ok());
        let within = within.filter(|from| from.checked_add(size).is_some_and(|end| end <= self.bytes.len()));
        let from = match within {
            Some(from) => from,
            None => {
                self.fill(file, offset, size)?;
                0
            }
        };
        self.bytes.get(from..from + size).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    fn fill(&mut self, file: &File, offset: u64, size: usize) -> io::Result<()> {
        self.bytes.resize(size.max(WINDOW), 0);
        self.bytes.shrink_to(WINDOW.max(size));
        let mut filled = 0;
        while filled < self.bytes.len() {
            match file.read_at(&mut self.bytes[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(n) => filled += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.bytes.clear();
                    return Err(error);
                }
            }
        }
        self.bytes.truncate(filled);
        self.at = offset;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_missing_is_named_and_what_came_is_found() {
        let mut held = Held::new(100);
        assert_eq!((held.find(10, 20), held.missing()), (None, Some(10..30)));
        assert_eq!((held.find(90, 20), held.missing()), (None, None), "behind the end");
        held.put(10, Bytes::from_static(&[7; 15]));
        assert_eq!(held.find(12, 3), Some(Bytes::from_static(&[7; 3])));
        assert_eq!((held.find(20, 10), held.missing()), (None, Some(20..30)));
        assert_eq!((held.from(20).len(), held.from(25).len()), (5, 0));
    }

    proptest! {
        #[test]
        fn it_is_bounded_and_never_gives_other_bytes(
            parts in prop::collection::vec((0u64..300, 0usize..60), 0..20), at in 0u64..300, length in 0usize..80,
        ) {
            let whole: Vec<u8> = (0..=255).chain(0..=255).collect();
            let mut held = Held::new(256);
            for (at, length) in parts {
                held.put(at, Bytes::copy_from_slice(&whole[at as usize..at as usize + length]));
                prop_assert!(held.parts.len() <= PARTS);
            }
            if let Some(found) = held.find(at, length) {
                prop_assert_eq!(&found[..], &whole[at as usize..at as usize + length]);
            }
        }
    }
}
