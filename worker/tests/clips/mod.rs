//! Clips made by FFmpeg, read as tags, and put one after another in channel time.

use bytes::Bytes;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use stream_worker::media::{Shape, Tag, Track, TrackConfig};

/// What the splice makes of decoding times: pictures are decoded this long before they are seen.
const DECODE_AHEAD_MS: i64 = 100;

/// Tags with times of their own, from 0.
pub(crate) struct Clip {
    tags: Vec<Tag>,
}

impl Clip {
    /// 640×360 at 25/s with B-frames, GOPs of 1 s, 48 kHz stereo, 7 s.
    pub(crate) fn wide(dir: &Path) -> Self {
        let video = ["-bf", "2", "-g", "25"];
        Self::make(&dir.join("wide.flv"), "size=640x360:rate=25", "48000", &video)
    }

    /// 320×180 at 30/s without B-frames, GOPs of 2 s, 44.1 kHz stereo, 7 s.
    pub(crate) fn small(dir: &Path) -> Self {
        let video = ["-bf", "0", "-g", "60"];
        Self::make(&dir.join("small.flv"), "size=320x180:rate=30", "44100", &video)
    }

    fn make(path: &Path, picture: &str, rate: &str, video: &[&str]) -> Self {
        let mut ffmpeg = Command::new("ffmpeg");
        ffmpeg.args(["-v", "error", "-nostdin", "-y", "-t", "7", "-f", "lavfi", "-i"]);
        ffmpeg.arg(format!("testsrc2={picture}"));
        ffmpeg.args(["-t", "7", "-f", "lavfi", "-i", &format!("sine=frequency=440:sample_rate={rate}")]);
        ffmpeg.args(["-c:v", "libx264", "-preset", "ultrafast", "-sc_threshold", "0", "-pix_fmt", "yuv420p"]);
        ffmpeg.args(video).args(["-c:a", "aac", "-ac", "2"]);
        ffmpeg.args(["-flvflags", "no_duration_filesize"]).arg(path);
        assert!(ffmpeg.status().unwrap().success());
        Self { tags: read(&std::fs::read(path).unwrap()) }
    }
}

/// Clips one after another.
pub(crate) struct Timeline {
    /// In the order in which they are sent.
    pub(crate) tags: Vec<Tag>,
    /// Where the next clip's first picture is seen, ms of channel time.
    end: i64,
}

impl Timeline {
    pub(crate) fn starting_at(ms: i64) -> Self {
        Self { tags: Vec::new(), end: ms + DECODE_AHEAD_MS }
    }

    /// Puts a clip at the end, as the splice does: pictures 100 ms ahead, no sound before the first picture.
    pub(crate) fn append(&mut self, clip: &Clip) {
        let first = clip.tags.iter().find(|tag| tag.track == Track::Video).unwrap();
        let (lead, shift) = (i64::from(first.cts), self.end - first.pts());
        let mut tags = Vec::new();
        let mut end = self.end;
        for tag in &clip.tags {
            let mut tag = tag.clone();
            tag.dts += shift;
            if tag.track == Track::Video {
                tag.dts += lead - DECODE_AHEAD_MS;
                tag.cts += (DECODE_AHEAD_MS - lead) as i32;
            } else if tag.dts < self.end {
                continue;
            }
            end = end.max(tag.pts());
            tags.push(tag);
        }
        tags.sort_by_key(|tag| tag.dts);
        let mut next_idr = None;
        for tag in tags.iter_mut().rev().filter(|tag| tag.idr) {
            tag.next_idr = next_idr.replace(tag.dts);
        }
        self.tags.append(&mut tags);
        self.tags.sort_by_key(|tag| tag.dts);
        self.end = end + 40;
    }
}

/// Reads an FLV file (Adobe FLV 10.1, annex E).
fn read(mut file: &[u8]) -> Vec<Tag> {
    let mut configs: [Option<Arc<TrackConfig>>; 2] = [None, None];
    let mut tags = Vec::new();
    file = &file[13..];
    while file.len() > 11 {
        let size = usize::from(file[1]) << 16 | usize::from(file[2]) << 8 | usize::from(file[3]);
        let dts = i64::from(u32::from_be_bytes([file[7], file[4], file[5], file[6]]));
        let body = Bytes::copy_from_slice(&file[11..11 + size]);
        let track = match file[0] {
            8 => Some(Track::Audio),
            9 => Some(Track::Video),
            _ => None,
        };
        file = &file[11 + size + 4..];
        let Some(track) = track else { continue };
        let config = &mut configs[usize::from(track == Track::Audio)];
        match body[1] {
            0 => *config = Some(Arc::new(TrackConfig { header: body, shape: shape(track) })),
            1 => tags.push(tag(track, dts, body, config.clone().unwrap())),
            _ => {}
        }
    }
    tags
}

fn tag(track: Track, dts: i64, body: Bytes, config: Arc<TrackConfig>) -> Tag {
    let (cts, idr) = match track {
        Track::Video => (i32::from_be_bytes([0, body[2], body[3], body[4]]), body[0] >> 4 == 1),
        Track::Audio => (0, false),
    };
    Tag { track, dts, cts, idr, next_idr: None, body, config }
}

fn shape(track: Track) -> Shape {
    match track {
        Track::Video => Shape::Video { width: 0, height: 0, fps: 0.0, kbps: 0 },
        Track::Audio => Shape::Audio { sample_rate: 0, channels: 0, kbps: 0 },
    }
}
