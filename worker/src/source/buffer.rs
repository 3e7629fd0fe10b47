//! What a feed has read and the splice has not taken yet. Plain data: the reader fills it, the splice drains it,
//! tests fill it by hand.

mod ahead;

use super::flv::{Kind, NextIdr, RawTag};
use super::parameters;
use crate::media::{Shape, TrackConfig};
use bytes::{Bytes, BytesMut};
use std::collections::VecDeque;
use std::sync::Arc;

/// FFmpeg is told to add this to all times, so that none is negative in FLV; it is taken off again here.
pub const TIME_SHIFT_MS: i64 = 10_000;

/// Read ahead this much unless told otherwise, ms.
pub const HIGH_MS: i64 = 6_000;

/// Longest allowed distance between two IDR pictures of a copied item, ms. A little over the 4 s that platforms
/// and the HLS target duration allow, for times that were rounded.
pub const MAX_IDR_DISTANCE_MS: i64 = 4_050;

/// One access unit in time of its item.
#[derive(Debug, Clone)]
pub struct SourceTag {
    /// Decoding time in ms; 0 is the start of the item, and times before it are possible.
    pub dts: i64,
    /// Presentation minus decoding time, ms.
    pub cts: i32,
    /// Whether it is an IDR picture.
    pub idr: bool,
    /// For an IDR picture: what follows it, where that is known although it has not been read.
    pub next_idr: Option<NextIdr>,
    /// The FLV tag body.
    pub body: BytesMut,
    /// What it is decoded with; `None` for audio, whose configuration belongs to the channel.
    pub config: Option<Arc<TrackConfig>>,
}

impl SourceTag {
    /// Presentation time in ms.
    pub fn pts(&self) -> i64 {
        self.dts + i64::from(self.cts)
    }
}

/// How a feed came to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// Everything was read.
    Complete,
    /// It broke off; the words say why.
    Broken(String),
}

/// What has been read and not been taken.
#[derive(Debug)]
pub struct Buffer {
    /// Pictures in decoding order.
    pub video: VecDeque<SourceTag>,
    /// Sound in order of time.
    pub audio: VecDeque<SourceTag>,
    /// Set when nothing more will come.
    pub end: Option<End>,
    /// Why nothing has come for a while, where that is known and may pass.
    pub trouble: Option<String>,
    /// The bucket could not be reached when it was last asked about this item.
    pub away: bool,
    /// Whether sound is expected at all.
    pub has_audio: bool,
    /// Length of the loops that the slate has put in so far, ms.
    pub loops_ms: f64,
    /// The reader stops when this much is in hand, ms.
    pub high_ms: i64,
    /// It is a file of which everything can be had at any time, in exact order of time.
    pub in_order: bool,
    /// The AudioSpecificConfig that came with the sound.
    pub sound_config: Option<Bytes>,
    /// The pictures are there for the sound, and end with it.
    pub pictures_follow_sound: bool,
    /// Where the last picture ends, ms of the feed, where the file says.
    pub pictures_end_ms: Option<i64>,
    shape: Shape,
    config: Option<Arc<TrackConfig>>,
    nal_length_size: usize,
    idr: IdrWatch,
    /// Added to the times of what is pushed, ms: a child that goes on in the middle counts from there.
    shift_ms: i64,
    reached: Reached,
    /// What was read before the present child: it begins with a part of it again.
    repeated: Reached,
}

/// How far a feed has been read, ms of its own time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reached {
    /// Decoding time of the newest picture.
    pub video: Option<i64>,
    /// Latest presentation time of a picture.
    pub shown: Option<i64>,
    /// Time of the newest sound.
    pub audio: Option<i64>,
}

/// Pictures that may lie between one and those that it needs, in decoding order.
const MOST_REORDERED: usize = 16;

/// Nothing lies further after what came before it, ms: damaged tables say such times, and the channel would wait for them.
const LONGEST_GAP_MS: i64 = 60_000;
/// No picture is shown later after it was decoded, ms: 16 pictures at one a second are not.
const LONGEST_CTS_MS: i32 = 20_000;

/// Two children may round the same time differently, ms. Far less than the time between two frames.
const ROUNDING_MS: i64 = 3;

/// What was learned about the IDR pictures of a feed while reading it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct IdrWatch {
    /// IDR pictures so far.
    pub count: u64,
    /// Pictures that were flagged as key and are not IDR pictures (open GOP).
    pub false_keys: u64,
    /// Largest distance between two of them, or from the newest one to the newest picture, ms.
    pub widest_ms: i64,
    /// What follows the newest one is known although it has not been read.
    pub foreseen: bool,
    first: Option<i64>,
    newest: Option<i64>,
}

impl Buffer {
    /// An empty buffer for pictures of this shape.
    pub fn new(shape: Shape, has_audio: bool) -> Self {
        Self {
            video: VecDeque::new(),
            audio: VecDeque::new(),
            end: None,
            trouble: None,
            away: false,
            has_audio,
            loops_ms: 0.0,
            high_ms: HIGH_MS,
            in_order: false,
            sound_config: None,
            pictures_follow_sound: false,
            pictures_end_ms: None,
            shape,
            config: None,
            nal_length_size: 4,
            idr: IdrWatch::default(),
            shift_ms: 0,
            reached: Reached::default(),
            repeated: Reached::default(),
        }
    }

    /// The same for a file of which everything can be had at any time, in exact order of time.
    #[must_use]
    pub fn in_order(self) -> Self {
        Self { in_order: true, high_ms: 0, ..self }
    }

    /// Size and rate of the pictures.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// What was learned about IDR pictures.
    pub fn idr(&self) -> IdrWatch {
        self.idr
    }

    /// Whether every picture has been read.
    pub fn has_all_pictures(&self) -> bool {
        let last = self.reached.shown.zip(self.pictures_end_ms);
        self.end.is_some()
            || last.is_some_and(|(shown, end)| shown as f64 + 1.5 * self.frame_ms() >= end as f64)
    }

    /// How far sound has been read past the newest picture, ms. FFmpeg writes both in order of time, so that where
    /// this is much there is no picture in between.
    pub fn sound_ahead_ms(&self) -> i64 {
        self.reached.audio.zip(self.reached.shown).map_or(0, |(audio, shown)| audio - shown)
    }

    /// How far it has been read.
    pub fn reached(&self) -> Reached {
        self.reached
    }

    /// Another child goes on, whose time 0 is at `shift_ms` of the feed; what it repeats is left out.
    pub fn go_on(&mut self, shift_ms: i64) {
        self.shift_ms = shift_ms;
        self.repeated = self.reached;
    }

    /// The same pictures and sounds come again, as if they began at `shift_ms` of the feed.
    pub fn begin_again(&mut self, shift_ms: i64) {
        self.shift_ms = shift_ms;
    }

    /// Drops what is before the next IDR picture, or everything where that has not been read yet. Returns whether it
    /// begins with one now.
    pub fn wait_for_idr(&mut self) -> bool {
        if self.enter_at_idr(i64::MIN) {
            return true;
        }
        self.video.clear();
        self.audio.clear();
        false
    }

    /// What is in hand from the next IDR picture on, ms.
    pub fn after_idr_ms(&self) -> Option<i64> {
        let idr = self.video.iter().find(|t| t.idr)?;
        Some(self.video.back()?.dts - idr.dts)
    }

    /// Takes back what was read from the newest IDR picture in hand on, and says where that is: a place where
    /// another encoder can take over without a trace. `None` when there is none in hand.
    pub fn cut_back(&mut self) -> Option<i64> {
        let index = self.video.iter().rposition(|t| t.idr)?;
        let (at, dts) = (self.video[index].pts(), self.video[index].dts);
        self.video.truncate(index);
        self.reached.video = self.video.back().map(|t| t.dts).or(Some(dts - 3 * ROUNDING_MS));
        self.reached.shown = Some(at - 1);
        Some(at)
    }

    /// Nothing more will come.
    pub fn finish(&mut self, end: End) {
        if let (true, Some(audio)) = (self.pictures_follow_sound, self.reached.audio) {
            self.leave_out_after(audio);
        }
        self.end = Some(end);
    }

    /// Takes pictures off the end that are not needed to last until `end_ms`. No other needs the last one in decoding
    /// order.
    fn leave_out_after(&mut self, end_ms: i64) {
        while self.video.back().is_some_and(|last| last.pts() >= end_ms) {
            let others = self.video.iter().rev().skip(1).take(MOST_REORDERED);
            if others.map(SourceTag::pts).max().is_none_or(|latest| latest < end_ms) {
                break;
            }
            self.video.pop_back();
        }
    }

    /// Milliseconds of pictures in hand.
    pub fn ahead_ms(&self) -> i64 {
        match (self.video.front(), self.video.back()) {
            (Some(first), Some(last)) => last.dts - first.dts,
            _ => 0,
        }
    }

    /// Bytes in hand, with what is kept around each tag: some files consist of nothing else.
    pub fn bytes(&self) -> usize {
        let bodies: usize = self.video.iter().chain(&self.audio).map(|t| t.body.len()).sum();
        bodies + (self.video.len() + self.audio.len()) * size_of::<SourceTag>()
    }

    /// Takes in a tag as FFmpeg wrote it.
    pub fn push(&mut self, tag: RawTag) {
        let dts = tag.at_ms - TIME_SHIFT_MS + self.shift_ms;
        match tag.kind {
            Kind::Video => {
                let later = |next: NextIdr| next.later(self.shift_ms - TIME_SHIFT_MS);
                self.push_video(dts, tag.body, tag.next_idr.map(later));
            }
            Kind::Audio => self.push_audio(dts, tag.body),
            Kind::Other => {}
        }
    }

    fn push_video(&mut self, dts: i64, mut body: BytesMut, next_idr: Option<NextIdr>) {
        // Only AVC (codec 7): header (0), picture (1); an end of sequence (2) means nothing here.
        if body.len() < 5 || body[0] & 0x0F != 7 {
            return;
        }
        match body[1] {
            0 => self.take_header(body.freeze()),
            1 => {
                let cts = i32::from_be_bytes([body[2], body[3], body[4], 0]) >> 8;
                if is_repeated(dts, self.repeated.video) || self.leaps(dts, cts) {
                    return;
                }
                let Some(present) = &self.config else { return };
                let flagged = body[0] >> 4 == 1;
                let idr = flagged && has_idr(&body[5..], self.nal_length_size);
                let size = self.nal_length_size;
                if idr && let Some(header) = parameters::header_for(&body[5..], size, &present.header) {
                    self.take_header(header);
                }
                if flagged && !idr {
                    self.idr.false_keys += 1;
                    body[0] = 0x27;
                }
                let next_idr = next_idr.filter(|_| idr);
                self.watch(dts, idr, next_idr);
                (self.trouble, self.away) = (None, false);
                self.reached.video = Some(dts);
                self.reached.shown = self.reached.shown.max(Some(dts + i64::from(cts)));
                self.video.push_back(SourceTag {
                    dts,
                    cts,
                    idr,
                    next_idr,
                    body,
                    config: self.config.clone(),
                });
            }
            _ => {}
        }
    }

    fn take_header(&mut self, header: Bytes) {
        // AVCDecoderConfigurationRecord (ISO/IEC 14496-15, 5.3.3.1): the fifth byte ends in lengthSizeMinusOne.
        if let Some(byte) = header.get(9) {
            self.nal_length_size = usize::from(byte & 3) + 1;
        }
        if self.config.as_ref().is_none_or(|present| present.header != header) {
            self.config = Some(Arc::new(TrackConfig { header, shape: self.shape }));
        }
    }

    fn watch(&mut self, dts: i64, idr: bool, next: Option<NextIdr>) {
        let coming = next.map(|(NextIdr::At(at) | NextIdr::None { last: at })| at - dts);
        let since = self.idr.newest.map(|newest| dts - newest);
        let widest = since.max(coming).unwrap_or(0);
        self.idr.widest_ms = self.idr.widest_ms.max(widest);
        self.idr.foreseen = if idr { next.is_some() } else { self.idr.foreseen };
        if idr {
            self.idr.count += 1;
            self.idr.newest = Some(dts);
            self.idr.first.get_or_insert(dts);
        }
    }

    fn push_audio(&mut self, dts: i64, body: BytesMut) {
        // Only AAC (format 10): a header (0), which is not sent because the channel has its own, or a frame (1).
        if body.len() <= 2 || body[0] >> 4 != 10 {
            return;
        }
        if body[1] == 0 {
            self.sound_config = Some(body.freeze().slice(2..));
        } else if body[1] == 1 && !is_repeated(dts, self.repeated.audio) && !self.leaps(dts, 0) {
            self.reached.audio = Some(dts);
            self.audio.push_back(SourceTag { dts, cts: 0, idr: false, next_idr: None, body, config: None });
        }
    }

    /// Whether a time cannot be right; what has it is left out, and the item with it if nothing else comes.
    fn leaps(&mut self, dts: i64, cts: i32) -> bool {
        let newest = self.reached.video.max(self.reached.audio);
        let gap = newest.map_or(0, |newest| dts.saturating_sub(newest));
        if gap <= LONGEST_GAP_MS && cts <= LONGEST_CTS_MS {
            return false;
        }
        let leap = gap.max(cts.into()) / 1000;
        self.trouble = Some(format!("its times leap by {leap} s"));
        true
    }

    /// Drops everything before the first IDR at or after `from`, in ms of the item; sound before it goes too.
    /// Returns whether there is one.
    pub fn enter_at_idr(&mut self, from: i64) -> bool {
        let Some(index) = self.video.iter().position(|t| t.idr && t.pts() >= from) else { return false };
        if index > 0 {
            self.video.drain(..index);
            let start = self.video.front().map_or(from, SourceTag::pts);
            self.audio.retain(|t| t.dts >= start);
        }
        // Pictures that follow the IDR in decoding order and precede it in presentation belong to what was left out.
        let first = self.video.front().map_or(from, SourceTag::pts);
        self.video.retain(|t| t.pts() >= first);
        true
    }
}

fn is_repeated(dts: i64, until: Option<i64>) -> bool {
    until.is_some_and(|until| dts <= until + ROUNDING_MS)
}

/// Whether a picture in AVCC form (length-prefixed NAL units) holds an IDR slice: NAL unit type 5
/// (ITU-T H.264, table 7-1). A key flag alone is not enough, because open GOPs carry it too.
pub fn has_idr(picture: &[u8], length_size: usize) -> bool {
    parameters::nal_units(picture, length_size).any(|unit| unit[0] & 0x1F == 5)
}

#[cfg(test)]
mod tests;
