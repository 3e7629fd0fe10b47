//! A fallback video on the disk: made once into the channel's profile, looped without a seam, a few seconds of it in
//! memory, and open before it is needed.

#![allow(clippy::unwrap_used, missing_docs)]

use state::ids::Ulid;
use state::profile::Profile;
use state::wire::{ItemSpec, MediaAt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};
use stream_worker::source::admission::Admission;
use stream_worker::source::buffer::SourceTag;
use stream_worker::source::child::Tools;
use stream_worker::source::feed::Feed;
use stream_worker::source::known::Known;
use stream_worker::source::open::Opener;
use stream_worker::source::reel::{AHEAD_MS, Reel};
use tokio::sync::mpsc;

fn profile() -> Profile {
    Profile { width: 320, height: 180, video_kbps: 500, ..Profile::default() }
}

/// Makes a clip; its sound is a little longer than its picture.
fn clip(folder: &Path, name: &str, seconds: f64, options: &str) -> PathBuf {
    let path = folder.join(name);
    let sources = format!(
        "-v error -nostdin -y -f lavfi -i testsrc=s=320x180:r=30:d={seconds} -f lavfi -i sine=d={}:r=48000",
        seconds + 0.3
    );
    let mut command = Command::new("ffmpeg");
    command.args(sources.split(' ')).args(options.split(' ')).args("-c:a aac -ac 2".split(' ')).arg(&path);
    assert!(command.status().unwrap().success());
    path
}

const FITS: &str = "-c:v libx264 -preset ultrafast -pix_fmt yuv420p -g 60 -b:v 400k";

fn item(path: &Path) -> ItemSpec {
    let key = path.file_name().unwrap().to_string_lossy().into_owned();
    ItemSpec { id: Ulid::from_text(&key), key, at: MediaAt::Path(path.to_owned()), content: String::new() }
}

fn opener(folder: &Path) -> Opener {
    let cache_dir = folder.join("cache");
    let tools = Tools { ffmpeg: "ffmpeg".into(), ffprobe: "ffprobe".into() };
    let admission = Admission::new(&cache_dir, false);
    Opener {
        tools,
        alive: mpsc::channel(1).0,
        objects: None,
        cache_dir,
        name: "Main".to_owned(),
        known: Known::default(),
        admission,
        aside: false,
    }
}

async fn load(folder: &Path, path: &Path) -> Result<Reel, String> {
    Reel::load_or_make(&opener(folder), &item(path), &profile()).await
}

fn reels(folder: &Path) -> Vec<(PathBuf, u64, SystemTime)> {
    let entries = std::fs::read_dir(folder.join("cache/fallback")).unwrap().map(|e| e.unwrap().path());
    let reels = entries.filter(|path| path.extension().is_some_and(|e| e == "flv" || e == "part"));
    let meta = |path: PathBuf| path.metadata().map(|m| (path, m.len(), m.created().unwrap())).unwrap();
    reels.map(meta).collect()
}

/// Takes so many ms of pictures out of a feed, and the sound with them.
async fn take(feed: &Feed, ms: i64) -> (Vec<SourceTag>, Vec<SourceTag>) {
    let (mut video, mut audio): (Vec<SourceTag>, Vec<SourceTag>) = Default::default();
    while video.last().is_none_or(|last| last.dts < ms) {
        let wait = feed.wait_until(|buffer| {
            assert!(buffer.end.is_none(), "{:?}", buffer.end);
            assert!(buffer.ahead_ms() < AHEAD_MS * 2, "{} ms are in memory", buffer.ahead_ms());
            (!buffer.video.is_empty()).then(|| {
                video.extend(buffer.video.drain(..));
                audio.extend(buffer.audio.drain(..));
            })
        });
        tokio::time::timeout(Duration::from_secs(20), wait).await.unwrap();
        feed.taken();
    }
    (video, audio)
}

fn widest_step(tags: &[SourceTag]) -> i64 {
    let steps: Vec<i64> = tags.windows(2).map(|w| w[1].dts - w[0].dts).collect();
    assert!(steps.iter().all(|step| *step > 0), "{steps:?}");
    steps.into_iter().max().unwrap()
}

#[tokio::test]
async fn it_loops_without_a_seam_from_a_file_that_may_be_gone() {
    let folder = tempfile::tempdir().unwrap();
    let path = clip(folder.path(), "fits.mp4", 10.0, FITS);
    let reel = load(folder.path(), &path).await.unwrap();
    let alive = mpsc::channel(1).0;
    let feed = Feed::of_reel(reel, &alive);
    std::fs::remove_file(&path).unwrap();
    std::fs::remove_dir_all(folder.path().join("cache")).unwrap();
    let (video, audio) = take(&feed, 45_000).await;
    assert!(widest_step(&video) <= 34, "{}", widest_step(&video));
    // The seam may cost a frame of sound, which the timeline fills.
    assert!(widest_step(&audio) <= 43, "{}", widest_step(&audio));
    assert!(video[0].idr && video[0].pts() == 0 && video[300].idr && video[300].pts() == 10_000);
    assert!(video[300].body == video[0].body, "the second loop is the first again");
}

#[tokio::test]
async fn it_is_made_once_by_whoever_comes_first() {
    let folder = tempfile::tempdir().unwrap();
    let path = clip(folder.path(), "large.mp4", 3.0, "-vf scale=640:360 -c:v libx264 -preset ultrafast");
    let (one, two) = tokio::join!(load(folder.path(), &path), load(folder.path(), &path));
    assert!(one.is_ok() && two.is_ok(), "{one:?} {two:?}");
    let made = reels(folder.path());
    assert_eq!(made.len(), 1, "{made:?}");
    load(folder.path(), &path).await.unwrap();
    assert_eq!(reels(folder.path()), made);
    // Another content under the same name is another video.
    clip(folder.path(), "large.mp4", 2.0, FITS);
    load(folder.path(), &path).await.unwrap();
    assert_eq!(reels(folder.path()).len(), 2);
}

#[tokio::test]
async fn a_reel_that_lost_its_end_is_made_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = clip(folder.path(), "fits.mp4", 2.0, FITS);
    load(folder.path(), &path).await.unwrap();
    let [(reel, size, _)] = &reels(folder.path())[..] else { panic!() };
    std::fs::OpenOptions::new().write(true).open(reel).unwrap().set_len(size / 2).unwrap();
    load(folder.path(), &path).await.unwrap();
    assert_eq!(reels(folder.path())[0].1, *size);
}

#[tokio::test]
async fn idr_pictures_too_far_apart_are_found_on_the_way_and_mended() {
    let folder = tempfile::tempdir().unwrap();
    // The first are close together, and no more is looked at before an item goes on the air.
    let far = "-c:v libx264 -preset ultrafast -pix_fmt yuv420p -g 400 -sc_threshold 0 -force_key_frames 0,2,4,6 -b:v 400k";
    let path = clip(folder.path(), "far.mp4", 13.0, far);
    let alive = mpsc::channel(1).0;
    let feed = Feed::of_reel(load(folder.path(), &path).await.unwrap(), &alive);
    let (video, _) = take(&feed, 26_000).await;
    let idr: Vec<SourceTag> = video.into_iter().filter(|tag| tag.idr).collect();
    assert!(widest_step(&idr) <= 4_050, "{}", widest_step(&idr));
}

#[tokio::test]
async fn what_cannot_be_looped_is_refused_in_words_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let whole = clip(folder.path(), "whole.mp4", 8.0, &format!("{FITS} -movflags +faststart"));
    let bytes = std::fs::read(&whole).unwrap();
    let put = |name: &str, content: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    };
    let cases = [
        (put("cut.mp4", &bytes[..bytes.len() / 2]), "cut short"),
        (put("text.mp4", b"no film at all"), "Invalid data"),
        (put("empty.mp4", b""), "is empty"),
        (folder.path().join("missing.mp4"), "cannot be opened"),
        (clip(folder.path(), "blink.mp4", 0.2, FITS), "is too short"),
    ];
    for (path, words) in cases {
        let why = load(folder.path(), &path).await.unwrap_err();
        assert!(why.contains(words), "{}: {why}", path.display());
    }
    assert_eq!(reels(folder.path()), []);
}
