//! Reading FLV (Adobe FLV 10.1, annex E) from a pipe, tag by tag, without ever holding more than one tag too much.

use bytes::{Buf, BytesMut};

const FILE_HEADER: usize = 9;
const TAG_HEADER: usize = 11;
const PREVIOUS_SIZE: usize = 4;

/// What a tag carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Type 8.
    Audio,
    /// Type 9.
    Video,
    /// Type 18 and anything else.
    Other,
}

/// A tag as it stands in the stream.
#[derive(Debug)]
pub struct RawTag {
    /// What it carries.
    pub kind: Kind,
    /// Its time in ms, sign-extended from 32 bits.
    pub at_ms: i64,
    /// Its body.
    pub body: BytesMut,
    /// For an IDR picture: what follows it, where that is known although it has not been read.
    pub next_idr: Option<NextIdr>,
}

/// What follows an IDR picture. Times as those of the tags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NextIdr {
    /// The next one is decoded at this ms, or so far away that it does not matter.
    At(i64),
    /// There is none any more, and this is the time of the last picture.
    None {
        /// ms.
        last: i64,
    },
}

impl NextIdr {
    /// The same, so much later.
    #[must_use]
    pub fn later(self, ms: i64) -> Self {
        match self {
            Self::At(at) => Self::At(at + ms),
            Self::None { last } => Self::None { last: last + ms },
        }
    }
}

/// The stream is not FLV.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("FFmpeg's output is not FLV: {0}")]
pub struct NotFlv(&'static str);

/// Cuts tags from a growing buffer.
#[derive(Debug, Default)]
pub struct Cutter {
    begun: bool,
}

impl Cutter {
    /// Takes the next whole tag out of `buffer`; `None` asks for more bytes.
    ///
    /// # Errors
    /// [`NotFlv`]; nothing more can be read then.
    pub fn next(&mut self, buffer: &mut BytesMut) -> Result<Option<RawTag>, NotFlv> {
        if !self.begun {
            if buffer.len() < FILE_HEADER + PREVIOUS_SIZE {
                return Ok(None);
            }
            if &buffer[..3] != b"FLV" {
                return Err(NotFlv("no signature"));
            }
            let header = u32::from_be_bytes([buffer[5], buffer[6], buffer[7], buffer[8]]) as usize;
            if header != FILE_HEADER {
                return Err(NotFlv("unknown header length"));
            }
            buffer.advance(FILE_HEADER + PREVIOUS_SIZE);
            self.begun = true;
        }
        if buffer.len() < TAG_HEADER {
            return Ok(None);
        }
        // Looked at before the rest is waited for, so that garbage is not gathered up to the 16 MB that a tag may have.
        let kind = match buffer[0] & 0x1F {
            8 => Kind::Audio,
            9 => Kind::Video,
            18 => Kind::Other,
            _ => return Err(NotFlv("unknown tag type")),
        };
        let size = u32::from_be_bytes([0, buffer[1], buffer[2], buffer[3]]) as usize;
        let whole = TAG_HEADER + size + PREVIOUS_SIZE;
        if buffer.len() < whole {
            return Ok(None);
        }
        let at_ms = i64::from(i32::from_be_bytes([buffer[7], buffer[4], buffer[5], buffer[6]]));
        let mut tag = buffer.split_to(whole);
        tag.advance(TAG_HEADER);
        tag.truncate(size);
        Ok(Some(RawTag { kind, at_ms, body: tag, next_idr: None }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tag(kind: u8, at: i32, body: &[u8]) -> Vec<u8> {
        let size = (body.len() as u32).to_be_bytes();
        let at = at.to_be_bytes();
        let mut bytes = vec![kind, size[1], size[2], size[3], at[1], at[2], at[3], at[0], 0, 0, 0];
        bytes.extend_from_slice(body);
        bytes.extend_from_slice(&(body.len() as u32 + 11).to_be_bytes());
        bytes
    }

    fn header() -> Vec<u8> {
        b"FLV\x01\x05\0\0\0\x09\0\0\0\0".to_vec()
    }

    #[test]
    fn tags_come_out_whole_however_the_bytes_arrive() {
        let stream = [header(), tag(9, 10_000, b"picture"), tag(8, -20, b""), tag(18, 0, b"meta")].concat();
        for piece in [1, 2, 7, 4096] {
            let (mut cutter, mut buffer, mut found) = (Cutter::default(), BytesMut::new(), Vec::new());
            for chunk in stream.chunks(piece) {
                buffer.extend_from_slice(chunk);
                while let Some(tag) = cutter.next(&mut buffer).unwrap() {
                    found.push((tag.kind, tag.at_ms, tag.body.len()));
                }
            }
            assert_eq!(found, [(Kind::Video, 10_000, 7), (Kind::Audio, -20, 0), (Kind::Other, 0, 4)]);
        }
    }

    #[test]
    fn no_more_than_one_tag_is_gathered_and_garbage_is_not_waited_for() {
        let (mut cutter, mut buffer) = (Cutter::default(), BytesMut::from(&header()[..]));
        buffer.extend_from_slice(&[9, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0, 0, 0, 0]);
        let mut most = 0;
        for _ in 0..1024 {
            buffer.extend_from_slice(&[0; 64 * 1024]);
            while let Ok(Some(_)) = cutter.next(&mut buffer) {}
            most = most.max(buffer.len());
            if cutter.next(&mut buffer).is_err() {
                break;
            }
        }
        assert!(most <= (16 << 20) + 128 * 1024, "{most} bytes");
        assert_eq!(cutter.next(&mut buffer).unwrap_err(), NotFlv("unknown tag type"), "zeros are no tag");
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..600), with_header in any::<bool>()) {
            let mut buffer = BytesMut::new();
            if with_header {
                buffer.extend_from_slice(&header());
            }
            buffer.extend_from_slice(&bytes);
            let mut cutter = Cutter::default();
            while let Ok(Some(_)) = cutter.next(&mut buffer) {}
        }
    }
}
