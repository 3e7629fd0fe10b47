//! What a feed has read and the splice has not taken yet. Plain data: the reader fills it, the splice drains it,
//! tests fill it by hand.

use super::flv::{Kind, RawTag};
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
        let Shape::Video { fps, .. } = self.shape else { return self.end.is_some() };
        let frame_ms = 1000.0 / fps.max(1.0);
        let last = self.reached.shown.zip(self.pictures_end_ms);
        self.end.is_some() || last.is_some_and(|(shown, end)| shown as f64 + 1.5 * frame_ms >= end as f64)
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

    /// Milliseconds of pictures in hand.
    pub fn ahead_ms(&self) -> i64 {
        match (self.video.front(), self.video.back()) {
            (Some(first), Some(last)) => last.dts - first.dts,
            _ => 0,
        }
    }

    /// Bytes in hand.
    pub fn bytes(&self) -> usize {
        self.video.iter().chain(&self.audio).map(|t| t.body.len()).sum()
    }

    /// Takes in a tag as FFmpeg wrote it.
    pub fn push(&mut self, tag: RawTag) {
        let dts = tag.at_ms - TIME_SHIFT_MS + self.shift_ms;
        match tag.kind {
            Kind::Video => self.push_video(dts, tag.body),
            Kind::Audio => self.push_audio(dts, tag.body),
            Kind::Other => {}
        }
    }

    fn push_video(&mut self, dts: i64, mut body: BytesMut) {
        // Only AVC (codec 7): header (0), picture (1); an end of sequence (2) means nothing here.
        if body.len() < 5 || body[0] & 0x0F != 7 {
            return;
        }
        match body[1] {
            0 => self.take_header(body.freeze()),
            1 => {
                let Some(config) = self.config.clone() else { return };
                if is_repeated(dts, self.repeated.video) {
                    return;
                }
                let flagged = body[0] >> 4 == 1;
                let idr = flagged && has_idr(&body[5..], self.nal_length_size);
                if flagged && !idr {
                    self.idr.false_keys += 1;
                    body[0] = 0x27;
                }
                self.watch(dts, idr);
                let cts = i32::from_be_bytes([body[2], body[3], body[4], 0]) >> 8;
                (self.trouble, self.away) = (None, false);
                self.reached.video = Some(dts);
                self.reached.shown = self.reached.shown.max(Some(dts + i64::from(cts)));
                self.video.push_back(SourceTag { dts, cts, idr, body, config: Some(config) });
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

    fn watch(&mut self, dts: i64, idr: bool) {
        if let Some(newest) = self.idr.newest {
            self.idr.widest_ms = self.idr.widest_ms.max(dts - newest);
        }
        if idr {
            self.idr.count += 1;
            self.idr.newest = Some(dts);
            self.idr.first.get_or_insert(dts);
        }
    }

    fn push_audio(&mut self, dts: i64, body: BytesMut) {
        // Only AAC (format 10), and of it only frames (1): the header (0) is the channel's own.
        if body.len() > 2 && body[0] >> 4 == 10 && body[1] == 1 && !is_repeated(dts, self.repeated.audio) {
            self.reached.audio = Some(dts);
            self.audio.push_back(SourceTag { dts, cts: 0, idr: false, body, config: None });
        }
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
pub fn has_idr(mut nals: &[u8], length_size: usize) -> bool {
    while nals.len() > length_size {
        let (length, rest) = nals.split_at(length_size);
        let length = length.iter().fold(0usize, |n, &b| n << 8 | usize::from(b));
        if rest[0] & 0x1F == 5 {
            return true;
        }
        if length == 0 || length >= rest.len() {
            return false;
        }
        nals = &rest[length..];
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn video(at: i64, kind: u8, cts: i32, nal: u8) -> RawTag {
        let cts = cts.to_be_bytes();
        let body = [kind, 1, cts[1], cts[2], cts[3], 0, 0, 0, 2, nal, 0xFF];
        RawTag { kind: Kind::Video, at_ms: at + TIME_SHIFT_MS, body: BytesMut::from(&body[..]) }
    }

    fn header() -> RawTag {
        let body = [0x17, 0, 0, 0, 0, 1, 100, 0, 31, 0xFF];
        RawTag { kind: Kind::Video, at_ms: TIME_SHIFT_MS, body: BytesMut::from(&body[..]) }
    }

    fn buffer() -> Buffer {
        let mut buffer = Buffer::new(Shape::Video { width: 16, height: 16, fps: 25.0, kbps: 0 }, true);
        buffer.push(header());
        buffer
    }

    #[test]
    fn a_key_flag_is_not_an_idr() {
        let mut buffer = buffer();
        buffer.push(video(0, 0x17, 80, 0x65));
        buffer.push(video(40, 0x27, -40, 0x41));
        buffer.push(video(2000, 0x17, 0, 0x41));
        let seen: Vec<_> = buffer.video.iter().map(|t| (t.dts, t.cts, t.idr, t.body[0])).collect();
        assert_eq!(seen, [(0, 80, true, 0x17), (40, -40, false, 0x27), (2000, 0, false, 0x27)]);
        assert_eq!((buffer.idr().count, buffer.idr().false_keys, buffer.idr().widest_ms), (1, 1, 2000));
    }

    #[test]
    fn entering_drops_what_belongs_to_the_gop_before() {
        let mut buffer = buffer();
        for (at, cts, nal) in [(0, 40, 0x65), (40, 40, 0x41), (80, 80, 0x65), (120, 0, 0x41), (160, 40, 0x41)]
        {
            buffer.push(video(at, if nal == 0x65 { 0x17 } else { 0x27 }, cts, nal));
        }
        assert!(buffer.enter_at_idr(100));
        assert_eq!(buffer.video.iter().map(SourceTag::pts).collect::<Vec<_>>(), [160, 200]);
        assert!(!buffer.enter_at_idr(5000));
    }

    #[test]
    fn a_second_child_repeats_nothing_and_leaves_nothing_out() {
        let mut buffer = buffer();
        for at in [0, 40, 80, 120] {
            buffer.push(video(at, if at == 0 { 0x17 } else { 0x27 }, 40, if at == 0 { 0x65 } else { 0x41 }));
        }
        // It begins 20 ms before, sends the header again, and its times are a millisecond off.
        buffer.go_on(60);
        buffer.push(header());
        for at in [-60, -21, 21, 59, 100, 141] {
            buffer.push(video(at, 0x27, 40, 0x41));
        }
        let times: Vec<_> = buffer.video.iter().map(|t| t.dts).collect();
        assert_eq!(times, [0, 40, 80, 120, 160, 201]);
        assert_eq!(buffer.reached(), Reached { video: Some(201), shown: Some(241), audio: None });
    }

    #[test]
    fn cutting_back_leaves_whole_groups_of_pictures() {
        let mut buffer = buffer();
        for (at, nal) in [(0, 0x65), (40, 0x41), (80, 0x65), (120, 0x41)] {
            buffer.push(video(at, if nal == 0x65 { 0x17 } else { 0x27 }, 40, nal));
        }
        assert_eq!(buffer.cut_back(), Some(120));
        assert_eq!(buffer.video.iter().map(|t| t.dts).collect::<Vec<_>>(), [0, 40]);
        buffer.go_on(119);
        buffer.push(video(-39, 0x17, 40, 0x65));
        assert_eq!(buffer.video.back().map(|t| (t.dts, t.idr)), Some((80, true)));
    }

    proptest! {
        #[test]
        fn arbitrary_bodies_never_panic(kind in 0u8..3, body in prop::collection::vec(any::<u8>(), 0..80), at in any::<i32>()) {
            let kind = [Kind::Video, Kind::Audio, Kind::Other][usize::from(kind)];
            let mut buffer = buffer();
            buffer.push(RawTag { kind, at_ms: i64::from(at), body: BytesMut::from(&body[..]) });
            buffer.enter_at_idr(0);
        }
    }
}
