//! Copy or transcode, track by track, and why: pure decisions, and FFmpeg's arguments for them.

use super::object::Input;
use super::probe::{AudioInfo, MediaInfo, VideoInfo};
use state::profile::{Profile, Rate};
use state::wire::Making;
use std::ffi::OsString;

/// Frame rate under which a file is transcoded: ingests take fewer pictures for a stall, and the splice could not
/// look far enough ahead.
const LOWEST_FPS: f64 = 10.0;

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

/// Decides for one item.
///
/// # Errors
/// Why it cannot be played at all.
pub fn decide(info: &MediaInfo, profile: &Profile) -> Result<Recipe, String> {
    let video = info.video.as_ref().ok_or("has no picture")?;
    let against_video = video_problems(video, profile);
    let (audio, audio_reason) = match &info.audio {
        None => (Making::Silent, Some("no sound in the file".to_owned())),
        Some(track) => {
            let against = audio_problem(track, profile);
            (if against.is_some() { Making::Transcode } else { Making::Copy }, against)
        }
    };
    let video_making = if against_video.is_empty() { Making::Copy } else { Making::Transcode };
    let reasons: Vec<String> = against_video.into_iter().chain(audio_reason).collect();
    let reason = if reasons.is_empty() { "fits the profile".to_owned() } else { reasons.join("; ") };
    Ok(Recipe { video: video_making, audio, reason })
}

/// Everything that keeps a picture from being copied.
pub fn video_problems(video: &VideoInfo, profile: &Profile) -> Vec<String> {
    if video.codec != "h264" {
        return vec![format!("video is {}, not H.264", video.codec)];
    }
    let mut found = Vec::new();
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
    if video.width > profile.width || video.height > profile.height {
        let (w, h) = (profile.width, profile.height);
        found.push(format!("{}x{} is larger than {w}x{h}", video.width, video.height));
    }
    found.extend(rate_problem(video, profile));
    if let Some(kbps) = video.kbps.filter(|&k| k > profile.max_video_kbps) {
        found.push(format!("{kbps} kbit/s is above {}", profile.max_video_kbps));
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

/// FFmpeg's arguments that read an item by a recipe and write FLV to stdout.
pub fn arguments(
    input: &Input,
    info: &MediaInfo,
    recipe: &Recipe,
    profile: &Profile,
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
    if let Some(video) = &info.video {
        list.extend(["-map".into(), format!("0:{}", video.index).into()]);
    }
    if let (Some(audio), true) = (&info.audio, recipe.audio != Making::Silent) {
        list.extend(["-map".into(), format!("0:{}", audio.index).into()]);
    }
    list.extend(words("-sn -dn -map_metadata -1 -map_chapters -1"));
    match recipe.video {
        Making::Transcode => {
            let interlaced = info.video.as_ref().is_some_and(|v| v.interlaced);
            list.extend(["-vf".into(), picture_filter(profile, interlaced).into()]);
            list.extend(encoder(profile));
        }
        Making::Copy | Making::Silent => list.extend(words("-c:v copy")),
    }
    match recipe.audio {
        Making::Transcode => {
            list.extend(words(&format!("-c:a aac -ar {} -ac {}", profile.sample_rate, profile.channels)));
            list.extend(words(&format!("-b:a {}k", profile.audio_kbps)));
        }
        Making::Copy => list.extend(words("-c:a copy")),
        Making::Silent => {}
    }
    list.extend(output());
    list
}

/// FFmpeg's arguments that draw a calm picture of `seconds` in the profile, with `lettering` on it.
pub fn slate_arguments(profile: &Profile, seconds: u32, lettering: Option<String>) -> Vec<OsString> {
    let Profile { width, height, fps, .. } = profile;
    let mut list = words("-v warning -nostdin -f lavfi -i");
    list.push(format!("color=c=0x1B2735:s={width}x{height}:r={fps}:d={seconds}").into());
    let lettering = lettering.map(|filter| format!("{filter},")).unwrap_or_default();
    list.extend(["-vf".into(), format!("{lettering}{}", picture_filter(profile, false)).into()]);
    list.extend(encoder(profile));
    list.extend(words("-an"));
    list.extend(output());
    list
}

/// Scaled into the profile's picture with bars, square pixels, constant rate, 8 bit, BT.709 by name: the filter
/// settings under which x264 writes the same parameter sets for every source.
pub(crate) fn picture_filter(profile: &Profile, interlaced: bool) -> String {
    let Profile { width, height, fps, .. } = profile;
    let deinterlace = if interlaced { "yadif=deint=interlaced," } else { "" };
    format!(
        "{deinterlace}scale={width}:{height}:force_original_aspect_ratio=decrease,\
         pad={width}:{height}:(ow-iw)/2:(oh-ih)/2,setsar=1,fps={fps},format=yuv420p,\
         setparams=color_primaries=bt709:color_trc=bt709:colorspace=bt709:range=tv"
    )
}

/// x264 at a constant rate with closed GOPs of 2 s; never CRF, whose value would change the picture parameter set.
pub(crate) fn encoder(profile: &Profile) -> Vec<OsString> {
    let gop = (profile.fps.per_second() * 2.0).round().max(1.0);
    let kbps = profile.video_kbps;
    words(&format!(
        "-c:v libx264 -preset veryfast -profile:v high -level {} -bf 2 -g {gop} -keyint_min {gop} -sc_threshold 0 \
         -b:v {kbps}k -maxrate {kbps}k -bufsize {}k",
        level(profile),
        kbps * 2
    ))
}

/// The lowest common H.264 level (table A-1) that holds the picture; never `auto`, which depends on the source.
fn level(profile: &Profile) -> &'static str {
    let rate = f64::from(profile.width.div_ceil(16) * profile.height.div_ceil(16)) * profile.fps.per_second();
    match rate {
        r if r <= 245_760.0 => "4.0",
        r if r <= 522_240.0 => "4.2",
        r if r <= 983_040.0 => "5.1",
        _ => "6.2",
    }
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
            duration_ms: None,
            begins_ms: 0,
        };
        let audio = AudioInfo {
            index: 1,
            codec: "aac".into(),
            profile: "LC".into(),
            sample_rate: 48_000,
            channels: 2,
            kbps: Some(128),
        };
        MediaInfo { duration_ms: Some(10_000), video: Some(video), audio: Some(audio) }
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
        let video: [(Change, &str); 9] = [
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
    fn a_file_without_sound_is_silent_and_one_without_picture_is_refused() {
        let silent = MediaInfo { audio: None, ..file() };
        assert_eq!(decide(&silent, &Profile::default()).unwrap().audio, Making::Silent);
        let blind = MediaInfo { video: None, ..file() };
        assert_eq!(decide(&blind, &Profile::default()).unwrap_err(), "has no picture");
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
