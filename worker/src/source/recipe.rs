//! Copy or transcode, track by track, and why: pure decisions, and FFmpeg's arguments for them.

use super::child;
use super::fit;
use super::object::Input;
use super::probe::{AudioInfo, MediaInfo, VideoInfo};
use crate::media::Track;
use state::profile::{Profile, Rate};
use state::wire::Making;
use std::ffi::OsString;
use std::path::Path;

/// Frame rate under which a file is transcoded: ingests take fewer pictures for a stall, and the splice could not
/// look far enough ahead.
const LOWEST_FPS: f64 = 10.0;

/// Pixels of a picture that is still decoded: 8K and some more. Decoders take memory for many of them.
const MOST_PIXELS: u64 = 8192 * 4608;

/// Width and height under which a picture is transcoded: no ingest expects such.
const SMALLEST: u32 = 16;

/// How an item is made into the channel's profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipe {
    /// Its picture.
    pub video: Making,
    /// Its sound.
    pub audio: Making,
    /// Why, in words for people.
    pub reason: String,
}

impl Recipe {
    /// Whether a track's own bytes are sent.
    pub fn copies(&self, track: Track) -> bool {
        let making = if track == Track::Video { self.video } else { self.audio };
        making == Making::Copy
    }

    /// The same with one track transcoded, and why.
    pub fn without_copy(self, track: Track, why: String) -> Recipe {
        let plain = self.copies(Track::Video) && self.copies(Track::Audio);
        let reason = if plain { why } else { format!("{why}; {}", self.reason) };
        match track {
            Track::Video => Recipe { video: Making::Transcode, reason, ..self },
            Track::Audio => Recipe { audio: Making::Transcode, reason, ..self },
        }
    }
}

/// Decides for one item.
///
/// # Errors
/// Why it cannot be played at all.
pub fn decide(info: &MediaInfo, profile: &Profile) -> Result<Recipe, String> {
    let (video, against_video) = match &info.video {
        None => (Making::Slate, vec!["no picture in the file".to_owned()]),
        Some(video) => {
            may_be_decoded(video)?;
            let against = video_problems(video, profile);
            (if against.is_empty() { Making::Copy } else { Making::Transcode }, against)
        }
    };
    let (audio, audio_reason) = match &info.audio {
        None => (Making::Silent, Some("no sound in the file".to_owned())),
        Some(track) => {
            let against = audio_problem(track, profile);
            (if against.is_some() { Making::Transcode } else { Making::Copy }, against)
        }
    };
    let reasons: Vec<String> = against_video.into_iter().chain(audio_reason).collect();
    let reason = if reasons.is_empty() { "fits the profile".to_owned() } else { reasons.join("; ") };
    Ok(Recipe { video, audio, reason })
}

fn may_be_decoded(video: &VideoInfo) -> Result<(), String> {
    let fits = u64::from(video.width) * u64::from(video.height) <= MOST_PIXELS;
    if fits { Ok(()) } else { Err(format!("{}x{} is larger than 8K", video.width, video.height)) }
}

/// Everything that keeps a picture from being copied.
pub fn video_problems(video: &VideoInfo, profile: &Profile) -> Vec<String> {
    if video.codec != "h264" {
        return vec![format!("video is {}, not H.264", video.codec)];
    }
    let mut found = Vec::new();
    if video.is_hdr() {
        found.push("picture is HDR".to_owned());
    }
    if video.pixels != "yuv420p" {
        found.push(format!("pixel format is {}, not yuv420p", video.pixels));
    }
    if !matches!(video.profile.as_str(), "Constrained Baseline" | "Baseline" | "Main" | "High") {
        found.push(format!("H.264 profile is {}", video.profile));
    }
    if video.interlaced {
        found.push("video is interlaced".to_owned());
    }
    if !video.square {
        found.push("pixels are not square".to_owned());
    }
    if video.rotation % 360 != 0 {
        found.push(format!("picture is rotated by {}°", video.rotation));
    }
    if video.width < SMALLEST || video.height < SMALLEST {
        found.push(format!("{}x{} is smaller than {SMALLEST}x{SMALLEST}", video.width, video.height));
    }
    if video.width > profile.width || video.height > profile.height {
        let (w, h) = (profile.width, profile.height);
        found.push(format!("{}x{} is larger than {w}x{h}", video.width, video.height));
    }
    found.extend(rate_problem(video, profile));
    if let Some(kbps) = video.kbps.filter(|&k| k > profile.max_video_kbps) {
        found.push(format!("{kbps} kbit/s is above {}", profile.max_video_kbps));
    }
    if found.is_empty() && profile.uniform {
        found.push("a destination wants uniform parameters".to_owned());
    }
    found
}

fn rate_problem(video: &VideoInfo, profile: &Profile) -> Option<String> {
    let Some(fps) = video.fps else { return Some("frame rate is unknown".to_owned()) };
    let base = video.base_fps.map_or(0.0, Rate::per_second);
    if (base / fps.per_second() - 1.0).abs() > 0.03 {
        return Some(format!("frame rate varies ({:.2} on average)", fps.per_second()));
    }
    if fps.per_second() < LOWEST_FPS {
        return Some(format!("{:.2} frames/s is below {LOWEST_FPS}", fps.per_second()));
    }
    let most = profile.fps.per_second() * 1.01;
    (fps.per_second() > most).then(|| format!("{:.2} frames/s is above {}", fps.per_second(), profile.fps))
}

fn audio_problem(audio: &AudioInfo, profile: &Profile) -> Option<String> {
    if audio.codec != "aac" || audio.profile != "LC" {
        let profile_name = if audio.profile.is_empty() { "" } else { " " };
        return Some(format!("audio is {}{profile_name}{}, not AAC-LC", audio.codec, audio.profile));
    }
    let fits = audio.sample_rate == profile.sample_rate && audio.channels == u32::from(profile.channels);
    let of = |rate: u32, channels: u32| format!("{} kHz × {channels}", f64::from(rate) / 1000.0);
    (!fits).then(|| {
        let wanted = of(profile.sample_rate, u32::from(profile.channels));
        format!("audio is {}, not {wanted}", of(audio.sample_rate, audio.channels))
    })
}

/// The profile that an item gives to a channel that has none: its own picture, and its sound where that can be
/// copied. `None` when its picture could not be copied even so.
pub fn profile_of(info: &MediaInfo) -> Option<Profile> {
    let video = info.video.as_ref()?;
    let base = Profile::default();
    let kbps = video.kbps.unwrap_or(base.video_kbps).clamp(500, base.max_video_kbps);
    let even = |n: u32| n & !1;
    let mut profile = Profile {
        width: even(video.width),
        height: even(video.height),
        fps: video.fps?,
        video_kbps: kbps,
        ..base
    };
    if let Some(audio) = &info.audio {
        let own = Profile {
            sample_rate: audio.sample_rate,
            channels: u8::try_from(audio.channels).unwrap_or(0),
            audio_kbps: audio.kbps.unwrap_or(profile.audio_kbps).clamp(64, 320),
            ..profile.clone()
        };
        if audio.codec == "aac" && audio.profile == "LC" && own.problems().is_empty() {
            profile = own;
        }
    }
    let usable = profile.problems().is_empty() && video_problems(video, &profile).is_empty();
    usable.then_some(profile)
}

/// FFmpeg's arguments that read an item by a recipe and write FLV to stdout. `slate` is what is seen of an item
/// without a picture.
pub fn arguments(
    input: &Input,
    (info, recipe, profile): (&MediaInfo, &Recipe, &Profile),
    slate: Option<&Path>,
    from_ms: u64,
) -> Vec<OsString> {
    let mut list: Vec<OsString> = words("-v warning -nostdin");
    // A link that breaks off must not look like the end of the item. In a file one bad packet is left out and no
    // reason to leave the rest.
    list.extend(words(if matches!(input, Input::Link(_)) { "-xerror" } else { "-fflags +discardcorrupt" }));
    if from_ms > 0 {
        // Copied pictures begin at the IDR before the place; made sound must begin there too.
        if recipe.video == Making::Copy {
            list.push("-noaccurate_seek".into());
        }
        list.extend(["-ss".into(), format!("{:.3}", from_ms as f64 / 1000.0).into()]);
    }
    list.extend(input.arguments());
    match (&info.video, slate) {
        (Some(video), _) => list.extend(["-map".into(), format!("0:{}", video.index).into()]),
        (None, Some(slate)) => list.extend(slate_beside(slate)),
        (None, None) => {}
    }
    if let (Some(audio), true) = (&info.audio, recipe.audio != Making::Silent) {
        list.extend(["-map".into(), format!("0:{}", audio.index).into()]);
    }
    list.extend(words("-sn -dn -map_metadata -1 -map_chapters -1"));
    match recipe.video {
        Making::Transcode => {
            list.extend(["-vf".into(), fit::filter(profile, info.video.as_ref()).into()]);
            list.extend(fit::encoder(profile));
        }
        Making::Copy | Making::Silent | Making::Slate => list.extend(words("-c:v copy")),
    }
    match recipe.audio {
        Making::Transcode => {
            list.extend(words(&format!("-c:a aac -ar {} -ac {}", profile.sample_rate, profile.channels)));
            list.extend(words(&format!("-b:a {}k", profile.audio_kbps)));
        }
        Making::Copy => list.extend(words("-c:a copy")),
        Making::Silent | Making::Slate => {}
    }
    list.extend(output());
    list
}

/// The slate's pictures over and over as a second input, until the sound is over.
fn slate_beside(slate: &Path) -> Vec<OsString> {
    let mut list = words("-protocol_whitelist file -format_whitelist flv -stream_loop -1 -i");
    list.push(child::file_argument(slate));
    list.extend(words("-map 1:v:0 -shortest"));
    list
}

/// FFmpeg's arguments that draw a calm picture of `seconds` in the profile, with `lettering` on it.
pub fn slate_arguments(profile: &Profile, seconds: u32, lettering: Option<String>) -> Vec<OsString> {
    let Profile { width, height, fps, .. } = profile;
    let mut list = words("-v warning -nostdin -f lavfi -i");
    list.push(format!("color=c=0x1B2735:s={width}x{height}:r={fps}:d={seconds}").into());
    let lettering = lettering.map(|filter| format!("{filter},")).unwrap_or_default();
    list.extend(["-vf".into(), format!("{lettering}{}", fit::filter(profile, None)).into()]);
    list.extend(fit::encoder(profile));
    list.extend(words("-an"));
    list.extend(output());
    list
}

fn output() -> Vec<OsString> {
    words("-output_ts_offset 10 -flush_packets 0 -f flv -flvflags no_duration_filesize pipe:1")
}

pub(crate) fn words(text: &str) -> Vec<OsString> {
    text.split_whitespace().map(OsString::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> MediaInfo {
        let fps = Rate { num: 30, den: 1 };
        let video = VideoInfo {
            index: 0,
            codec: "h264".into(),
            profile: "High".into(),
            pixels: "yuv420p".into(),
            width: 1280,
            height: 720,
            fps: Some(fps),
            base_fps: Some(fps),
            interlaced: false,
            square: true,
            rotation: 0,
            kbps: Some(3000),
            ..VideoInfo::default()
        };
        let audio = AudioInfo {
            index: 1,
            codec: "aac".into(),
            profile: "LC".into(),
            sample_rate: 48_000,
            channels: 2,
            kbps: Some(128),
        };
        MediaInfo { duration_ms: Some(10_000), indexed: true, video: Some(video), audio: Some(audio) }
    }

    fn changed(change: impl FnOnce(&mut VideoInfo, &mut AudioInfo)) -> Recipe {
        let mut info = file();
        change(info.video.as_mut().unwrap(), info.audio.as_mut().unwrap());
        decide(&info, &Profile::default()).unwrap()
    }

    #[test]
    fn what_fits_is_copied_and_every_other_track_says_why_not() {
        let recipe = changed(|_, _| {});
        assert_eq!(
            (recipe.video, recipe.audio, recipe.reason.as_str()),
            (Making::Copy, Making::Copy, "fits the profile")
        );
        type Change = fn(&mut VideoInfo, &mut AudioInfo);
        let video: [(Change, &str); 10] = [
            (|v, _| v.transfer = "arib-std-b67".into(), "picture is HDR"),
            (|v, _| v.codec = "hevc".into(), "video is hevc, not H.264"),
            (|v, _| v.pixels = "yuv420p10le".into(), "pixel format is yuv420p10le, not yuv420p"),
            (|v, _| v.interlaced = true, "video is interlaced"),
            (|v, _| v.square = false, "pixels are not square"),
            (|v, _| v.rotation = -90, "picture is rotated by -90°"),
            (|v, _| v.width = 1920, "1920x720 is larger than 1280x720"),
            (|v, _| v.base_fps = Rate::parse("120"), "frame rate varies (30.00 on average)"),
            (
                |v, _| (v.fps, v.base_fps) = (Rate::parse("60"), Rate::parse("60")),
                "60.00 frames/s is above 30",
            ),
            (|v, _| v.kbps = Some(20_000), "20000 kbit/s is above 12000"),
        ];
        for (change, reason) in video {
            let recipe = changed(change);
            assert_eq!(
                (recipe.video, recipe.audio, recipe.reason.as_str()),
                (Making::Transcode, Making::Copy, reason)
            );
        }
        let slow = changed(|v, _| (v.fps, v.base_fps) = (Rate::parse("1"), Rate::parse("1")));
        assert_eq!((slow.video, slow.reason.as_str()), (Making::Transcode, "1.00 frames/s is below 10"));
        let audio: [(Change, &str); 3] = [
            (|_, a| a.codec = "mp3".into(), "audio is mp3 LC, not AAC-LC"),
            (|_, a| a.sample_rate = 44_100, "audio is 44.1 kHz × 2, not 48 kHz × 2"),
            (|_, a| a.channels = 6, "audio is 48 kHz × 6, not 48 kHz × 2"),
        ];
        for (change, reason) in audio {
            let recipe = changed(change);
            assert_eq!(
                (recipe.video, recipe.audio, recipe.reason.as_str()),
                (Making::Copy, Making::Transcode, reason)
            );
        }
    }

    #[test]
    fn where_parameters_must_not_differ_no_foreign_picture_is_copied() {
        let uniform = Profile { uniform: true, ..Profile::default() };
        let recipe = decide(&file(), &uniform).unwrap();
        let reason = "a destination wants uniform parameters";
        assert_eq!((recipe.video, recipe.audio), (Making::Transcode, Making::Copy));
        assert_eq!(recipe.reason, reason);
    }

    #[test]
    fn a_file_without_sound_is_silent_and_one_without_picture_shows_the_slate() {
        let silent = MediaInfo { audio: None, ..file() };
        assert_eq!(decide(&silent, &Profile::default()).unwrap().audio, Making::Silent);
        let blind = MediaInfo { video: None, ..file() };
        let recipe = decide(&blind, &Profile::default()).unwrap();
        assert_eq!((recipe.video, recipe.audio), (Making::Slate, Making::Copy));
        assert_eq!(recipe.reason, "no picture in the file");
        let input = Input::File("/m/a.mp3".into());
        let list =
            arguments(&input, (&blind, &recipe, &Profile::default()), Some(Path::new("/c/s.flv")), 5_000);
        let text: Vec<String> = list.iter().map(|a| a.to_string_lossy().into_owned()).collect();
        let place = |wanted: &str| text.iter().position(|a| a == wanted).unwrap();
        assert!(
            place("-ss") < place("file:/m/a.mp3") && place("file:/m/a.mp3") < place("-stream_loop"),
            "{text:?}"
        );
    }

    #[test]
    fn what_is_larger_than_any_screen_is_refused() {
        let of = |width, height| {
            let mut info = file();
            (info.video.as_mut().unwrap().width, info.video.as_mut().unwrap().height) = (width, height);
            decide(&info, &Profile::default())
        };
        assert_eq!(of(7680, 4320).unwrap().video, Making::Transcode);
        assert_eq!(of(16_384, 8_192).unwrap_err(), "16384x8192 is larger than 8K");
        assert_eq!(of(u32::MAX, u32::MAX).unwrap_err(), "4294967295x4294967295 is larger than 8K");
        assert_eq!(of(2, 2).unwrap().reason, "2x2 is smaller than 16x16");
    }

    #[test]
    fn what_is_found_while_opening_is_the_first_reason() {
        let recipe = changed(|_, _| {}).without_copy(Track::Audio, "audio is HE-AAC".into());
        assert_eq!(
            (recipe.video, recipe.audio, recipe.reason.as_str()),
            (Making::Copy, Making::Transcode, "audio is HE-AAC")
        );
        let recipe = recipe.without_copy(Track::Video, "IDR pictures are far apart".into());
        assert_eq!(recipe.reason, "IDR pictures are far apart; audio is HE-AAC");
        assert!(!recipe.copies(Track::Video) && !recipe.copies(Track::Audio));
    }

    #[test]
    fn a_channel_takes_its_profile_from_a_file_that_could_be_copied() {
        let profile = profile_of(&file()).unwrap();
        assert_eq!((profile.width, profile.height, profile.sample_rate), (1280, 720, 48_000));
        assert_eq!(decide(&file(), &profile).unwrap().reason, "fits the profile");
        let mut hevc = file();
        hevc.video.as_mut().unwrap().codec = "hevc".into();
        assert_eq!(profile_of(&hevc), None);
    }
}
