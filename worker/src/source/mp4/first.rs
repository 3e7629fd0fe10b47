//! The first picture, because it may say otherwise than the tables: it must be an IDR picture that brings nothing new.

use super::boxes::{Refused, word};
use super::describe::Picture;
use super::parameter_sets as sets;
use super::place::Place;
use super::samples::{Cursor, Sample};
use super::top::unreadable;
use super::track::Track;
use bytes::Bytes;
use std::sync::Arc;

/// Read of a picture until its first slice begins, bytes.
const LOOK: u32 = 64 * 1024;
/// A message that gives its pictures another transfer curve (ITU-T H.264, D.2.40).
const OTHER_TRANSFER: u32 = 147;

/// Looks at the first samples.
///
/// # Errors
/// What about them is unusual.
pub(super) fn check(
    place: &mut Place,
    video: &Track,
    audio: Option<&Track>,
    picture: &Picture,
) -> Result<(), Refused> {
    if let Some(audio) = audio {
        first_of(audio, place)?;
    }
    let sample = first_of(video, place)?;
    let bytes = place.whole(sample.offset, sample.size.min(LOOK) as usize).map_err(unreadable)?;
    begins_plainly(&bytes, sample.size, picture)
}

/// A track's first sample, which must lie in the file.
fn first_of(track: &Track, place: &Place) -> Result<Sample, Refused> {
    let first = Cursor::new(Arc::clone(&track.tables)).next();
    let within = |sample: &Sample| {
        sample.size > 0 && sample.offset.saturating_add(u64::from(sample.size)) <= place.size()
    };
    first.filter(within).ok_or(Refused("its first sample is not there"))
}

/// Up to the first slice nothing but what is known, and that slice is the beginning of an IDR picture.
fn begins_plainly(bytes: &Bytes, size: u32, picture: &Picture) -> Result<(), Refused> {
    let unusual = Refused("its first picture is unusual");
    let mut at = 0;
    loop {
        let length = word(bytes, at).ok_or(unusual)? as usize;
        let from = at + 4;
        at = from.checked_add(length).filter(|end| length > 0 && *end <= size as usize).ok_or(unusual)?;
        let unit = bytes.get(from..at.min(bytes.len())).ok_or(unusual)?;
        let whole = unit.len() == length;
        match unit.first().ok_or(unusual)? & 0x1F {
            5 => return begins_picture(unit, picture),
            9 => {}
            6 if whole && !sets::messages(unit)?.contains(&OTHER_TRANSFER) => {}
            7 | 8 if whole && picture.sets.iter().any(|set| set[..] == *unit) => {}
            _ => return Err(unusual),
        }
    }
}

fn begins_picture(unit: &[u8], picture: &Picture) -> Result<(), Refused> {
    let (set, first) = sets::slice(unit)?;
    let known = first == 0 && picture.numbers.contains(&set);
    if known { Ok(()) } else { Err(Refused("its first picture is unusual")) }
}
