//! The segmenter against sequences of tags: what it promises to the playlist holds for any of them.

use super::*;
use crate::media::Shape;
use bytes::Bytes;
use proptest::prelude::*;

/// One chunked segment, put together again.
#[derive(Debug)]
struct Whole {
    begin: Begin,
    end: End,
    bytes: Vec<u8>,
}

fn video_config(version: u8) -> Arc<TrackConfig> {
    let header = [0x17, 0, 0, 0, 0, 1, 0x64, 0, 0x1F, 0xFF, 0xE1, 0, 2, 0x67, version, 1, 0, 2, 0x68, 1];
    let shape = Shape::Video { width: 1280, height: 720, fps: 30.0, kbps: 0 };
    Arc::new(TrackConfig { header: Bytes::copy_from_slice(&header), shape })
}

fn audio_config(version: u8) -> Arc<TrackConfig> {
    let header = [0xAF, 0, 0x11, 0x90, version];
    let shape = Shape::Audio { sample_rate: 48_000, channels: 2, kbps: 0 };
    Arc::new(TrackConfig { header: Bytes::copy_from_slice(&header), shape })
}

fn picture(dts: i64, idr: bool, config: &Arc<TrackConfig>) -> Tag {
    let body = Bytes::from_static(&[0x17, 1, 0, 0, 0, 0, 0, 0, 2, 0x65, 0x11]);
    Tag { track: Track::Video, dts, cts: 100, idr, next_idr: None, body, config: config.clone() }
}

fn sound(dts: i64, config: &Arc<TrackConfig>) -> Tag {
    let body = Bytes::from_static(&[0xAF, 1, 0x21, 0, 0x49]);
    Tag { track: Track::Audio, dts, cts: 0, idr: false, next_idr: None, body, config: config.clone() }
}

/// Runs tags through; `takes` says which chunks are taken.
fn run(tags: &[Tag], mut takes: impl FnMut(usize) -> bool) -> (Vec<Whole>, Figures) {
    let mut segmenter = Segmenter::new(4, Muxer::default());
    let mut whole = Vec::new();
    let mut open: Option<(Begin, Vec<u8>)> = None;
    let mut number = 0;
    let mut give = |chunk: Chunk| {
        number += 1;
        if !takes(number) {
            open = None;
            return None;
        }
        if let Some(begin) = chunk.begin {
            assert!(open.is_none(), "a segment begins before the last one ended");
            open = Some((begin, Vec::new()));
        }
        let bytes = &mut open.as_mut().expect("a chunk belongs to a segment").1;
        bytes.extend_from_slice(&chunk.bytes);
        if let Some(end) = chunk.end {
            let (begin, bytes) = open.take().unwrap();
            whole.push(Whole { begin, end, bytes });
        }
        Some(Vec::new())
    };
    for tag in tags {
        segmenter.push(tag, 0, &mut give);
    }
    segmenter.finish(0, &mut give);
    (whole, segmenter.figures())
}

fn shape(segments: &[Whole]) -> Vec<(i64, u64, bool, bool)> {
    let shape = |s: &Whole| (s.begin.start_ms, s.end.duration_ms, s.begin.discontinuity, s.end.independent);
    segments.iter().map(shape).collect()
}

fn pids(bytes: &[u8]) -> Vec<u16> {
    bytes.chunks(188).map(|packet| u16::from(packet[1] & 0x1F) << 8 | u16::from(packet[2])).collect()
}

/// Pictures every 40 ms with an IDR every `gop` ms, sound every 20 ms.
fn programme(from: i64, to: i64, gop: i64, video: &Arc<TrackConfig>, audio: &Arc<TrackConfig>) -> Vec<Tag> {
    let mut tags = Vec::new();
    for dts in (from..to).step_by(20) {
        if (dts - from) % 40 == 0 {
            tags.push(picture(dts, (dts - from) % gop == 0, video));
        }
        tags.push(sound(dts, audio));
    }
    tags
}

#[test]
fn nothing_before_the_first_idr() {
    let (video, audio) = (video_config(1), audio_config(0));
    let tags = [sound(0, &audio), picture(10, false, &video), picture(50, true, &video), sound(60, &audio)];
    let (segments, _) = run(&tags, |_| true);
    assert_eq!(shape(&segments), [(50, 11, false, true)]);
    assert_eq!(&pids(&segments[0].bytes), &[0, 0x1000, 0x100, 0x101]);
}

#[test]
fn two_gops_of_two_seconds_make_a_segment() {
    let mut tags = programme(0, 12_000, 2_000, &video_config(1), &audio_config(0));
    for tag in &mut tags {
        tag.next_idr = tag.idr.then_some(tag.dts + 2_000);
    }
    let (segments, figures) = run(&tags, |_| true);
    let expected = [(0, 4_000, false, true), (4_000, 4_000, false, true), (8_000, 4_000, false, true)];
    assert_eq!(shape(&segments)[..2], expected[..2]);
    assert_eq!(figures, Figures::default());
}

#[test]
fn without_an_idr_in_time_a_cut_is_forced_and_the_segment_is_not_independent() {
    let tags = programme(0, 10_000, 9_000, &video_config(1), &audio_config(0));
    let (segments, figures) = run(&tags, |_| true);
    let independent: Vec<_> = segments.iter().map(|segment| segment.end.independent).collect();
    assert_eq!(independent, [true, false, false]);
    assert_eq!(figures.forced, 2);
    assert!(segments.iter().all(|segment| segment.end.duration_ms < 4_500 && !segment.begin.discontinuity));
}

#[test]
fn sound_of_the_old_picture_stays_in_the_old_segment() {
    let (old, new) = (programme(0, 3_000, 1_000, &video_config(1), &audio_config(0)), audio_config(1));
    let mut tags = old;
    let next = programme(3_000, 6_000, 3_000, &video_config(2), &audio_config(0));
    tags.extend(next.into_iter().map(|tag| match tag {
        Tag { track: Track::Audio, dts, .. } if dts >= 3_100 => sound(dts, &new),
        tag => tag,
    }));
    let (segments, figures) = run(&tags, |_| true);
    let discontinuities: Vec<_> = segments.iter().map(|segment| segment.begin.discontinuity).collect();
    assert_eq!(discontinuities, [false, false, true], "{:?}", shape(&segments));
    assert_eq!(segments[2].begin.start_ms, 3_000);
    assert_eq!(figures.forced, 0);
}

#[test]
fn a_change_of_sound_alone_is_a_discontinuity() {
    let (video, audio) = (video_config(1), audio_config(0));
    let mut tags = programme(0, 1_000, 4_000, &video, &audio);
    tags.extend((1_000..2_000).step_by(20).map(|dts| sound(dts, &audio_config(1))));
    let (segments, _) = run(&tags, |_| true);
    assert!(shape(&segments)[1].2);
    assert_eq!(shape(&segments)[1].0, 1_000);
}

#[test]
fn a_jump_in_time_ends_the_segment_after_its_last_picture() {
    let (video, audio) = (video_config(1), audio_config(0));
    let mut tags = programme(0, 1_000, 4_000, &video, &audio);
    tags.extend(programme(60_000, 61_000, 4_000, &video, &audio));
    let (segments, _) = run(&tags, |_| true);
    assert_eq!(shape(&segments), [(0, 1_020, false, true), (60_000, 1_020, true, true)]);
}

#[test]
fn a_full_queue_drops_to_the_next_idr() {
    let tags = programme(0, 12_000, 2_000, &video_config(1), &audio_config(0));
    let (segments, figures) = run(&tags, |chunk| chunk != 2);
    assert_eq!(shape(&segments)[0], (0, 2_000, false, true));
    assert_eq!(shape(&segments)[1], (4_000, 2_000, true, true));
    assert_eq!((figures.refused, figures.dropped), (1, 150));
}

#[derive(Debug, Clone)]
struct Wild {
    step: i64,
    video: bool,
    idr: bool,
    config: u8,
    next_idr: Option<i64>,
    taken: bool,
    size: usize,
}

fn wild() -> impl Strategy<Value = Wild> {
    let step = prop_oneof![20 => 1..60_i64, 2 => -50..2_000_i64, 1 => -1_i64 << 40..1_i64 << 40];
    let next_idr = prop::option::of(-1_000..20_000_i64);
    let config = prop_oneof![20 => Just(0_u8), 1 => 0..3_u8];
    let tag = (step, any::<bool>(), prop::bool::weighted(0.1), config, next_idr);
    (tag, prop::bool::weighted(0.9), 0..2_000_usize).prop_map(
        |((step, video, idr, config, next_idr), taken, size)| Wild {
            step,
            video,
            idr,
            config,
            next_idr,
            taken,
            size,
        },
    )
}

proptest! {
    #[test]
    fn any_tags_make_legal_segments(wild in prop::collection::vec(wild(), 1..400)) {
        let (videos, audios) = ([0, 1, 2].map(video_config), [0, 1, 2].map(audio_config));
        let mut dts = 0;
        let mut tags = Vec::new();
        for one in &wild {
            dts += one.step;
            let at = usize::from(one.config);
            let mut tag = if one.video { picture(dts, one.idr, &videos[at]) } else { sound(dts, &audios[at]) };
            tag.next_idr = one.next_idr.map(|after| dts + after);
            tag.body = vec![7; one.size].into();
            tags.push(tag);
        }
        let (segments, _) = run(&tags, |chunk| wild[chunk % wild.len()].taken);
        for segment in &segments {
            prop_assert!((1..=4_499).contains(&segment.end.duration_ms));
            prop_assert!(segment.bytes.len() % 188 == 0 && segment.bytes.chunks(188).all(|packet| packet[0] == 0x47));
            prop_assert_eq!(&pids(&segment.bytes)[..2], &[0, 0x1000]);
        }
        for pair in segments.windows(2) {
            let end = pair[0].begin.start_ms + pair[0].end.duration_ms as i64;
            prop_assert!(pair[1].begin.discontinuity || pair[1].begin.start_ms == end);
        }
    }
}
