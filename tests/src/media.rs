//! Makes clips: pictures and sound are computed here, FFmpeg only encodes them.
//!
//! A clip's media time begins at 0; its picture may begin later, and so may its sound. Every second, at
//! [`FIRST_MARK_S`] past it, the picture flashes and the sound beeps. Clips are kept under `target/` by recipe.

use crate::boxes::Patch;
use crate::picture::{self, Code};
use crate::rig::program;
use crate::sound::{self, Score};
use anyhow::{Context, Result, bail};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;

/// First flash and beep, seconds of media time; on the frame grid of 25 and of 30 frames per second.
pub const FIRST_MARK_S: f64 = 0.4;
/// Counts changes of what recipes mean, so that clips of before are not used.
const RENDERING: u32 = 5;

/// How to make a clip.
#[derive(Debug, Clone, PartialEq)]
pub struct Clip {
    /// File name, with the ending that decides the container.
    pub file: &'static str,
    /// Number in its barcode.
    pub item: u8,
    /// Pixels.
    pub size: (usize, usize),
    /// Frames per second.
    pub fps: u32,
    /// Length of the picture, seconds.
    pub seconds: f64,
    /// Where the picture begins, seconds of media time.
    pub video_start: f64,
    /// Its sound.
    pub audio: Option<Audio>,
    /// Whether it has a picture at all.
    pub picture: bool,
    /// Options of the video encoder.
    pub video: &'static [&'static str],
    /// Options of the audio encoder.
    pub sound: &'static [&'static str],
    /// What else is in the file.
    pub beside: Beside,
    /// Options of the container.
    pub container: &'static [&'static str],
    /// What is done to the file afterwards.
    pub then: Then,
}

/// The sound of a clip.
#[derive(Debug, Clone, PartialEq)]
pub struct Audio {
    /// Hz.
    pub rate: u32,
    /// Channels, which all sound the same.
    pub channels: u16,
    /// First and last sample, seconds of media time.
    pub span: Range<f64>,
    /// Where the marker tone is.
    pub marker: Option<Range<f64>>,
}

/// What a file holds beside a picture and a sound.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Beside {
    /// Nothing.
    Nothing,
    /// A still picture, before everything else, which is not the film.
    Cover,
    /// Two texts, the second in another language.
    Subtitles,
    /// A second picture and a second sound, which nobody shall see and hear.
    SecondTracks,
}

/// What is done to a file once it is encoded.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Then {
    /// Nothing.
    Keep,
    /// One place in it is written over.
    Patch(Patch),
    /// The start is cut off without encoding again, so that an edit list hides what must stay in the file.
    TrimStart {
        /// Seconds.
        by: f64,
    },
    /// The file ends in the middle of its media data.
    CutAt {
        /// Part of its bytes that stays.
        part: f64,
    },
}

/// x264 with closed GOPs of two seconds at 30 frames per second, and what else is said.
macro_rules! x264 {
    ($($more:literal),*) => {
        &["-c:v", "libx264", "-preset", "veryfast", "-g", "60", "-sc_threshold", "0", $($more),*]
    };
}
/// Without B-frames.
pub const NO_B: &[&str] = x264!("-bf", "0", "-b:v", "800k");
/// With B-frames.
pub const WITH_B: &[&str] = x264!("-bf", "2", "-b_strategy", "0", "-b:v", "800k");

/// AAC-LC.
pub const AAC: &[&str] = &["-c:a", "aac", "-b:a", "128k"];

/// 1.5 Mbit/s whatever the picture shows, so that bytes last as long as they do in real media.
pub const EVEN: &[&str] = x264!(
    "-bf",
    "2",
    "-b_strategy",
    "0",
    "-b:v",
    "1500k",
    "-minrate",
    "1500k",
    "-maxrate",
    "1500k",
    "-bufsize",
    "1500k",
    "-x264-params",
    "nal-hrd=cbr"
);

impl Clip {
    /// 3 seconds of 640 × 360 at 30 frames per second without B-frames, 48 kHz stereo.
    pub fn plain(file: &'static str, item: u8) -> Self {
        Clip {
            file,
            item,
            size: (640, 360),
            fps: 30,
            seconds: 3.0,
            video_start: 0.0,
            audio: Some(Audio { rate: 48_000, channels: 2, span: 0.0..3.0, marker: None }),
            picture: true,
            video: NO_B,
            sound: AAC,
            beside: Beside::Nothing,
            container: &[],
            then: Then::Keep,
        }
    }

    /// The same, without a picture.
    pub fn blind(self) -> Self {
        Clip { picture: false, ..self }
    }

    /// The same, this long.
    pub fn lasting(self, seconds: f64) -> Self {
        let audio = self.audio.map(|a| Audio { span: a.span.start..seconds, ..a });
        Clip { seconds, audio, ..self }
    }

    /// The same, with another sound.
    pub fn sounding(self, audio: Option<Audio>) -> Self {
        Clip { audio, ..self }
    }

    /// Frames in the picture, counted from 0.
    pub fn frames(&self) -> u16 {
        (self.seconds * f64::from(self.fps)).round() as u16
    }

    /// Where flashes and beeps are, seconds of media time.
    pub fn marks(&self) -> Vec<f64> {
        let end = self.video_start + self.seconds;
        (0..).map(|n| f64::from(n) + FIRST_MARK_S).take_while(|t| *t < end - 0.1).collect()
    }

    /// Makes it, or finds it made before. The file belongs to the cache: copy or link it.
    pub fn make(&self) -> Result<PathBuf> {
        let folder = program::target_dir()?.join("e2e-media");
        std::fs::create_dir_all(&folder).context("make the clip cache")?;
        let mut hasher = DefaultHasher::new();
        (RENDERING, format!("{self:?}")).hash(&mut hasher);
        let path = folder.join(format!("{:016x}-{}", hasher.finish(), self.file));
        // One at a time: two tests that want the same clip must not make it twice.
        static MAKING: Mutex<()> = Mutex::new(());
        let _one = MAKING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if !path.exists() {
            let work = tempfile::tempdir_in(&folder).context("make a work folder")?;
            let made = self.encode(work.path()).with_context(|| format!("make clip {}", self.file))?;
            std::fs::rename(made, &path).context("keep the clip")?;
        }
        Ok(path)
    }

    /// Makes it and puts it into `folder` under its name.
    pub fn put_into(&self, folder: &Path) -> Result<PathBuf> {
        let to = folder.join(self.file);
        std::fs::copy(self.make()?, &to).with_context(|| format!("copy {}", self.file))?;
        Ok(to)
    }

    fn encode(&self, work: &Path) -> Result<PathBuf> {
        let path = work.join(self.file);
        let mut command = ffmpeg();
        if self.picture {
            self.add_picture(&mut command);
        }
        self.add_sound(&mut command, work)?;
        self.beside.add_to(&mut command, work)?;
        if self.picture {
            command.args(["-pix_fmt", "yuv420p", "-threads", "1", "-vsync", "vfr"]).args(self.video);
        }
        command.args(self.sound).args(self.container);
        if self.beside == Beside::Cover {
            command.args("-c:v:0 png -disposition:v:0 attached_pic".split(' '));
        }
        let mut child = command
            .arg(&path)
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("start ffmpeg")?;
        let mut stdin = child.stdin.take().context("take ffmpeg's stdin")?;
        // An early death of FFmpeg breaks the pipe; its own words, read below, say why.
        let written = if self.picture { self.draw_into(&mut stdin) } else { Ok(()) };
        drop(stdin);
        let output = child.wait_with_output().context("wait for ffmpeg")?;
        if !output.status.success() || written.is_err() {
            bail!("ffmpeg: {} ({written:?})", String::from_utf8_lossy(&output.stderr));
        }
        self.finish(path, work)
    }

    fn add_picture(&self, command: &mut Command) {
        let size = format!("{}x{}", self.size.0, self.size.1);
        command.args([
            "-f",
            "rawvideo",
            "-pix_fmt",
            "yuv420p",
            "-s",
            &size,
            "-framerate",
            &self.fps.to_string(),
        ]);
        command.args(["-itsoffset", &self.video_start.to_string(), "-i", "pipe:0"]);
    }

    fn add_sound(&self, command: &mut Command, work: &Path) -> Result<()> {
        let Some(audio) = &self.audio else { return Ok(()) };
        let sound = work.join("sound.wav");
        let score = Score {
            rate: audio.rate,
            channels: audio.channels,
            span: audio.span.clone(),
            beeps: self.marks().into_iter().filter(|t| audio.span.contains(t)).collect(),
            marker: audio.marker.clone(),
        };
        std::fs::write(&sound, sound::wav(&score)).context("write the sound")?;
        command.args(["-itsoffset", &audio.span.start.to_string(), "-i"]).arg(sound);
        Ok(())
    }

    fn draw_into(&self, to: &mut impl Write) -> std::io::Result<()> {
        let marks = self.marks();
        (0..self.frames()).try_for_each(|frame| {
            let t = self.video_start + f64::from(frame) / f64::from(self.fps);
            let flash = marks.iter().any(|m| t > m - 0.005 && t < m + 0.095);
            to.write_all(&picture::draw(self.size.0, self.size.1, Code { item: self.item, frame }, flash))
        })
    }

    fn finish(&self, path: PathBuf, work: &Path) -> Result<PathBuf> {
        match self.then {
            Then::Keep => Ok(path),
            Then::Patch(patch) => {
                let mut bytes = std::fs::read(&path).context("read the clip")?;
                patch.apply(&mut bytes)?;
                std::fs::write(&path, bytes).context("patch the clip")?;
                Ok(path)
            }
            Then::TrimStart { by } => {
                let trimmed = work.join(format!("trimmed-{}", self.file));
                let mut command = ffmpeg();
                command.args(["-ss", &by.to_string(), "-i"]).arg(&path).args(["-c", "copy"]).arg(&trimmed);
                run(&mut command)?;
                Ok(trimmed)
            }
            Then::CutAt { part } => {
                let bytes = std::fs::read(&path).context("read the clip")?;
                let length = (bytes.len() as f64 * part) as usize;
                std::fs::write(&path, &bytes[..length]).context("cut the clip")?;
                Ok(path)
            }
        }
    }
}

impl Beside {
    /// Its inputs, and which tracks of all inputs the file holds, in their order.
    fn add_to(self, command: &mut Command, work: &Path) -> Result<()> {
        const MARGIN: &str = "color=c=red:s=64x64";
        match self {
            Beside::Nothing => {}
            Beside::Cover => {
                command.args(["-f", "lavfi", "-i", &format!("{MARGIN},trim=end_frame=1")]);
                command.args("-map 2 -map 0 -map 1".split(' '));
            }
            Beside::Subtitles => {
                let text = work.join("text.srt");
                std::fs::write(&text, "1\n00:00:00,100 --> 00:00:01,500\nGood evening\n")
                    .context("write a text")?;
                command.arg("-i").arg(text).args("-map 2 -map 0 -map 1 -map 2".split(' '));
            }
            Beside::SecondTracks => {
                command.args(["-f", "lavfi", "-i", &format!("{MARGIN}:d=2")]);
                command.args(["-f", "lavfi", "-i", "sine=2000:d=2"]);
                command.args("-map 0 -map 1 -map 2 -map 3".split(' '));
            }
        }
        Ok(())
    }
}

/// An FFmpeg that asks nothing and speaks only of errors.
pub fn ffmpeg() -> Command {
    let mut command = Command::new("ffmpeg");
    command.args(["-v", "error", "-nostdin", "-y"]).stdin(Stdio::null());
    command
}

/// Runs a command to its end; its stderr is the error.
pub fn run(command: &mut Command) -> Result<Vec<u8>> {
    let output = command.output().with_context(|| format!("start {:?}", command.get_program()))?;
    if !output.status.success() {
        bail!("{:?}: {}", command.get_program(), String::from_utf8_lossy(&output.stderr));
    }
    Ok(output.stdout)
}
