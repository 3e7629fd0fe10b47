//! `streamctl media probe`: what ffprobe says of a file in storage, and what a worker would do with it.

use super::{Failure, Report};
use crate::environment::Surroundings;
use crate::{Outcome, show};
use serde::Serialize;
use state::ids::Ulid;
use state::profile::Profile;
use state::wire::{ItemSpec, Making, MediaAt};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use storage::{MediaFile, Storage};
use stream_worker::source::child::{self, Tools};
use stream_worker::source::object::{self, Input, Objects};
use stream_worker::source::probe::MediaInfo;
use stream_worker::source::{probe, recipe};
use tempfile::TempDir;

/// Longest time for one look at a file.
const DEADLINE: Duration = Duration::from_secs(60);
/// Most that ffprobe may print.
const MOST: usize = 4 * 1024 * 1024;
/// Longest distance of keyframes in a picture that is copied, ms.
const LONGEST_DISTANCE_MS: u64 = 4_000;

/// What is asked of the picture's first 30 s.
const PACKETS: &str =
    "-v error -select_streams v:0 -show_entries packet=pts_time,flags -read_intervals %+30 -of csv=p=0";

#[derive(Serialize)]
struct Probed {
    size: u64,
    content: String,
    duration_ms: Option<u64>,
    video: Option<Video>,
    audio: Option<Audio>,
    /// Of a channel: `1280x720, 30 frames/s`.
    profile: String,
    /// Whether its picture and sound are copied there.
    fits: bool,
    reason: String,
}

#[derive(Serialize)]
struct Video {
    codec: String,
    profile: String,
    width: u32,
    height: u32,
    fps: Option<f64>,
    kbps: Option<u32>,
    /// In the first 30 s.
    longest_keyframe_distance_ms: Option<u64>,
}

#[derive(Serialize)]
struct Audio {
    codec: String,
    profile: String,
    sample_rate: u32,
    channels: u32,
}

pub(super) async fn run(storage: &Storage, around: &Surroundings, keys: &[String], json: bool) -> Outcome {
    let desk = match Desk::open(storage, around).await {
        Ok(desk) => desk,
        Err(why) => {
            show::error(&why);
            return Outcome::Misused;
        }
    };
    let mut report = Report::new(json);
    for key in keys {
        let result = desk.look(key).await;
        report.add(key, result, |done| words(key, done));
    }
    report.end()
}

/// What it takes to look at files as a worker does.
struct Desk<'a> {
    storage: &'a Storage,
    folder: &'a Path,
    tools: Tools,
    objects: Option<Arc<Objects>>,
    /// For certificates.
    _scratch: TempDir,
}

impl<'a> Desk<'a> {
    async fn open(storage: &'a Storage, around: &'a Surroundings) -> Result<Self, String> {
        let scratch = tempfile::tempdir().map_err(|error| format!("a temporary folder: {error}"))?;
        let objects = Objects::of(&around.storage, around.tls_ca_file.as_deref(), scratch.path()).await?;
        let tools = Tools { ffmpeg: "ffmpeg".into(), ffprobe: around.ffprobe.clone() };
        let folder = &around.storage.local_dir;
        Ok(Self { storage, folder, tools, objects, _scratch: scratch })
    }

    async fn look(&self, key: &str) -> Result<Probed, Failure> {
        let media = self.storage.stat(key).await?;
        let unreadable = |why: String| unreadable(key, &why);
        if media.size == 0 {
            return Err(unreadable("is empty (0 bytes)".to_owned()));
        }
        let at = match &self.objects {
            Some(_) => MediaAt::Object { size: media.size },
            None => MediaAt::Path(self.folder.join(key)),
        };
        let content = media.content.clone();
        let item = ItemSpec { id: Ulid::from_text(key), key: key.to_owned(), at, content };
        let input = object::input_of(&item, self.objects.as_ref()).await.map_err(unreadable)?;
        let info = probe::probe_input(&self.tools, &input).await.map_err(unreadable)?;
        let distance = match &info.video {
            Some(_) => self.longest_distance(&input).await.map_err(unreadable)?,
            None => None,
        };
        Ok(judged(media, info, distance))
    }

    async fn longest_distance(&self, input: &Input) -> Result<Option<u64>, String> {
        let mut command = child::command(&self.tools.ffprobe, &self.tools.secrets_free_environment());
        command.args(PACKETS.split(' ')).args(input.arguments());
        let packets = child::answer(command, DEADLINE, MOST).await?;
        Ok(longest_distance(&String::from_utf8_lossy(&packets)))
    }
}

fn judged(media: MediaFile, info: MediaInfo, distance: Option<u64>) -> Probed {
    let profile = Profile::default();
    let (mut fits, mut reason) = match recipe::decide(&info, &profile) {
        Ok(recipe) => (recipe.video != Making::Transcode && recipe.audio != Making::Transcode, recipe.reason),
        Err(why) => (false, why),
    };
    if let Some(ms) = distance.filter(|ms| *ms > LONGEST_DISTANCE_MS && fits) {
        fits = false;
        reason = format!("keyframes are up to {:.1} s apart, more than 4 s", ms as f64 / 1000.0);
    }
    let video = info.video.map(|v| Video {
        fps: v.fps.map(state::profile::Rate::per_second),
        codec: v.codec,
        profile: v.profile,
        width: v.width,
        height: v.height,
        kbps: v.kbps,
        longest_keyframe_distance_ms: distance,
    });
    let audio = info.audio.map(|a| Audio {
        codec: a.codec,
        profile: a.profile,
        sample_rate: a.sample_rate,
        channels: a.channels,
    });
    Probed {
        size: media.size,
        content: media.content,
        duration_ms: info.duration_ms,
        video,
        audio,
        profile: format!("{}x{}, {} frames/s", profile.width, profile.height, profile.fps),
        fits,
        reason,
    }
}

fn words(key: &str, probed: &Probed) -> String {
    let duration = probed.duration_ms.map_or_else(|| "unknown".to_owned(), show::length);
    let verdict = if probed.fits { "fits" } else { "does not fit" };
    [
        key.to_owned(),
        format!("  length   {duration}, {}", show::bytes(probed.size)),
        format!("  picture  {}", probed.video.as_ref().map_or_else(|| "none".to_owned(), picture)),
        format!("  sound    {}", probed.audio.as_ref().map_or_else(|| "none".to_owned(), sound)),
        format!("  channel  {verdict} {} ({})", probed.profile, probed.reason),
    ]
    .join("\n")
}

fn picture(video: &Video) -> String {
    let Video { codec, profile, width, height, .. } = video;
    let fps = video.fps.map(|fps| format!(", {fps:.2} frames/s"));
    let kbps = video.kbps.map(|kbps| format!(", {kbps} kbit/s"));
    let distance = video.longest_keyframe_distance_ms;
    let distance = distance.map(|ms| format!(", keyframes at most {:.1} s apart", ms as f64 / 1000.0));
    let more: String = [fps, kbps, distance].into_iter().flatten().collect();
    format!("{codec} {profile} {width}x{height}{more}")
}

fn sound(audio: &Audio) -> String {
    format!("{} {} {} Hz, {} channels", audio.codec, audio.profile, audio.sample_rate, audio.channels)
}

fn unreadable(key: &str, why: &str) -> Failure {
    Failure { code: "unreadable", words: format!("{key:?}: {why}") }
}

/// The longest way from one keyframe to the next, or to the last packet, in ms, from lines `time,flags`.
fn longest_distance(packets: &str) -> Option<u64> {
    let times = packets.lines().filter_map(|line| {
        let (time, flags) = line.split_once(',')?;
        Some((time.parse::<f64>().ok()?, flags.starts_with('K')))
    });
    let (mut from, mut longest) = (None, 0.0_f64);
    for (time, keyframe) in times {
        longest = longest.max(time - from.unwrap_or(time));
        if keyframe || from.is_none() {
            from = Some(time);
        }
    }
    from.map(|_| (longest * 1000.0).round().max(0.0) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_way_between_keyframes_is_found_with_an_open_end() {
        assert_eq!(longest_distance("0.0,K__\n0.5,___\n2.0,K__\n2.5,__"), Some(2000));
        assert_eq!(longest_distance("0.0,K__\n1.0,K__\n9.5,___\n"), Some(8500));
        assert_eq!(longest_distance("N/A,K__\noops\n"), None);
    }
}
