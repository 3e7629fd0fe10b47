//! Boxes of ISO base media files (ISO/IEC 14496-12, 4.2) and the tables in them: bytes in, numbers out. Nothing is
//! copied and nothing is read past an end.

use bytes::{Buf, Bytes};

/// Four characters that name a box.
pub(super) type Kind = [u8; 4];

/// Why a file is left to FFmpeg, in words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refused(pub(super) &'static str);

/// Most boxes in one box; real files have some dozens.
const MOST_BOXES: usize = 1024;

/// The boxes in a box's body, in order.
pub(super) fn children(body: &Bytes) -> impl Iterator<Item = Result<(Kind, Bytes), Refused>> + use<> {
    let mut rest = body.clone();
    let next = move || -> Option<Result<(Kind, Bytes), Refused>> {
        // Some writers end a box with a few zeros.
        if rest.len() < 8 {
            return None;
        }
        let child = first(&mut rest);
        if child.is_err() {
            rest.clear();
        }
        Some(child)
    };
    std::iter::from_fn(next).take(MOST_BOXES)
}

fn first(rest: &mut Bytes) -> Result<(Kind, Bytes), Refused> {
    let cut = Refused("a box is longer than the one it is in");
    let (size, kind) = (word(rest, 0).ok_or(cut)?, kind(rest));
    let (head, size) = match size {
        0 => (8, rest.len()),
        1 => (16, usize::try_from(long(rest, 8).ok_or(cut)?).map_err(|_| cut)?),
        size => (8, size as usize),
    };
    if size < head || size > rest.len() {
        return Err(cut);
    }
    let mut whole = rest.split_to(size);
    whole.advance(head);
    Ok((kind, whole))
}

fn kind(bytes: &[u8]) -> Kind {
    bytes.get(4..8).and_then(|kind| kind.try_into().ok()).unwrap_or_default()
}

/// The only box of this kind; `None` without one.
///
/// # Errors
/// When there are several, or the boxes cannot be read.
pub(super) fn only(body: &Bytes, wanted: &Kind) -> Result<Option<Bytes>, Refused> {
    let mut found = None;
    for child in children(body) {
        let (kind, body) = child?;
        if kind == *wanted && found.replace(body).is_some() {
            return Err(Refused("a box that must be alone is there twice"));
        }
    }
    Ok(found)
}

/// The only box of this kind.
///
/// # Errors
/// When it is missing as well.
pub(super) fn need(body: &Bytes, wanted: &Kind) -> Result<Bytes, Refused> {
    only(body, wanted)?.ok_or(Refused("a box is missing"))
}

/// A big-endian number of 32 bits at this place.
pub(super) fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_be_bytes(bytes.try_into().ok()?))
}

/// A big-endian number of 64 bits at this place.
pub(super) fn long(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from(word(bytes, at)?) << 32 | u64::from(word(bytes, at.checked_add(4)?)?))
}

/// A table: version and flags, a count, and as many entries of `N` words. It stays as it is in the file.
#[derive(Debug, Clone, Default)]
pub(super) struct Table<const N: usize> {
    entries: Bytes,
}

impl<const N: usize> Table<N> {
    /// Reads a table whose count is behind so many words.
    ///
    /// # Errors
    /// When it is shorter than it says.
    pub(super) fn read(body: &Bytes, count_at: usize) -> Result<Self, Refused> {
        let cut = Refused("a table is shorter than it says");
        let count = word(body, count_at).ok_or(cut)? as usize;
        let from = count_at + 4;
        let length = count.checked_mul(N * 4).ok_or(cut)?;
        if body.len() - from < length {
            return Err(cut);
        }
        Ok(Self { entries: body.slice(from..from + length) })
    }

    /// How many entries there are.
    pub(super) fn len(&self) -> usize {
        self.entries.len() / (N * 4)
    }

    /// The entry with this index, from 0.
    pub(super) fn get(&self, index: usize) -> Option<[u32; N]> {
        let at = index.checked_mul(N * 4)?;
        let entry = self.entries.get(at..at.checked_add(N * 4)?)?;
        let mut words = [0; N];
        for (word, bytes) in words.iter_mut().zip(entry.chunks_exact(4)) {
            *word = u32::from_be_bytes(bytes.try_into().ok()?);
        }
        Some(words)
    }

    /// All entries.
    pub(super) fn iter(&self) -> impl Iterator<Item = [u32; N]> + '_ {
        (0..self.len()).map_while(|index| self.get(index))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn made(kind: &Kind, body: &[u8]) -> Vec<u8> {
        [&(body.len() as u32 + 8).to_be_bytes()[..], kind, body].concat()
    }

    #[test]
    fn boxes_come_in_order_and_one_that_is_cut_is_refused() {
        let body = Bytes::from([made(b"free", b""), made(b"stts", b"abc"), vec![0; 3]].concat());
        let kinds: Vec<_> = children(&body).map(|child| child.unwrap()).collect();
        assert_eq!(kinds, [(*b"free", Bytes::new()), (*b"stts", Bytes::from_static(b"abc"))]);
        let cut = body.slice(..body.len() - 6);
        assert!(children(&cut).any(|child| child.is_err()));
        assert_eq!(need(&body, b"stts"), Ok(Bytes::from_static(b"abc")));
        assert!(need(&body, b"stsz").is_err() && only(&body, b"stsz") == Ok(None));
    }

    #[test]
    fn a_table_is_as_long_as_it_says_or_refused() {
        let body =
            Bytes::from_static(&[0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4]);
        let table = Table::<2>::read(&body, 4).unwrap();
        assert_eq!((table.len(), table.get(1), table.get(2)), (2, Some([3, 4]), None));
        assert!(Table::<3>::read(&body, 4).is_err());
        assert!(Table::<2>::read(&body.slice(..7), 4).is_err());
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), at in 0..20usize) {
            let body = Bytes::from(bytes);
            let _ = children(&body).count();
            let _ = Table::<1>::read(&body, at);
            let _ = Table::<2>::read(&body, at).map(|table| table.iter().count());
        }
    }
}
