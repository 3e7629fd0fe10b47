//! MPEG-TS (ISO 13818-1): one programme of H.264 and AAC. Bytes only: where segments begin is not decided here.

use super::adts::Adts;
use super::annexb::ParameterSets;
use crate::media::{Tag, TrackConfig};
use std::sync::Arc;

const PACKET: usize = 188;
const PAYLOAD: usize = 184;
const PMT_PID: u16 = 0x1000;
const VIDEO_PID: u16 = 0x100;
const AUDIO_PID: u16 = 0x101;
/// Added to channel time, so that nothing near 0 becomes negative.
const SHIFT_MS: i64 = 1000;
/// How far the programme clock is behind decoding: more than sound may wait, so that nothing comes too late.
const PCR_DELAY_MS: i64 = 400;
/// Longest time between two programme clock references (ISO 13818-1, 2.7.2), with room to spare.
const PCR_INTERVAL_MS: i64 = 80;
/// Audio frames that share one PES packet: few enough that sound is never far behind its picture.
const AUDIO_FRAMES: usize = 8;
const AUDIO_BYTES: usize = 2800;
/// A frame further than this from where the samples before it end gets a timestamp of its own.
const AUDIO_SLIP_MS: i64 = 5;
/// Longest time that sound waits to share a PES packet.
const AUDIO_WAIT_MS: i64 = 200;
/// Memory for one access unit that is kept from picture to picture.
const KEPT_SCRATCH: usize = 512 * 1024;

/// Turns tags into packets. Continuity counters go on from segment to segment.
#[derive(Default)]
pub(super) struct Muxer {
    tables: [Counter; 2],
    video: Counter,
    audio: Counter,
    sets: Known<ParameterSets>,
    adts: Known<Adts>,
    waiting: Waiting,
    last_pcr: Option<i64>,
    scratch: Vec<u8>,
    /// How much later than usual the clock begins, ms.
    later: i64,
}

impl Muxer {
    /// The clock shows `first_pts` (90 kHz, modulo 2^33) at channel time 0, to the millisecond.
    pub(super) fn beginning_at(first_pts: u64) -> Self {
        let first_ms = i64::try_from(first_pts % (1 << 33) / 90).unwrap_or_default();
        Self { later: first_ms - SHIFT_MS, ..Self::default() }
    }

    /// Starts a segment: the tables. After a discontinuity the packets say so themselves.
    pub(super) fn begin(&mut self, discontinuity: bool, out: &mut Vec<u8>) {
        self.video.torn |= discontinuity;
        self.audio.torn |= discontinuity;
        self.last_pcr = None;
        table(0, &mut self.tables[0], &[0, 1, 0xE0 | (PMT_PID >> 8) as u8, PMT_PID as u8], (0, 1), out);
        let video = VIDEO_PID.to_be_bytes();
        let audio = AUDIO_PID.to_be_bytes();
        let clock = [0xE0 | video[0], video[1], 0xF0, 0];
        let h264 = [0x1B, 0xE0 | video[0], video[1], 0xF0, 0];
        let aac = [0x0F, 0xE0 | audio[0], audio[1], 0xF0, 0];
        let streams = [&clock[..], &h264, &aac].concat();
        table(PMT_PID, &mut self.tables[1], &streams, (2, 1), out);
    }

    /// Appends a tag.
    pub(super) fn video(&mut self, tag: &Tag, out: &mut Vec<u8>) {
        if self.waiting.frames > 0 && tag.dts.saturating_sub(self.waiting.pts) > AUDIO_WAIT_MS {
            self.flush(out);
        }
        let Some(sets) = self.sets.of(&tag.config, ParameterSets::read) else { return };
        self.scratch.clear();
        let (pts, dts) = (tag.pts().saturating_add(self.later), tag.dts.saturating_add(self.later));
        pes_header(0xE0, None, pts, dts, &mut self.scratch);
        sets.append(&tag.body, tag.idr, &mut self.scratch);
        let first = Adaptation { random_access: tag.idr, pcr: Some(dts) };
        self.last_pcr = Some(tag.dts);
        packets(VIDEO_PID, &mut self.video, first, &self.scratch, out);
        self.scratch.clear();
        self.scratch.shrink_to(KEPT_SCRATCH);
    }

    /// Appends a tag, or lets it wait for a few more to share their PES packet.
    pub(super) fn audio(&mut self, tag: &Tag, out: &mut Vec<u8>) {
        if !self.waiting.takes(tag) {
            self.flush(out);
        }
        let Some(adts) = self.adts.of(&tag.config, Adts::read) else { return };
        self.waiting.add(tag, adts);
    }

    /// Appends the audio that waits. Must be called at the end of a segment.
    pub(super) fn flush(&mut self, out: &mut Vec<u8>) {
        if self.waiting.frames == 0 {
            return;
        }
        self.refresh_clock(out);
        let length = self.waiting.bytes.len() + 8;
        self.scratch.clear();
        let pts = self.waiting.pts.saturating_add(self.later);
        pes_header(0xC0, Some(length), pts, pts, &mut self.scratch);
        self.scratch.append(&mut self.waiting.bytes);
        self.waiting.frames = 0;
        let first = Adaptation { random_access: false, pcr: None };
        packets(AUDIO_PID, &mut self.audio, first, &self.scratch, out);
    }

    /// Drops the audio that waits, because its segment is lost.
    pub(super) fn forget(&mut self) {
        self.waiting = Waiting::default();
    }

    /// While the picture is held, the clock goes on in packets of its own.
    fn refresh_clock(&mut self, out: &mut Vec<u8>) {
        let now = self.waiting.pts;
        if self.last_pcr.is_none_or(|last| now.saturating_sub(last) > PCR_INTERVAL_MS) {
            self.last_pcr = Some(now);
            clock_packet(&mut self.video, now.saturating_add(self.later), out);
        }
    }
}

/// The parsed form of the newest configuration.
struct Known<T> {
    config: Option<Arc<TrackConfig>>,
    parsed: Option<T>,
}

impl<T> Default for Known<T> {
    fn default() -> Self {
        Self { config: None, parsed: None }
    }
}

impl<T> Known<T> {
    fn of(&mut self, config: &Arc<TrackConfig>, read: fn(&[u8]) -> Option<T>) -> Option<&T> {
        if !self.config.as_ref().is_some_and(|known| TrackConfig::same(known, config)) {
            self.parsed = read(&config.header);
            self.config = Some(config.clone());
        }
        self.parsed.as_ref()
    }
}

/// Audio frames that share a PES packet.
#[derive(Default)]
struct Waiting {
    bytes: Vec<u8>,
    frames: usize,
    /// Presentation time of the first, ms.
    pts: i64,
    /// Where the last one ends, ms.
    end: i64,
}

impl Waiting {
    fn takes(&self, tag: &Tag) -> bool {
        self.frames < AUDIO_FRAMES
            && self.bytes.len() + tag.body.len() <= AUDIO_BYTES
            && (self.frames == 0 || tag.dts.saturating_sub(self.end).unsigned_abs() <= AUDIO_SLIP_MS as u64)
    }

    fn add(&mut self, tag: &Tag, adts: &Adts) {
        if !adts.append(&tag.body, &mut self.bytes) {
            return;
        }
        if self.frames == 0 {
            self.pts = tag.dts;
        }
        self.frames += 1;
        self.end = self.pts.saturating_add(adts.duration_ms(self.frames));
    }
}

/// A continuity counter, and whether the next packet must say that it does not follow on.
#[derive(Default)]
struct Counter {
    next: u8,
    torn: bool,
}

impl Counter {
    fn take(&mut self) -> u8 {
        let value = self.next;
        self.next = (value + 1) & 0x0F;
        value
    }
}

/// What the first packet of an access unit says besides.
struct Adaptation {
    random_access: bool,
    pcr: Option<i64>,
}

/// Channel time as 33 bits of 90 kHz (ISO 13818-1, 2.4.3.7).
fn ticks(ms: i64) -> u64 {
    ms.wrapping_add(SHIFT_MS).wrapping_mul(90) as u64 & 0x1_FFFF_FFFF
}

fn pes_header(stream: u8, length: Option<usize>, pts: i64, dts: i64, out: &mut Vec<u8>) {
    let length = length.and_then(|length| u16::try_from(length).ok()).unwrap_or(0).to_be_bytes();
    out.extend_from_slice(&[0, 0, 1, stream, length[0], length[1], 0x84]);
    if pts == dts {
        out.extend_from_slice(&[0x80, 5]);
        out.extend_from_slice(&timestamp(2, pts));
    } else {
        out.extend_from_slice(&[0xC0, 10]);
        out.extend_from_slice(&timestamp(3, pts));
        out.extend_from_slice(&timestamp(1, dts));
    }
}

fn timestamp(prefix: u8, ms: i64) -> [u8; 5] {
    let ticks = ticks(ms);
    [
        prefix << 4 | (ticks >> 29) as u8 & 0x0E | 1,
        (ticks >> 22) as u8,
        (ticks >> 14) as u8 | 1,
        (ticks >> 7) as u8,
        (ticks << 1) as u8 | 1,
    ]
}

fn pcr(ms: i64) -> [u8; 6] {
    let base = ticks(ms.wrapping_sub(PCR_DELAY_MS));
    [
        (base >> 25) as u8,
        (base >> 17) as u8,
        (base >> 9) as u8,
        (base >> 1) as u8,
        (base << 7) as u8 | 0x7E,
        0,
    ]
}

/// Cuts a PES packet into transport packets; the last one is filled up in its adaptation field.
fn packets(pid: u16, counter: &mut Counter, first: Adaptation, pes: &[u8], out: &mut Vec<u8>) {
    out.reserve(pes.len() / PAYLOAD * PACKET + 2 * PACKET);
    let mut rest = pes;
    let mut fields = field(&first, std::mem::take(&mut counter.torn));
    let mut start = 0x40;
    while !rest.is_empty() {
        let room = PAYLOAD - fields.1;
        let (now, later) = rest.split_at(room.min(rest.len()));
        let adaptation = PAYLOAD - now.len();
        let control = if adaptation > 0 { 0x30 } else { 0x10 };
        out.extend_from_slice(&[0x47, start | (pid >> 8) as u8, pid as u8, control | counter.take()]);
        append_field(&fields.0[..fields.1], adaptation, out);
        out.extend_from_slice(now);
        (rest, fields.1, start) = (later, 0, 0);
    }
}

/// An adaptation field without its padding, and how long it is; 0 when there is nothing to say.
fn field(say: &Adaptation, torn: bool) -> ([u8; 8], usize) {
    let mut bytes = [0; 8];
    let clock = say.pcr.map(pcr);
    bytes[1] = u8::from(torn) << 7 | u8::from(say.random_access) << 6 | u8::from(clock.is_some()) << 4;
    match clock {
        Some(clock) => {
            bytes[2..].copy_from_slice(&clock);
            (bytes, 8)
        }
        None if bytes[1] != 0 => (bytes, 2),
        None => (bytes, 0),
    }
}

/// Appends an adaptation field of `size` bytes that begins with `said`.
fn append_field(said: &[u8], size: usize, out: &mut Vec<u8>) {
    let end = out.len() + size;
    if size > 0 {
        out.push((size - 1) as u8);
    }
    if size > 1 {
        out.extend_from_slice(if said.len() > 1 { &said[1..] } else { &[0] });
    }
    out.resize(end, 0xFF);
}

/// A packet with nothing but the programme clock. It has no payload, so the counter stays (2.4.3.3).
fn clock_packet(counter: &mut Counter, ms: i64, out: &mut Vec<u8>) {
    let fields = field(&Adaptation { random_access: false, pcr: Some(ms) }, counter.torn);
    let last = counter.next.wrapping_sub(1) & 0x0F;
    out.extend_from_slice(&[0x47, (VIDEO_PID >> 8) as u8, VIDEO_PID as u8, 0x20 | last]);
    append_field(&fields.0[..fields.1], PAYLOAD, out);
}

/// One packet with one section: `(table id, id within it)`.
fn table(pid: u16, counter: &mut Counter, content: &[u8], ids: (u8, u8), out: &mut Vec<u8>) {
    let end = out.len() + PACKET;
    out.extend_from_slice(&[0x47, 0x40 | (pid >> 8) as u8, pid as u8, 0x10 | counter.take(), 0]);
    let section = out.len();
    let length = (content.len() + 9) as u8;
    out.extend_from_slice(&[ids.0, 0xB0, length, 0, ids.1, 0xC1, 0, 0]);
    out.extend_from_slice(content);
    let checksum = crc32(&out[section..]);
    out.extend_from_slice(&checksum.to_be_bytes());
    out.resize(end, 0xFF);
}

/// CRC-32/MPEG-2 (ISO 13818-1, annex A), bit by bit: two short tables in four seconds.
fn crc32(bytes: &[u8]) -> u32 {
    bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte) << 24, |crc, _| {
            if crc >> 31 == 1 { crc << 1 ^ 0x04C1_1DB7 } else { crc << 1 }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Payload of a packet, past its adaptation field.
    fn payload(packet: &[u8]) -> &[u8] {
        let field = if packet[3] & 0x20 == 0 { 0 } else { 1 + usize::from(packet[4]) };
        if packet[3] & 0x10 == 0 { &[] } else { &packet[4 + field..] }
    }

    /// The programme clock in a packet, in ticks.
    fn clock(packet: &[u8]) -> Option<u64> {
        let said = packet[3] & 0x20 != 0 && packet[4] > 0 && packet[5] & 0x10 != 0;
        said.then(|| {
            packet[6..10].iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)) << 1
                | u64::from(packet[10] >> 7)
        })
    }

    #[test]
    fn the_checksum_is_that_of_mpeg() {
        assert_eq!(crc32(b"123456789"), 0x0376_E6E7);
    }

    #[test]
    fn the_clock_is_33_bits_and_wraps() {
        let wrap = (1_i64 << 33) / 90 - SHIFT_MS;
        assert_eq!(ticks(-SHIFT_MS), 0);
        assert_eq!((ticks(wrap) >> 20, ticks(wrap + 1)), (0x1FFF, 28));
        assert_eq!(timestamp(2, -SHIFT_MS), [0x21, 0, 1, 0, 1]);
        assert_eq!(timestamp(3, wrap)[0], 0x3F);
    }

    #[test]
    fn a_clock_that_begins_elsewhere_shows_that_in_its_first_packet() {
        for first in [0, 90_000, ((1 << 33) / 90 - 10_000) * 90] {
            let mut muxer = Muxer::beginning_at(first);
            let mut out = Vec::new();
            muxer.waiting = Waiting { bytes: vec![0; 50], frames: 1, pts: PCR_DELAY_MS, end: PCR_DELAY_MS };
            muxer.flush(&mut out);
            assert_eq!(out.chunks(PACKET).find_map(clock), Some(first));
        }
    }

    #[test]
    fn the_clock_goes_on_while_the_picture_is_held() {
        let mut muxer = Muxer::default();
        let mut out = Vec::new();
        muxer.begin(true, &mut out);
        for number in 0..20 {
            let pts = number * 100;
            muxer.waiting = Waiting { bytes: vec![0; 50], frames: 1, pts, end: pts };
            muxer.flush(&mut out);
        }
        let clocks: Vec<_> = out.chunks(PACKET).filter_map(clock).collect();
        assert_eq!(clocks.len(), 20);
        assert!(clocks.windows(2).all(|pair| pair[1] - pair[0] == 9_000), "{clocks:?}");
    }

    proptest! {
        #[test]
        fn every_byte_arrives(pes in prop::collection::vec(any::<u8>(), 1..1_000), idr: bool, torn: bool, at: Option<i32>) {
            let mut counter = Counter { next: 13, torn };
            let mut out = Vec::new();
            let first = Adaptation { random_access: idr, pcr: at.map(i64::from) };
            packets(VIDEO_PID, &mut counter, first, &pes, &mut out);
            let joined: Vec<u8> = out.chunks(PACKET).flat_map(payload).copied().collect();
            prop_assert_eq!(joined, pes);
            prop_assert_eq!(out.len() % PACKET, 0);
            for (number, packet) in out.chunks(PACKET).enumerate() {
                prop_assert_eq!(usize::from(packet[3] & 0x0F), (13 + number) % 16);
                prop_assert_eq!(packet[1] & 0x40 != 0, number == 0);
                prop_assert_eq!(clock(packet).is_some(), number == 0 && at.is_some());
            }
            prop_assert!(!counter.torn);
        }
    }
}
