//! Disks that hang: a pipe that nobody writes into stands where a file is read, and whoever opens it waits for ever. The
//! worker's thread never does, and what hangs is read otherwise or refused with a reason.

#![allow(clippy::unwrap_used, missing_docs)]

use state::ids::Ulid;
use state::prepared;
use state::profile::Profile;
use state::wire::{ItemSpec, Making, MediaAt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};
use stream_worker::source::admission::Admission;
use stream_worker::source::child::Tools;
use stream_worker::source::known::Known;
use stream_worker::source::open::Opener;
use stream_worker::source::probe;
use stream_worker::source::reel::Reel;
use stream_worker::source::slate::Slate;
use tokio::sync::mpsc;

/// Far more than any deadline: who is not back by then hangs.
const WATCH: Duration = Duration::from_secs(90);

/// Plays the worker's own thread; fails when that does not come back.
fn on_the_workers_thread<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> T {
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let _ = tell.send(runtime.block_on(work));
        runtime.shutdown_background();
    });
    told.recv_timeout(WATCH).unwrap_or_else(|why| panic!("the worker's thread: {why}"))
}

fn profile() -> Profile {
    Profile { width: 320, height: 180, video_kbps: 500, ..Profile::default() }
}

fn opener(cache_dir: &Path) -> Opener {
    Opener {
        tools: Tools { ffmpeg: "ffmpeg".into(), ffprobe: "ffprobe".into() },
        alive: mpsc::channel(1).0,
        objects: None,
        cache_dir: cache_dir.to_owned(),
        name: "Main".to_owned(),
        known: Known::default(),
        admission: Admission::new(cache_dir, true),
        aside: false,
    }
}

fn pipe(path: &Path) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

fn clip(folder: &Path) -> PathBuf {
    let path = folder.join("clip.mp4");
    let made = Command::new("ffmpeg")
        .args(
            "-v error -nostdin -f lavfi -i testsrc=s=320x180:r=30:d=3 -f lavfi -i sine=d=3:r=48000"
                .split(' '),
        )
        .args("-c:v libx264 -preset ultrafast -pix_fmt yuv420p -g 30 -c:a aac -ac 2".split(' '))
        .arg(&path)
        .status();
    assert!(made.unwrap().success());
    path
}

fn item(path: &Path) -> ItemSpec {
    let content = path.metadata().map(|meta| prepared::content_of(&meta)).unwrap();
    let at = MediaAt::Path(path.to_owned());
    ItemSpec { id: Ulid::from_text("i"), key: "clip.mp4".into(), at, content }
}

#[test]
fn where_the_certificate_hangs_nothing_is_prepared_and_the_second_time_it_is_not_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let (cache, item) = (folder.path().join("cache"), item(&clip(folder.path())));
    let name = prepared::name(&item.key, &item.content, &profile());
    pipe(&prepared::files(&cache, &name).1);
    let opener = opener(&cache);
    let (found, waited) = on_the_workers_thread(async move {
        let first = opener.open_prepared(&item, &profile(), 0).await.is_some();
        let again = tokio::time::Instant::now();
        let second = opener.open_prepared(&item, &profile(), 0).await.is_some();
        ([first, second], again.elapsed())
    });
    assert_eq!(found, [false, false]);
    assert!(waited < Duration::from_secs(1), "{waited:?}");
}

#[test]
fn where_the_label_of_the_fallback_hangs_there_is_no_video_but_a_reason() {
    let folder = tempfile::tempdir().unwrap();
    let (cache, item) = (folder.path().join("cache"), item(&clip(folder.path())));
    let name = prepared::name(&item.key, &item.content, &profile());
    pipe(&cache.join("fallback").join(format!("{name}.json")));
    let opener = opener(&cache);
    let reel = on_the_workers_thread(async move { Reel::load_or_make(&opener, &item, &profile()).await });
    assert!(reel.unwrap_err().contains("the disk does not answer"));
}

#[test]
fn where_the_turn_for_the_fallback_hangs_there_is_no_video_but_a_reason() {
    let folder = tempfile::tempdir().unwrap();
    let (cache, item) = (folder.path().join("cache"), item(&clip(folder.path())));
    let name = prepared::name(&item.key, &item.content, &profile());
    pipe(&cache.join("fallback").join(format!("{name}.lock")));
    let opener = opener(&cache);
    let reel = on_the_workers_thread(async move { Reel::load_or_make(&opener, &item, &profile()).await });
    assert!(reel.unwrap_err().contains("the disk does not answer"));
}

#[test]
fn where_the_slots_hang_nobody_is_refused_for_want_of_one() {
    let folder = tempfile::tempdir().unwrap();
    let cores = std::thread::available_parallelism().unwrap().get();
    (0..cores).for_each(|n| pipe(&folder.path().join("transcode-slots").join(n.to_string())));
    let mut admission = Admission::new(folder.path(), true);
    admission.must = true;
    assert!(on_the_workers_thread(async move { admission.enter().await }).unwrap().is_none());
}

#[test]
fn a_media_file_that_hangs_is_refused_with_a_reason() {
    let folder = tempfile::tempdir().unwrap();
    let (good, bad) = (clip(folder.path()), folder.path().join("bad.mp4"));
    pipe(&bad);
    let opener = opener(&folder.path().join("cache"));
    let (probed, opened, other) = on_the_workers_thread(async move {
        let (good, bad) = (item(&good), item(&bad));
        let MediaAt::Path(path) = &good.at else { panic!("it is a file") };
        let info = probe::probe(&opener.tools, path).await.unwrap();
        let probed = opener.probe(&bad).await.map(drop);
        // As if it had been whole when it was looked at.
        let opened = opener.open(bad, info.clone(), &profile(), 0, None).await.map(drop);
        let other = opener.open(good, info, &profile(), 0, None).await.map(|opened| opened.recipe.video);
        (probed, opened, other)
    });
    assert_eq!(probed.unwrap_err(), "is empty (0 bytes)");
    assert!(opened.as_ref().unwrap_err().contains("gave too little"), "{opened:?}");
    assert_eq!(other.unwrap(), Making::Copy, "the others are read as ever");
}

#[test]
fn a_reel_that_cannot_be_written_is_given_up() {
    let folder = tempfile::tempdir().unwrap();
    let (cache, item) = (folder.path().join("cache"), item(&clip(folder.path())));
    let name = prepared::name(&item.key, &item.content, &profile());
    // What a worker before left unfinished is put aside, whatever it is.
    pipe(&cache.join("fallback").join(format!("{name}.part")));
    let opener = opener(&cache);
    let reel = on_the_workers_thread(async move { Reel::load_or_make(&opener, &item, &profile()).await });
    reel.unwrap();
    let made = cache.join("fallback").join(format!("{name}.flv")).metadata().unwrap();
    assert!(made.is_file() && made.modified().unwrap() <= SystemTime::now());
}

#[test]
fn where_the_kept_slate_hangs_it_is_drawn_again() {
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("cache");
    for name in ["Main", ""] {
        pipe(&cache.join(format!("slate-{}.flv", prepared::name(name, "", &profile()))));
    }
    let slate = on_the_workers_thread(async move {
        let tools = Tools { ffmpeg: "ffmpeg".into(), ffprobe: "ffprobe".into() };
        Slate::load_or_make(&tools, &profile(), "Main", &cache).await.map(|slate| slate.shape())
    });
    slate.unwrap();
}
