//! Media made by FFmpeg, read from FLV into the worker's tags.

use bytes::Bytes;
use std::process::Command;
use std::sync::Arc;
use stream_worker::media::{Shape, Tag, Track, TrackConfig};

/// A clip of so many seconds and pixels with an IDR every second and stereo sound.
pub fn make(seconds: u32, width: u32, height: u32) -> Vec<Tag> {
    let size = format!("testsrc2=size={width}x{height}:rate=30");
    let length = seconds.to_string();
    let output = Command::new("ffmpeg")
        .args(["-v", "error", "-nostdin", "-f", "lavfi", "-t", &length, "-i", &size])
        .args(["-f", "lavfi", "-t", &length, "-i", "sine=frequency=440:sample_rate=48000"])
        .args(["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-g", "30", "-crf", "20"])
        .args(["-c:a", "aac", "-ac", "2", "-f", "flv", "-flvflags", "no_duration_filesize", "pipe:1"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let shape = Shape::Video { width, height, fps: 30.0, kbps: 500 };
    tags(&Bytes::from(output.stdout), shape)
}

/// A clip whose IDRs are larger than a chunk, so that type-3 chunks and what they repeat are tried too.
pub fn make_large(seconds: u32) -> Vec<Tag> {
    let clip = make(seconds, 1280, 720);
    let many_chunks =
        |tag: &Tag| tag.body.len() > 2 * stream_worker::output::rtmp::protocol::publish::CHUNK_SIZE;
    assert!(clip.iter().filter(|tag| tag.idr).all(many_chunks));
    clip
}

/// The clip from its first IDR on.
pub fn from_first_idr(clip: &[Tag]) -> &[Tag] {
    &clip[clip.iter().position(|tag| tag.idr).unwrap()..]
}

/// Clips one after another, as items of a channel: each reads its own headers.
pub fn one_after_another(clips: &[&Vec<Tag>]) -> Vec<Tag> {
    let (mut all, mut at) = (Vec::new(), 0);
    for clip in clips {
        let mut headers: Vec<(Arc<TrackConfig>, Arc<TrackConfig>)> = Vec::new();
        for tag in *clip {
            let known =
                headers.iter().find(|(own, _)| Arc::ptr_eq(own, &tag.config)).map(|(_, new)| new.clone());
            let config = known.unwrap_or_else(|| {
                let new =
                    Arc::new(TrackConfig { header: tag.config.header.clone(), shape: tag.config.shape });
                headers.push((tag.config.clone(), new.clone()));
                new
            });
            all.push(Tag { dts: tag.dts + at, config, ..tag.clone() });
        }
        at = all.iter().map(|tag: &Tag| tag.dts).max().unwrap() + 33;
    }
    all
}

fn tags(flv: &Bytes, video: Shape) -> Vec<Tag> {
    let audio = Shape::Audio { sample_rate: 48_000, channels: 2, kbps: 128 };
    let mut configs: [Option<Arc<TrackConfig>>; 2] = [None, None];
    let mut tags = Vec::new();
    let mut at = 13; // file header and the first back pointer
    while at + 11 <= flv.len() {
        let number = |from: usize, to: usize| {
            flv[at + from..at + to].iter().fold(0, |sum, b| sum << 8 | i64::from(*b))
        };
        let (kind, length) = (flv[at], number(1, 4) as usize);
        let dts = number(4, 7) | number(7, 8) << 24;
        let body = flv.slice(at + 11..at + 11 + length);
        at += 11 + length + 4;
        let (track, slot, shape) = match kind {
            9 => (Track::Video, 0, video),
            8 => (Track::Audio, 1, audio),
            _ => continue,
        };
        match body[1] {
            0 => configs[slot] = Some(Arc::new(TrackConfig { header: body, shape })),
            1 => tags.push(tag(track, dts, body, configs[slot].clone().unwrap())),
            _ => {} // end of sequence
        }
    }
    tags.sort_by_key(|tag| (tag.dts, tag.track == Track::Audio)); // as the timeline gives them
    tags
}

fn tag(track: Track, dts: i64, body: Bytes, config: Arc<TrackConfig>) -> Tag {
    let video = track == Track::Video;
    let cts = if video { i32::from_be_bytes([0, body[2], body[3], body[4]]) } else { 0 };
    Tag { track, dts, cts, idr: video && has_idr(&body[5..]), next_idr: None, body, config }
}

fn has_idr(mut units: &[u8]) -> bool {
    while let Some((length, rest)) = units.split_first_chunk() {
        let (unit, after) = rest.split_at(u32::from_be_bytes(*length) as usize);
        if unit[0] & 0x1F == 5 {
            return true;
        }
        units = after;
    }
    false
}
