//! What an AudioSpecificConfig says about its AAC (ISO/IEC 14496-3, 1.6.2.1). Only what decides about copying.

const AAC_LC: u32 = 2;
const SBR: u32 = 5;
const PARAMETRIC_STEREO: u32 = 29;
/// Announces an extension that old decoders pass over.
const SYNC_EXTENSION: u32 = 0x2B7;

/// Why AAC of this configuration cannot be sent as AAC-LC, although FFmpeg may have called it so. One that ends too
/// early says nothing.
pub fn problem(config: &[u8]) -> Option<String> {
    match kind(config)? {
        Kind::Plain => None,
        Kind::BandReplication => Some("audio is HE-AAC, not AAC-LC".to_owned()),
        Kind::Other => Some("audio is another AAC than AAC-LC".to_owned()),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// AAC-LC with frames of 1024 samples.
    Plain,
    /// With spectral band replication: HE-AAC.
    BandReplication,
    /// Frames of 960 samples, or no AAC-LC at all.
    Other,
}

fn kind(config: &[u8]) -> Option<Kind> {
    let mut bits = Bits::new(config);
    match object_type(&mut bits)? {
        SBR | PARAMETRIC_STEREO => return Some(Kind::BandReplication),
        AAC_LC => {}
        _ => return Some(Kind::Other),
    }
    skip_rate(&mut bits)?;
    let channels = bits.take(4)?;
    // frameLengthFlag, dependsOnCoreCoder, extensionFlag.
    if bits.take(3)? != 0 {
        return Some(Kind::Other);
    }
    // Channels by a list of their own: what follows it is not looked for.
    let replicated = channels != 0
        && bits.take(11) == Some(SYNC_EXTENSION)
        && object_type(&mut bits) == Some(SBR)
        && bits.take(1) == Some(1);
    Some(if replicated { Kind::BandReplication } else { Kind::Plain })
}

fn object_type(bits: &mut Bits<'_>) -> Option<u32> {
    match bits.take(5)? {
        31 => Some(32 + bits.take(6)?),
        kind => Some(kind),
    }
}

fn skip_rate(bits: &mut Bits<'_>) -> Option<()> {
    if bits.take(4)? == 15 {
        bits.take(24)?;
    }
    Some(())
}

/// Bits from the highest of the first byte on.
pub(super) struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Bits<'a> {
    /// From the first on.
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// The next bits, 32 at most, as a number; `None` behind the end.
    pub(super) fn take(&mut self, count: usize) -> Option<u32> {
        let mut value = 0;
        for _ in 0..count {
            let byte = *self.bytes.get(self.at / 8)?;
            value = value << 1 | u32::from(byte >> (7 - self.at % 8) & 1);
            self.at += 1;
        }
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn band_replication_is_found_however_it_is_said() {
        let cases: [(&[u8], Kind); 7] = [
            (&[0x11, 0x90], Kind::Plain),
            (&[0x11, 0x90, 0x56, 0xE5, 0x00], Kind::Plain),
            (&[0x13, 0x10, 0x56, 0xE5, 0x98], Kind::BandReplication),
            (&[0x2B, 0x11, 0x88, 0x00], Kind::BandReplication),
            (&[0xEB, 0x09, 0x88, 0x00], Kind::BandReplication),
            (&[0x11, 0x94], Kind::Other),
            (&[0x0A, 0x10], Kind::Other),
        ];
        for (config, kind) in cases {
            assert_eq!(super::kind(config), Some(kind), "{config:02x?}");
        }
        assert_eq!(super::kind(&[0x11]), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..12)) {
            let _ = problem(&bytes);
        }
    }
}
