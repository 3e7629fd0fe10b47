//! Tags on their way through the worker: read ahead, laid on the timeline, cut into segments.

use state::profile::Profile;
use std::sync::Arc;
use stream_worker::media::{Shape, Tag, Track};
use stream_worker::output::hls;
use stream_worker::source::buffer::{Buffer, End};
use stream_worker::source::feed::Feed;
use stream_worker::source::flv::RawTag;
use stream_worker::splice::Group;

/// How far the timeline is advanced for each item, ms: sound is made for all of it.
const UNTIL_MS: i64 = 2_000;

/// Plays these tags as one item, and once more as the next.
///
/// # Panics
/// When a decoding time does not grow, or a picture is shown before it is decoded.
pub fn play(tags: impl Iterator<Item = RawTag> + Clone) {
    let mut group = Group::new(&Profile::default());
    let mut out = Vec::new();
    for number in 1..=2 {
        let mut buffer = Buffer::new(Shape::Video { width: 64, height: 64, fps: 25.0, kbps: 0 }, true);
        tags.clone().for_each(|tag| buffer.push(tag));
        buffer.finish(End::Complete);
        if !buffer.enter_at_idr(i64::MIN) {
            return;
        }
        group.switch(&Arc::new(Feed::of_buffer(buffer)));
        group.advance(number * UNTIL_MS, &mut out);
    }
    check(&out);
    hls::segmented(&out);
}

fn check(tags: &[Tag]) {
    for track in [Track::Video, Track::Audio] {
        let mut last = i64::MIN;
        for tag in tags.iter().filter(|tag| tag.track == track) {
            assert!(tag.dts > last, "{track:?}: {} after {last}", tag.dts);
            assert!(tag.cts >= 0, "{track:?}: shown {} ms before it is decoded", -tag.cts);
            last = tag.dts;
        }
    }
}
