//! `streamctl media probe`: what ffprobe says of a file in storage, and what a worker would do with it.

use super::redirect::Redirect;
use super::{Failure, Report};
use crate::environment::Surroundings;
use crate::{Outcome, show};
use serde::Serialize;
use state::profile::Profile;
use state::storage::Provider;
use state::wire::Making;
use std::ffi::OsString;
use std::io::Write;
use std::path::Path;
use std::time::Duration;
use storage::{LINK_VALID, MediaFile, Storage};
use stream_worker::source::probe::MediaInfo;
use stream_worker::source::{child, probe, recipe};
use tempfile::NamedTempFile;

/// Longest time for one look at a file.
const DEADLINE: Duration = Duration::from_secs(60);
/// Most that ffprobe may print.
const MOST: usize = 4 * 1024 * 1024;
/// Longest distance of keyframes in a picture that is copied, ms.
const LONGEST_DISTANCE_MS: u64 = 4_000;

/// Where the system keeps its certificates in one file.
const SYSTEM_BUNDLE: &str = "/etc/ssl/certs/ca-certificates.crt";

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
    let bundle = match certificates(around) {
        Ok(bundle) => bundle,
        Err(error) => {
            show::error(&format!("TLS_CA_FILE: {error}"));
            return Outcome::Misused;
        }
    };
    let mut report = Report::new(json);
    for key in keys {
        let result = look(storage, around, bundle.as_ref().map(NamedTempFile::path), key).await;
        report.add(key, result, |done| words(key, done));
    }
    report.end()
}

async fn look(
    storage: &Storage,
    around: &Surroundings,
    bundle: Option<&Path>,
    key: &str,
) -> Result<Probed, Failure> {
    let media = storage.stat(key).await?;
    let link = storage.stream_url(key, LINK_VALID).await?;
    let local = around.storage.provider == Provider::Local;
    let (_redirect, input) = if local {
        (None, local_input(Path::new(link.expose())))
    } else {
        let redirect = Redirect::to(link).await.map_err(|error| unreadable(key, &error.to_string()))?;
        let input = linked_input(&redirect.address, bundle);
        (Some(redirect), input)
    };
    let shape = probe::QUESTION.into_iter().map(OsString::from);
    let info = ask(around, key, shape, &input).await?;
    let info = probe::parse(&info).map_err(|why| unreadable(key, &why))?;
    let packets = words_of(
        "-v error -select_streams v:0 -show_entries packet=pts_time,flags -read_intervals %+30 -of csv=p=0",
    );
    let distance = match &info.video {
        Some(_) => longest_distance(&String::from_utf8_lossy(&ask(around, key, packets, &input).await?)),
        None => None,
    };
    Ok(judged(media, info, distance))
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

async fn ask(
    around: &Surroundings,
    key: &str,
    question: impl Iterator<Item = OsString>,
    input: &[OsString],
) -> Result<Vec<u8>, Failure> {
    let environment = [("PATH", OsString::from("/usr/local/bin:/usr/bin:/bin")), ("LC_ALL", "C".into())];
    let mut command = child::command(&around.ffprobe, &environment);
    command.args(question).args(input);
    child::answer(command, DEADLINE, MOST).await.map_err(|why| unreadable(key, &why))
}

fn unreadable(key: &str, why: &str) -> Failure {
    Failure { code: "unreadable", words: format!("{key:?}: {why}") }
}

fn local_input(path: &Path) -> Vec<OsString> {
    let mut list: Vec<OsString> = child::INPUT_LIMITS.map(OsString::from).to_vec();
    list.extend(words_of("-protocol_whitelist file -i"));
    list.push(child::file_argument(path));
    list
}

/// Of two equal options the later one counts.
fn linked_input(address: &str, bundle: Option<&Path>) -> Vec<OsString> {
    let mut list: Vec<OsString> = child::INPUT_LIMITS.map(OsString::from).to_vec();
    list.extend(words_of("-protocol_whitelist http,https,tcp,tls -rw_timeout 10000000"));
    if let Some(bundle) = bundle {
        list.extend(words_of("-tls_verify 1 -ca_file"));
        list.push(bundle.into());
    }
    list.extend(["-i".into(), address.into()]);
    list
}

/// FFmpeg trusts the certificates of one file and checks nothing unless told to: the system's and our own together,
/// when the bucket is reached over TLS.
fn certificates(around: &Surroundings) -> std::io::Result<Option<NamedTempFile>> {
    let storage = &around.storage;
    if storage.provider == Provider::Local || storage.endpoint.starts_with("http://") {
        return Ok(None);
    }
    let mut all = std::fs::read(SYSTEM_BUNDLE).unwrap_or_default();
    if let Some(own) = &around.tls_ca_file {
        all.push(b'\n');
        all.extend(std::fs::read(own)?);
    }
    let mut file = NamedTempFile::new()?;
    file.write_all(&all)?;
    Ok(Some(file))
}

fn words_of(text: &str) -> impl Iterator<Item = OsString> {
    text.split(' ').map(OsString::from).collect::<Vec<_>>().into_iter()
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
