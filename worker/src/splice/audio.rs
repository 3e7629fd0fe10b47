//! The sound lane: frames back to back on a sample clock. Whole frames are dropped or silent ones inserted so that
//! a consumer that counts samples and one that reads times agree for months.

use super::Placed;
use crate::media::{Shape, Tag, Track, TrackConfig};
use bytes::Bytes;
use state::profile::Profile;
use state::wire::Counts;
use std::collections::VecDeque;
use std::sync::Arc;

/// Samples in an AAC-LC frame (ISO/IEC 14496-3).
const FRAME_SAMPLES: u64 = 1024;
/// How far a frame may lie off the grid inside a feed, ms, before frames are dropped or inserted.
const LOOSE_MS: f64 = 24.0;

#[derive(Debug)]
pub(super) struct AudioLane {
    /// The feed whose sound is sent, and those that follow it.
    feeds: VecDeque<Part>,
    sample_rate: u32,
    epoch_ms: i64,
    frames: u64,
    config: Arc<TrackConfig>,
    silence: Bytes,
}

#[derive(Debug)]
struct Part {
    placed: Placed,
    /// The next feed takes over here; absent while there is none.
    until: Option<i64>,
    /// No frame of it has been sent: it must still be laid on the grid.
    fresh: bool,
}

/// What the lane has to offer at its clock's time.
enum Offer {
    Frame,
    Silence,
    Nothing,
}

impl AudioLane {
    pub(super) fn new(profile: &Profile, epoch_ms: i64) -> Self {
        let (sample_rate, channels) = (profile.sample_rate, profile.channels);
        let shape = Shape::Audio { sample_rate, channels, kbps: profile.audio_kbps };
        let header = Bytes::from(sequence_header(sample_rate, channels));
        Self {
            feeds: VecDeque::new(),
            sample_rate,
            epoch_ms,
            frames: 0,
            config: Arc::new(TrackConfig { header, shape }),
            silence: Bytes::from_static(silent_frame(channels)),
        }
    }

    fn clock(&self) -> f64 {
        let samples = (self.frames * FRAME_SAMPLES) as f64;
        self.epoch_ms as f64 + samples * 1000.0 / f64::from(self.sample_rate)
    }

    /// Time of the next frame, ms of channel time.
    pub(super) fn clock_ms(&self) -> i64 {
        self.clock().round() as i64
    }

    fn half_frame(&self) -> f64 {
        FRAME_SAMPLES as f64 * 500.0 / f64::from(self.sample_rate)
    }

    /// The lane's end where silence has carried it past `end`; `end` otherwise.
    pub(super) fn end_if_ahead(&self, end: i64) -> i64 {
        if self.clock() > end as f64 + self.half_frame() { self.clock_ms() } else { end }
    }

    pub(super) fn switch(&mut self, placed: Placed, at: i64) {
        if let Some(last) = self.feeds.back_mut() {
            last.until = Some(at);
        }
        self.feeds.push_back(Part { placed, until: None, fresh: true });
    }

    /// Time of the next frame, or `None` when there is none yet, or none before `limit`.
    pub(super) fn next(&mut self, limit: Option<i64>, counts: &mut Counts) -> Option<i64> {
        let centre = self.clock() + self.half_frame();
        while self.feeds.len() > 1 && self.feeds[0].until.is_some_and(|until| centre >= until as f64) {
            self.feeds.pop_front();
        }
        if limit.is_some_and(|limit| centre >= limit as f64) {
            return None;
        }
        match self.offer(counts) {
            Offer::Nothing => None,
            Offer::Frame | Offer::Silence => Some(self.clock_ms()),
        }
    }

    fn offer(&self, counts: &mut Counts) -> Offer {
        let Some(part) = self.feeds.front() else { return Offer::Nothing };
        let clock = self.clock();
        let slack = if part.fresh { self.half_frame() } else { LOOSE_MS };
        let mut buffer = part.placed.feed.buffer();
        while let Some(frame) = buffer.audio.front() {
            let at = (frame.dts + part.placed.offset) as f64;
            if at > clock + slack {
                return Offer::Silence;
            }
            if at >= clock - slack {
                return Offer::Frame;
            }
            buffer.audio.pop_front();
            counts.dropped_audio += 1;
        }
        let pictures_end = buffer.video.back().map_or(i64::MIN, |t| t.dts + part.placed.offset);
        let none_coming = !buffer.has_audio
            || buffer.end.is_some()
            || part.until.is_some()
            || pictures_end > clock as i64 + buffer.skew_ms();
        if none_coming { Offer::Silence } else { Offer::Nothing }
    }

    pub(super) fn emit(&mut self, out: &mut Vec<Tag>, counts: &mut Counts) {
        match self.offer(counts) {
            Offer::Frame => {
                let Some(part) = self.feeds.front_mut() else { return };
                part.fresh = false;
                let frame = part.placed.feed.buffer().audio.pop_front();
                if let Some(frame) = frame {
                    self.push(frame.body.freeze(), out);
                }
            }
            Offer::Silence | Offer::Nothing => self.emit_silence(out, counts),
        }
    }

    pub(super) fn emit_silence(&mut self, out: &mut Vec<Tag>, counts: &mut Counts) {
        counts.silent_frames += 1;
        self.push(self.silence.clone(), out);
    }

    fn push(&mut self, body: Bytes, out: &mut Vec<Tag>) {
        let dts = self.clock_ms();
        let config = Arc::clone(&self.config);
        out.push(Tag { track: Track::Audio, dts, cts: 0, idr: false, next_idr: None, body, config });
        self.frames += 1;
    }
}

/// FLV tag body of an AAC sequence header: the AudioSpecificConfig of AAC-LC (ISO/IEC 14496-3, 1.6.2.1) in its
/// shortest form, whatever form the files bring.
fn sequence_header(sample_rate: u32, channels: u8) -> Vec<u8> {
    const RATES: [u32; 13] = [
        96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000, 7_350,
    ];
    let index = RATES.iter().position(|&r| r == sample_rate).unwrap_or(3) as u16;
    let config: u16 = 2 << 11 | index << 7 | u16::from(channels) << 3;
    [&[0xAF, 0][..], &config.to_be_bytes()].concat()
}

/// FLV tag body of one AAC-LC frame that decodes to digital silence at any of the profile's rates.
fn silent_frame(channels: u8) -> &'static [u8] {
    match channels {
        1 => &[0xAF, 1, 0x00, 0xC8, 0x00, 0x80, 0x23, 0x80],
        _ => &[0xAF, 1, 0x21, 0x00, 0x49, 0x90, 0x02, 0x19, 0x00, 0x23, 0x80],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequence_headers_are_the_shortest_form() {
        assert_eq!(sequence_header(48_000, 2), [0xAF, 0, 0x11, 0x90]);
        assert_eq!(sequence_header(48_000, 1), [0xAF, 0, 0x11, 0x88]);
        assert_eq!(sequence_header(44_100, 2), [0xAF, 0, 0x12, 0x10]);
    }
}
