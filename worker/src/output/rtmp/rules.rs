//! What a platform takes, and what to do where more is sent. Pure.
//!
//! The figures are those that the platforms and the makers of encoders publish; a platform may change them without
//! telling. They lead to warnings only: nothing is held back for them.

use super::measure::Sent;
use state::destination::Platform;
use std::time::Duration;

/// What one platform takes.
struct Caps {
    name: &'static str,
    video_kbps: u32,
    audio_kbps: u32,
    /// Longest distance between two IDR pictures, ms.
    idr_ms: u64,
    /// What it would rather have, seconds.
    idr_wish_s: u32,
    width: u32,
    height: u32,
    fps: f64,
    /// Whether the picture must keep its size.
    one_size: bool,
}

/// Times are rounded to ms and rates swing: so much more is no reason to say anything.
const LENIENCE: f64 = 1.05;

const YOUTUBE: Caps = Caps {
    name: "YouTube",
    video_kbps: 51_000,
    audio_kbps: 384,
    idr_ms: 4_000,
    idr_wish_s: 2,
    width: 3840,
    height: 2160,
    fps: 60.0,
    one_size: false,
};

const TWITCH: Caps = Caps {
    name: "Twitch",
    video_kbps: 6_000,
    audio_kbps: 320,
    idr_ms: 2_000,
    idr_wish_s: 2,
    width: 1920,
    height: 1080,
    fps: 60.0,
    one_size: false,
};

const FACEBOOK: Caps = Caps {
    name: "Facebook",
    video_kbps: 9_000,
    audio_kbps: 256,
    idr_ms: 4_000,
    idr_wish_s: 2,
    width: 1920,
    height: 1080,
    fps: 60.0,
    one_size: true,
};

/// Video kbit/s that Facebook takes for a picture, by its height, up to 30 frames/s and above.
const FACEBOOK_STEPS: [(u32, u32, u32); 4] =
    [(360, 1_000, 1_500), (480, 2_000, 3_000), (720, 4_000, 6_000), (1080, 6_000, 9_000)];

/// What the platform will not like, in words that say what to do. Empty where all is well or nothing is known.
pub(super) fn warnings(platform: Platform, sent: &Sent) -> Vec<String> {
    let caps = match platform {
        Platform::Youtube => &YOUTUBE,
        Platform::Twitch => &TWITCH,
        Platform::Facebook => &FACEBOOK,
        Platform::Custom => return Vec::new(),
    };
    [rate(caps, sent), distance(caps, sent), picture(caps, sent), frames(caps, sent), sound(caps, sent)]
        .into_iter()
        .chain([loudness(caps, sent), sizes(caps, sent)])
        .flatten()
        .collect()
}

fn rate(caps: &Caps, sent: &Sent) -> Option<String> {
    let most = if caps.one_size { facebook_kbps(sent) } else { caps.video_kbps };
    above(sent.video_kbps, most).then(|| {
        format!(
            "The picture has {} kbit/s and {} takes at most {most}. Set the channel's profile to video_kbps and \
             max_video_kbps of {most} or less: files above it are then transcoded.",
            sent.video_kbps, caps.name
        )
    })
}

/// A session is ending, or was renewed, with the key that it began with. Only Facebook wants another one every time.
pub(super) fn same_key(platform: Platform, ends_in: Option<Duration>) -> Option<String> {
    let wanted = platform == Platform::Facebook;
    let what = match wanted {
        true => "Facebook wants a new one for every session: give the destination one, or a key_url",
        false => "the connection is renewed with the same one, and viewers may see a short break",
    };
    match ends_in {
        Some(left) => {
            let minutes = left.as_secs().div_ceil(60);
            Some(format!("The session ends in {minutes} min and no other stream key has come; {what}."))
        }
        None => {
            wanted.then(|| format!("The session was renewed with the stream key of the one before; {what}."))
        }
    }
}

fn facebook_kbps(sent: &Sent) -> u32 {
    let Some((width, height)) = sent.size else { return FACEBOOK.video_kbps };
    let short = width.min(height);
    let step = FACEBOOK_STEPS.iter().find(|(most, ..)| short <= *most);
    step.map_or(FACEBOOK.video_kbps, |(_, slow, fast)| if sent.fps > 31.0 { *fast } else { *slow })
}

fn distance(caps: &Caps, sent: &Sent) -> Option<String> {
    // A picture of a slow file more or less is no reason to say anything.
    (sent.idr_ms as f64 > caps.idr_ms as f64 * LENIENCE + 40.0).then(|| {
        format!(
            "Keyframes are {:.1} s apart and {} takes at most {} s. Encode the files with a keyframe every {} s; with \
             boundary \"uniform\" they are transcoded so.",
            sent.idr_ms as f64 / 1000.0,
            caps.name,
            caps.idr_ms / 1000,
            caps.idr_wish_s
        )
    })
}

fn picture(caps: &Caps, sent: &Sent) -> Option<String> {
    let (width, height) = sent.size?;
    let (long, short) = (width.max(height), width.min(height));
    (long > caps.width || short > caps.height).then(|| {
        format!(
            "The picture has {width}x{height} and {} takes at most {}x{}. Set width and height of the channel's \
             profile.",
            caps.name, caps.width, caps.height
        )
    })
}

fn frames(caps: &Caps, sent: &Sent) -> Option<String> {
    (sent.fps > caps.fps * 1.02).then(|| {
        format!(
            "{:.0} frames/s are sent and {} takes at most {}. Set fps of the channel's profile.",
            sent.fps, caps.name, caps.fps
        )
    })
}

fn sound(caps: &Caps, sent: &Sent) -> Option<String> {
    let (rate, _) = sent.sound?;
    (![44_100, 48_000].contains(&rate)).then(|| {
        format!(
            "The sound has {rate} Hz and {} takes 44100 or 48000. Set sample_rate of the channel's profile.",
            caps.name
        )
    })
}

fn loudness(caps: &Caps, sent: &Sent) -> Option<String> {
    above(sent.audio_kbps, caps.audio_kbps).then(|| {
        format!(
            "The sound has {} kbit/s and {} takes at most {}. Encode the files' sound with 128 kbit/s.",
            sent.audio_kbps, caps.name, caps.audio_kbps
        )
    })
}

fn sizes(caps: &Caps, sent: &Sent) -> Option<String> {
    (caps.one_size && sent.resized > 0).then(|| {
        format!(
            "The picture changed its size {} times within the connection, and {} wants one. Set the destination's \
             boundary to \"uniform\".",
            sent.resized, caps.name
        )
    })
}

fn above(kbps: u32, most: u32) -> bool {
    f64::from(kbps) > f64::from(most) * LENIENCE
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Sent {
        Sent {
            video_kbps: 2_900,
            audio_kbps: 128,
            idr_ms: 2_000,
            fps: 30.0,
            size: Some((1280, 720)),
            sound: Some((48_000, 2)),
            resized: 0,
        }
    }

    fn said(platform: Platform, change: impl FnOnce(&mut Sent)) -> String {
        let mut sent = good();
        change(&mut sent);
        warnings(platform, &sent).join("\n")
    }

    const KNOWN: [Platform; 3] = [Platform::Youtube, Platform::Twitch, Platform::Facebook];

    #[test]
    fn what_everybody_takes_is_no_reason_to_warn() {
        for platform in KNOWN {
            assert_eq!(warnings(platform, &good()), [] as [&str; 0]);
            assert_eq!(warnings(platform, &Sent::default()), [] as [&str; 0], "nothing is known yet");
        }
        assert_eq!(said(Platform::Custom, |sent| sent.video_kbps = 99_000), "");
    }

    #[test]
    fn each_cap_is_told_with_what_to_do() {
        type Change = fn(&mut Sent);
        let cases: [(Platform, Change, &str); 10] = [
            (
                Platform::Twitch,
                |s| s.video_kbps = 7_200,
                "7200 kbit/s and Twitch takes at most 6000. Set the channel",
            ),
            (Platform::Youtube, |s| s.video_kbps = 60_000, "YouTube takes at most 51000"),
            (Platform::Facebook, |s| s.video_kbps = 4_500, "Facebook takes at most 4000"),
            (Platform::Twitch, |s| s.idr_ms = 4_000, "4.0 s apart and Twitch takes at most 2 s"),
            (Platform::Youtube, |s| s.idr_ms = 9_960, "10.0 s apart and YouTube takes at most 4 s"),
            (
                Platform::Twitch,
                |s| s.size = Some((2560, 1440)),
                "2560x1440 and Twitch takes at most 1920x1080",
            ),
            (Platform::Facebook, |s| s.fps = 100.0, "100 frames/s are sent and Facebook takes at most 60"),
            (Platform::Youtube, |s| s.sound = Some((32_000, 2)), "32000 Hz and YouTube takes 44100 or 48000"),
            (Platform::Facebook, |s| s.audio_kbps = 320, "320 kbit/s and Facebook takes at most 256"),
            (Platform::Facebook, |s| s.resized = 2, "changed its size 2 times"),
        ];
        for (platform, change, words) in cases {
            let said = said(platform, change);
            assert!(said.contains(words) && said.lines().count() == 1, "{words:?} in {said:?}");
            assert!(["Set ", "Encode "].iter().any(|what_to_do| said.contains(what_to_do)), "{said}");
        }
    }

    #[test]
    fn a_key_that_stays_is_a_lasting_trouble_where_every_session_wants_its_own() {
        let soon = Some(Duration::from_secs(61));
        for platform in KNOWN {
            let words = same_key(platform, soon).unwrap();
            assert!(
                words.starts_with("The session ends in 2 min and no other stream key has come"),
                "{words}"
            );
            assert_eq!(same_key(platform, None).is_some(), platform == Platform::Facebook);
        }
    }

    #[test]
    fn facebook_takes_more_of_a_faster_or_larger_picture() {
        let fast = |sent: &mut Sent| (sent.video_kbps, sent.fps) = (5_500, 60.0);
        assert_eq!(said(Platform::Facebook, fast), "");
        let large = |sent: &mut Sent| (sent.video_kbps, sent.size) = (5_500, Some((1920, 1080)));
        assert_eq!(said(Platform::Facebook, large), "");
        let upright = |sent: &mut Sent| (sent.video_kbps, sent.size) = (5_500, Some((720, 1280)));
        assert!(said(Platform::Facebook, upright).contains("at most 4000"));
    }

    #[test]
    fn a_little_too_much_and_an_upright_picture_are_no_reason() {
        for platform in KNOWN {
            let edge = said(platform, |s| (s.idr_ms, s.fps, s.size) = (2_040, 60.1, Some((1080, 1920))));
            assert_eq!(edge, "", "{platform:?}");
        }
    }
}
