//! Parameter sets in the stream itself (ITU-T H.264, 7.3.2.1 and 7.3.2.2). Receivers look for them in the sequence
//! header only, so a picture that brings others than the header has makes another header. Such are the pictures of
//! `avc3` files, and of transport streams that were put together from several.

use bytes::Bytes;

/// Longest parameter set that is believed, bytes.
const LONGEST: usize = 1024;
/// Profiles whose configuration record says more (ISO/IEC 14496-15, 5.3.3.1.2); 4:2:0 and 8 bit for all of them,
/// because nothing else is copied.
const WITH_MORE: [u8; 4] = [100, 110, 122, 144];
const MORE: [u8; 4] = [0xFD, 0xF8, 0xF8, 0x00];

/// NAL units in AVCC form, each with its length before it; it ends where a length cannot be right.
pub fn nal_units(mut bytes: &[u8], length_size: usize) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (length, rest) = bytes.split_at_checked(length_size)?;
        let length = length.iter().fold(0usize, |n, &byte| n << 8 | usize::from(byte));
        let unit = rest.get(..length).filter(|unit| !unit.is_empty())?;
        bytes = &rest[length..];
        Some(unit)
    })
}

/// Type of the first slice in what a picture begins with, in AVCC form with lengths of four bytes (ITU-T H.264, table
/// 7-1); `None` where it does not reach that far.
pub fn first_slice(mut picture: &[u8]) -> Option<u8> {
    loop {
        let (length, rest) = picture.split_first_chunk()?;
        let kind = rest.first()? & 0x1F;
        if (1..=5).contains(&kind) {
            return Some(kind);
        }
        picture = rest.get(u32::from_be_bytes(*length) as usize..).filter(|_| *length != [0; 4])?;
    }
}

/// The FLV sequence header for a picture that brings parameter sets of its own; `None` where it brings none, or none
/// that `present` has not.
pub fn header_for(picture: &[u8], length_size: usize, present: &[u8]) -> Option<Bytes> {
    let of_type = |wanted: u8| -> Vec<&[u8]> {
        let units = nal_units(picture, length_size);
        units.filter(|unit| unit[0] & 0x1F == wanted && (4..=LONGEST).contains(&unit.len())).collect()
    };
    let (sequence, picture) = (of_type(7), of_type(8));
    let first = *sequence.first()?;
    let known = |set: &&[u8]| present.windows(set.len()).any(|part| part == *set);
    if picture.is_empty() || sequence.len() > 31 || sequence.iter().chain(&picture).all(known) {
        return None;
    }
    let length_code = 0xFC | u8::try_from(length_size - 1).ok()?;
    let mut header = vec![0x17, 0, 0, 0, 0, 1, first[1], first[2], first[3], length_code];
    header.push(0xE0 | u8::try_from(sequence.len()).ok()?);
    append(&mut header, &sequence);
    header.push(u8::try_from(picture.len()).ok()?);
    append(&mut header, &picture);
    if WITH_MORE.contains(&first[1]) {
        header.extend(MORE);
    }
    Some(header.into())
}

fn append(header: &mut Vec<u8>, sets: &[&[u8]]) {
    for set in sets {
        // No longer than LONGEST.
        header.extend((set.len() as u16).to_be_bytes());
        header.extend_from_slice(set);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SEQUENCE: [u8; 5] = [0x67, 100, 0, 13, 0xAC];
    const PICTURE: [u8; 4] = [0x68, 0xEF, 0x3C, 0xB0];

    fn access_unit(units: &[&[u8]]) -> Vec<u8> {
        units.iter().flat_map(|unit| [&(unit.len() as u32).to_be_bytes(), *unit].concat()).collect()
    }

    #[test]
    fn sets_that_the_header_lacks_make_another() {
        let unit = access_unit(&[&SEQUENCE, &PICTURE, &[0x65, 0x88]]);
        let empty = [0x17, 0, 0, 0, 0, 1, 100, 0, 13, 0xFF, 0xE0, 0];
        let header = header_for(&unit, 4, &empty).unwrap();
        let wanted = [
            &[0x17, 0, 0, 0, 0, 1, 100, 0, 13, 0xFF, 0xE1, 0, 5][..],
            &SEQUENCE,
            &[1, 0, 4],
            &PICTURE,
            &[0xFD, 0xF8, 0xF8, 0],
        ];
        assert_eq!(header[..], wanted.concat());
        assert_eq!(header_for(&unit, 4, &header), None, "they are known now");
        assert_eq!(header_for(&access_unit(&[&[0x65, 0x88]]), 4, &empty), None, "there are none");
        assert_eq!(header_for(&access_unit(&[&SEQUENCE, &[0x65, 0x88]]), 4, &empty), None, "half of them");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..200),
            size in 1usize..=4,
            present in prop::collection::vec(any::<u8>(), 0..40),
        ) {
            let _ = header_for(&bytes, size, &present);
            prop_assert!(nal_units(&bytes, size).map(<[u8]>::len).sum::<usize>() <= bytes.len());
        }
    }
}
