//! The timeline's promises, for feeds that FFmpeg would make and for feeds that nobody would.

use super::*;
use crate::media::{Track, TrackConfig};
use crate::source::buffer::TIME_SHIFT_MS;
use crate::source::flv::{Kind, RawTag};
use bytes::BytesMut;
use proptest::prelude::*;

/// A file as far as the splice can see it.
#[derive(Debug, Clone)]
struct Clip {
    pictures: i64,
    frame_ms: i64,
    reorder: i64,
    video_from: i64,
    audio_from: i64,
    audio_frames: i64,
    ends: bool,
}

const PLAIN: Clip = Clip {
    pictures: 100,
    frame_ms: 40,
    reorder: 0,
    video_from: 0,
    audio_from: 0,
    audio_frames: 188,
    ends: true,
};

impl Clip {
    fn feed(&self) -> Arc<Feed> {
        let shape = Shape::Video { width: 16, height: 16, fps: 1000.0 / self.frame_ms as f64, kbps: 0 };
        let mut buffer = Buffer::new(shape, self.audio_frames > 0);
        buffer.push(raw(Kind::Video, 0, &[0x17, 0, 0, 0, 0, 1, 100, 0, 31, 0xFF]));
        for n in 0..self.pictures {
            let dts = self.video_from + (n - self.reorder) * self.frame_ms;
            let cts = ((self.reorder * self.frame_ms) as i32).to_be_bytes();
            let idr = n % 50 == 0;
            let (kind, nal) = if idr { (0x17, 0x65) } else { (0x27, 0x41) };
            buffer.push(raw(Kind::Video, dts, &[kind, 1, cts[1], cts[2], cts[3], 0, 0, 0, 2, nal, 0xFF]));
        }
        for n in 0..self.audio_frames {
            buffer.push(raw(Kind::Audio, self.audio_from + n * 1024 / 48, &[0xAF, 1, 0x42, n as u8]));
        }
        buffer.end = self.ends.then_some(End::Complete);
        Arc::new(Feed::of_buffer(buffer))
    }

    fn length(&self) -> i64 {
        self.pictures * self.frame_ms
    }
}

fn raw(kind: Kind, at: i64, body: &[u8]) -> RawTag {
    RawTag { kind, at_ms: at + TIME_SHIFT_MS, body: BytesMut::from(body), next_idr: None }
}

/// Plays clips one after another until the last one has ended.
fn play(clips: &[Clip]) -> (Group, Vec<Tag>) {
    let mut group = Group::new(&Profile::default());
    let mut out = Vec::new();
    for clip in clips {
        let feed = clip.feed();
        group.switch(&feed);
        let limit = group.end_ms() + 1_000_000;
        assert!(matches!(group.advance(limit, &mut out), Advance::Ended(_)));
    }
    (group, out)
}

fn times(tags: &[Tag], track: Track) -> Vec<i64> {
    tags.iter().filter(|t| t.track == track).map(|t| t.dts).collect()
}

fn steps(times: &[i64]) -> Vec<i64> {
    times.windows(2).map(|w| w[1] - w[0]).collect()
}

#[test]
fn a_boundary_cannot_be_seen_in_the_times() {
    let (_, out) = play(&[PLAIN, Clip { reorder: 2, ..PLAIN }, PLAIN]);
    let mut pts: Vec<_> = out.iter().filter(|t| t.track == Track::Video).map(Tag::pts).collect();
    pts.sort_unstable();
    assert_eq!(pts.len(), 300);
    assert!(steps(&pts).iter().all(|&s| s == 40), "{pts:?}");
    assert!(steps(&times(&out, Track::Audio)).iter().all(|&s| s == 21 || s == 22));
    assert_eq!(pts[0], HOUSE_DELAY_MS);
}

#[test]
fn a_tail_of_sound_is_trimmed_and_a_short_one_is_filled() {
    let long = Clip { audio_frames: 188 + 190, ..PLAIN };
    let short = Clip { audio_frames: 100, ..PLAIN };
    let (group, out) = play(&[long, short, PLAIN]);
    assert_eq!(group.end_ms(), HOUSE_DELAY_MS + 12_000);
    let audio = times(&out, Track::Audio);
    assert!((audio.last().unwrap() - (HOUSE_DELAY_MS + 12_000)).abs() <= 33);
    assert!(group.counts().silent_frames >= 86, "{:?}", group.counts());
}

#[test]
fn a_late_picture_does_not_cost_the_sound_before_it() {
    let late = Clip { video_from: 700, audio_frames: 220, ..PLAIN };
    let (_, out) = play(&[PLAIN, late]);
    let start = HOUSE_DELAY_MS + PLAIN.length();
    let first_frame =
        |n: u8| out.iter().filter(|t| t.track == Track::Audio && t.body[..] == [0xAF, 1, 0x42, n]).nth(1);
    assert!((first_frame(0).unwrap().dts - start).abs() <= 11, "the intro's first frame is there");
    let picture = out.iter().find(|t| t.track == Track::Video && t.pts() >= start).unwrap();
    assert_eq!(picture.pts(), start + 700);
}

#[test]
fn priming_before_the_first_picture_is_dropped() {
    let primed = Clip { audio_from: -21, ..PLAIN };
    let (group, out) = play(&[primed.clone(), primed]);
    assert!(steps(&times(&out, Track::Audio)).iter().all(|&s| s == 21 || s == 22));
    assert_eq!(group.end_ms(), HOUSE_DELAY_MS + 2 * PLAIN.length());
}

#[test]
fn without_any_feed_silence_keeps_the_connection_and_the_next_feed_starts_now() {
    let (mut group, mut out) = play(&[PLAIN]);
    let until = group.end_ms() + 3_000;
    group.fill(until, &mut out);
    let at = group.switch(&PLAIN.feed());
    assert!((at - until).abs() <= 22, "{at} {until}");
    group.advance(at + 500, &mut out);
    assert!(steps(&times(&out, Track::Audio)).iter().all(|&s| s == 21 || s == 22));
}

#[test]
fn a_dry_feed_is_left_only_where_no_picture_is_torn_out() {
    let mut group = Group::new(&Profile::default());
    let mut buffer = Buffer::new(Shape::Video { width: 16, height: 16, fps: 25.0, kbps: 0 }, false);
    buffer.push(raw(Kind::Video, 0, &[0x17, 0, 0, 0, 0, 1, 100, 0, 31, 0xFF]));
    // Decoding order I P B B: the B pictures are shown before the P.
    for (n, cts) in [80, 160, 40, 40, 160, 40, 40, 160, 40, 40].into_iter().enumerate() {
        let nal = if n == 0 { 0x65 } else { 0x41 };
        let kind = if n == 0 { 0x17 } else { 0x27 };
        buffer.push(raw(Kind::Video, n as i64 * 40 - 80, &[kind, 1, 0, 0, cts, 0, 0, 0, 2, nal, 0xFF]));
    }
    let feed = Arc::new(Feed::of_buffer(buffer));
    group.switch(&feed);
    let mut out = Vec::new();
    assert!(matches!(group.advance(100_000, &mut out), Advance::Dry(_)));
    assert!(group.may_leave());
    let sent = out.iter().filter(|t| t.track == Track::Video).map(Tag::pts).max().unwrap();
    let held = feed.buffer().video.iter().map(|t| t.pts() + HOUSE_DELAY_MS).min().unwrap();
    assert!(sent < held, "{sent} {held}");
}

/// 10 frames/s and a pyramid of three B pictures: the file decodes 200 ms ahead, the house 100 ms.
#[test]
fn a_deep_order_of_pictures_is_decoded_evenly_and_shown_when_it_was_meant() {
    let mut group = Group::new(&Profile::default());
    let mut buffer = Buffer::new(Shape::Video { width: 16, height: 16, fps: 10.0, kbps: 0 }, false);
    buffer.push(raw(Kind::Video, 0, &[0x17, 0, 0, 0, 0, 1, 100, 0, 31, 0xFF]));
    for n in 0..41i64 {
        let shown = if n == 0 { 0 } else { (n - 1) / 4 * 4 + [4, 2, 1, 3][(n as usize - 1) % 4] };
        let cts = ((shown - n + 2) * 100) as i32;
        let cts = cts.to_be_bytes();
        let (kind, nal) = if n == 0 { (0x17, 0x65) } else { (0x27, 0x41) };
        buffer.push(raw(
            Kind::Video,
            (n - 2) * 100,
            &[kind, 1, cts[1], cts[2], cts[3], 0, 0, 0, 2, nal, 0xFF],
        ));
    }
    buffer.end = Some(End::Complete);
    group.switch(&Arc::new(Feed::of_buffer(buffer)));
    let mut out = Vec::new();
    assert!(matches!(group.advance(100_000, &mut out), Advance::Ended(_)));
    out.retain(|t| t.track == Track::Video);
    let decoded = times(&out, Track::Video);
    assert!(steps(&decoded).iter().all(|&s| s >= 50), "{decoded:?}");
    let mut shown: Vec<i64> = out.iter().map(Tag::pts).collect();
    shown.sort_unstable();
    assert!(steps(&shown).iter().all(|&s| s == 100), "{shown:?}");
}

#[test]
fn an_idr_names_the_next_one() {
    let (_, out) = play(&[PLAIN, PLAIN]);
    let idrs: Vec<_> = out.iter().filter(|t| t.idr).map(|t| (t.dts, t.next_idr)).collect();
    assert_eq!(idrs, [(0, Some(2000)), (2000, Some(4000)), (4000, Some(6000)), (6000, Some(8000))]);
}

fn clips() -> impl Strategy<Value = Vec<Clip>> {
    let clip =
        (1i64..120, 10i64..60, 0i64..6, -300i64..1500, -300i64..1500, 0i64..300, prop::bool::weighted(0.8));
    let clip = clip.prop_map(|(pictures, frame_ms, reorder, video_from, audio_from, audio_frames, ends)| {
        Clip { pictures, frame_ms, reorder, video_from, audio_from, audio_frames, ends }
    });
    prop::collection::vec(clip, 1..8)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever the feeds bring, times only grow, nothing is shown before it is decoded, and sound has no step.
    #[test]
    fn times_strictly_increase_for_any_feeds(clips in clips(), ticks in 5i64..200) {
        let mut group = Group::new(&Profile::default());
        let mut out = Vec::new();
        let mut now = 0;
        let mut waiting = clips.iter();
        if let Some(clip) = waiting.next() {
            group.switch(&clip.feed());
        }
        for _ in 0..3_000 {
            now += ticks;
            match group.advance(now, &mut out) {
                Advance::Reached(_) => continue,
                Advance::Ended(due) | Advance::Dry(due) if due > now => continue,
                Advance::Ended(_) | Advance::Dry(_) => {}
            }
            match waiting.next() {
                Some(clip) if clip.pictures % 2 == 0 => { group.switch(&clip.feed()); }
                Some(clip) => { group.fill(now, &mut out); group.switch(&clip.feed()); }
                None => break,
            }
        }
        for track in [Track::Video, Track::Audio] {
            let times = times(&out, track);
            prop_assert!(steps(&times).iter().all(|&s| s > 0), "{track:?} {times:?}");
        }
        prop_assert!(out.iter().all(|t| t.cts >= 0));
        prop_assert!(steps(&times(&out, Track::Audio)).iter().all(|&s| s == 21 || s == 22));
        let shared: Vec<_> = out.iter().filter(|t| t.track == Track::Audio).map(|t| &t.config).collect();
        prop_assert!(shared.windows(2).all(|w| TrackConfig::same(w[0], w[1])));
    }
}

/// A feed whose reader is still at work, with this much read.
fn unfinished(pictures: i64, audio_frames: i64) -> Arc<Feed> {
    Clip { pictures, audio_frames, ends: false, ..PLAIN }.feed()
}

#[test]
fn a_hole_in_the_pictures_keeps_the_sound_and_is_no_end() {
    // 1 s of pictures, 6 s of sound.
    let mut group = Group::new(&Profile::default());
    group.switch(&unfinished(25, 281));
    let mut out = Vec::new();
    assert!(matches!(group.advance(4_000, &mut out), Advance::Reached(at) if at <= 4_022));
    assert_eq!(times(&out, Track::Video).len(), 25);
    assert!(times(&out, Track::Audio).last().unwrap() > &3_950);
    assert_eq!(group.counts().silent_frames, 0);
}

#[test]
fn sound_past_the_known_end_of_the_pictures_is_trimmed_before_it_is_read() {
    let feed = unfinished(25, 281);
    feed.buffer().pictures_end_ms = Some(1_000);
    let mut group = Group::new(&Profile::default());
    group.switch(&feed);
    assert_eq!(group.advance(4_000, &mut Vec::new()), Advance::Ended(1_000));
}

#[test]
fn a_feed_that_starved_goes_on_once_with_its_order_of_pictures() {
    let mut group = Group::new(&Profile::default());
    let feed = Clip { reorder: 2, ends: false, ..PLAIN }.feed();
    let rest = feed.buffer().video.split_off(50);
    feed.buffer().audio.truncate(90);
    group.switch(&feed);
    let mut out = Vec::new();
    assert!(matches!(group.advance(10_000, &mut out), Advance::Dry(_)));
    group.fill(5_000, &mut out);
    assert!(!group.resume(), "nothing to go on with");
    feed.buffer().video.extend(rest);
    assert!(group.resume());
    feed.buffer().end = Some(End::Complete);
    group.advance(9_000, &mut out);
    let late: Vec<_> =
        out.iter().filter(|t| t.track == Track::Video && t.dts > 4_000).map(|t| (t.dts, t.cts)).collect();
    assert!(late.len() > 40 && late.iter().all(|(_, cts)| *cts == 100), "{late:?}");
    assert!(steps(&times(&out, Track::Video)).iter().all(|&s| s > 0));
    assert!(steps(&times(&out, Track::Audio)).iter().all(|&s| s == 21 || s == 22));
}
