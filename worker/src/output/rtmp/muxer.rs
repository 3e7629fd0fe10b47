//! From tags to messages: the timestamps of one connection, and headers where a decoder needs them.

use super::lease::Lease;
use super::protocol::chunk::{self, Header, kind};
use super::protocol::metadata;
use super::protocol::publish::CHUNK_SIZE;
use super::tuning::Tuning;
use crate::media::{Tag, Track, TrackConfig};
use state::destination::Boundary;
use state::wire::DestinationSpec;
use std::sync::Arc;

/// Why a tag belongs to a new connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    /// The connection is old.
    Age,
    /// Its parameters differ, and the destination must not see that.
    Parameters,
    /// Somebody asked for it.
    Asked,
}

/// Turns tags into messages with the timestamps of this connection, headers where they are needed.
pub(super) struct Muxer {
    stream: u32,
    boundary: Boundary,
    first_timestamp: u64,
    lease: Lease,
    /// The next IDR begins a new connection.
    asked: bool,
    /// Channel time of the first IDR; nothing is sent before it.
    base: Option<i64>,
    /// Age of the newest picture, ms.
    age_ms: u64,
    video: Option<Arc<TrackConfig>>,
    audio: Option<Arc<TrackConfig>>,
}

impl Muxer {
    pub(super) fn new(stream: u32, spec: &DestinationSpec, tuning: &Tuning) -> Self {
        Self {
            stream,
            boundary: spec.boundary,
            first_timestamp: u64::from(spec.first_timestamp_ms),
            lease: Lease::of(spec, tuning),
            asked: false,
            base: None,
            age_ms: 0,
            video: None,
            audio: None,
        }
    }

    /// Follows new words about the same connection.
    pub(super) fn adopt(&mut self, spec: &DestinationSpec, tuning: &Tuning) {
        (self.boundary, self.lease) = (spec.boundary, Lease::of(spec, tuning));
    }

    /// The next IDR shall begin a new connection.
    pub(super) fn ask_for_renewal(&mut self) {
        self.asked = true;
    }

    /// How long the session will last still, once that is near its end.
    pub(super) fn session_ends_in(&self) -> Option<std::time::Duration> {
        self.lease.ending_in(self.age_ms)
    }

    /// Appends a tag. `Some` when it belongs to a new connection and was not appended.
    pub(super) fn write(
        &mut self,
        tag: &Tag,
        audio: Option<&Arc<TrackConfig>>,
        out: &mut Vec<u8>,
    ) -> Option<Due> {
        let base = self.base.or(tag.idr.then_some(tag.dts))?;
        let age = u64::try_from(tag.dts - base).ok()?;
        let time = self.first_timestamp + age;
        if self.base.is_none() {
            self.base = Some(base);
            self.audio = audio.cloned();
            self.announce(tag, audio, time, out);
        } else if let Some(due) = self.due(tag, age) {
            return Some(due);
        } else if self.differs(tag) {
            self.announce(tag, None, time, out);
        }
        if tag.track == Track::Video {
            self.age_ms = age;
            self.video = Some(Arc::clone(&tag.config));
        }
        self.message(kind_of(tag.track), time, &tag.body, out);
        None
    }

    fn due(&self, tag: &Tag, age: u64) -> Option<Due> {
        if tag.idr && self.asked {
            return Some(Due::Asked);
        }
        // Every feed reads its own headers, so that other ones tell where an item begins, even if they are the same.
        let begins = || self.video.as_ref().is_none_or(|video| !Arc::ptr_eq(video, &tag.config));
        if tag.idr && self.lease.is_due(age, begins()) {
            return Some(Due::Age);
        }
        let known = self.config(tag.track).is_some();
        (self.boundary != Boundary::Continuous && known && self.differs(tag)).then_some(Due::Parameters)
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

    fn spec(boundary: Boundary) -> DestinationSpec {
        let (id, key) = ("test".parse().unwrap(), state::secret::Secret::new("k"));
        let platform = state::destination::Platform::Custom;
        DestinationSpec { boundary, ..DestinationSpec::new(id, "T", platform, "rtmp://h/a", key) }
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
            assert_eq!(muxer.write(tag, audio, &mut out), None, "{tag:?}");
        }
        read(&out)
    }

    fn texts(messages: &[(u32, String)]) -> Vec<(u32, &str)> {
        messages.iter().map(|(time, text)| (*time, text.as_str())).collect()
    }

    #[test]
    fn a_connection_begins_with_its_first_idr_at_zero() {
        let (video, audio) = (config("avc"), config("aac"));
        let mut muxer = Muxer::new(1, &spec(Boundary::Continuous), &Tuning::default());
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
        let mut muxer = Muxer::new(1, &spec(Boundary::Continuous), &Tuning::default());
        let tags = [tag(Track::Video, 0, true, &video), tag(Track::Audio, 9, false, &audio)];
        let messages = written(&mut muxer, &tags, None);
        let expected = [(0, "meta"), (0, "avc"), (0, "body"), (9, "meta"), (9, "aac"), (9, "body")];
        assert_eq!(texts(&messages), expected);
    }

    #[test]
    fn only_other_parameters_get_a_header() {
        let mut muxer = Muxer::new(1, &spec(Boundary::Continuous), &Tuning::default());
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
        let tuning = Tuning { planned_reconnect_ms: 1000, renewal_window_ms: 100, ..Tuning::default() };
        let mut muxer = Muxer::new(1, &spec(Boundary::Continuous), &tuning);
        let tags = [(0, true), (999, true), (1000, true), (1100, false)];
        written(&mut muxer, &tags.map(|(dts, idr)| tag(Track::Video, dts, idr, &video)), None);
        assert_eq!(
            muxer.write(&tag(Track::Video, 1200, true, &video), None, &mut Vec::new()),
            Some(Due::Age)
        );
    }

    #[test]
    fn the_beginning_of_an_item_is_taken_where_one_comes_in_time() {
        let (one, two) = (config("avc"), config("avc"));
        let tuning = Tuning { planned_reconnect_ms: 1000, renewal_window_ms: 60_000, ..Tuning::default() };
        let mut muxer = Muxer::new(1, &spec(Boundary::Continuous), &tuning);
        let before = [(0, &one), (500, &two), (1000, &two), (2000, &two)];
        written(&mut muxer, &before.map(|(dts, config)| tag(Track::Video, dts, true, config)), None);
        assert_eq!(muxer.write(&tag(Track::Video, 3000, true, &one), None, &mut Vec::new()), Some(Due::Age));
    }

    #[test]
    fn other_parameters_ask_for_a_new_connection_where_they_must_not_be_seen() {
        for boundary in [Boundary::Uniform, Boundary::Reconnect] {
            let mut muxer = Muxer::new(1, &spec(boundary), &Tuning::default());
            let same =
                [(0, "avc"), (40, "avc")].map(|(dts, name)| tag(Track::Video, dts, true, &config(name)));
            assert_eq!(written(&mut muxer, &same, None).len(), 4);
            let other = tag(Track::Video, 80, true, &config("new"));
            assert_eq!(muxer.write(&other, None, &mut Vec::new()), Some(Due::Parameters), "{boundary:?}");
        }
    }

    #[test]
    fn where_it_is_asked_for_the_next_idr_begins_a_new_connection() {
        let video = config("avc");
        let mut muxer = Muxer::new(1, &spec(Boundary::Continuous), &Tuning::default());
        written(&mut muxer, &[tag(Track::Video, 0, true, &video)], None);
        muxer.ask_for_renewal();
        written(&mut muxer, &[tag(Track::Video, 40, false, &video)], None);
        assert_eq!(
            muxer.write(&tag(Track::Video, 80, true, &video), None, &mut Vec::new()),
            Some(Due::Asked)
        );
    }
}
