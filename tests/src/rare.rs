//! The rest of the content zoo: what is rarer than in [`crate::zoo`], in small pictures. The channel's profile is
//! [`PROFILE`]; pictures that are drawn with another shape or rate say how they must be seen.

use crate::boxes::Patch;
use crate::media::{Audio, Beside, Clip, Then, WITH_B};
use crate::zoo::Animal;
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::path::Path;

/// Length of each clip, seconds.
const SECONDS: f64 = 2.0;
/// Length of the first one: while it plays a slow machine opens those that follow.
const FIRST_SECONDS: f64 = 5.0;

/// The profile of the channel that the clips are played on: what is 1280×720 elsewhere, small.
pub fn profile() -> Value {
    json!({"width": 320, "height": 180, "fps": "30", "video_kbps": 800, "max_video_kbps": 2500})
}

/// The profile of a channel for fast pictures.
pub fn fast_profile() -> Value {
    json!({"width": 320, "height": 180, "fps": "60", "video_kbps": 1000, "max_video_kbps": 2500})
}

/// Pictures that are made, coded or turned in another way than the channel's.
pub fn pictures() -> Vec<Animal> {
    [
        Animal::new(Clip { fps: 24, ..clip("51-24-fps.mp4", 51).lasting(FIRST_SECONDS) }),
        Animal { uneven: true, ..Animal::new(Clip { fps: 50, ..clip("52-50-fps.mp4", 52) }) },
        Animal { every: 2, last: 118, ..Animal::new(Clip { fps: 60, ..clip("53-60-fps.mp4", 53) }) },
        Animal {
            every: 2,
            last: 118,
            ..Animal::new(Clip { fps: 60, video: INTERLACED, ..clip("54-interlaced.mp4", 54) })
        },
        Animal { filled: [31, 100], ..Animal::new(turned("55-rotated.mp4", 55)) },
        Animal { filled: [31, 100], ..Animal::new(Clip { size: (180, 320), ..clip("56-portrait.mp4", 56) }) },
        Animal::new(Clip { video: ANAMORPHIC, ..clip("57-anamorphic.mp4", 57) }),
        Animal::new(Clip { video: TEN_BIT, ..clip("58-10-bit.mp4", 58) }),
        Animal::new(Clip { video: FULL_COLOUR, ..clip("59-4-2-2.mp4", 59) }),
        Animal::new(Clip { video: FAR_KEYS, ..clip("60-keyframes-10-s-apart.mp4", 60).lasting(5.0) }),
        Animal::new(Clip { video: HEAVY, ..clip("61-4-mbit.mp4", 61) }),
        Animal::new(Clip { size: (640, 360), video: MPEG2, sound: MP2, ..clip("62-mpeg2.mpg", 62) }),
        Animal::new(clip("63-plain.mp4", 63)),
    ]
    .into()
}

/// Sound and containers.
pub fn containers() -> Vec<Animal> {
    let heard = |channels, rate| Some(Audio { rate, channels, span: 0.0..SECONDS, marker: None });
    [
        clip("70-plain.mp4", 70).lasting(FIRST_SECONDS),
        clip("71-5-1.mp4", 71).sounding(heard(6, 48_000)),
        Clip {
            then: Then::Patch(Patch::SignalBandReplication),
            ..clip("72-he-aac.mp4", 72).sounding(heard(2, 24_000))
        },
        Clip { sound: MP3, ..clip("73-mp3.mkv", 73) },
        Clip { sound: OPUS, video: WITH_B, ..clip("74-opus.mkv", 74) },
        Clip { sound: MP3, ..clip("75-audio-only.mp3", 75).blind() },
        Clip { container: FRAGMENTED, video: WITH_B, ..clip("76-fragmented.mp4", 76) },
        Clip { video: WITH_B, ..clip("77-quicktime.mov", 77) },
        Clip { sound: OPUS, video: VP9, ..clip("78-vp9.webm", 78) },
        clip("79-audio-only.m4a", 79).blind(),
        Clip { sound: OPUS, video: AV1, ..clip("80-av1.webm", 80) },
        Clip { video: IN_BAND, then: Then::Patch(Patch::EmptyParameterSets), ..clip("81-avc3.mp4", 81) },
        Clip { beside: Beside::Cover, ..clip("82-cover-art.mp4", 82) },
        Clip { beside: Beside::Subtitles, ..clip("83-subtitles.mkv", 83) },
        Clip { beside: Beside::SecondTracks, ..clip("84-second-tracks.mp4", 84) },
        Clip { container: &["-f", "matroska"], ..clip("85-wrong-extension.mp4", 85) },
        clip("89-plain.mp4", 89),
    ]
    .into_iter()
    .map(Animal::new)
    .collect()
}

/// Pictures that are faster than most, for a channel that is as fast as they are.
pub fn fast() -> Vec<Animal> {
    [
        Clip { fps: 60, video: WITH_B, ..clip("91-60-fps-wanted.mp4", 91).lasting(FIRST_SECONDS) },
        Clip { fps: 50, video: WITH_B, ..clip("92-50-fps-wanted.mp4", 92) },
        Clip { fps: 24, video: WITH_B, ..clip("93-24-fps-wanted.mp4", 93) },
        Clip { fps: 60, ..clip("94-60-fps-wanted.mp4", 94) },
    ]
    .into_iter()
    .map(Animal::new)
    .collect()
}

/// Names that [`put_garbage_into`] gives to what cannot be played.
pub const GARBAGE: [&str; 3] = ["86-garbage.mp4", "87-garbage.mp3", "88-garbage.ts"];

/// Puts bytes into `folder` that mean nothing: noise, noise that begins as an MP4 does, and noise in the shape of
/// transport packets.
pub fn put_garbage_into(folder: &Path) -> Result<()> {
    let mut state = 0x2545_F491_4F6C_DD1Du64;
    let mut noise = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    let mut bytes: Vec<u8> = (0..300_000).map(|_| noise()).collect();
    std::fs::write(folder.join(GARBAGE[1]), &bytes).context("write noise")?;
    bytes.iter_mut().step_by(188).for_each(|byte| *byte = 0x47);
    std::fs::write(folder.join(GARBAGE[2]), &bytes).context("write transport packets")?;
    bytes[..16].copy_from_slice(b"\0\0\0\x10ftypisom\0\0\0\0");
    std::fs::write(folder.join(GARBAGE[0]), &bytes).context("write half an MP4")
}

/// A file's name without the number that gives it its place.
pub fn name(file: &str) -> &str {
    file.split_once('-').map_or(file, |(_, name)| name)
}

/// What must be seen of an item, in the words of the table in docs/content.md.
pub fn seen(animal: &Animal) -> String {
    let pictures = match (animal.clip.picture, animal.every, animal.uneven) {
        (false, ..) => "the slate",
        (true, 2, _) => "every second picture",
        (true, _, true) => "30 of 50 pictures each second",
        (true, ..) => "every picture",
    };
    let bars = if animal.filled == [100, 100] { "" } else { ", upright, bars at its sides" };
    format!("{pictures}{bars}")
}

/// 2 seconds of 320 × 180 at 30 frames per second without B-frames, 48 kHz stereo.
fn clip(file: &'static str, item: u8) -> Clip {
    Clip { size: (320, 180), ..Clip::plain(file, item).lasting(SECONDS) }
}

/// Drawn upright, stored lying on its left side, with the order to turn it back.
fn turned(file: &'static str, item: u8) -> Clip {
    Clip { size: (180, 320), video: LYING, then: Then::Patch(Patch::TurnRight), ..clip(file, item) }
}

const INTERLACED: &[&str] = &[
    "-vf",
    "interlace=lowpass=0",
    "-flags",
    "+ilme+ildct",
    "-c:v",
    "libx264",
    "-preset",
    "veryfast",
    "-g",
    "60",
];
const LYING: &[&str] = &["-vf", "transpose=2", "-c:v", "libx264", "-preset", "veryfast", "-g", "60"];
const ANAMORPHIC: &[&str] =
    &["-vf", "scale=240:180,setsar=4/3", "-c:v", "libx264", "-preset", "veryfast", "-g", "60"];
const TEN_BIT: &[&str] = &[
    "-c:v",
    "libx264",
    "-preset",
    "veryfast",
    "-g",
    "60",
    "-pix_fmt",
    "yuv420p10le",
    "-profile:v",
    "high10",
];
const FULL_COLOUR: &[&str] =
    &["-c:v", "libx264", "-preset", "veryfast", "-g", "60", "-pix_fmt", "yuv422p", "-profile:v", "high422"];
const FAR_KEYS: &[&str] = &["-c:v", "libx264", "-preset", "veryfast", "-g", "300", "-sc_threshold", "0"];
const HEAVY: &[&str] = &[
    "-c:v",
    "libx264",
    "-preset",
    "veryfast",
    "-g",
    "60",
    "-b:v",
    "4M",
    "-minrate",
    "4M",
    "-maxrate",
    "4M",
    "-bufsize",
    "4M",
    "-x264-params",
    "nal-hrd=cbr",
];
const MPEG2: &[&str] = &["-c:v", "mpeg2video", "-b:v", "2M", "-g", "15", "-bf", "2"];
const VP9: &[&str] = &["-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-b:v", "500k"];
const AV1: &[&str] = &["-c:v", "libaom-av1", "-cpu-used", "8", "-usage", "realtime", "-b:v", "500k"];
const IN_BAND: &[&str] = &[
    "-c:v",
    "libx264",
    "-preset",
    "veryfast",
    "-g",
    "60",
    "-x264-params",
    "repeat-headers=1",
    "-bsf:v",
    "dump_extra=freq=keyframe",
    "-tag:v",
    "avc3",
];
const MP3: &[&str] = &["-c:a", "libmp3lame", "-b:a", "128k"];
const OPUS: &[&str] = &["-c:a", "libopus", "-b:a", "96k"];
const FRAGMENTED: &[&str] = &["-movflags", "+frag_keyframe+empty_moov+default_base_moof"];
const MP2: &[&str] = &["-c:a", "mp2", "-b:a", "192k"];
