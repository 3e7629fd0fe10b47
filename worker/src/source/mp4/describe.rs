//! What sample descriptions say of pictures and sound, in FFmpeg's words.

use super::boxes::{Kind, Refused, need, only};
use super::look::{shown_as, within};
use super::parameter_sets::{self, Sequence};
use super::track::{PICTURE, SOUND, description};
use bytes::Bytes;

/// FFmpeg's names of primaries, transfers and matrices by their numbers (ITU-T H.273). Number 2 is unknown.
type Names = &'static [(u32, &'static str)];
const PRIMARIES: Names = &[(2, ""), (1, "bt709"), (5, "bt470bg"), (6, "smpte170m"), (9, "bt2020")];
const TRANSFERS: Names = &[
    (2, ""),
    (1, "bt709"),
    (4, "bt470m"),
    (5, "bt470bg"),
    (6, "smpte170m"),
    (13, "iec61966-2-1"),
    (14, "bt2020-10"),
    (15, "bt2020-12"),
    (16, "smpte2084"),
    (18, "arib-std-b67"),
];
const MATRICES: Names = &[(2, ""), (1, "bt709"), (5, "bt470bg"), (6, "smpte170m"), (9, "bt2020nc")];

/// What pictures are.
#[derive(Debug)]
pub(super) struct Picture {
    pub(super) profile: &'static str,
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) primaries: &'static str,
    pub(super) transfer: &'static str,
    pub(super) matrix: &'static str,
    /// Parameter sets as they are in the file: first that of the sequence, then those of pictures.
    pub(super) sets: Vec<Bytes>,
    /// The numbers of those of pictures.
    pub(super) numbers: Vec<u32>,
}

/// What the pictures of a track are, from its description and the configuration in it.
///
/// # Errors
/// What about them is unusual.
pub(super) fn picture(trak: &Bytes, setup: &Bytes) -> Result<Picture, Refused> {
    let (entry, boxes) = described(trak, b"avc1", PICTURE)?;
    within(&boxes, &[b"avcC", b"colr", b"pasp", b"btrt", b"free"])?;
    square(&boxes)?;
    let (sequence, sets, numbers) = parameter_sets(setup)?;
    let half = |at: usize| entry.get(at..at + 2).map(|n| u32::from(n[0]) << 8 | u32::from(n[1]));
    if (half(24), half(26)) != (Some(sequence.width), Some(sequence.height)) {
        return Err(Refused("its headers disagree about the size of the picture"));
    }
    shown_as(trak, sequence.width, sequence.height)?;
    // What the pictures say counts for more than what is written about them.
    let written = written_colours(&boxes)?;
    let [primaries, transfer, matrix] = sequence.colours.or(written).unwrap_or([2, 2, 2]);
    Ok(Picture {
        profile: sequence.profile,
        width: sequence.width,
        height: sequence.height,
        primaries: name(PRIMARIES, primaries)?,
        transfer: name(TRANSFERS, transfer)?,
        matrix: name(MATRICES, matrix)?,
        sets,
        numbers,
    })
}

/// A track's only sample description, and the boxes in it.
fn described(trak: &Bytes, kind: &Kind, fixed: usize) -> Result<(Bytes, Bytes), Refused> {
    let stbl = need(&need(&need(trak, b"mdia")?, b"minf")?, b"stbl")?;
    let entry = description(&stbl, kind, fixed)?;
    let boxes = entry.slice(fixed..);
    Ok((entry, boxes))
}

fn name(names: Names, number: u32) -> Result<&'static str, Refused> {
    let found = names.iter().find(|(known, _)| *known == number);
    found.map(|(_, name)| *name).ok_or(Refused("its colours are unusual"))
}

/// Pixels as wide as high, where the file says (8.5.2).
fn square(boxes: &Bytes) -> Result<(), Refused> {
    match only(boxes, b"pasp")? {
        Some(pasp) if pasp.len() != 8 || pasp[..4] != pasp[4..] || pasp[..4] == [0; 4] => {
            Err(Refused("pixels are not square"))
        }
        _ => Ok(()),
    }
}

/// Colours that are written about the pictures (8.5.2.2, 12.1.5).
fn written_colours(boxes: &Bytes) -> Result<Option<[u32; 3]>, Refused> {
    let Some(colr) = only(boxes, b"colr")? else { return Ok(None) };
    let half = |at: usize| u32::from(colr[at]) << 8 | u32::from(colr[at + 1]);
    match (colr.get(..4), colr.len()) {
        (Some(b"nclx"), 11) if colr[10] & 0x80 != 0 => Err(Refused("the pictures have full range")),
        (Some(b"nclx"), 11) | (Some(b"nclc"), 10) => Ok(Some([half(4), half(6), half(8)])),
        _ => Err(Refused("its colours are unusual")),
    }
}

/// The one parameter set of a sequence and those of pictures in an AVCDecoderConfigurationRecord, and what they say.
fn parameter_sets(setup: &Bytes) -> Result<(Sequence, Vec<Bytes>, Vec<u32>), Refused> {
    let cut = Refused("the H.264 configuration is cut");
    let mut at = 5;
    let mut sets = |mask: u8| -> Result<Vec<Bytes>, Refused> {
        let count = *setup.get(at).ok_or(cut)? & mask;
        at += 1;
        let mut found = Vec::new();
        for _ in 0..count {
            let length = setup.get(at..at + 2).ok_or(cut)?;
            let from = at + 2;
            at = from + usize::from(length[0]) * 256 + usize::from(length[1]);
            found.push(setup.get(from..at).map(|_| setup.slice(from..at)).ok_or(cut)?);
        }
        Ok(found)
    };
    let (sequences, pictures) = (sets(0x1F)?, sets(0xFF)?);
    let [set] = &sequences[..] else { return Err(Refused("there is not one parameter set")) };
    let sequence = parameter_sets::sequence(set)?;
    let numbers =
        pictures.iter().map(|unit| parameter_sets::picture(unit, &sequence)).collect::<Result<_, _>>()?;
    Ok((sequence, [sequences.clone(), pictures].concat(), numbers))
}

/// Nothing unusual in the description of a sound track.
///
/// # Errors
/// When there is.
pub(super) fn plain_sound(trak: &Bytes) -> Result<(), Refused> {
    let (_, boxes) = described(trak, b"mp4a", SOUND)?;
    within(&boxes, &[b"esds", b"btrt", b"free"])
}

/// Hz and channels of AAC-LC that cannot be anything else (ISO/IEC 14496-3, 1.6.2.1): at lower rates band replication
/// may be found in the sound itself.
///
/// # Errors
/// What about it is unusual.
pub(super) fn sound(setup: &Bytes) -> Result<(u32, u32), Refused> {
    let unusual = Refused("the AAC configuration is unusual");
    let plain = setup.len() == 2 || setup.get(2..) == Some(&[0x56, 0xE5, 0x00]);
    let (Some([high, low]), true) = (setup.first_chunk::<2>(), plain) else { return Err(unusual) };
    let rate = match (high & 7) << 1 | low >> 7 {
        3 => 48_000,
        4 => 44_100,
        _ => return Err(unusual),
    };
    match (high >> 3, low >> 3 & 15, low & 7) {
        (2, channels @ 1..=2, 0) => Ok((rate, u32::from(channels))),
        _ => Err(unusual),
    }
}
