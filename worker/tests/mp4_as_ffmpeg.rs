//! The native reader beside FFmpeg: for every file that it takes, the same payloads, the same headers and the same times.

#![allow(clippy::unwrap_used)] // A test that cannot go on has to fail.

mod mp4_files;

use bytes::BytesMut;
use mp4_files::{FILES, folder, make, object, remake};
use state::profile::Profile;
use state::wire::Making;
use std::path::Path;
use std::process::Command;
use stream_worker::source::child::Tools;
use stream_worker::source::flv::{Cutter, Kind, RawTag};
use stream_worker::source::mp4::{Ask, Parts, Reader};
use stream_worker::source::object::Input;
use stream_worker::source::probe::{MediaInfo, probe};
use stream_worker::source::recipe::{Recipe, arguments};

/// FFmpeg rounds some times twice, ms.
const ROUNDING_MS: i64 = 1;

async fn info(path: &Path) -> (Tools, MediaInfo) {
    let tools = Tools { ffmpeg: "ffmpeg".into(), ffprobe: "ffprobe".into() };
    let info = probe(&tools, path).await.unwrap();
    (tools, info)
}

fn of_ffmpeg(path: &Path, info: &MediaInfo, from_ms: u64) -> Vec<RawTag> {
    let audio = if info.audio.is_some() { Making::Copy } else { Making::Silent };
    let recipe = Recipe { video: Making::Copy, audio, reason: String::new() };
    let arguments =
        arguments(&Input::File(path.to_owned()), (info, &recipe, &Profile::default()), None, from_ms);
    let output = Command::new("ffmpeg").args(arguments).output().unwrap();
    let (mut cutter, mut bytes) = (Cutter::default(), BytesMut::from(&output.stdout[..]));
    std::iter::from_fn(|| cutter.next(&mut bytes).unwrap()).collect()
}

fn ask(info: &MediaInfo, from_ms: u64) -> Ask {
    let audio = info.audio.as_ref().map(|audio| audio.index);
    Ask { video: info.video.as_ref().unwrap().index, audio, from_ms }
}

fn natively(path: &Path, info: &MediaInfo, from_ms: u64) -> Vec<RawTag> {
    let mut reader = Reader::open(path, ask(info, from_ms)).unwrap_or_else(|why| panic!("{path:?}: {why}"));
    let mut tags = Vec::new();
    while reader.read(64 * 1024, &mut tags).unwrap() {}
    tags
}

/// Headers and media of a track.
fn split(tags: &[RawTag], kind: Kind) -> (Vec<&[u8]>, Vec<&RawTag>) {
    let of_kind =
        |part: u8| tags.iter().filter(move |tag| tag.kind == kind && tag.body.get(1) == Some(&part));
    (of_kind(0).map(|tag| &tag.body[..]).collect(), of_kind(1).collect())
}

/// Without the three bytes of composition time, which are compared apart.
fn payload(tag: &RawTag) -> (u8, &[u8]) {
    let from = if tag.kind == Kind::Video { 5 } else { 2 };
    (tag.body[0], &tag.body[from..])
}

fn composition(tag: &RawTag) -> i64 {
    match tag.kind {
        Kind::Video => i64::from(i32::from_be_bytes([tag.body[2], tag.body[3], tag.body[4], 0]) >> 8),
        _ => 0,
    }
}

async fn compare(path: &Path, from_ms: u64) {
    let (_, info) = info(path).await;
    let (theirs, ours) = (of_ffmpeg(path, &info, from_ms), natively(path, &info, from_ms));
    for kind in [Kind::Video, Kind::Audio] {
        let ((their_headers, theirs), (our_headers, ours)) = (split(&theirs, kind), split(&ours, kind));
        assert_eq!(our_headers, their_headers, "{path:?} {kind:?}: headers");
        // In the middle of a file sound may begin a frame or two earlier or later.
        let first = theirs.first().filter(|_| from_ms > 0 && kind == Kind::Audio).map(|tag| payload(tag));
        let skip = first.and_then(|first| ours.iter().position(|tag| payload(tag) == first)).unwrap_or(0);
        let ours = &ours[skip..];
        assert_eq!(ours.len(), theirs.len(), "{path:?} {kind:?} from {from_ms}: number of tags");
        for (number, (our, their)) in ours.iter().zip(&theirs).enumerate() {
            assert_eq!(payload(our), payload(their), "{path:?} {kind:?} {number}: payload");
            let (dts, pts) =
                (our.at_ms - their.at_ms, our.at_ms + composition(our) - their.at_ms - composition(their));
            let near = dts.abs() <= ROUNDING_MS && pts.abs() <= ROUNDING_MS;
            assert!(near, "{path:?} {kind:?} {number} from {from_ms}: dts {dts:+} pts {pts:+} ms");
        }
    }
}

#[tokio::test]
async fn ordinary_files_give_the_same_tags() {
    for (name, options) in FILES {
        compare(&make(name, options), 0).await;
    }
}

#[tokio::test]
async fn late_tracks_and_cut_beginnings_give_the_same_tags() {
    let source = make("b-frames", FILES[0].1);
    let source_text = source.to_str().unwrap();
    for (name, before, after) in [
        ("late-sound", format!("-i {source_text} -itsoffset 0.7"), "-map 0:v -map 1:a"),
        ("late-picture", format!("-i {source_text} -itsoffset 1.3"), "-map 1:v -map 0:a"),
        ("both-late", "-itsoffset 2".to_owned(), "-copyts"),
    ] {
        compare(&remake(name, &source, &before, after), 0).await;
    }
}

#[tokio::test]
async fn a_file_is_entered_at_the_same_picture() {
    for (name, options) in &FILES[..7] {
        let path = make(name, options);
        for from_ms in [40, 1_990, 2_000, 2_010, 3_700] {
            compare(&path, from_ms).await;
        }
    }
}

async fn as_object(path: &Path, ask: Ask) -> Vec<RawTag> {
    let mut reader = Parts::new(object(path).await).open(ask).await.unwrap();
    let mut tags = Vec::new();
    while reader.read(64 * 1024, &mut tags).await.unwrap() {}
    tags
}

#[tokio::test]
async fn an_object_that_comes_in_pieces_gives_the_same_tags() {
    let large = "-vf noise=alls=90:allf=t -c:v libx264 -qp 12 -bf 2 -g 50 -c:a aac";
    let chunky = format!("{large} -max_interleave_delta 0 -chunk_duration 2000000");
    let first = format!("{large} -movflags +faststart");
    for (name, options) in [("large", large), ("large-first", &first), ("large-chunky", &chunky)] {
        let path = make(name, options);
        assert!(path.metadata().unwrap().len() > 2_000_000, "it comes in one piece");
        for from_ms in [0, 3_100] {
            let ask = ask(&info(&path).await.1, from_ms);
            let seen = |tags: Vec<RawTag>| {
                tags.into_iter().map(|tag| (tag.kind, tag.at_ms, tag.body)).collect::<Vec<_>>()
            };
            let (of_file, of_object) =
                (natively(&path, &info(&path).await.1, from_ms), as_object(&path, ask).await);
            assert!(seen(of_file) == seen(of_object), "{name} from {from_ms}");
        }
    }
}

fn refusal(path: &Path, ask: Ask) -> String {
    match Reader::open(path, ask) {
        Ok(_) => panic!("{path:?} was taken"),
        Err(why) => why.to_string(),
    }
}

#[tokio::test]
async fn what_is_unusual_is_refused_with_a_reason() {
    let (both, alone) =
        (Ask { video: 0, audio: Some(1), from_ms: 0 }, Ask { video: 0, audio: None, from_ms: 0 });
    let made = |name: &str, options: &str| make(name, options);
    let cases = [
        (made("hevc", "-c:v libx265 -x265-params log-level=none -c:a aac"), both, "coding"),
        (made("fragmented", "-c:v libx264 -c:a aac -movflags +frag_keyframe+empty_moov"), both, "fragmented"),
        (made("two-sounds", "-map 0:v -map 1:a -map 1:a -c:v libx264 -c:a aac"), both, "several tracks"),
        (made("mp3", "-c:v libx264 -c:a libmp3lame"), both, "AAC configuration"),
        (made("sound-first", "-map 1:a -map 0:v -c:v libx264 -c:a aac"), both, "where they should be"),
        (made("b-frames", FILES[0].1), alone, "not wanted"),
    ];
    for (path, ask, words) in cases {
        let why = refusal(&path, ask);
        assert!(why.contains(words), "{path:?}: {why}");
    }
    let text = folder().join("text.mp4");
    std::fs::write(&text, "#EXTM3U\nhttp://127.0.0.1/x.ts\n").unwrap();
    assert!(refusal(&text, both).contains("no MP4"));
    assert!(Reader::open(&folder(), both).is_err() && Reader::open(&folder().join("none"), both).is_err());
}

#[tokio::test]
async fn a_file_that_is_cut_plays_as_far_as_it_goes_and_says_why_it_ends() {
    let bytes = std::fs::read(make("moov-first", FILES[2].1)).unwrap();
    let ask = Ask { video: 0, audio: Some(1), from_ms: 0 };
    let cut = folder().join("cut.mp4");
    std::fs::write(&cut, &bytes[..bytes.len() * 2 / 3]).unwrap();
    let (tags, why) = to_the_end(&mut Reader::open(&cut, ask).unwrap());
    assert!(tags > 100 && why.contains("cut short"), "{tags} tags, {why}");
    // The same, once it is open.
    std::fs::write(&cut, &bytes).unwrap();
    let mut reader = Reader::open(&cut, ask).unwrap();
    std::fs::OpenOptions::new().write(true).open(&cut).unwrap().set_len(bytes.len() as u64 / 2).unwrap();
    let (tags, why) = to_the_end(&mut reader);
    assert!(tags > 50 && why.contains("became shorter"), "{tags} tags, {why}");
    // Without its tables at the end there is nothing to go by.
    let last = std::fs::read(make("b-frames", FILES[0].1)).unwrap();
    std::fs::write(&cut, &last[..last.len() * 2 / 3]).unwrap();
    assert!(refusal(&cut, ask).contains("longer than the file"));
}

#[tokio::test]
async fn a_file_that_is_overwritten_while_it_is_read_is_left_and_not_shown_as_it_is() {
    let bytes = std::fs::read(make("moov-first", FILES[2].1)).unwrap();
    let ask = Ask { video: 0, audio: Some(1), from_ms: 0 };
    let path = folder().join("overwritten.mp4");
    std::fs::write(&path, &bytes).unwrap();
    let mut reader = Reader::open(&path, ask).unwrap();
    let (all, _) = to_the_end(&mut Reader::open(&path, ask).unwrap());
    // The tables stay, and what they tell of becomes something else.
    let half = bytes.len() / 2;
    std::fs::write(&path, [&bytes[..half], &vec![0xA5; bytes.len() - half]].concat()).unwrap();
    let (tags, why) = to_the_end(&mut reader);
    assert!(tags > 50 && tags < all && why.contains("no pictures"), "{tags} of {all} tags, {why}");
}

/// How many tags came, and why no more.
fn to_the_end(reader: &mut Reader) -> (usize, String) {
    let mut tags = Vec::new();
    loop {
        match reader.read(64 * 1024, &mut tags) {
            Ok(true) => {}
            Ok(false) => return (tags.len(), String::new()),
            Err(why) => return (tags.len(), why),
        }
    }
}

mod damaged {
    use super::*;
    use proptest::prelude::*;

    fn original() -> &'static [u8] {
        static BYTES: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
        BYTES.get_or_init(|| std::fs::read(make("moov-first", FILES[2].1)).unwrap())
    }

    fn play(bytes: &[u8], from_ms: u64) -> usize {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        std::io::Write::write_all(&mut file, bytes).unwrap();
        let Ok(mut reader) = Reader::open(file.path(), Ask { video: 0, audio: Some(1), from_ms }) else {
            return 0;
        };
        let mut tags = Vec::new();
        let mut sum = 0;
        // A damaged table may name the same bytes over and over, so it is read for a while only.
        for _ in 0..200 {
            tags.clear();
            let more = reader.read(64 * 1024, &mut tags);
            sum += tags.len();
            if more != Ok(true) {
                break;
            }
        }
        sum
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

        #[test]
        fn damaged_tables_never_panic_and_never_read_past_the_file(
            hits in prop::collection::vec((0..7_000usize, any::<u8>()), 1..12), from_ms in prop_oneof![Just(0), 0..9_000u64],
        ) {
            let mut bytes = original().to_vec();
            for (at, value) in hits {
                let at = at % bytes.len();
                bytes[at] = value;
            }
            play(&bytes, from_ms);
        }

        #[test]
        fn words_that_are_huge_never_allocate_without_bound(at in 0..7_000usize, huge in prop::sample::select(vec![u32::MAX, 1 << 31, 1 << 24, 0])) {
            let mut bytes = original().to_vec();
            bytes[at..at + 4].copy_from_slice(&huge.to_be_bytes());
            play(&bytes, 0);
        }
    }

    #[test]
    fn what_is_whole_is_played() {
        assert!(play(original(), 0) > 300 && play(original(), 2_500) > 150);
    }
}
