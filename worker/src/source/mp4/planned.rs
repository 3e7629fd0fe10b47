//! What stands before a sample in its tag.

use super::samples::Sample;
use crate::source::flv::Kind;

/// A sample that is about to be a tag.
#[derive(Debug, Clone, Copy)]
pub(super) struct Planned {
    pub(super) kind: Kind,
    pub(super) sample: Sample,
    /// Decoding time, ms of the item.
    pub(super) dts: i64,
    /// Presentation minus decoding time, ms.
    pub(super) cts: u32,
}

impl Planned {
    /// Bytes of the tag before those of the sample.
    pub(super) fn head(&self) -> usize {
        if self.kind == Kind::Video { 5 } else { 2 }
    }

    /// Bytes of the tag.
    pub(super) fn length(&self) -> usize {
        self.head() + self.sample.size as usize
    }

    /// Writes them.
    pub(super) fn write_head(&self, body: &mut [u8]) {
        let [_, composition @ ..] = self.cts.to_be_bytes();
        let flag = if self.sample.sync { 0x17 } else { 0x27 };
        match self.kind {
            Kind::Video => {
                body[..2].copy_from_slice(&[flag, 1]);
                body[2..5].copy_from_slice(&composition);
            }
            _ => body[..2].copy_from_slice(&[0xAF, 1]),
        }
    }
}
