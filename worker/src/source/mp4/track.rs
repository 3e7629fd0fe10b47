//! A track that can be read without FFmpeg: H.264 or AAC-LC, one description, at most a late start and one edit.
//! Everything unusual is refused with a reason.

use super::boxes::{Kind, Refused, Table, children, long, need, only, word};
use super::samples::{Cursor, Sample, Tables};
use bytes::Bytes;
use std::sync::Arc;

/// Pictures of which the earliest is looked for at the beginning: more than may be reordered.
const REORDERED: usize = 40;
/// The fixed part of a description of pictures, bytes.
pub(super) const PICTURE: usize = 78;
/// The same of sound.
pub(super) const SOUND: usize = 28;

/// A picture or sound track.
#[derive(Debug)]
pub(super) struct Track {
    /// Ticks in a second.
    timescale: u32,
    /// What a decoder needs before the first sample: an AVCDecoderConfigurationRecord or an AudioSpecificConfig.
    pub(super) setup: Bytes,
    /// Where its samples are.
    pub(super) tables: Arc<Tables>,
    /// What is subtracted from times, ticks: where its one edit begins, less how late it is shown.
    shift: i64,
    /// Where the edit begins, ticks.
    edit_from: i64,
    /// Samples shown from here on are left out, ticks.
    edit_until: Option<i64>,
}

/// What kind of track it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Handler {
    Picture,
    Sound,
    Other,
}

/// What kind of track this is.
///
/// # Errors
/// When it does not say.
pub(super) fn handler(trak: &Bytes) -> Result<Handler, Refused> {
    let hdlr = need(&need(trak, b"mdia")?, b"hdlr")?;
    Ok(match hdlr.get(8..12) {
        Some(b"vide") => Handler::Picture,
        Some(b"soun") => Handler::Sound,
        _ => Handler::Other,
    })
}

impl Track {
    /// Reads a track box. `movie_timescale` is the unit of its edits.
    ///
    /// # Errors
    /// What about it is unusual.
    pub(super) fn read(trak: &Bytes, movie_timescale: u32) -> Result<Self, Refused> {
        let mdia = need(trak, b"mdia")?;
        let (timescale, length) = media_header(&need(&mdia, b"mdhd")?)?;
        let minf = need(&mdia, b"minf")?;
        own_file(&minf)?;
        let stbl = need(&minf, b"stbl")?;
        let tables = Arc::new(Tables::read(&stbl)?);
        let setup = match handler(trak)? {
            Handler::Picture => avc_setup(&description(&stbl, b"avc1", PICTURE)?.slice(PICTURE..))?,
            Handler::Sound => aac_setup(&description(&stbl, b"mp4a", SOUND)?.slice(SOUND..))?,
            Handler::Other => return Err(Refused("the track is neither picture nor sound")),
        };
        let edit = edit(trak, timescale, movie_timescale)?;
        let edit_until = edit.length.map(|length| edit.from.saturating_add(length));
        // A tenth of a second is more than the padding of any encoder.
        let slack = i64::from(timescale / 10);
        if edit_until.is_some_and(|until| until.saturating_add(slack) < length) {
            return Err(Refused("an edit cuts off the end"));
        }
        let shift = edit.from.saturating_sub(edit.late);
        Ok(Self { timescale, setup, tables, shift, edit_from: edit.from, edit_until })
    }

    /// When its first picture or sound is to be seen or heard, µs.
    pub(super) fn begins_us(&self) -> i64 {
        let first = self.first_shown();
        self.micros(first.max(self.edit_from).saturating_sub(self.shift))
    }

    /// Whether nothing is hidden before its beginning that a decoder would need.
    pub(super) fn hides_nothing(&self) -> bool {
        self.first_shown() >= self.edit_from
    }

    fn first_shown(&self) -> i64 {
        let first = Cursor::new(Arc::clone(&self.tables)).take(REORDERED);
        first.map(|sample| sample.pts()).min().unwrap_or(0)
    }

    /// Whether a viewer gets this sample.
    pub(super) fn shows(&self, sample: &Sample) -> bool {
        self.edit_until.is_none_or(|until| sample.pts() < until)
    }

    /// A time of the track as time of the file, µs.
    pub(super) fn time_us(&self, ticks: i64) -> i64 {
        self.micros(ticks.saturating_sub(self.shift))
    }

    fn micros(&self, ticks: i64) -> i64 {
        let (ticks, scale) = (i128::from(ticks), i128::from(self.timescale));
        i64::try_from((ticks * 1_000_000 + scale / 2).div_euclid(scale)).unwrap_or(i64::MAX)
    }
}

/// Ticks in a second, and length in ticks (8.4.2).
///
/// # Errors
/// When the header is cut.
pub(super) fn media_header(mdhd: &Bytes) -> Result<(u32, i64), Refused> {
    let cut = Refused("a header is cut");
    let (timescale, length) = match mdhd.first() {
        Some(0) => (word(mdhd, 12), word(mdhd, 16).map(u64::from)),
        Some(1) => (word(mdhd, 20), long(mdhd, 24)),
        _ => return Err(cut),
    };
    let timescale = timescale.filter(|scale| (1..=100_000_000).contains(scale)).ok_or(cut)?;
    Ok((timescale, length.and_then(|length| i64::try_from(length).ok()).ok_or(cut)?))
}

/// Ticks in a second of the movie (8.2.2).
///
/// # Errors
/// When the header is cut.
pub(super) fn movie_timescale(mvhd: &Bytes) -> Result<u32, Refused> {
    let at = if mvhd.first() == Some(&1) { 20 } else { 12 };
    word(mvhd, at).filter(|scale| *scale > 0).ok_or(Refused("a header is cut"))
}

/// Media in another file would be read from wherever that file says (8.7.2).
fn own_file(minf: &Bytes) -> Result<(), Refused> {
    let dref = need(&need(minf, b"dinf")?, b"dref")?;
    let own = |entry: &Bytes| word(entry, 0).is_some_and(|flags| flags & 1 == 1);
    let mut entries = children(&dref.slice(8.min(dref.len())..));
    match (entries.next(), entries.next()) {
        (Some(Ok((_, entry))), None) if own(&entry) => Ok(()),
        _ => Err(Refused("the media are in another file")),
    }
}

/// The only sample description, which must be of this kind (8.5.2); its boxes are behind the fixed part.
pub(super) fn description(stbl: &Bytes, wanted: &Kind, fixed: usize) -> Result<Bytes, Refused> {
    let stsd = need(stbl, b"stsd")?;
    let mut entries = children(&stsd.slice(8.min(stsd.len())..));
    let (Some(Ok((kind, entry))), None) = (entries.next(), entries.next()) else {
        return Err(Refused("there is not exactly one sample description"));
    };
    // Version 0 of a sound description; QuickTime's others are longer.
    let plain = kind != *b"mp4a" || entry.get(8..10) == Some(&[0, 0]);
    if kind != *wanted || !plain || entry.len() < fixed {
        return Err(Refused("the coding is another one"));
    }
    Ok(entry)
}

/// The configuration of H.264 with length fields of four bytes (ISO/IEC 14496-15, 5.3.3.1).
fn avc_setup(boxes: &Bytes) -> Result<Bytes, Refused> {
    let avcc = need(boxes, b"avcC")?;
    match (avcc.first(), avcc.get(4)) {
        (Some(1), Some(lengths)) if lengths & 3 == 3 && avcc.len() > 6 => Ok(avcc),
        _ => Err(Refused("the H.264 configuration is unusual")),
    }
}

/// The AudioSpecificConfig of AAC-LC out of an elementary stream descriptor (ISO/IEC 14496-1, 7.2.6.5).
fn aac_setup(boxes: &Bytes) -> Result<Bytes, Refused> {
    let unusual = Refused("the AAC configuration is unusual");
    let esds = need(boxes, b"esds")?;
    let (tag, stream) = descriptor(&esds.slice(4.min(esds.len())..)).ok_or(unusual)?;
    if tag != 3 || stream.get(2) != Some(&0) {
        return Err(unusual);
    }
    let (tag, decoder) = descriptor(&stream.slice(3..)).ok_or(unusual)?;
    if tag != 4 || decoder.first() != Some(&0x40) || decoder.len() < 13 {
        return Err(unusual);
    }
    let (tag, setup) = descriptor(&decoder.slice(13..)).ok_or(unusual)?;
    let lc = setup.first().is_some_and(|byte| byte >> 3 == 2);
    if tag == 5 && lc && setup.len() >= 2 { Ok(setup) } else { Err(unusual) }
}

/// Tag and content of the first descriptor; its length is in up to four bytes of seven bits.
fn descriptor(bytes: &Bytes) -> Option<(u8, Bytes)> {
    let mut length = 0_usize;
    for at in 1..=4 {
        let byte = *bytes.get(at)?;
        length = length << 7 | usize::from(byte & 0x7F);
        if byte & 0x80 == 0 {
            let from = at + 1;
            let content = (bytes.len() - from >= length).then(|| bytes.slice(from..from + length))?;
            return Some((bytes[0], content));
        }
    }
    None
}

/// The one edit of a track, ticks of its media.
#[derive(Debug, Default)]
struct Edit {
    /// Where in the media it begins.
    from: i64,
    /// How long nothing is shown before it.
    late: i64,
    /// How long it is; `None` for all that there is.
    length: Option<i64>,
}

/// Reads an edit list (8.6.6): none, one edit, or an empty one before it; at the usual speed.
fn edit(trak: &Bytes, timescale: u32, movie_timescale: u32) -> Result<Edit, Refused> {
    let scaled = |length: u64| {
        let ticks = u128::from(length) * u128::from(timescale) / u128::from(movie_timescale);
        i64::try_from(ticks).unwrap_or(i64::MAX)
    };
    let mut entries = edits(trak)?.into_iter().peekable();
    let mut found = Edit::default();
    if let Some((length, _)) = entries.next_if(|(_, from)| *from == -1) {
        found.late = scaled(length);
    }
    match (entries.next(), entries.next()) {
        (None, _) if found.late == 0 => Ok(found),
        (Some((length, from)), None) if from >= 0 => {
            let length = (length > 0).then(|| scaled(length));
            Ok(Edit { from, length, ..found })
        }
        _ => Err(Refused("the edit list is unusual")),
    }
}

/// Length of each edit of a track in ticks of the movie, and where in the media it begins; -1 for one that shows nothing.
///
/// # Errors
/// When they cannot be read, or change the speed.
pub(super) fn edits(trak: &Bytes) -> Result<Vec<(u64, i64)>, Refused> {
    let edts = only(trak, b"edts")?;
    let elst = edts.map(|edts| only(&edts, b"elst")).transpose()?.flatten();
    elst.map(|elst| entries(&elst)).transpose().map(Option::unwrap_or_default)
}

fn entries(elst: &Bytes) -> Result<Vec<(u64, i64)>, Refused> {
    let unusual = Refused("the edit list is unusual");
    let usual_speed = |rate: u32| if rate == 0x1_0000 { Ok(()) } else { Err(unusual) };
    let mut found = Vec::new();
    match elst.first() {
        Some(0) => {
            for [length, from, rate] in Table::<3>::read(elst, 4)?.iter().take(3) {
                usual_speed(rate)?;
                found.push((u64::from(length), i64::from(from as i32)));
            }
        }
        Some(1) => {
            for [a, b, c, d, rate] in Table::<5>::read(elst, 4)?.iter().take(3) {
                usual_speed(rate)?;
                let long = |high: u32, low: u32| u64::from(high) << 32 | u64::from(low);
                found.push((long(a, b), long(c, d) as i64));
            }
        }
        _ => return Err(unusual),
    }
    Ok(found)
}
