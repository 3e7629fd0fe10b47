//! A file that is read: its movie box once, then its samples in order of time, as the tags that FFmpeg would write.

use super::boxes::{Refused, children, need, only};
use super::burst::Amount;
use super::place::{Held, Place};
use super::planned::Planned;
use super::samples::{Cursor, Sample};
use super::top::{movie, unreadable};
use super::track::{self, Handler, Track};
use crate::source::buffer::TIME_SHIFT_MS;
use crate::source::flv::{Kind as TagKind, RawTag};
use crate::source::parameters::{nal_types, nal_units};
use bytes::{BufMut, Bytes, BytesMut};
use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// Largest access unit: with its head it must fit into an FLV tag and an RTMP message, whose lengths have 24 bits.
const MAX_SAMPLE: u32 = (1 << 24) - 6;
/// Pictures in a row that may be no pictures before the file is given up: it was overwritten, or its tables lie.
const MOST_DAMAGED: u32 = 12;
/// Looked at of a picture to see what it is, bytes.
const LOOK: u32 = 64 * 1024;
/// NAL unit type of an IDR slice (ITU-T H.264, table 7-1).
const IDR: u8 = 5;
/// IDR pictures before a place that are tried, newest first.
const TRIED: usize = 8;

/// An open file.
#[derive(Debug)]
pub struct Reader {
    pub(super) place: Place,
    pub(super) video: Lane,
    pub(super) audio: Option<Lane>,
    /// What is subtracted from times of the file, µs.
    pub(super) zero_us: i64,
    begun: bool,
}

/// A track that is being read.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) track: Track,
    kind: TagKind,
    pub(super) cursor: Cursor,
    pub(super) next: Option<Sample>,
    /// Goes before the cursor, to see what will be read soon.
    pub(super) scout: Cursor,
    /// Pictures in a row that could not be read as such.
    damaged: u32,
}

/// What is asked of a file.
#[derive(Debug, Clone, Copy)]
pub struct Ask {
    /// The picture's place among the tracks.
    pub video: u32,
    /// That of the sound, where sound is wanted.
    pub audio: Option<u32>,
    /// Where to begin, ms of the item.
    pub from_ms: u64,
}

impl Reader {
    /// Opens a file. Blocks.
    ///
    /// # Errors
    /// Why it is left to FFmpeg.
    pub fn open(path: &Path, ask: Ask) -> Result<Self, Refused> {
        let file = File::open(path).map_err(unreadable)?;
        let meta = file.metadata().map_err(unreadable)?;
        if !meta.is_file() {
            return Err(Refused("it is no file"));
        }
        Self::begin(Place::File(file, meta.len()), ask).map_err(|(_, why)| why)
    }

    /// Opens an object of which this is in hand. Long tables take a while.
    ///
    /// # Errors
    /// What is in hand, which may miss something ([`Held::missing`]); if it does not, the object is left to FFmpeg.
    pub(super) fn open_object(held: Held, ask: Ask) -> Result<Self, (Held, Refused)> {
        Self::begin(Place::Object(held), ask).map_err(|(place, why)| match place {
            Place::Object(held) => (held, why),
            Place::File(_, size) => (Held::new(size), why),
        })
    }

    fn begin(mut place: Place, ask: Ask) -> Result<Self, (Place, Refused)> {
        let size = place.size();
        let (video, audio) = match movie(&mut place).and_then(|moov| tracks(&moov, ask, size)) {
            Ok(tracks) => tracks,
            Err(why) => return Err((place, why)),
        };
        // A file's time begins with whatever is shown or heard first.
        let begins = [Some(video.begins_us()), audio.as_ref().map(Track::begins_us)];
        let begins = begins.into_iter().flatten().min().unwrap_or(0);
        let zero_us =
            begins.saturating_add(i64::try_from(ask.from_ms).unwrap_or(i64::MAX).saturating_mul(1000));
        let video = Lane::new(video, TagKind::Video);
        let audio = audio.map(|audio| Lane::new(audio, TagKind::Audio));
        let mut reader = Self { place, video, audio, zero_us, begun: false };
        let entered = if ask.from_ms > 0 { reader.enter_before(zero_us) } else { Ok(()) };
        match entered {
            Ok(()) => Ok(reader),
            Err(error) => Err((reader.place, unreadable(error))),
        }
    }

    /// What is in hand of an object; `None` for a file.
    pub(super) fn held(&mut self) -> Option<&mut Held> {
        match &mut self.place {
            Place::Object(held) => Some(held),
            Place::File(..) => None,
        }
    }

    /// Moves to the last IDR picture that is shown at or before a time of the file.
    fn enter_before(&mut self, us: i64) -> io::Result<()> {
        let mut found: VecDeque<(Cursor, Sample)> = VecDeque::new();
        let mut cursor = Cursor::new(Arc::clone(&self.video.track.tables));
        loop {
            let here = cursor.clone();
            let Some(sample) = cursor.next() else { break };
            if self.video.track.time_us(sample.dts) > us {
                break;
            }
            if sample.sync && self.video.track.time_us(sample.pts()) <= us {
                found.truncate(TRIED - 1);
                found.push_front((here, sample));
            }
        }
        let Some(chosen) = self.newest_idr(&found)? else { return Ok(()) };
        let (cursor, sample) = chosen.clone();
        let at = self.video.track.time_us(sample.dts);
        self.video.go_to(cursor);
        if let Some(audio) = &mut self.audio {
            audio.enter_at(at);
        }
        Ok(())
    }

    /// The newest of these that is an IDR picture; a flag in the file is not enough.
    fn newest_idr<'a>(
        &mut self,
        found: &'a VecDeque<(Cursor, Sample)>,
    ) -> io::Result<Option<&'a (Cursor, Sample)>> {
        for candidate in found {
            let sample = candidate.1;
            let bytes = self.place.whole(sample.offset, sample.size.min(LOOK) as usize)?;
            // Most are larger than what is looked at.
            if nal_types(&bytes, 4).any(|kind| kind == IDR) {
                return Ok(Some(candidate));
            }
        }
        Ok(found.back())
    }

    /// Appends tags in order of time until there is this much of them. False when there are no more.
    ///
    /// # Errors
    /// Why nothing more can be read, in words.
    pub fn read(&mut self, amount: Amount, tags: &mut Vec<RawTag>) -> Result<bool, String> {
        if !self.begun {
            self.begun = true;
            tags.extend(self.headers());
        }
        if self.place.file().is_some() {
            return self.burst(amount, tags);
        }
        let (mut sum, zero_us) = (0, self.zero_us);
        while sum < amount.bytes {
            let sound_first = match self.next_lane() {
                None => return Ok(false),
                Some((_, lane)) => lane.kind == TagKind::Audio,
            };
            let tag = match (&mut self.audio, sound_first) {
                (Some(audio), true) => audio.tag(&mut self.place, zero_us)?,
                _ => self.video.tag(&mut self.place, zero_us)?,
            };
            if let Some(tag) = tag {
                sum += tag.body.len();
                tags.push(tag);
            }
        }
        Ok(true)
    }

    /// The track whose turn it is, and the time of its next sample, µs of the file.
    pub(super) fn next_lane(&mut self) -> Option<(i64, &mut Lane)> {
        match (self.video.due_us(), self.audio.as_mut()) {
            (video, Some(audio)) if audio.due_us().is_some_and(|at| video.is_none_or(|video| at < video)) => {
                Some((audio.due_us()?, audio))
            }
            (video, _) => Some((video?, &mut self.video)),
        }
    }

    /// A time of the file as ms of the item.
    pub(super) fn millis(&self, us: i64) -> i64 {
        millis(us.saturating_sub(self.zero_us))
    }

    fn headers(&self) -> impl Iterator<Item = RawTag> {
        let header = |kind, head: &[u8], setup: &Bytes| {
            let mut body = BytesMut::from(head);
            body.put_slice(setup);
            RawTag { kind, at_ms: TIME_SHIFT_MS, body, next_idr: None }
        };
        let video = header(TagKind::Video, &[0x17, 0, 0, 0, 0], &self.video.track.setup);
        let audio = self.audio.as_ref().map(|audio| header(TagKind::Audio, &[0xAF, 0], &audio.track.setup));
        [Some(video), audio].into_iter().flatten()
    }
}

impl Lane {
    fn new(track: Track, kind: TagKind) -> Self {
        let cursor = Cursor::new(Arc::clone(&track.tables));
        let scout = cursor.clone();
        let mut lane = Self { track, kind, cursor: cursor.clone(), next: None, scout, damaged: 0 };
        lane.go_to(cursor);
        lane
    }

    fn go_to(&mut self, cursor: Cursor) {
        self.scout = cursor.clone();
        self.cursor = cursor;
        self.step();
    }

    /// To the last sample at or before a time of the file.
    fn enter_at(&mut self, us: i64) {
        let mut cursor = Cursor::new(Arc::clone(&self.track.tables));
        let mut last = cursor.clone();
        loop {
            let here = cursor.clone();
            match cursor.next() {
                Some(sample) if self.track.time_us(sample.dts) <= us => last = here,
                _ => return self.go_to(last),
            }
        }
    }

    /// To the next sample that a viewer gets.
    pub(super) fn step(&mut self) {
        self.next = self.cursor.find(|sample| self.track.shows(sample));
    }

    pub(super) fn due_us(&self) -> Option<i64> {
        self.next.map(|sample| self.track.time_us(sample.dts))
    }

    /// What is next; `None` for a sample without content.
    ///
    /// # Errors
    /// That a file of this size cannot hold it.
    pub(super) fn planned(&self, size: u64, zero_us: i64) -> Result<Option<Planned>, String> {
        let Some(sample) = self.next else { return Ok(None) };
        if sample.end() > size || sample.size > MAX_SAMPLE {
            return Err("the file is cut short: it says more than it holds".to_owned());
        }
        let ms = |ticks: i64| millis(self.track.time_us(ticks).saturating_sub(zero_us));
        let (dts, pts) = (ms(sample.dts), ms(sample.pts()));
        let cts = u32::try_from(pts - dts).unwrap_or(0);
        Ok((sample.size > 0).then_some(Planned { kind: self.kind, sample, dts, cts }))
    }

    /// Whether these bytes are a picture; one that is none is left out.
    ///
    /// # Errors
    /// That there were too many that are none.
    pub(super) fn is_whole(&mut self, picture: &[u8]) -> Result<bool, String> {
        let whole = nal_units(picture, 4).next().is_some();
        self.damaged = if whole { 0 } else { self.damaged + 1 };
        if self.damaged > MOST_DAMAGED {
            return Err("there are no pictures where the file says; it is damaged".to_owned());
        }
        Ok(whole)
    }

    /// The next sample as a tag; `None` for one without content.
    fn tag(&mut self, place: &mut Place, zero_us: i64) -> Result<Option<RawTag>, String> {
        let Some(planned) = self.planned(place.size(), zero_us)? else {
            self.step();
            return Ok(None);
        };
        let Planned { kind, sample, dts, .. } = planned;
        let read = place.whole(sample.offset, sample.size as usize);
        let bytes = read.map_err(|error| unread(Some(&error)))?;
        if kind == TagKind::Video && !self.is_whole(&bytes)? {
            self.step();
            return Ok(None);
        }
        let mut body = BytesMut::zeroed(planned.length());
        planned.write_head(&mut body);
        body[planned.head()..].copy_from_slice(&bytes);
        // Only now: what is not in hand yet is asked for again.
        self.step();
        Ok(Some(RawTag { kind, at_ms: dts + TIME_SHIFT_MS, body, next_idr: None }))
    }
}

/// Why a sample could not be read; without an error the file ended before it.
pub(super) fn unread(error: Option<&io::Error>) -> String {
    match error {
        Some(error) if error.kind() != io::ErrorKind::UnexpectedEof => {
            format!("the file cannot be read: {error}")
        }
        _ => "the file became shorter while it was read".to_owned(),
    }
}

fn millis(us: i64) -> i64 {
    us.saturating_add(500).div_euclid(1000)
}

/// Every sample takes a byte at least. A few words can claim millions of them, and each is gone over.
fn believable(track: Track, size: u64) -> Result<Track, Refused> {
    let count = track.tables.count() as u64;
    if count <= size { Ok(track) } else { Err(Refused("it says that it has more samples than bytes")) }
}

/// The tracks that are asked for: the only picture and the only sound. `size` is that of the file.
pub(super) fn tracks(moov: &Bytes, ask: Ask, size: u64) -> Result<(Track, Option<Track>), Refused> {
    if only(moov, b"mvex")?.is_some() {
        return Err(Refused("it is fragmented"));
    }
    let timescale = track::movie_timescale(&need(moov, b"mvhd")?)?;
    let (mut video, mut audio, mut index) = (None, None, 0);
    for child in children(moov) {
        let (kind, trak) = child?;
        if kind != *b"trak" {
            continue;
        }
        let twice = match track::handler(&trak)? {
            Handler::Picture => video.replace((index, trak)).is_some(),
            Handler::Sound => audio.replace((index, trak)).is_some(),
            Handler::Other => false,
        };
        if twice {
            return Err(Refused("it has several tracks of one kind"));
        }
        index += 1;
    }
    let read = |found: Option<(u32, Bytes)>, wanted: u32| match found {
        Some((index, trak)) if index == wanted => believable(Track::read(&trak, timescale)?, size),
        _ => Err(Refused("its tracks are not where they should be")),
    };
    let audio = match (ask.audio, audio) {
        (Some(wanted), found) => Some(read(found, wanted)?),
        // Sound that is not wanted would still decide where the file's time begins.
        (None, Some(_)) => return Err(Refused("its sound is not wanted")),
        (None, None) => None,
    };
    let video = read(video, ask.video)?;
    if !video.hides_nothing() {
        return Err(Refused("an edit hides pictures at the beginning"));
    }
    if video.tables.all_sync() {
        return Err(Refused("it does not say where it can be entered"));
    }
    Ok((video, audio))
}
