//! Encoding the picture in parts. Each is a run of FFmpeg of its own that begins with an IDR picture and holds an
//! exact number of pictures, so that an interrupted job goes on with the part it was at, and nothing is lost or
//! doubled where two parts meet.
//!
//! The trick is in the frame rate filter. It fills places on a grid that begins at the item's zero, each with the
//! newest picture of the original at that time, and what it puts into a place depends on nothing but the times of
//! the original. So a part asks FFmpeg to seek some way before its first place (inaccurately: everything from the
//! key frame before it is decoded), and lets the filter drop what belongs to the part before.

use super::clock;
use super::scan::Scan;
use super::step::{Bench, Share};
use super::work::Work;
use crate::source::object::Input;
use crate::source::probe::{self, MediaInfo};
use crate::source::recipe;
use crate::source::{child, fit};
use state::prepared::{Job, Stage};
use state::profile::Profile;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// A part is sought this far before its beginning, s: filters that look back see the picture before it, too.
const RUN_UP_S: f64 = 1.0;

/// A picture track, ready to be joined.
#[derive(Debug)]
pub(super) struct Picture {
    /// What it is read from: its parts with their lengths in s, or the original.
    pub(super) source: Source,
    /// Whether it was encoded here.
    pub(super) encoded: bool,
    /// Pictures in it.
    pub(super) frames: u64,
    /// Its length, ms.
    pub(super) length_ms: f64,
}

/// Where a picture track is.
#[derive(Debug)]
pub(super) enum Source {
    /// In parts, one after the other, with their lengths in pictures.
    Parts(Vec<(PathBuf, u64)>, Profile),
    /// In the original, as stream number …
    Original(PathBuf, u32),
}

impl Picture {
    /// The original's own.
    pub(super) fn of_original(input: &Path, info: &MediaInfo, scan: &Scan) -> Self {
        let stream = info.video.as_ref().map_or(0, |video| video.index);
        let source = Source::Original(input.to_owned(), stream);
        Self { source, encoded: false, frames: scan.frames, length_ms: scan.video_end_ms as f64 }
    }
}

/// Encodes the picture, or what is missing of it.
///
/// # Errors
/// In words.
pub(super) async fn encode(
    bench: &mut Bench<'_>,
    job: &Job,
    work: &Work,
    input: &Path,
    info: &MediaInfo,
) -> Result<Picture, String> {
    let of_part = pictures_of_part(&job.profile, job.part_s);
    let original = with_index(bench, job, work, input, info, of_part).await?;
    let total_ms = info.duration_ms.unwrap_or(0);
    let frame_ms = job.profile.fps.frame_ms();
    let (mut parts, mut begin) = (Vec::new(), 0);
    loop {
        let before_ms = (begin as f64 * frame_ms) as u64;
        let share = Share { stage: Stage::Picture, before_ms, total_ms, frame_ms: Some(frame_ms) };
        let part = Part { begin, wanted: of_part };
        let (path, made) = match part.find(work) {
            Some(found) => found,
            None => part.encode(bench, &job.profile, work, &original, share).await?,
        };
        begin += made;
        if made > 0 {
            parts.push((path, made));
        }
        if made < of_part {
            break;
        }
    }
    if begin == 0 {
        return Err("has no picture that can be read".to_owned());
    }
    let source = Source::Parts(parts, job.profile.clone());
    Ok(Picture { source, encoded: true, frames: begin, length_ms: begin as f64 * frame_ms })
}

/// Pictures in a part: whole GOPs of 2 s, at least one.
fn pictures_of_part(profile: &Profile, seconds: u32) -> u64 {
    let gop = (profile.fps.per_second() * 2.0).round().max(1.0) as u64;
    gop * u64::from(seconds / 2).max(1)
}

/// Places `begin` to `begin + wanted` of the grid.
#[derive(Debug, Clone, Copy)]
struct Part {
    begin: u64,
    wanted: u64,
}

impl Part {
    fn prefix(self) -> String {
        format!("picture-{:09}-{}-", self.begin, self.wanted)
    }

    /// The part as a job before this one has made it, and its pictures.
    fn find(self, work: &Work) -> Option<(PathBuf, u64)> {
        let (path, made) = work.finished(&self.prefix())?;
        Some((path, made.parse().ok().filter(|made| (1..=self.wanted).contains(made))?))
    }

    async fn encode(
        self,
        bench: &mut Bench<'_>,
        profile: &Profile,
        work: &Work,
        original: &Original,
        share: Share,
    ) -> Result<(PathBuf, u64), String> {
        let temporary = work.file("picture.mp4.tmp");
        let ended = bench.run(self.arguments(profile, original, &temporary), share).await?;
        let made = ended.progress.frames;
        if made > self.wanted {
            return Err(format!("FFmpeg made {made} pictures instead of {}", self.wanted));
        }
        if made == 0 {
            return Ok((temporary, 0));
        }
        let name = format!("{}{made}.mp4", self.prefix());
        Ok((work.finish(&temporary, &name)?, made))
    }

    fn arguments(self, profile: &Profile, original: &Original, to: &Path) -> Vec<OsString> {
        let (fps, video) = (profile.fps, original.info.video.as_ref());
        let begin_s = self.begin as f64 * fps.frame_ms() / 1000.0;
        // The item's own times, counted from its beginning: without them a seek would move the grid.
        let mut list = recipe::words(if original.from_zero {
            "-copyts -seek_timestamp 1"
        } else {
            "-copyts -start_at_zero"
        });
        if begin_s > RUN_UP_S {
            list.extend(recipe::words(&format!("-noaccurate_seek -ss {:.6}", begin_s - RUN_UP_S)));
        }
        list.extend(Input::File(original.path.clone()).arguments());
        list.extend(recipe::words(&format!("-map 0:{} -an -sn -dn", video.map_or(0, |v| v.index))));
        list.extend(recipe::words("-map_metadata -1 -map_chapters -1"));
        let (deinterlace, house) = (fit::deinterlace(video), fit::house(profile, video));
        let grid = format!("{deinterlace}fps={fps}:start_time={begin_s:.6},setpts=PTS-STARTPTS,{house}");
        list.extend(["-vf".into(), grid.into()]);
        list.extend(fit::encoder(profile));
        list.extend(recipe::words(&format!("-fps_mode passthrough -frames:v {} -f mp4", self.wanted)));
        list.push(child::file_argument(to));
        list.extend(clock::read_along(&original.path, &original.info, video.map_or(0, |v| v.index)));
        list
    }
}

/// What parts are encoded from.
struct Original {
    path: PathBuf,
    info: MediaInfo,
    /// Whether its clock begins with the item, although its first picture may come later.
    from_zero: bool,
}

/// The original, or a copy of it that can be sought in, where that is needed: MPEG-TS and its like have no index,
/// and a seek in them can end after the key frame that it should end before.
async fn with_index(
    bench: &mut Bench<'_>,
    job: &Job,
    work: &Work,
    input: &Path,
    info: &MediaInfo,
    of_part: u64,
) -> Result<Original, String> {
    let part_ms = of_part as f64 * job.profile.fps.frame_ms();
    let one_part_is_enough = info.duration_ms.is_some_and(|ms| (ms as f64) < part_ms);
    if one_part_is_enough || clock::has_index(input) {
        return Ok(Original { path: input.to_owned(), info: info.clone(), from_zero: false });
    }
    let path = match work.finished("original") {
        Some((path, _)) => path,
        None => {
            let temporary = work.file("original.mp4.tmp");
            let total_ms = info.duration_ms.unwrap_or(0);
            let share = Share { stage: Stage::Look, before_ms: 0, total_ms, frame_ms: None };
            bench.run(copy_arguments(input, info, &temporary), share).await?;
            work.finish(&temporary, "original.mp4")?
        }
    };
    let info = probe::probe(bench.tools(), &path).await?;
    Ok(Original { path, info, from_zero: true })
}

/// Only the picture, in Matroska, which holds what MP4 does not. The clock stays that of the whole original.
fn copy_arguments(input: &Path, info: &MediaInfo, to: &Path) -> Vec<OsString> {
    let mut list = recipe::words("-fflags +genpts");
    list.extend(Input::File(input.to_owned()).arguments());
    let stream = info.video.as_ref().map_or(0, |v| v.index);
    list.extend(recipe::words(&format!("-map 0:{stream}")));
    list.extend(recipe::words("-map_metadata -1 -c copy -f matroska"));
    list.push(child::file_argument(to));
    list.extend(clock::read_along(input, info, stream));
    list
}

#[cfg(test)]
mod tests {
    use super::*;
    use state::profile::Rate;

    #[test]
    fn parts_are_whole_gops() {
        let at = |rate: &str| Profile { fps: Rate::parse(rate).unwrap(), ..Profile::default() };
        assert_eq!(pictures_of_part(&at("30"), 60), 1800);
        assert_eq!(pictures_of_part(&at("29.97"), 60), 1800);
        assert_eq!(pictures_of_part(&at("25"), 2), 50);
        assert_eq!(pictures_of_part(&at("25"), 0), 50);
    }
}
