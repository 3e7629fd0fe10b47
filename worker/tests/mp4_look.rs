//! The look at an MP4 file beside ffprobe: the same answer in every field, or none.

#![allow(clippy::unwrap_used)] // A test that cannot go on has to fail.

mod mp4_files;

use mp4_files::{FILES, folder, make, object, remake};
use std::path::{Path, PathBuf};
use stream_worker::source::child::Tools;
use stream_worker::source::mp4::{Ask, Parts, look};
use stream_worker::source::probe::{MediaInfo, probe};

/// Files that are known without ffprobe, besides those of [`FILES`].
const ORDINARY: &[(&str, &str)] = &[
    ("constrained-baseline", "-c:v libx264 -profile:v baseline -g 50 -c:a aac"),
    ("main", "-c:v libx264 -profile:v main -bf 2 -g 50 -c:a aac"),
    ("high", "-preset veryfast -c:v libx264 -profile:v high -g 50 -c:a aac"),
    ("film", "-r 24000/1001 -c:v libx264 -bf 2 -g 48 -c:a aac"),
    ("50-fps", "-r 50 -c:v libx264 -bf 2 -g 100 -c:a aac -ac 2"),
    ("odd-rate", "-r 17 -c:v libx264 -bf 2 -g 34 -c:a aac -ar 44100 -ac 2"),
    ("hdtv", "-c:v libx264 -g 50 -c:a aac -colorspace bt709 -color_primaries bt709 -color_trc bt709"),
    ("pal", "-c:v libx264 -g 50 -c:a aac -colorspace bt470bg -color_primaries bt470bg -color_trc smpte170m"),
    (
        "hdr-8-bit",
        "-c:v libx264 -g 50 -c:a aac -colorspace bt2020nc -color_primaries bt2020 -color_trc smpte2084",
    ),
    ("square", "-vf setsar=1 -c:v libx264 -g 50 -c:a aac"),
    ("cropped", "-vf crop=318:178 -c:v libx264 -g 50 -c:a aac"),
    (
        "buffered",
        "-c:v libx264 -b:v 300k -maxrate 300k -bufsize 600k -x264-params nal-hrd=cbr -g 50 -c:a aac",
    ),
    ("scaling-lists", "-c:v libx264 -preset veryfast -x264-params cqm=jvt -g 50 -c:a aac"),
    ("sets-in-band", "-c:v libx264 -g 50 -c:a aac -bsf:v dump_extra"),
    ("titled", "-c:v libx264 -g 50 -c:a aac -metadata title=Title -metadata:s:a language=deu"),
    ("slices", "-c:v libx264 -x264-params slices=4 -g 50 -c:a aac"),
    ("loud", "-c:v libx264 -g 50 -c:a aac -b:a 256k"),
];

/// Files that are left to ffprobe, and a word of the reason.
const UNUSUAL: &[(&str, &str, &str)] = &[
    ("full-range", "-c:v libx264 -pix_fmt yuvj420p -color_range pc -g 50 -c:a aac", "full range"),
    ("10-bit", "-c:v libx264 -pix_fmt yuv420p10le -g 50 -c:a aac", "profile"),
    ("4-2-2", "-c:v libx264 -pix_fmt yuv422p -g 50 -c:a aac", "profile"),
    ("4-4-4", "-c:v libx264 -pix_fmt yuv444p -g 50 -c:a aac", "profile"),
    ("interlaced", "-c:v libx264 -flags +ilme+ildct -g 50 -c:a aac", "interlaced"),
    ("fake-interlaced", "-c:v libx264 -x264-params fake-interlaced=1 -g 50 -c:a aac", "interlaced"),
    ("pictures-tell", "-c:v libx264 -x264-params pic-struct=1 -g 50 -c:a aac", "interlaced"),
    ("wide-pixels", "-vf setsar=4/3 -c:v libx264 -g 50 -c:a aac", "square"),
    ("uneven", FILES[7].1, "last"),
    ("24000", "-c:v libx264 -g 50 -c:a aac -ar 24000", "AAC"),
    ("surround", "-c:v libx264 -g 50 -c:a aac -ac 6", "AAC"),
    ("timecode", "-c:v libx264 -g 50 -c:a aac -timecode 01:00:00:00", "unusual box"),
    ("hevc", "-c:v libx265 -x265-params log-level=none -c:a aac", "coding"),
    ("fragmented", "-c:v libx264 -c:a aac -movflags +frag_keyframe+empty_moov", "unusual box"),
    ("two-sounds", "-map 0:v -map 1:a -map 1:a -c:v libx264 -c:a aac", "several tracks"),
    ("mp3", "-c:v libx264 -c:a libmp3lame", "unusual"),
    ("sound-alone", "-vn -c:a aac", "no picture"),
    ("only-idr", "-c:v libx264 -g 1 -c:a aac", "entered"),
];

async fn said(path: &Path) -> MediaInfo {
    let tools = Tools { ffmpeg: "ffmpeg".into(), ffprobe: "ffprobe".into() };
    probe(&tools, path).await.unwrap()
}

async fn the_same(path: &Path) {
    let seen = look(path).unwrap_or_else(|why| panic!("{path:?}: {why}"));
    assert_eq!(seen, said(path).await, "{path:?}");
}

/// The same, or left to ffprobe.
async fn never_otherwise(path: &Path) -> String {
    match look(path) {
        Ok(seen) => {
            assert_eq!(seen, said(path).await, "{path:?}");
            String::new()
        }
        Err(why) => why.to_string(),
    }
}

#[tokio::test]
async fn ordinary_files_are_known_without_ffprobe() {
    let uneven = |name: &str| name == "uneven";
    for (name, options) in FILES.iter().chain(ORDINARY).filter(|(name, _)| !uneven(name)) {
        the_same(&make(name, options)).await;
    }
}

#[tokio::test]
async fn what_is_unusual_is_left_to_ffprobe() {
    for (name, options, word) in UNUSUAL {
        let why = never_otherwise(&make(name, options)).await;
        assert!(why.contains(word), "{name}: {why:?}");
    }
    let text = folder().join("text-to-look-at.mp4");
    std::fs::write(&text, "#EXTM3U\nhttp://127.0.0.1/x.ts\n").unwrap();
    assert!(look(&text).is_err() && look(&folder()).is_err() && look(&folder().join("none")).is_err());
}

#[tokio::test]
async fn files_that_were_cut_and_put_together_are_known() {
    let source = make("b-frames", FILES[0].1);
    let plain = make("no-b-frames", FILES[1].1);
    let text = source.to_str().unwrap();
    for (name, from, before, after) in [
        ("look-late-sound", &source, format!("-i {text} -itsoffset 0.7"), "-map 0:v -map 1:a"),
        ("look-late-picture", &source, format!("-i {text} -itsoffset 1.3"), "-map 1:v -map 0:a"),
        ("look-both-late", &source, "-itsoffset 2".to_owned(), "-copyts"),
        ("look-sound-first", &source, String::new(), "-map 0:a -map 0:v"),
        ("look-cut", &plain, "-ss 2".to_owned(), ""),
        ("look-shortened", &source, String::new(), "-t 3.21"),
        (
            "look-box-only",
            &source,
            String::new(),
            "-colorspace bt709 -color_primaries bt709 -color_trc bt709",
        ),
    ] {
        the_same(&remake(name, from, &before, after)).await;
    }
}

#[tokio::test]
async fn what_is_written_over_an_ordinary_file_is_seen_or_left_to_ffprobe() {
    let source = make("b-frames", FILES[0].1);
    let between = remake("look-between", &source, "-ss 1.3", "");
    never_otherwise(&between).await;
    let turned = remake("look-turned", &source, "", "-metadata:s:v rotate=90");
    assert!(never_otherwise(&turned).await.contains("turned"));
    let chapters = folder().join("chapters.txt");
    std::fs::write(&chapters, ";FFMETADATA1\n[CHAPTER]\nTIMEBASE=1/1\nSTART=1\nEND=3\ntitle=One\n").unwrap();
    let before = format!("-f ffmetadata -i {}", chapters.to_str().unwrap());
    let chapters = remake("look-chapters", &source, &before, "-map 1 -map_chapters 0");
    assert!(!never_otherwise(&chapters).await.is_empty());
}

/// A file in which the first place that has these bytes has others.
fn patched(name: &str, from: &Path, old: &[u8], new: &[u8]) -> PathBuf {
    let mut bytes = std::fs::read(from).unwrap();
    let at = bytes
        .windows(old.len())
        .position(|part| part == old)
        .unwrap_or_else(|| panic!("{name}: nothing to patch"));
    bytes.splice(at..at + old.len(), new.iter().copied());
    let path = folder().join(format!("{name}.mp4"));
    std::fs::write(&path, bytes).unwrap();
    path
}

#[tokio::test]
async fn a_box_and_pictures_that_disagree_are_seen_as_ffmpeg_sees_them() {
    let hdtv = make("hdtv", ORDINARY[6].1);
    let box_says = |range: u8| [&b"colrnclx"[..], &[0, 9, 0, 16, 0, 9, range]].concat();
    let said_in_box = [&b"colrnclx"[..], &[0, 1, 0, 1, 0, 1, 0]].concat();
    the_same(&patched("look-other-colours", &hdtv, &said_in_box, &box_says(0))).await;
    assert!(
        never_otherwise(&patched("look-full-box", &hdtv, &said_in_box, &box_says(0x80)))
            .await
            .contains("range")
    );
    let of_box = remake(
        "look-box-only-2",
        &make("b-frames", FILES[0].1),
        "",
        "-colorspace bt709 -color_primaries bt709 -color_trc bt709",
    );
    the_same(&patched("look-box-2020", &of_box, &said_in_box, &box_says(0))).await;
    never_otherwise(&patched("look-box-full", &of_box, &said_in_box, &box_says(0x80))).await;
}

#[tokio::test]
async fn sound_that_may_be_more_than_it_says_is_left_to_ffprobe() {
    let source = make("b-frames", FILES[0].1);
    let plain = [5, 0x80, 0x80, 0x80, 5, 0x11, 0x88, 0x56, 0xE5, 0x00];
    for (name, config) in [
        ("look-he-aac", [0x2B, 0x11, 0x88, 0x00, 0x00]),
        ("look-he-aac-v2", [0xEB, 0x09, 0x88, 0x00, 0x00]),
        ("look-he-aac-hidden", [0x13, 0x08, 0x56, 0xE5, 0x98]),
        ("look-main", [0x09, 0x88, 0x56, 0xE5, 0x00]),
        ("look-960", [0x11, 0x8C, 0x56, 0xE5, 0x00]),
    ] {
        let new = [&plain[..5], &config].concat();
        let why = never_otherwise(&patched(name, &source, &plain, &new)).await;
        assert!(why.contains("AAC"), "{name}: {why:?}");
    }
}

#[tokio::test]
async fn pictures_that_say_otherwise_are_left_to_ffprobe() {
    // A message of the encoder becomes one about the transfer curve; the length stays.
    let source = make("b-frames", FILES[0].1);
    let other = patched("look-other-transfer", &source, &[6, 5, 0xFF, 0xFF], &[6, 147, 0xFF, 0xFF]);
    assert!(never_otherwise(&other).await.contains("first picture"));
    // True Baseline, in the set itself.
    let baseline = make("constrained-baseline", ORDINARY[0].1);
    the_same(&patched("look-baseline", &baseline, &[0x67, 0x42, 0xC0], &[0x67, 0x42, 0x80])).await;
    // No picture where one should be.
    let bytes = std::fs::read(&source).unwrap();
    let data = bytes.windows(4).position(|part| part == b"mdat").unwrap() + 4;
    let broken = folder().join("look-broken.mp4");
    std::fs::write(&broken, [&bytes[..data], &[0xA5; 64], &bytes[data + 64..]].concat()).unwrap();
    assert!(look(&broken).is_err());
}

#[tokio::test]
async fn an_object_is_seen_as_the_file_is_and_opened_with_what_came_of_it() {
    let large = "-vf noise=alls=90:allf=t -c:v libx264 -qp 12 -bf 2 -g 50 -c:a aac";
    let first = format!("{large} -movflags +faststart");
    for (name, options) in [("b-frames", FILES[0].1), ("large", large), ("large-first", &first)] {
        let path = make(name, options);
        let (info, parts) = Parts::new(object(&path).await).look().await.unwrap();
        assert_eq!(info, said(&path).await, "{name}");
        assert!((1..2 << 20).contains(&parts.in_hand()), "{name}: {} bytes in hand", parts.in_hand());
        let mut reader = parts.open(Ask { video: 0, audio: Some(1), from_ms: 0 }).await.unwrap();
        let mut tags = Vec::new();
        while reader.read(64 * 1024, &mut tags).await.unwrap() {}
        assert!(tags.len() > 300, "{name}: {} tags", tags.len());
    }
    let left = Parts::new(object(&make("interlaced", UNUSUAL[4].1)).await).look().await;
    assert!(left.is_err_and(|why| why.contains("interlaced")));
}

mod damaged {
    use super::*;
    use proptest::prelude::*;

    fn original() -> &'static [u8] {
        static BYTES: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
        BYTES.get_or_init(|| std::fs::read(make("moov-first", FILES[2].1)).unwrap())
    }

    fn look_at(bytes: &[u8]) -> bool {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        std::io::Write::write_all(&mut file, bytes).unwrap();
        look(file.path()).is_ok()
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

        #[test]
        fn damaged_files_never_panic(hits in prop::collection::vec((0..9_000usize, any::<u8>()), 1..12)) {
            let mut bytes = original().to_vec();
            for (at, value) in hits {
                bytes[at] = value;
            }
            look_at(&bytes);
        }

        #[test]
        fn words_that_are_huge_are_never_believed(at in 0..9_000usize, huge in prop::sample::select(vec![u32::MAX, 1 << 31, 1 << 24, 0])) {
            let mut bytes = original().to_vec();
            bytes[at..at + 4].copy_from_slice(&huge.to_be_bytes());
            look_at(&bytes);
        }

        #[test]
        fn any_bytes_behind_a_head_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..2_000)) {
            look_at(&[&original()[..32], &bytes].concat());
        }
    }

    #[test]
    fn what_is_whole_is_known() {
        assert!(look_at(original()));
    }
}
