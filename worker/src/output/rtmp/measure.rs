//! What one connection is really sent: rates, distances between IDR pictures, sizes. Pure; time is that of the media.

use crate::media::{Shape, Tag, Track, TrackConfig};
use std::collections::VecDeque;
use std::sync::Arc;

/// Whole seconds over which rates are taken.
const SECONDS: usize = 10;
/// Distances between IDR pictures that are remembered.
const DISTANCES: usize = 16;

/// What was sent lately.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Sent {
    /// kbit/s over ten seconds; 0 while there are fewer.
    pub(super) video_kbps: u32,
    /// The same for sound.
    pub(super) audio_kbps: u32,
    /// Largest of the last distances between two IDR pictures, ms; the present one counts once it is longer.
    pub(super) idr_ms: u64,
    /// Pictures in a second, over ten seconds; 0 while there are fewer.
    pub(super) fps: f64,
    /// Pixels of the newest picture.
    pub(super) size: Option<(u32, u32)>,
    /// Hz and channels of the newest sound.
    pub(super) sound: Option<(u32, u8)>,
    /// Changes of size within this connection.
    pub(super) resized: u32,
}

/// One second of media.
#[derive(Debug, Clone, Copy, Default)]
struct Second {
    at: i64,
    video_bytes: usize,
    audio_bytes: usize,
    pictures: u32,
}

/// Counts while it is sent.
#[derive(Debug, Default)]
pub(super) struct Measure {
    seconds: VecDeque<Second>,
    distances: VecDeque<i64>,
    idr_at: Option<i64>,
    newest: i64,
    configs: [Option<Arc<TrackConfig>>; 2],
    sent: Sent,
}

impl Measure {
    /// Takes note of a tag.
    pub(super) fn note(&mut self, tag: &Tag) {
        self.newest = self.newest.max(tag.dts);
        let second = self.second(tag.dts.div_euclid(1000));
        match tag.track {
            Track::Audio => second.audio_bytes += tag.body.len(),
            Track::Video => {
                second.video_bytes += tag.body.len();
                second.pictures += 1;
            }
        }
        if tag.idr {
            self.idr(tag.dts);
        }
        let slot = &mut self.configs[usize::from(tag.track == Track::Audio)];
        if !slot.as_ref().is_some_and(|known| Arc::ptr_eq(known, &tag.config)) {
            *slot = Some(Arc::clone(&tag.config));
            self.reshape(&tag.config.shape);
        }
    }

    /// The figures of this moment.
    pub(super) fn sent(&self) -> Sent {
        let mut sent = self.sent.clone();
        let idle = self.idr_at.map_or(0, |at| self.newest - at);
        sent.idr_ms = self.distances.iter().copied().chain([idle]).max().unwrap_or(0).unsigned_abs();
        if self.seconds.len() > SECONDS {
            // The newest second is not over.
            let whole = || self.seconds.iter().rev().skip(1).take(SECONDS);
            let kbps = |bytes: usize| u32::try_from(bytes * 8 / 1000 / SECONDS).unwrap_or(u32::MAX);
            sent.video_kbps = kbps(whole().map(|s| s.video_bytes).sum());
            sent.audio_kbps = kbps(whole().map(|s| s.audio_bytes).sum());
            sent.fps = f64::from(whole().map(|s| s.pictures).sum::<u32>()) / SECONDS as f64;
        }
        sent
    }

    /// Sound and picture do not come in step, so a tag may belong to the second before the newest.
    fn second(&mut self, at: i64) -> &mut Second {
        if self.seconds.back().is_none_or(|newest| newest.at < at) {
            self.seconds.push_back(Second { at, ..Second::default() });
            if self.seconds.len() > SECONDS + 1 {
                self.seconds.pop_front();
            }
        }
        let found = self.seconds.iter().rposition(|second| second.at <= at).unwrap_or(0);
        &mut self.seconds[found]
    }

    fn idr(&mut self, at: i64) {
        if let Some(before) = self.idr_at.replace(at) {
            self.distances.push_back(at - before);
            if self.distances.len() > DISTANCES {
                self.distances.pop_front();
            }
        }
    }

    fn reshape(&mut self, shape: &Shape) {
        match *shape {
            Shape::Video { width, height, .. } => {
                let before = self.sent.size.replace((width, height));
                self.sent.resized += u32::from(before.is_some_and(|before| before != (width, height)));
            }
            Shape::Audio { sample_rate, channels, .. } => self.sent.sound = Some((sample_rate, channels)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn config(shape: Shape) -> Arc<TrackConfig> {
        Arc::new(TrackConfig { header: Bytes::new(), shape })
    }

    /// 25 pictures of 5,000 bytes a second, an IDR every `gop` pictures, and 50 sounds of 400 bytes.
    fn play(measure: &mut Measure, seconds: std::ops::Range<i64>, gop: i64, width: u32) {
        let video = config(Shape::Video { width, height: 360, fps: 25.0, kbps: 0 });
        let audio = config(Shape::Audio { sample_rate: 44_100, channels: 2, kbps: 0 });
        let tag = |track, dts, idr, length: usize, config: &Arc<TrackConfig>| {
            let body = Bytes::from(vec![0; length]);
            Tag { track, dts, cts: 0, idr, next_idr: None, body, config: Arc::clone(config) }
        };
        for picture in seconds.start * 25..seconds.end * 25 {
            measure.note(&tag(Track::Video, picture * 40, picture % gop == 0, 5_000, &video));
            for half in 0..2 {
                measure.note(&tag(Track::Audio, picture * 40 - 60 + half * 20, false, 400, &audio));
            }
        }
    }

    #[test]
    fn rates_are_those_of_the_last_ten_whole_seconds() {
        let mut measure = Measure::default();
        play(&mut measure, 0..9, 50, 640);
        assert_eq!((measure.sent().video_kbps, measure.sent().fps), (0, 0.0), "too early to say");
        play(&mut measure, 9..30, 50, 640);
        let sent = measure.sent();
        assert_eq!((sent.video_kbps, sent.audio_kbps, sent.fps), (1000, 160, 25.0));
        assert_eq!((sent.idr_ms, sent.size, sent.sound), (2000, Some((640, 360)), Some((44_100, 2))));
    }

    #[test]
    fn an_idr_that_does_not_come_is_noticed_and_a_change_of_size_is_counted() {
        let mut measure = Measure::default();
        play(&mut measure, 0..4, 50, 640);
        play(&mut measure, 4..12, 10_000, 640);
        assert_eq!(measure.sent().idr_ms, 9_960);
        play(&mut measure, 12..100, 25, 1280);
        assert_eq!((measure.sent().idr_ms, measure.sent().resized), (1000, 1));
    }
}
