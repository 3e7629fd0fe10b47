//! HLS and a destination beside each other: whatever the programme, both carry the same pictures.

use super::segmenter::{Chunk, End, Segmenter};
use super::ts::Muxer;
use crate::media::{Shape, Tag, Track, TrackConfig};
use crate::output::rtmp::queue::Queue;
use bytes::Bytes;
use proptest::prelude::*;
use std::sync::Arc;

/// Pictures of this many ms, an IDR picture every so many, for so many.
type Item = (i64, i64, i64);

fn config(version: u8) -> Arc<TrackConfig> {
    let header = [0x17, 0, 0, 0, 0, 1, 0x64, 0, 0x1F, 0xFF, 0xE1, 0, 2, 0x67, version, 1, 0, 2, 0x68, 1];
    let shape = Shape::Video { width: 1280, height: 720, fps: 30.0, kbps: 0 };
    Arc::new(TrackConfig { header: Bytes::copy_from_slice(&header), shape })
}

/// Items back to back, each with parameters of its own.
fn programme(items: &[Item]) -> Vec<Tag> {
    let (mut tags, mut dts) = (Vec::new(), 0);
    for (number, (step, gop, count)) in items.iter().enumerate() {
        let config = config(number as u8);
        for picture in 0..*count {
            let idr = picture % gop == 0;
            let body = Bytes::from_static(&[0x17, 1, 0, 0, 0, 0, 0, 0, 2, 0x65, 0x11]);
            let config = config.clone();
            tags.push(Tag { track: Track::Video, dts, cts: 100, idr, next_idr: None, body, config });
            dts += step;
        }
    }
    tags
}

/// Presentation times of the pictures in transport packets, 90 kHz (ISO 13818-1, 2.4.3.7).
fn shown(bytes: &[u8]) -> Vec<u64> {
    let starts = bytes.chunks(188).filter(|packet| packet[1] == 0x41 && packet[2] == 0);
    let time = |packet: &[u8]| {
        let field = if packet[3] & 0x20 == 0 { 0 } else { 1 + usize::from(packet[4]) };
        let b: Vec<u64> = packet[4 + field + 9..][..5].iter().map(|byte| u64::from(*byte)).collect();
        (b[0] >> 1 & 7) << 30 | b[1] << 22 | (b[2] >> 1) << 15 | b[3] << 7 | b[4] >> 1
    };
    starts.map(time).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    // Feature: channel-management, Property 6: for any programme, HLS and a destination carry the same pictures at the
    // same times, begin and end together, and neither has a gap, whatever reconnects the destination lives through.
    #[test]
    fn both_outputs_carry_the_same(
        items in prop::collection::vec((20..60_i64, 10..90_i64, 1..200_i64), 1..6),
        breaks in prop::collection::vec(1..400_usize, 0..4),
    ) {
        let tags = programme(&items);
        let (mut bytes, mut spans) = (Vec::new(), Vec::<(i64, End)>::new());
        let mut start = 0;
        let mut give = |chunk: Chunk| {
            start = chunk.begin.map_or(start, |begin| begin.start_ms);
            bytes.extend_from_slice(&chunk.bytes);
            spans.extend(chunk.end.map(|end| (start, end)));
            Some(Vec::new())
        };
        let (mut segmenter, mut queue) = (Segmenter::new(4, Muxer::default()), Queue::new());
        queue.open();
        let mut sent: Vec<Tag> = Vec::new();
        for (number, tag) in tags.iter().enumerate() {
            segmenter.push(tag, 0, &mut give);
            queue.push(tag);
            if breaks.contains(&number) {
                // A planned reconnect: what was not sent is sent by the next connection.
                queue.hold(Vec::new());
                queue.open();
            }
            sent.extend(queue.take(usize::MAX));
        }
        segmenter.finish(0, &mut give);
        let by_rtmp: Vec<u64> = sent.iter().map(|tag| (tag.pts() as u64 + 1000) * 90).collect();
        prop_assert_eq!(&shown(&bytes), &by_rtmp, "both show the same pictures");
        prop_assert_eq!(sent.len(), tags.len(), "no picture is lost");
        let joined = spans.windows(2).all(|pair| pair[0].0 + pair[0].1.duration_ms as i64 == pair[1].0);
        prop_assert!(joined, "segments follow one another without a gap: {:?}", spans);
    }
}
