//! MP4 files of all kinds, made by FFmpeg once and kept for the next run.

#![allow(dead_code)] // Each test takes what it needs.

use state::secret::Secret;
use state::storage::{Provider, StorageSettings};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use storage::Storage;
use stream_worker::source::stream::Stream;

/// A way to make a file: its name, and FFmpeg's arguments behind the inputs.
pub(crate) const FILES: &[(&str, &str)] = &[
    ("b-frames", "-c:v libx264 -bf 3 -g 50 -c:a aac"),
    ("no-b-frames", "-c:v libx264 -bf 0 -g 25 -c:a aac"),
    ("moov-first", "-c:v libx264 -bf 2 -g 50 -c:a aac -movflags +faststart"),
    ("mono-44100", "-c:v libx264 -bf 2 -g 50 -c:a aac -ar 44100 -ac 1"),
    ("no-sound", "-c:v libx264 -bf 2 -g 50 -an"),
    ("ntsc", "-r 30000/1001 -c:v libx264 -bf 2 -g 60 -c:a aac"),
    ("60-fps", "-r 60 -c:v libx264 -bf 2 -g 60 -c:a aac"),
    ("uneven", "-vf select='lt(mod(n,5),3)' -vsync vfr -c:v libx264 -bf 2 -g 50 -c:a aac"),
    ("signed-composition", "-c:v libx264 -bf 2 -g 50 -c:a aac -movflags +negative_cts_offsets"),
    ("long-timescale", "-c:v libx264 -bf 2 -g 50 -c:a aac -video_track_timescale 90000"),
    ("audio-short", "-c:v libx264 -bf 2 -g 50 -c:a aac -af atrim=0:2.5"),
    ("no-edit-list", "-c:v libx264 -bf 2 -g 50 -c:a aac -use_editlist 0"),
    ("no-edit-list-no-sound", "-c:v libx264 -bf 2 -g 50 -an -use_editlist 0"),
    ("audio-before", "-c:v libx264 -bf 0 -g 50 -c:a aac -af atrim=0:4.9,asetpts=PTS-STARTPTS"),
    ("chunky", "-c:v libx264 -bf 2 -g 50 -c:a aac -max_interleave_delta 0 -chunk_duration 2000000"),
];

pub(crate) fn folder() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("mp4");
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

fn ffmpeg(arguments: &[&str]) {
    let output =
        Command::new("ffmpeg").args(["-v", "error", "-nostdin", "-y"]).args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// The arguments with a place to write to, which becomes the file when it is whole: tests run beside each other.
fn made(path: &Path, arguments: &str) {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let part = path.with_extension(format!("part{}", NUMBER.fetch_add(1, Ordering::Relaxed)));
    let all: Vec<&str> = arguments.split_whitespace().chain(["-f", "mp4", part.to_str().unwrap()]).collect();
    ffmpeg(&all);
    std::fs::rename(part, path).unwrap();
}

/// Makes a file of five seconds once.
pub(crate) fn make(name: &str, options: &str) -> PathBuf {
    let path = folder().join(format!("{name}.mp4"));
    if !path.exists() {
        let inputs = "-f lavfi -i testsrc2=s=320x180:r=25:d=5 -f lavfi -i sine=f=440:r=48000:d=5";
        made(&path, &format!("{inputs} -preset ultrafast -pix_fmt yuv420p {options}"));
    }
    path
}

/// A file made of another one by copying: `before` stands before the input, `after` behind it.
pub(crate) fn remake(name: &str, from: &Path, before: &str, after: &str) -> PathBuf {
    let path = folder().join(format!("{name}.mp4"));
    made(&path, &format!("{before} -i {} -c copy {after}", from.to_str().unwrap()));
    path
}

/// A file of the folder as an object: it goes the same way as one of a bucket, through the storage room.
pub(crate) async fn object(path: &Path) -> Stream {
    let settings = StorageSettings {
        provider: Provider::Local,
        local_dir: folder(),
        bucket: String::new(),
        endpoint: String::new(),
        region: String::new(),
        access_key_id: Secret::new(""),
        secret_access_key: Secret::new(""),
        prefix: String::new(),
        link_ttl_s: 3600,
        prepared_prefix: String::new(),
    };
    let storage = Storage::open(settings, None).unwrap();
    let key = path.file_name().unwrap().to_str().unwrap().to_owned();
    let media = storage.stat(&key).await.unwrap();
    Stream::new(storage, key, media.content, media.size)
}
