//! Running a worker by hand, with a file instead of a controller.

#![allow(clippy::unwrap_used, missing_docs)]

use serde_json::json;
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

fn worker() -> Command {
    Command::new(env!("CARGO_BIN_EXE_stream-worker"))
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn spec_in(folder: &Path, mode: u32) -> PathBuf {
    let clip = folder.join("clip.mp4");
    let made = Command::new("ffmpeg")
        .args(
            "-v error -nostdin -f lavfi -i testsrc=s=320x180:r=25:d=3 -f lavfi -i sine=d=3:r=48000"
                .split(' '),
        )
        .args("-c:v libx264 -preset ultrafast -pix_fmt yuv420p -g 50 -c:a aac -ac 2".split(' '))
        .arg(&clip)
        .status();
    assert!(made.unwrap().success());
    let spec = json!({
        "channel": "main", "name": "Main", "run": "R", "epoch": 1, "loop": false,
        "items": [{"id": "1", "key": "clip.mp4", "at": {"path": clip}}],
        "hls": {"dir": folder.join("hls"), "public_id": "abcdefghij0123456789AB"},
        "ffmpeg": "ffmpeg", "ffprobe": "ffprobe", "cache_dir": folder.join("cache"),
    });
    let path = folder.join("spec.json");
    fs::write(&path, spec.to_string()).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    path
}

#[test]
fn a_spec_that_others_can_read_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let output = worker().arg("--spec").arg(spec_in(folder.path(), 0o644)).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("chmod 600"), "{}", said(&output));
}

#[test]
fn a_file_is_played_to_its_end() {
    let folder = tempfile::tempdir().unwrap();
    let spec = spec_in(folder.path(), 0o600);
    plays_to_the_end(spec, Stdio::null());
    let playlist = fs::read_to_string(folder.path().join("hls/index.m3u8")).unwrap();
    assert!(playlist.contains("#EXTINF"), "{playlist}");
}

/// Starts it on this stderr and waits until it has played everything.
fn plays_to_the_end(spec: PathBuf, stderr: Stdio) {
    let mut child = worker().arg("--spec").arg(spec).stderr(stderr).spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if Instant::now() > deadline {
            child.kill().unwrap();
            panic!("it does not end");
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    assert_eq!(status.code(), Some(0));
}

#[test]
fn where_nobody_reads_what_it_says_it_plays_and_ends_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let (_nobody, mut full) = std::io::pipe().unwrap();
    rustix::io::ioctl_fionbio(&full, true).unwrap();
    while full.write(&[b'.'; 1024]).is_ok() {}
    rustix::io::ioctl_fionbio(&full, false).unwrap();
    plays_to_the_end(spec_in(folder.path(), 0o600), full.into());
    assert!(folder.path().join("hls/index.m3u8").is_file());
}

/// An ffprobe that takes its time when it is asked about `next.mp4`, and leaves `asked` behind.
fn slow_probe(folder: &Path) -> PathBuf {
    let path = folder.join("ffprobe");
    let asked = folder.join("asked");
    let script = format!(
        "#!/bin/sh\ncase \"$*\" in *next.mp4*) : >'{}'; sleep 1;; esac\nexec ffprobe \"$@\"\n",
        asked.display()
    );
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[test]
fn a_stop_does_not_wait_for_an_item_that_is_being_opened() {
    let folder = tempfile::tempdir().unwrap();
    let path = spec_in(folder.path(), 0o600);
    let (clip, next) = (folder.path().join("clip.mp4"), folder.path().join("next.mp4"));
    // Longer than is read ahead, so that its reader is not done by itself.
    let mut made = Command::new("ffmpeg");
    made.args("-v error -nostdin -stream_loop 6 -i".split(' ')).arg(&clip).args(["-c", "copy"]).arg(&next);
    assert!(made.status().unwrap().success());
    let mut spec: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    spec["ffprobe"] = json!(slow_probe(folder.path()));
    spec["items"] = json!([
        {"id": "1", "key": "clip.mp4", "at": {"path": clip}},
        {"id": "2", "key": "next.mp4", "at": {"path": next}},
    ]);
    fs::write(&path, spec.to_string()).unwrap();
    let child = worker().arg("--spec").arg(path).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
    let child = child.unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    while !folder.path().join("asked").exists() {
        assert!(Instant::now() < deadline, "the next item is not opened");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(Command::new("kill").arg(child.id().to_string()).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert!(!said(&output).contains("did not end in time"), "{}", said(&output));
}

#[test]
fn wrong_arguments_are_answered_in_one_line() {
    for arguments in
        [&["--channel", "main"][..], &["--channel", "../x", "--run", "r", "--socket", "s"], &["--what"]]
    {
        let output = worker().args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert_eq!(said(&output).lines().count(), 1, "{}", said(&output));
    }
    let help = worker().arg("--help").output().unwrap();
    assert!(help.status.success() && String::from_utf8_lossy(&help.stdout).contains("--spec"));
}
