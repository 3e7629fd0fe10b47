//! HLS end to end: clips made by FFmpeg go through the output, and FFmpeg plays the playlist.

#![allow(clippy::unwrap_used)] // clippy knows tests only inside of `#[test]` functions

mod clips;

use clips::{Clip, Timeline};
use state::wire::HlsSpec;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};
use stream_worker::media::{Tag, Track};
use stream_worker::output::hls::Hls;

const DEADLINE: Duration = Duration::from_secs(20);

fn spec(dir: &Path, window: usize) -> HlsSpec {
    let public_id = "0123456789abcdefghijAB".to_owned();
    let spec = serde_json::json!({
        "dir": dir, "public_id": public_id, "target_duration_s": 2, "window": window, "first_sequence": 0
    });
    serde_json::from_value(spec).unwrap()
}

/// The wide clip, so many times, from this ms of channel time on.
fn wide(from_ms: i64, times: usize) -> Timeline {
    let clips = tempfile::tempdir().unwrap();
    let clip = Clip::wide(clips.path());
    let mut timeline = Timeline::starting_at(from_ms);
    (0..times).for_each(|_| timeline.append(&clip));
    timeline
}

/// An output that is given one half of the tags; the other half comes back.
fn half_sent<'a>(dir: &Path, tags: &'a [Tag]) -> (Hls, &'a [Tag]) {
    let mut hls = Hls::start(spec(dir, 100), 1, state::now(), Arc::default()).unwrap();
    let (before, after) = tags.split_at(tags.len() / 2);
    before.iter().for_each(|tag| hls.send(tag));
    (hls, after)
}

/// One run of a worker: sends the tags as fast as the queue takes them.
fn run(dir: &Path, window: usize, epoch: u64, tags: &[Tag]) {
    let mut hls = Hls::start(spec(dir, window), epoch, state::now(), Arc::default()).unwrap();
    for tag in tags {
        hls.send(tag);
        // The pacer would take hours for this; a disk needs a moment at each picture that can be entered.
        if tag.idr {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    hls.finish(DEADLINE);
}

fn playlist(dir: &Path) -> String {
    std::fs::read_to_string(dir.join("index.m3u8")).unwrap()
}

fn value(playlist: &str, tag: &str) -> u64 {
    let line = playlist.lines().find_map(|line| line.strip_prefix(tag)).unwrap();
    line.parse().unwrap()
}

fn segments(playlist: &str) -> Vec<&str> {
    playlist.lines().filter(|line| line.ends_with(".ts")).collect()
}

/// Decodes a playlist or a segment and returns what FFmpeg complains about.
fn decode(input: &Path) -> String {
    let mut ffmpeg = Command::new("ffmpeg");
    ffmpeg.args(["-v", "error", "-nostdin", "-i"]).arg(input);
    // With times as they are: the first clip's frame rate is not that of the second.
    ffmpeg.args(["-map", "0", "-vsync", "passthrough", "-enc_time_base", "-1", "-f", "null", "-"]);
    let output = ffmpeg.output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stderr).unwrap()
}

/// Decodes the window as a finished playlist, since FFmpeg would wait for a live one to go on.
fn decode_playlist(dir: &Path) -> String {
    let ended = dir.join("ended.m3u8");
    std::fs::write(&ended, format!("{}#EXT-X-ENDLIST\n", playlist(dir))).unwrap();
    decode(&ended)
}

/// One line of ffprobe for every entry.
fn probe(input: &Path, args: &[&str]) -> Vec<String> {
    let mut ffprobe = Command::new("ffprobe");
    let output = ffprobe.args(["-v", "error", "-of", "csv=p=0"]).args(args).arg(input).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().filter(|line| !line.is_empty()).map(|line| line.trim_end_matches(',').to_owned()).collect()
}

fn count(tags: &[Tag], track: Track) -> usize {
    tags.iter().filter(|tag| tag.track == track).count()
}

fn frames(dir: &Path, select: &str) -> usize {
    let files = playlist(dir);
    let count = |name: &&str| {
        probe(&dir.join(name), &["-select_streams", select, "-show_entries", "packet=pts"]).len()
    };
    segments(&files).iter().map(count).sum()
}

#[test]
fn four_clips_play_through_with_every_frame_and_no_error() {
    let clips = tempfile::tempdir().unwrap();
    let (wide, small) = (Clip::wide(clips.path()), Clip::small(clips.path()));
    let mut timeline = Timeline::starting_at(0);
    for clip in [&wide, &small, &wide, &small] {
        timeline.append(clip);
    }
    let dir = tempfile::tempdir().unwrap();
    let began = Instant::now();
    run(dir.path(), 100, 1, &timeline.tags);
    assert!(began.elapsed() >= Duration::from_secs(1), "two versions within half a target duration");

    let text = playlist(dir.path());
    assert!(segments(&text).len() > 12, "{text}");
    assert_eq!(text.matches("#EXT-X-DISCONTINUITY\n").count(), 3, "{text}");
    assert!(text.contains("#EXT-X-INDEPENDENT-SEGMENTS"), "{text}");
    assert!(!text.contains("ENDLIST"), "{text}");
    assert_eq!(decode_playlist(dir.path()), "");
    assert_eq!(frames(dir.path(), "v"), count(&timeline.tags, Track::Video));
    assert_eq!(frames(dir.path(), "a"), count(&timeline.tags, Track::Audio));
}

#[test]
fn every_segment_stands_alone_in_its_own_size_and_rate() {
    let clips = tempfile::tempdir().unwrap();
    let mut timeline = Timeline::starting_at(0);
    timeline.append(&Clip::wide(clips.path()));
    timeline.append(&Clip::small(clips.path()));
    let dir = tempfile::tempdir().unwrap();
    run(dir.path(), 100, 1, &timeline.tags);

    let mut shapes = Vec::new();
    for name in segments(&playlist(dir.path())) {
        let path = dir.path().join(name);
        assert_eq!(decode(&path), "", "{name}");
        let entries = ["-show_entries", "stream=codec_name,width,height,sample_rate,channels"];
        let shape = probe(&path, &entries);
        if shapes.last() != Some(&shape) {
            shapes.push(shape);
        }
        for track in ["v", "a"] {
            let times = probe(&path, &["-select_streams", track, "-show_entries", "packet=dts"]);
            let times: Vec<i64> = times.iter().map(|time| time.parse().unwrap()).collect();
            assert!(times.windows(2).all(|pair| pair[0] < pair[1]), "{name} {track} {times:?}");
        }
    }
    shapes.iter_mut().for_each(|shape| shape.sort_unstable());
    shapes.iter_mut().for_each(|shape| shape.dedup());
    assert_eq!(shapes, [["aac,48000,2", "h264,640,360"], ["aac,44100,2", "h264,320,180"]]);
}

#[test]
fn a_restart_goes_on_with_the_playlist() {
    let timeline = wide(0, 2);
    let dir = tempfile::tempdir().unwrap();
    run(dir.path(), 6, 1, &timeline.tags);
    let first = playlist(dir.path());
    let (sequence, listed) = (value(&first, "#EXT-X-MEDIA-SEQUENCE:"), segments(&first).len() as u64);

    run(dir.path(), 6, 2, &wide(0, 1).tags);
    let second = playlist(dir.path());
    let next = format!("2-{}.ts", sequence + listed);
    let joint = second.split(&next).next().unwrap();
    assert!(joint.lines().rev().take(3).any(|line| line == "#EXT-X-DISCONTINUITY"), "{second}");
    assert!(value(&second, "#EXT-X-MEDIA-SEQUENCE:") > sequence);
    let kept: Vec<_> = segments(&second).into_iter().filter(|name| name.starts_with("1-")).collect();
    assert!(!kept.is_empty() && segments(&first).ends_with(&kept), "{first}{second}");
    assert_eq!(decode_playlist(dir.path()), "");

    // A third run with nothing left of the second: the discontinuity is counted where it left.
    run(dir.path(), 6, 2, &timeline.tags);
    let third = playlist(dir.path());
    let open = third.matches("#EXT-X-DISCONTINUITY\n").count() as u64;
    assert_eq!(value(&third, "#EXT-X-DISCONTINUITY-SEQUENCE:") + open, 2, "{third}");
}

/// The three highest bits of the first picture's presentation time (ISO 13818-1, 2.4.3.7).
fn clock_top(segment: &Path) -> u8 {
    let bytes = std::fs::read(segment).unwrap();
    let picture = bytes.windows(4).position(|start| start == [0, 0, 1, 0xE0]).unwrap();
    bytes[picture + 9] >> 1 & 7
}

#[test]
fn the_33_bit_clock_wraps_without_a_trace() {
    // The clock wraps (2^33 / 90 - 1000) ms after channel time 0, in the middle of this.
    let timeline = wide((1_i64 << 33) / 90 - 1000 - 3_300, 2);
    let dir = tempfile::tempdir().unwrap();
    run(dir.path(), 100, 1, &timeline.tags);
    let text = playlist(dir.path());
    assert!(!text.contains("DISCONTINUITY\n"), "{text}");
    let names = segments(&text);
    assert_eq!(clock_top(&dir.path().join(names[0])), 7);
    assert_eq!(clock_top(&dir.path().join(names[names.len() - 1])), 0);
    assert_eq!(decode_playlist(dir.path()), "");
    assert_eq!(frames(dir.path(), "v"), count(&timeline.tags, Track::Video));
}

#[test]
fn a_folder_that_cannot_be_written_is_reported_and_recovered_from() {
    let timeline = wide(0, 2);
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("hls");
    std::fs::write(&dir, "a file where the folder should be").unwrap();

    let (mut hls, after) = half_sent(&dir, &timeline.tags);
    wait_until("the error shows", || hls.seen().error.is_some());
    std::fs::remove_file(&dir).unwrap();
    after.iter().for_each(|tag| hls.send(tag));
    wait_until("it is in order again", || hls.seen().error.is_none() && hls.seen().last_segment_at.is_some());
    hls.finish(DEADLINE);
    assert_eq!(value(&playlist(&dir), "#EXT-X-MEDIA-SEQUENCE:"), 0);
    assert_eq!(decode_playlist(&dir), "");
}

/// Puts something else where the segment's unfinished file will be.
fn unfinished(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!(".{name}.tmp"))
}

#[test]
fn a_full_disk_costs_segments_and_no_number() {
    let timeline = wide(0, 2);
    let dir = tempfile::tempdir().unwrap();
    let (mut hls, after) = half_sent(dir.path(), &timeline.tags);
    wait_until("a segment is published", || hls.seen().last_segment_at.is_some());
    let full = (3..20).map(|number| unfinished(dir.path(), &format!("1-{number}.ts")));
    let full = full.filter(|path| !path.exists() && std::os::unix::fs::symlink("/dev/full", path).is_ok());
    assert!(full.count() > 0);
    after.iter().for_each(|tag| hls.send(tag));
    hls.finish(DEADLINE);

    let text = playlist(dir.path());
    let expected: Vec<_> = (0..segments(&text).len()).map(|number| format!("1-{number}.ts")).collect();
    assert_eq!(segments(&text), expected);
    assert!(text.contains("#EXT-X-DISCONTINUITY\n"), "{text}");
    assert_eq!(decode_playlist(dir.path()), "");
}

#[test]
fn a_folder_that_was_deleted_comes_back_and_counts_on() {
    let timeline = wide(0, 2);
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("hls");
    let (mut hls, after) = half_sent(&dir, &timeline.tags);
    wait_until("a segment is published", || hls.seen().last_segment_at.is_some());
    wait_until("nothing new came in between", || std::fs::remove_dir_all(&dir).is_ok());
    after.iter().for_each(|tag| hls.send(tag));
    hls.finish(DEADLINE);

    let text = playlist(&dir);
    assert!(value(&text, "#EXT-X-MEDIA-SEQUENCE:") > 0, "{text}");
    assert_eq!(text.matches("#EXT-X-DISCONTINUITY\n").count(), 1, "{text}");
    assert_eq!(decode_playlist(&dir), "");
}

#[test]
fn a_disk_that_hangs_makes_nobody_wait() {
    let timeline = wide(0, 12);
    let dir = tempfile::tempdir().unwrap();
    let mut hls = Hls::start(spec(dir.path(), 100), 1, state::now(), Arc::default()).unwrap();
    // The folder is looked through at the start, so wait until that is over.
    hls.send(&timeline.tags[0]);
    let pipe = unfinished(dir.path(), "1-2.ts");
    let tags = &mut timeline.tags[1..].iter();
    tags.by_ref().take_while(|tag| tag.dts < 3_000).for_each(|tag| hls.send(tag));
    wait_until("a segment is published", || hls.seen().last_segment_at.is_some());
    // Whoever opens a pipe that nobody reads waits for ever.
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    tags.for_each(|tag| hls.send(tag));
    let error = hls.seen().error.unwrap();
    assert!(error.contains("too slow"), "{error}");
    let began = Instant::now();
    hls.finish(Duration::from_millis(100));
    assert!(began.elapsed() < DEADLINE);
    drop(std::fs::File::open(&pipe).unwrap());
}

fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < end, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
