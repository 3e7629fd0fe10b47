//! AAC as MPEG-TS wants it: every raw frame behind an ADTS header (ISO 14496-3, 1.A.2.2).

/// Bytes of an FLV audio tag before the raw frame.
const TAG_HEADER: usize = 2;
/// An ADTS header without a checksum.
const HEADER: usize = 7;
/// Frames are counted in 13 bits.
const LONGEST: usize = 0x1FFF;
/// Samples per frame.
const FRAME_SAMPLES: i64 = 1024;

const RATES: [u32; 13] =
    [96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000, 7_350];

/// What an AudioSpecificConfig says, as far as ADTS can say it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Adts {
    /// MPEG-4 audio object type minus one, 0 to 3.
    profile: u8,
    rate_index: u8,
    channels: u8,
}

impl Adts {
    /// Reads an FLV sequence header tag body; `None` when ADTS has no word for it.
    pub(super) fn read(header: &[u8]) -> Option<Self> {
        let mut bits = Bits { bytes: header.get(TAG_HEADER..)?, at: 0 };
        let mut object = bits.take(5)?;
        let rate_index = read_rate(&mut bits)?;
        let channels = bits.take(4)?;
        // Explicit SBR or PS: ADTS names the core, and decoders find the extension by themselves.
        if object == 5 || object == 29 {
            read_rate(&mut bits)?;
            object = bits.take(5)?;
        }
        let legal = (1..=4).contains(&object) && (1..=7).contains(&channels);
        legal.then(|| Self { profile: object as u8 - 1, rate_index, channels: channels as u8 })
    }

    /// Appends the frame of an FLV audio tag body to `out`; false when there is none or it is too long.
    pub(super) fn append(&self, body: &[u8], out: &mut Vec<u8>) -> bool {
        let raw = body.get(TAG_HEADER..).unwrap_or_default();
        let length = raw.len() + HEADER;
        if raw.is_empty() || length > LONGEST {
            return false;
        }
        out.extend_from_slice(&[
            0xFF,
            0xF1,
            self.profile << 6 | self.rate_index << 2 | self.channels >> 2,
            (self.channels & 3) << 6 | (length >> 11) as u8,
            (length >> 3) as u8,
            (length << 5) as u8 | 0x1F,
            0xFC,
        ]);
        out.extend_from_slice(raw);
        true
    }

    /// Length of `frames` frames in ms, rounded down.
    pub(super) fn duration_ms(&self, frames: usize) -> i64 {
        let rate = RATES.get(usize::from(self.rate_index)).copied().unwrap_or(48_000);
        frames as i64 * FRAME_SAMPLES * 1000 / i64::from(rate)
    }
}

fn read_rate(bits: &mut Bits) -> Option<u8> {
    let index = match bits.take(4)? {
        15 => {
            let rate = bits.take(24)?;
            RATES.iter().position(|known| *known == rate)?
        }
        index => index as usize,
    };
    (index < RATES.len()).then_some(index as u8)
}

struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Bits<'_> {
    fn take(&mut self, count: usize) -> Option<u32> {
        let mut value = 0;
        for _ in 0..count {
            let byte = self.bytes.get(self.at / 8)?;
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
    fn aac_lc_48_khz_stereo() {
        let adts = Adts::read(&[0xAF, 0, 0x11, 0x90]).unwrap();
        assert_eq!(adts, Adts { profile: 1, rate_index: 3, channels: 2 });
        let mut out = Vec::new();
        assert!(adts.append(&[0xAF, 1, 0x21, 0, 0x49], &mut out));
        assert_eq!(out, [0xFF, 0xF1, 0x4C, 0x80, 0x01, 0x5F, 0xFC, 0x21, 0, 0x49]);
    }

    #[test]
    fn explicit_sbr_names_its_core() {
        // Object type 5, 24 kHz, stereo, extended to 48 kHz, core object type 2.
        let adts = Adts::read(&[0xAF, 0, 0x2B, 0x11, 0x88, 0x00]).unwrap();
        assert_eq!(adts, Adts { profile: 1, rate_index: 6, channels: 2 });
    }

    #[test]
    fn a_frame_too_long_for_its_header_is_refused() {
        let adts = Adts::read(&[0xAF, 0, 0x11, 0x90]).unwrap();
        let mut out = Vec::new();
        assert!(!adts.append(&vec![0; 9000], &mut out));
        assert!(!adts.append(&[0xAF, 1], &mut out));
        assert!(out.is_empty());
    }

    proptest! {
        #[test]
        fn any_header_is_safe(header: Vec<u8>) {
            if let Some(adts) = Adts::read(&header) {
                prop_assert!(adts.duration_ms(1) > 0);
            }
        }
    }
}
