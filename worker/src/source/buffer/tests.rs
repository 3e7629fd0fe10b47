//! What a buffer makes of tags as FFmpeg writes them.

use super::*;
use proptest::prelude::*;

fn video(at: i64, kind: u8, cts: i32, nal: u8) -> RawTag {
    let cts = cts.to_be_bytes();
    let body = [kind, 1, cts[1], cts[2], cts[3], 0, 0, 0, 2, nal, 0xFF];
    RawTag { kind: Kind::Video, at_ms: at + TIME_SHIFT_MS, body: BytesMut::from(&body[..]), next_idr: None }
}

fn header() -> RawTag {
    let body = [0x17, 0, 0, 0, 0, 1, 100, 0, 31, 0xFF];
    RawTag { kind: Kind::Video, at_ms: TIME_SHIFT_MS, body: BytesMut::from(&body[..]), next_idr: None }
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
fn a_time_that_cannot_be_right_holds_nothing_up() {
    let mut buffer = buffer();
    let day = 24 * 3600 * 1000;
    for (at, cts) in [(0, 80), (40, 40), (day, 40), (80, 2_400_000), (80, 40)] {
        buffer.push(video(at, if at == 0 { 0x17 } else { 0x27 }, cts, if at == 0 { 0x65 } else { 0x41 }));
    }
    assert_eq!(buffer.video.iter().map(|t| t.dts).collect::<Vec<_>>(), [0, 40, 80]);
    assert_eq!((buffer.reached().shown, &buffer.trouble), (Some(120), &None));
    // Where all that comes is so late the item is left, with this reason.
    buffer.push(video(day, 0x27, 40, 0x41));
    assert_eq!(buffer.trouble.as_deref(), Some("its times leap by 86399 s"));
    // A picture may stand for half a minute.
    buffer.push(video(30_000, 0x27, 40, 0x41));
    assert_eq!((buffer.reached().video, &buffer.trouble), (Some(30_000), &None));
}

#[test]
fn entering_drops_what_belongs_to_the_gop_before() {
    let mut buffer = buffer();
    for (at, cts, nal) in [(0, 40, 0x65), (40, 40, 0x41), (80, 80, 0x65), (120, 0, 0x41), (160, 40, 0x41)] {
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

#[test]
fn pictures_that_are_there_for_the_sound_end_with_it() {
    let mut buffer = buffer();
    buffer.pictures_follow_sound = true;
    for (at, cts) in [(0, 80), (40, 160), (80, 40), (120, 40), (160, 160), (200, 40), (240, 40)] {
        buffer.push(video(at, if at == 0 { 0x17 } else { 0x27 }, cts, if at == 0 { 0x65 } else { 0x41 }));
    }
    let sound = BytesMut::from(&[0xAF, 1, 0x21][..]);
    buffer.push(RawTag { kind: Kind::Audio, at_ms: TIME_SHIFT_MS + 190, body: sound, next_idr: None });
    buffer.finish(End::Complete);
    assert_eq!(buffer.video.iter().map(SourceTag::pts).collect::<Vec<_>>(), [80, 200, 120, 160]);
    assert_eq!(buffer.end, Some(End::Complete));
}

#[test]
fn a_picture_that_brings_other_parameter_sets_has_another_header_from_there_on() {
    let mut buffer = buffer();
    buffer.push(video(0, 0x17, 0, 0x65));
    let mut body = vec![0x17, 1, 0, 0, 0];
    for unit in [&[0x67u8, 77, 0, 30, 1][..], &[0x68, 1, 2, 3], &[0x65, 9]] {
        body.extend((unit.len() as u32).to_be_bytes());
        body.extend_from_slice(unit);
    }
    let at_ms = TIME_SHIFT_MS + 40;
    buffer.push(RawTag { kind: Kind::Video, at_ms, body: BytesMut::from(&body[..]), next_idr: None });
    buffer.push(video(80, 0x27, 0, 0x41));
    let profiles: Vec<u8> = buffer.video.iter().map(|t| t.config.as_ref().unwrap().header[6]).collect();
    assert_eq!(profiles, [100, 77, 77]);
}

#[test]
fn of_a_file_no_more_is_read_ahead_than_the_splice_needs() {
    let mut buffer = buffer().in_order();
    buffer.ends_at(Some(60_000));
    let enough = |buffer: &mut Buffer, from: i64| {
        let step = |n: i64| {
            video(n * 40, if n % 50 == 0 { 0x17 } else { 0x27 }, 0, if n % 50 == 0 { 0x65 } else { 0x41 })
        };
        let read = (from..1_500).take_while(|n| {
            buffer.push(step(*n));
            !buffer.is_full()
        });
        read.count() as i64 * 40
    };
    assert_eq!(enough(&mut buffer, 0), 1_000, "0.6 s and ten pictures");
    assert_eq!(buffer.left_ms(), Some(60_000));
    buffer.video.drain(..20);
    assert_eq!(buffer.left_ms(), Some(59_200));
    buffer.read_further(4_000);
    enough(&mut buffer, 26);
    assert_eq!(buffer.ahead_ms(), 4_000, "it fell once");
}

#[test]
fn where_pictures_are_few_more_is_read_and_sound_in_their_place_tells_a_hole() {
    let mut buffer = buffer().in_order();
    buffer.ends_at(Some(60_000));
    for (at, nal) in [(0, 0x65), (3_000, 0x41)] {
        buffer.push(video(at, if nal == 0x65 { 0x17 } else { 0x27 }, 0, nal));
        assert!(!buffer.is_full(), "the splice keeps the last pictures back");
    }
    assert_eq!(buffer.skew_ms(), 380);
    let body = BytesMut::from(&[0xAF, 1, 0][..]);
    for at in [2_600, 4_400] {
        buffer.push(RawTag {
            kind: Kind::Audio,
            at_ms: TIME_SHIFT_MS + at,
            body: body.clone(),
            next_idr: None,
        });
    }
    assert!(buffer.sound_ahead_ms() >= buffer.skew_ms() && buffer.is_full());
}

#[test]
fn what_follows_an_idr_picture_counts_before_it_was_read() {
    let mut buffer = buffer();
    let next_idr = Some(NextIdr::At(TIME_SHIFT_MS + 5_000));
    buffer.push(RawTag { next_idr, ..video(0, 0x17, 0, 0x65) });
    assert_eq!((buffer.idr().count, buffer.idr().widest_ms, buffer.idr().foreseen), (1, 5_000, true));
    assert_eq!(buffer.video[0].next_idr, Some(NextIdr::At(5_000)));
    let next_idr = Some(NextIdr::None { last: TIME_SHIFT_MS + 9_000 });
    buffer.push(RawTag { next_idr, ..video(40, 0x17, 0, 0x41) });
    assert_eq!((buffer.video[1].next_idr, buffer.idr().widest_ms), (None, 5_000), "a flag is not enough");
}

proptest! {
    #[test]
    fn arbitrary_bodies_never_panic(kind in 0u8..3, body in prop::collection::vec(any::<u8>(), 0..80), at in any::<i32>()) {
        let kind = [Kind::Video, Kind::Audio, Kind::Other][usize::from(kind)];
        let mut buffer = buffer();
        buffer.push(RawTag { kind, at_ms: i64::from(at), body: BytesMut::from(&body[..]), next_idr: None });
        buffer.enter_at_idr(0);
    }
}

#[test]
fn many_tags_of_nothing_fill_a_buffer_too() {
    let mut buffer = buffer();
    let sound = || RawTag {
        kind: Kind::Audio,
        at_ms: TIME_SHIFT_MS,
        body: BytesMut::from(&[0xAF, 1, 0][..]),
        next_idr: None,
    };
    let pushed = (0..400_000).take_while(|_| {
        buffer.push(sound());
        !buffer.audio.len().is_multiple_of(1_000) || !buffer.is_full()
    });
    assert!(pushed.count() < 300_000, "all at the same time, three bytes each");
}
