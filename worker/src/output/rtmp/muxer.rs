//! From tags to messages: the timestamps of one connection, and headers where a decoder needs them.

use super::protocol::chunk::{self, Header, kind};
use super::protocol::metadata;
use super::protocol::publish::CHUNK_SIZE;
use super::tuning::Tuning;
use crate::media::{Tag, Track, TrackConfig};
use state::destination::Boundary;
use std::sync::Arc;

/// Turns tags into messages with the timestamps of this connection, headers where they are needed.
pub(super) struct Muxer {
    stream: u32,
    boundary: Boundary,
    first_timestamp: u64,
    planned_reconnect: u64,
    /// Channel time of the first IDR; nothing is sent before it.
    base: Option<i64>,
    video: Option<Arc<TrackConfig>>,
    audio: Option<Arc<TrackConfig>>,
}

impl Muxer {
    pub(super) fn new(stream: u32, boundary: Boundary, tuning: &Tuning) -> Self {
        Self {
            stream,
            boundary,
            first_timestamp: u64::from(tuning.first_timestamp_ms),
            planned_reconnect: tuning.planned_reconnect_ms,
            base: None,
            video: None,
            audio: None,
        }
    }

    /// Appends a tag. False when it belongs to a new connection and was not appended.
    pub(super) fn write(&mut self, tag: &Tag, audio: Option<&Arc<TrackConfig>>, out: &mut Vec<u8>) -> bool {
        let Some(base) = self.base.or(tag.idr.then_some(tag.dts)) else { return true };
        let Ok(age) = u64::try_from(tag.dts - base) else { return true };
        let time = self.first_timestamp + age;
        if self.base.is_none() {
            self.base = Some(base);
            self.audio = audio.cloned();
            self.announce(tag, audio, time, out);
        } else if self.is_reconnect_due(tag, time) {
            return false;
        } else if self.differs(tag) {
            self.announce(tag, None, time, out);
        }
        self.message(kind_of(tag.track), time, &tag.body, out);
        true
    }

    fn is_reconnect_due(&self, tag: &Tag, time: u64) -> bool {
        let old = tag.idr && time >= self.planned_reconnect;
        let known = |track| self.config(track).is_some();
        old || (self.boundary == Boundary::Reconnect && known(tag.track) && self.differs(tag))
    }

    fn differs(&self, tag: &Tag) -> bool {
        !self.config(tag.track).is_some_and(|sent| TrackConfig::same(sent, &tag.config))
    }

    fn config(&self, track: Track) -> Option<&Arc<TrackConfig>> {
        match track {
            Track::Video => self.video.as_ref(),
            Track::Audio => self.audio.as_ref(),
        }
    }

    /// onMetaData and the header of the tag's track; `audio` where its header is due too.
    fn announce(&mut self, tag: &Tag, audio: Option<&Arc<TrackConfig>>, time: u64, out: &mut Vec<u8>) {
        match tag.track {
            Track::Video => self.video = Some(Arc::clone(&tag.config)),
            Track::Audio => self.audio = Some(Arc::clone(&tag.config)),
        }
        let body = metadata::body(self.video.as_deref(), self.audio.as_deref());
        self.message(kind::DATA, time, &body, out);
        self.message(kind_of(tag.track), time, &tag.config.header, out);
        if let Some(audio) = audio {
            self.message(kind::AUDIO, time, &audio.header, out);
        }
    }

    fn message(&self, kind: u8, time: u64, body: &[u8], out: &mut Vec<u8>) {
        let chunk_stream = match kind {
            kind::AUDIO => 4,
            kind::VIDEO => 6,
            _ => 5,
        };
        let header = Header { chunk_stream, timestamp: time as u32, kind, stream: self.stream };
        chunk::write(out, CHUNK_SIZE, header, body);
    }
}

fn kind_of(track: Track) -> u8 {
    match track {
        Track::Video => kind::VIDEO,
        Track::Audio => kind::AUDIO,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::Shape;
    use crate::output::rtmp::protocol::chunk::Reader;
    use bytes::Bytes;

    fn config(header: &'static str) -> Arc<TrackConfig> {
        let shape = Shape::Audio { sample_rate: 48_000, channels: 2, kbps: 0 };
        Arc::new(TrackConfig { header: Bytes::from_static(header.as_bytes()), shape })
    }

    fn tag(track: Track, dts: i64, idr: bool, config: &Arc<TrackConfig>) -> Tag {
        let body = Bytes::from_static(b"body");
        Tag { track, dts, cts: 0, idr, next_idr: None, body, config: Arc::clone(config) }
    }

    /// What a receiver makes of it: time and text of every message but metadata, which is `meta`.
    fn read(bytes: &[u8]) -> Vec<(u32, String)> {
        let mut reader = Reader::default();
        reader.set_size(CHUNK_SIZE as u32).unwrap();
        reader.feed(bytes);
        let message = || reader.next_message().unwrap();
        let text = |message: chunk::Message| match message.header.kind {
            kind::DATA => (message.header.timestamp, "meta".to_owned()),
            _ => (message.header.timestamp, String::from_utf8(message.body.to_vec()).unwrap()),
        };
        std::iter::from_fn(message).map(text).collect()
    }

    fn written(muxer: &mut Muxer, tags: &[Tag], audio: Option<&Arc<TrackConfig>>) -> Vec<(u32, String)> {
        let mut out = Vec::new();
        for tag in tags {
            assert!(muxer.write(tag, audio, &mut out), "{tag:?}");
        }
        read(&out)
    }

    fn texts(messages: &[(u32, String)]) -> Vec<(u32, &str)> {
        messages.iter().map(|(time, text)| (*time, text.as_str())).collect()
    }

    #[test]
    fn a_connection_begins_with_its_first_idr_at_zero() {
        let (video, audio) = (config("avc"), config("aac"));
        let mut muxer = Muxer::new(1, Boundary::Continuous, &Tuning::default());
        let tags = [
            tag(Track::Video, 4960, false, &video),
            tag(Track::Audio, 4990, false, &audio),
            tag(Track::Video, 5000, true, &video),
            tag(Track::Audio, 4995, false, &audio),
            tag(Track::Audio, 5011, false, &audio),
        ];
        let messages = written(&mut muxer, &tags, Some(&audio));
        assert_eq!(texts(&messages), [(0, "meta"), (0, "avc"), (0, "aac"), (0, "body"), (11, "body")]);
    }

    #[test]
    fn sound_that_is_not_known_at_the_beginning_is_announced_when_it_comes() {
        let (video, audio) = (config("avc"), config("aac"));
        let mut muxer = Muxer::new(1, Boundary::Continuous, &Tuning::default());
        let tags = [tag(Track::Video, 0, true, &video), tag(Track::Audio, 9, false, &audio)];
        let messages = written(&mut muxer, &tags, None);
        let expected = [(0, "meta"), (0, "avc"), (0, "body"), (9, "meta"), (9, "aac"), (9, "body")];
        assert_eq!(texts(&messages), expected);
    }

    #[test]
    fn only_other_parameters_get_a_header() {
        let mut muxer = Muxer::new(1, Boundary::Continuous, &Tuning::default());
        let tags = [
            tag(Track::Video, 0, true, &config("avc")),
            tag(Track::Video, 40, true, &config("avc")),
            tag(Track::Video, 80, true, &config("new")),
        ];
        let messages = written(&mut muxer, &tags, None);
        assert_eq!(texts(&messages)[3..], [(40, "body"), (80, "meta"), (80, "new"), (80, "body")]);
    }

    #[test]
    fn an_idr_past_the_limit_and_no_other_picture_asks_for_a_new_connection() {
        let video = config("avc");
        let tuning = Tuning { planned_reconnect_ms: 1000, ..Tuning::default() };
        let mut muxer = Muxer::new(1, Boundary::Continuous, &tuning);
        let tags =
            [(0, true), (999, true), (1100, false)].map(|(dts, idr)| tag(Track::Video, dts, idr, &video));
        written(&mut muxer, &tags, None);
        assert!(!muxer.write(&tag(Track::Video, 1200, true, &video), None, &mut Vec::new()));
    }
}
