//! A whole worker with a destination that wants uniform parameters: what a real server sees of files that differ.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test file fails by panicking

mod rtmp_peers;

use bytes::Bytes;
use rml_rtmp::sessions::ServerSessionEvent as Event;
use rtmp_peers::PATIENCE;
use rtmp_peers::server::Server;
use serde_json::{Value, json};
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

fn make(path: &Path, size: &str, x264: &str) {
    let made = Command::new("ffmpeg")
        .args(["-v", "error", "-nostdin", "-f", "lavfi", "-i", &format!("testsrc2=s={size}:r=25:d=2")])
        .args("-f lavfi -i sine=d=2:r=48000 -c:v libx264 -pix_fmt yuv420p -g 25".split(' '))
        .args(x264.split(' '))
        .args(["-c:a", "aac", "-ac", "2"])
        .arg(path)
        .status();
    assert!(made.unwrap().success());
}

/// The AVC headers that the server heard, without repetitions.
fn headers(server: &Server) -> Vec<Bytes> {
    let header = |event: &Event| match event {
        Event::VideoDataReceived { data, .. } if data[1] == 0 => Some(data.clone()),
        _ => None,
    };
    let mut found: Vec<Bytes> = server.events().iter().filter_map(header).collect();
    found.dedup();
    found
}

fn item(folder: &Path, name: &str) -> Value {
    json!({"id": name, "key": name, "at": {"path": folder.join(name)}, "content": "as it is"})
}

/// Has a file prepared for uniform destinations.
fn prepare(folder: &Path, name: &str) {
    let job = json!({
        "item": item(folder, name), "profile": profile(true), "cache_dir": folder.join("cache"),
        "ffmpeg": "ffmpeg", "ffprobe": "ffprobe",
    });
    let mut worker = Command::new(env!("CARGO_BIN_EXE_stream-worker"));
    let mut child = worker
        .arg("--prepare")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    writeln!(child.stdin.take().unwrap(), "{job}").unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains(r#""type":"ready""#), "{said}");
}

fn profile(uniform: bool) -> Value {
    json!({"width": 320, "height": 180, "fps": 25, "video_kbps": 500, "uniform": uniform})
}

/// Plays both files to their end, to a destination with this boundary. Gives the worker's log.
async fn play(folder: &Path, server: &Server, boundary: &str) -> String {
    let items = ["one.mp4", "two.mp4"].map(|name| item(folder, name));
    let spec = json!({
        "channel": "main", "name": "Main", "run": "R", "epoch": 1, "loop": false, "items": items,
        "destinations": [{"id": "one", "name": "One", "platform": "custom", "url": server.url("live"), "key": "k",
                          "boundary": boundary}],
        "ffmpeg": "ffmpeg", "ffprobe": "ffprobe", "cache_dir": folder.join("cache"), "profile": profile(false),
    });
    let path = folder.join("spec.json");
    fs::write(&path, spec.to_string()).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    let mut worker = Command::new(env!("CARGO_BIN_EXE_stream-worker"));
    let log = folder.join("worker.log");
    worker.arg("--spec").arg(&path).env("LOG_LEVEL", "debug").stderr(fs::File::create(&log).unwrap());
    let mut child = worker.spawn().unwrap();
    let began = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if began.elapsed() > PATIENCE {
            child.kill().unwrap();
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    };
    assert!(status.success(), "{status}");
    server.wait_for_goodbyes(1).await;
    fs::read_to_string(log).unwrap()
}

#[tokio::test]
async fn a_uniform_destination_sees_one_publication_and_one_header() {
    let folder = tempfile::tempdir().unwrap();
    make(&folder.path().join("one.mp4"), "320x180", "-preset ultrafast -profile:v baseline -bf 0");
    make(&folder.path().join("two.mp4"), "256x144", "-preset veryfast -profile:v main -bf 2");
    let (uniform, continuous) = (Server::start(&[]).await, Server::start(&[]).await);
    prepare(folder.path(), "two.mp4");
    let log = play(folder.path(), &uniform, "uniform").await;
    assert_eq!((uniform.keys().len(), headers(&uniform).len()), (1, 1));
    let why = "a destination wants uniform parameters";
    assert!(
        log.contains(&format!(r#""video":"transcode","audio":"copy","reason":"{why}""#)),
        "the first, live"
    );
    assert!(
        log.contains(&format!(r#""video":"copy","audio":"copy","reason":"prepared: {why}""#)),
        "the second"
    );
    let pictures = uniform.heard().iter().filter(|(kind, _)| *kind == 'v').count();
    assert!((96..=104).contains(&pictures), "{pictures} pictures of twice 50");

    play(folder.path(), &continuous, "continuous").await;
    assert_eq!((continuous.keys().len(), headers(&continuous).len()), (1, 2), "the files do differ");
}
