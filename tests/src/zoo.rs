//! The content zoo: one clip for each thing that real files do.

use crate::media::{Audio, Clip, NO_B, Then, WITH_B};
use anyhow::{Context, Result};
use std::ops::Range;
use std::path::Path;

const OPEN_GOP: &[&str] = &[
    "-c:v",
    "libx264",
    "-preset",
    "veryfast",
    "-bf",
    "2",
    "-b_strategy",
    "0",
    "-g",
    "30",
    "-sc_threshold",
    "0",
    "-x264-params",
    "open-gop=1",
    "-b:v",
    "800k",
];
/// HEVC, which no platform takes over RTMP.
pub const HEVC: &[&str] =
    &["-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=none", "-tag:v", "hvc1"];
/// Two of five frames are left out, which makes steps of one and three frames; those with a mark stay.
const UNEVEN: &[&str] = &[
    "-vf",
    "select='lt(mod(n,5),3)+eq(mod(n,30),13)'",
    "-c:v",
    "libx264",
    "-preset",
    "veryfast",
    "-bf",
    "0",
    "-g",
    "36",
    "-sc_threshold",
    "0",
];

/// A clip of the zoo and what must be seen of it.
#[derive(Debug, Clone)]
pub struct Animal {
    /// How it is made.
    pub clip: Clip,
    /// First picture that must be seen.
    pub first: u16,
    /// Last picture that must be seen.
    pub last: u16,
    /// Whether pictures between them may be missing or repeated: those that the clip itself leaves out.
    pub uneven: bool,
    /// Whether the file ends before the picture does, so that any last picture is right.
    pub cut: bool,
    /// Every how many of its pictures must be seen: 2 where fields or a lower rate take every other one.
    pub every: u16,
    /// How much of the frame it must fill, percent of width and height.
    pub filled: [u8; 2],
}

impl Animal {
    /// A clip of which every picture must be seen.
    pub fn new(clip: Clip) -> Self {
        let last = clip.frames() - 1;
        Animal { clip, first: 0, last, uneven: false, cut: false, every: 1, filled: [100, 100] }
    }

    /// Marks that must be both seen and heard.
    pub fn beeps(&self) -> usize {
        let shown_from = self.clip.video_start + f64::from(self.first) / f64::from(self.clip.fps);
        let heard = |mark: &f64| self.clip.audio.as_ref().is_some_and(|a| a.span.contains(mark));
        self.clip.marks().into_iter().filter(|mark| *mark >= shown_from && heard(mark)).count()
    }
}

/// Everything that can be played, in the order of its names.
pub fn playable() -> Vec<Animal> {
    [
        Clip::plain("01-no-b-frames.mp4", 1),
        Clip { video: WITH_B, ..Clip::plain("02-b-frames.mp4", 2) },
        Clip { video: OPEN_GOP, ..Clip::plain("03-open-gop.mp4", 3) },
        Clip { fps: 25, ..Clip::plain("04-25-fps.mp4", 4) },
        Clip::plain("05-44100-hz.mp4", 5).sounding(sound(44_100, 2, 0.0..3.0)),
        Clip::plain("06-mono.mp4", 6).sounding(sound(48_000, 1, 0.0..3.0)),
        Clip::plain("07-no-audio.mp4", 7).sounding(None),
        Clip::plain("08-audio-longer.mp4", 8).sounding(sound(48_000, 2, 0.0..4.5)),
        Clip::plain("09-audio-shorter.mp4", 9).sounding(sound(48_000, 2, 0.0..2.0)),
        late_video("10-late-video.mp4", 10, None),
        Clip::plain("11-late-audio.mp4", 11).sounding(sound(48_000, 2, 0.7..3.0)),
        Clip { then: Then::TrimStart { by: 1.0 }, ..Clip::plain("12-edit-list.mp4", 12).lasting(4.0) },
        Clip {
            container: &["-movflags", "+faststart"],
            video: WITH_B,
            ..Clip::plain("13-moov-at-start.mp4", 13)
        },
        Clip { video: WITH_B, ..Clip::plain("14-transport-stream.ts", 14) },
        Clip { video: WITH_B, ..Clip::plain("15-matroska.mkv", 15) },
        Clip { video: HEVC, ..Clip::plain("16-hevc.mp4", 16) },
        Clip { video: UNEVEN, ..Clip::plain("17-vfr.mp4", 17) },
        Clip::plain("18-one-second.mp4", 18).lasting(1.0),
        late_video("19-late-video-marker.mp4", 19, Some(0.1..0.5)),
        Clip { size: (1280, 720), ..Clip::plain("20-720p.mp4", 20) },
    ]
    .into_iter()
    .map(Animal::new)
    .map(adjusted)
    .collect()
}

/// A clip that only FFmpeg can read, and so long that it is at work for a while.
pub fn for_ffmpeg() -> Animal {
    Animal::new(Clip { video: WITH_B, ..Clip::plain("30-for-ffmpeg.mkv", 30) }.lasting(20.0))
}

/// Short clips that only FFmpeg can read: one of it begins every few seconds.
pub fn for_many_ffmpegs() -> Vec<Animal> {
    let clips = [("31-for-ffmpeg.mkv", 31), ("32-for-ffmpeg.mkv", 32), ("33-for-ffmpeg.mkv", 33)];
    clips.map(|(file, item)| Animal::new(Clip::plain(file, item).lasting(4.0))).to_vec()
}

/// What is special about what must be seen.
fn adjusted(animal: Animal) -> Animal {
    match (animal.clip.then, animal.clip.video == UNEVEN) {
        // The pictures before the cut are in the file, but nobody shall see them.
        (Then::TrimStart { by }, _) => Animal { first: (by * f64::from(animal.clip.fps)) as u16, ..animal },
        (_, true) => Animal { last: 87, uneven: true, ..animal },
        _ => animal,
    }
}

fn sound(rate: u32, channels: u16, span: Range<f64>) -> Option<Audio> {
    Some(Audio { rate, channels, span, marker: None })
}

fn late_video(file: &'static str, item: u8, marker: Option<Range<f64>>) -> Clip {
    let audio = Audio { rate: 48_000, channels: 2, span: 0.0..3.7, marker };
    Clip { video_start: 0.7, ..Clip::plain(file, item).sounding(Some(audio)) }
}

/// File that is cut in the middle of its media data; its moov is at the start, so it opens well.
pub fn truncated() -> Animal {
    let clip = Clip {
        container: &["-movflags", "+faststart"],
        video: NO_B,
        then: Then::CutAt { part: 0.6 },
        ..Clip::plain("33-truncated.mp4", 33)
    };
    Animal { cut: true, ..Animal::new(clip) }
}

/// What is played last, to show that the broken ones before it did no harm.
pub fn after_the_broken() -> Animal {
    Animal::new(Clip::plain("34-after-the-broken.mp4", 34).lasting(2.0))
}

/// Three ordinary files of different making: without B-frames, with, and one whose sound ends 0.4 s early.
pub fn sample() -> Vec<Animal> {
    let early = Clip::plain("03-audio-ends-early.mp4", 3).sounding(sound(48_000, 2, 0.0..2.6));
    [Clip::plain("01-no-b-frames.mp4", 1), Clip { video: WITH_B, ..Clip::plain("02-b-frames.mp4", 2) }, early]
        .into_iter()
        .map(Animal::new)
        .collect()
}

/// Puts clips into a folder.
pub fn put_into(folder: &Path, animals: &[Animal]) -> Result<()> {
    animals.iter().try_for_each(|animal| animal.clip.put_into(folder).map(drop))
}

/// Names of the files that [`put_broken_into`] makes and that cannot be played at all.
pub const UNPLAYABLE: [&str; 3] = ["30-empty.mp4", "31-text.mp4", "32-playlist.mp4"];

/// Puts what cannot be played into `folder`: an empty file, a text, and an HLS playlist that points at `trap`, an
/// address that must not be asked.
pub fn put_broken_into(folder: &Path, trap: &str) -> Result<()> {
    let text = "This is a shopping list, not a film.\n".repeat(200);
    let playlist = format!(
        "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:4\n#EXTINF:4.0,\n{trap}/segment.ts\n#EXT-X-ENDLIST\n"
    );
    let contents = [String::new(), text, playlist];
    for (name, content) in UNPLAYABLE.into_iter().zip(contents) {
        std::fs::write(folder.join(name), content).with_context(|| format!("write {name}"))?;
    }
    Ok(())
}
