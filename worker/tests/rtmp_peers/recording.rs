//! What ffprobe and FFmpeg say of a recording.

use super::PATIENCE;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// Packets of a recording.
#[derive(Debug)]
pub struct Recording {
    /// Decoding times of the pictures, ms.
    pub video: Vec<i64>,
    /// Decoding times of the sound, ms.
    pub audio: Vec<i64>,
    /// Whether the first picture is a key frame.
    pub begins_with_key: bool,
}

/// Waits until the recording holds `pictures`, then reads it.
pub async fn wait_for(file: &Path, pictures: usize) -> Recording {
    let began = Instant::now();
    loop {
        let recording = read(file);
        if recording.video.len() >= pictures || began.elapsed() > PATIENCE {
            assert!(recording.video.len() >= pictures, "{} pictures of {pictures}", recording.video.len());
            return recording;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

pub fn read(file: &Path) -> Recording {
    let output = Command::new("ffprobe")
        .args(["-v", "error", "-show_entries", "packet=codec_type,dts,flags", "-of", "csv=p=0"])
        .arg(file)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let mut recording = Recording { video: Vec::new(), audio: Vec::new(), begins_with_key: false };
    for line in text.lines() {
        let mut fields = line.split(',');
        let (kind, dts) = (fields.next().unwrap(), fields.next().unwrap_or_default());
        let Ok(dts) = dts.parse() else { continue };
        if kind == "audio" {
            recording.audio.push(dts);
            continue;
        }
        if recording.video.is_empty() {
            recording.begins_with_key = fields.next().is_some_and(|flags| flags.contains('K'));
        }
        recording.video.push(dts);
    }
    recording
}

impl Recording {
    pub fn assert_times_increase(&self) {
        for (name, times) in [("video", &self.video), ("audio", &self.audio)] {
            let back: Vec<_> = times.windows(2).filter(|pair| pair[1] <= pair[0]).collect();
            assert!(back.is_empty(), "{name} goes back: {back:?}");
        }
    }
}

/// What FFmpeg complains of when it decodes everything.
pub fn decode_errors(file: &Path) -> String {
    let output = Command::new("ffmpeg")
        .args(["-v", "error", "-nostdin", "-i"])
        .arg(file)
        .args(["-f", "null", "-"])
        .output()
        .unwrap();
    String::from_utf8(output.stderr).unwrap()
}

/// The size in pixels of each picture, without repetitions.
pub fn sizes(file: &Path) -> Vec<String> {
    let output = Command::new("ffprobe")
        .args([
            "-v",
            "error",
            "-select_streams",
            "v",
            "-show_entries",
            "frame=width,height",
            "-of",
            "csv=p=0",
        ])
        .arg(file)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let mut sizes: Vec<String> = text.lines().map(|line| line.trim_end_matches(',').to_owned()).collect();
    sizes.retain(|size| !size.is_empty()); // side data
    sizes.dedup();
    sizes
}

/// Asserts that an FLV file begins with both sequence headers and then a key frame.
pub fn assert_begins_with_headers_and_key_frame(file: &Path) {
    let kinds = kinds(&std::fs::read(file).unwrap());
    let (before, _) = kinds.split_once('K').unwrap_or_else(|| panic!("no key frame: {kinds}"));
    let headers_only = before.chars().all(|kind| "mVA".contains(kind));
    assert!(headers_only && before.contains('V') && before.contains('A'), "{kinds}");
}

/// The tags of an FLV file: `m` metadata, `V` and `A` sequence headers, `K` a key frame, `v`, `a`.
fn kinds(flv: &[u8]) -> String {
    let mut kinds = String::new();
    let mut at = 13;
    while at + 13 <= flv.len() {
        let length =
            usize::from(flv[at + 1]) << 16 | usize::from(flv[at + 2]) << 8 | usize::from(flv[at + 3]);
        kinds.push(match (flv[at], flv[at + 11], flv[at + 12]) {
            (18, ..) => 'm',
            (9, _, 0) => 'V',
            (8, _, 0) => 'A',
            (9, 0x17, _) => 'K',
            (9, ..) => 'v',
            _ => 'a',
        });
        at += 11 + length + 4;
    }
    kinds
}
