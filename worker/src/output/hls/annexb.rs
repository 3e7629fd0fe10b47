//! H.264 as MPEG-TS wants it: NAL units after start codes, an access unit delimiter in front, the parameter
//! sets before every IDR. No timing here.

const START_CODE: [u8; 4] = [0, 0, 0, 1];
/// Delimiter with `primary_pic_type` 7, any slice type (H.264, 7.3.2.4).
const DELIMITER: [u8; 6] = [0, 0, 0, 1, 9, 0xF0];
const DELIMITER_TYPE: u8 = 9;
/// Bytes of an FLV video tag before the NAL units.
const TAG_HEADER: usize = 5;

/// What an AVCDecoderConfigurationRecord says (ISO 14496-15, 5.2.4.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ParameterSets {
    /// SPS and PPS, each after a start code.
    annex_b: Vec<u8>,
    /// Bytes in front of each NAL unit that say its length, 1 to 4.
    length_size: usize,
}

impl ParameterSets {
    /// Reads an FLV sequence header tag body; `None` when it is cut short.
    pub(super) fn read(header: &[u8]) -> Option<Self> {
        let record = header.get(TAG_HEADER..)?;
        let length_size = usize::from(record.get(4)? & 3) + 1;
        let mut annex_b = Vec::new();
        let count = record.get(5)? & 0x1F;
        let rest = copy_sets(record.get(6..)?, count, &mut annex_b)?;
        copy_sets(rest.get(1..)?, *rest.first()?, &mut annex_b)?;
        Some(Self { annex_b, length_size })
    }

    /// Appends the access unit of an FLV video tag body to `unit`. What is cut short is left out.
    pub(super) fn append(&self, body: &[u8], idr: bool, unit: &mut Vec<u8>) {
        unit.extend_from_slice(&DELIMITER);
        if idr {
            unit.extend_from_slice(&self.annex_b);
        }
        let mut rest = body.get(TAG_HEADER..).unwrap_or_default();
        while let Some((nal, after)) = self.split_nal(rest) {
            rest = after;
            if nal.first().is_some_and(|byte| byte & 0x1F != DELIMITER_TYPE) {
                unit.extend_from_slice(&START_CODE);
                unit.extend_from_slice(nal);
            }
        }
    }

    fn split_nal<'a>(&self, bytes: &'a [u8]) -> Option<(&'a [u8], &'a [u8])> {
        let (length, rest) = bytes.split_at_checked(self.length_size)?;
        let length = length.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
        rest.split_at_checked(length)
    }
}

/// Copies `count` sets, each behind its 16-bit length; returns what follows them.
fn copy_sets<'a>(mut bytes: &'a [u8], count: u8, out: &mut Vec<u8>) -> Option<&'a [u8]> {
    for _ in 0..count {
        let (length, rest) = bytes.split_first_chunk::<2>()?;
        let (set, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
        out.extend_from_slice(&START_CODE);
        out.extend_from_slice(set);
        bytes = rest;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HEADER: &[u8] =
        &[0x17, 0, 0, 0, 0, 1, 0x64, 0, 0x1F, 0xFF, 0xE1, 0, 3, 0x67, 0xAA, 0xBB, 1, 0, 2, 0x68, 0xCC];

    #[test]
    fn an_idr_carries_delimiter_and_parameter_sets() {
        let sets = ParameterSets::read(HEADER).unwrap();
        let body = [0x17, 1, 0, 0, 0, 0, 0, 0, 2, 9, 0x10, 0, 0, 0, 2, 0x65, 0x11];
        let mut unit = Vec::new();
        sets.append(&body, true, &mut unit);
        let expected = [
            &DELIMITER[..],
            &[0, 0, 0, 1, 0x67, 0xAA, 0xBB],
            &[0, 0, 0, 1, 0x68, 0xCC],
            &[0, 0, 0, 1, 0x65, 0x11],
        ];
        assert_eq!(unit, expected.concat());
    }

    #[test]
    fn a_nal_unit_that_is_cut_short_is_left_out() {
        let sets = ParameterSets::read(HEADER).unwrap();
        let mut unit = Vec::new();
        sets.append(&[0x27, 1, 0, 0, 0, 0, 0, 0, 9, 0x41], false, &mut unit);
        assert_eq!(unit, DELIMITER);
    }

    #[test]
    fn a_header_that_is_cut_short_is_refused() {
        for length in 0..HEADER.len() {
            assert_eq!(ParameterSets::read(&HEADER[..length]), None, "{length} bytes");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_safe(header: Vec<u8>, body: Vec<u8>) {
            let mut unit = Vec::new();
            if let Some(sets) = ParameterSets::read(&header) {
                sets.append(&body, true, &mut unit);
            }
            prop_assert!(unit.len() <= DELIMITER.len() + 4 * (header.len() + body.len()));
        }
    }
}
