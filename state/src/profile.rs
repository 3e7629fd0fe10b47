//! The shape of a channel's picture and sound: what is copied, and what everything else is made into.

use serde::{Deserialize, Serialize};

/// A channel's profile, frozen for a run.
///
/// Video is copied when it is H.264 8-bit 4:2:0 progressive, not larger and not faster than this, with an IDR
/// at least every 4 s and a bitrate under [`max_video_kbps`](Self::max_video_kbps); audio when it is AAC-LC
/// with exactly this rate and channel count. What does not fit is transcoded to it, track by track.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Profile {
    /// Picture width in pixels; even, 16 to 7680.
    pub width: u32,
    /// Picture height in pixels; even, 16 to 4320.
    pub height: u32,
    /// Frames per second, as a fraction.
    pub fps: Rate,
    /// Video bitrate that a transcode aims at, kbit/s, constant.
    #[serde(default = "default_video_kbps")]
    pub video_kbps: u32,
    /// Video bitrate above which a file is transcoded instead of copied, kbit/s.
    #[serde(default = "default_max_video_kbps")]
    pub max_video_kbps: u32,
    /// Audio sampling rate in Hz.
    #[serde(default = "default_sample_rate")]
    pub sample_rate: u32,
    /// Audio channels, 1 or 2.
    #[serde(default = "default_channels")]
    pub channels: u8,
    /// Audio bitrate that a transcode aims at, kbit/s.
    #[serde(default = "default_audio_kbps")]
    pub audio_kbps: u32,
    /// Whether every picture must have the same parameter sets, because a destination must not see others: then only
    /// what our own encoder made is copied. A run sets it by its destinations.
    #[serde(default, skip_serializing_if = "is_not")]
    pub uniform: bool,
}

fn is_not(uniform: &bool) -> bool {
    !uniform
}

fn default_video_kbps() -> u32 {
    3_000
}
fn default_max_video_kbps() -> u32 {
    12_000
}
fn default_sample_rate() -> u32 {
    48_000
}
fn default_channels() -> u8 {
    2
}
fn default_audio_kbps() -> u32 {
    128
}

impl Default for Profile {
    /// 1280×720, 30 frames/s, 3 Mbit/s, AAC-LC 48 kHz stereo 128 kbit/s: for a channel that has nothing playable.
    fn default() -> Self {
        Self {
            width: 1280,
            height: 720,
            fps: Rate { num: 30, den: 1 },
            video_kbps: default_video_kbps(),
            max_video_kbps: default_max_video_kbps(),
            sample_rate: default_sample_rate(),
            channels: default_channels(),
            audio_kbps: default_audio_kbps(),
            uniform: false,
        }
    }
}

impl Profile {
    /// A short name that changes with everything that a prepared file depends on: 16 hexadecimal digits.
    pub fn fingerprint(&self) -> String {
        let text = serde_json::to_vec(self).unwrap_or_default();
        let digest = ring::digest::digest(&ring::digest::SHA256, &text);
        digest.as_ref().iter().take(8).map(|b| format!("{b:02x}")).collect()
    }

    /// Every reason why this profile cannot be used, with a JSON pointer relative to the profile.
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        let mut found = Vec::new();
        let mut check = |ok: bool, pointer, text: &str| {
            if !ok {
                found.push((pointer, text.to_owned()));
            }
        };
        check(
            (16..=7680).contains(&self.width) && self.width.is_multiple_of(2),
            "/width",
            "must be even, 16 to 7680",
        );
        check(
            (16..=4320).contains(&self.height) && self.height.is_multiple_of(2),
            "/height",
            "must be even, 16 to 4320",
        );
        let fps_ok = self.fps.den > 0 && (10.0..=120.0).contains(&self.fps.per_second());
        check(fps_ok, "/fps", "must be between 10 and 120 frames per second");
        check((100..=60_000).contains(&self.video_kbps), "/video_kbps", "must be 100 to 60000 kbit/s");
        check(self.max_video_kbps >= self.video_kbps, "/max_video_kbps", "must not be below video_kbps");
        let rate_ok = matches!(self.sample_rate, 32_000 | 44_100 | 48_000);
        check(rate_ok, "/sample_rate", "must be 32000, 44100 or 48000 Hz");
        check(matches!(self.channels, 1 | 2), "/channels", "must be 1 or 2");
        check((32..=512).contains(&self.audio_kbps), "/audio_kbps", "must be 32 to 512 kbit/s");
        found
    }
}

/// A frame rate as a fraction, so that 30000/1001 stays exact.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "RateText", into = "String")]
pub struct Rate {
    /// Frames.
    pub num: u32,
    /// Per this many seconds.
    pub den: u32,
}

impl Rate {
    /// Frames per second.
    pub fn per_second(self) -> f64 {
        f64::from(self.num) / f64::from(self.den.max(1))
    }

    /// Length of one frame in milliseconds.
    pub fn frame_ms(self) -> f64 {
        1000.0 / self.per_second().max(0.001)
    }

    /// Reads `30`, `29.97`, `30000/1001`.
    pub fn parse(text: &str) -> Option<Self> {
        if let Some((num, den)) = text.split_once('/') {
            let rate = Self { num: num.trim().parse().ok()?, den: den.trim().parse().ok()? };
            return (rate.num > 0 && rate.den > 0).then_some(rate);
        }
        let value: f64 = text.trim().parse().ok().filter(|v: &f64| (0.01..=1000.0).contains(v))?;
        let ntsc = [(24_000, 1001), (30_000, 1001), (60_000, 1001)];
        let near = ntsc.into_iter().find(|&(n, d)| (f64::from(n) / f64::from(d) - value).abs() < 0.005);
        let (num, den) = near.unwrap_or(((value * 1000.0).round() as u32, 1000));
        let shared = gcd(num, den);
        Some(Self { num: num / shared, den: den / shared })
    }
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a.max(1) } else { gcd(b, a % b) }
}

impl std::fmt::Display for Rate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.den == 1 { write!(f, "{}", self.num) } else { write!(f, "{}/{}", self.num, self.den) }
    }
}

impl From<Rate> for String {
    fn from(rate: Rate) -> String {
        rate.to_string()
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum RateText {
    Number(f64),
    Text(String),
}

impl TryFrom<RateText> for Rate {
    type Error = &'static str;
    fn try_from(text: RateText) -> Result<Self, Self::Error> {
        let text = match text {
            RateText::Number(number) => number.to_string(),
            RateText::Text(text) => text,
        };
        Rate::parse(&text).ok_or("must be a frame rate such as 30, 29.97 or \"30000/1001\"")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_read_and_print_the_way_people_write_them() {
        for (text, num, den) in
            [("30", 30, 1), ("29.97", 30_000, 1001), ("30000/1001", 30_000, 1001), ("12.5", 25, 2)]
        {
            assert_eq!(Rate::parse(text), Some(Rate { num, den }), "{text}");
        }
        for bad in ["", "0", "0/1", "1/0", "-3", "x", "1e9"] {
            assert_eq!(Rate::parse(bad), None, "{bad}");
        }
        assert_eq!(serde_json::from_str::<Rate>("25").unwrap(), Rate { num: 25, den: 1 });
        assert_eq!(serde_json::to_string(&Rate { num: 30_000, den: 1001 }).unwrap(), "\"30000/1001\"");
    }

    #[test]
    fn what_is_prepared_for_uniform_destinations_has_a_name_of_its_own() {
        let (plain, uniform) = (Profile::default(), Profile { uniform: true, ..Profile::default() });
        assert_ne!(plain.fingerprint(), uniform.fingerprint());
        assert!(!serde_json::to_string(&plain).unwrap().contains("uniform"), "names of older results stay");
    }

    #[test]
    fn every_problem_is_named() {
        let bad = Profile { width: 15, channels: 6, ..Profile::default() };
        let pointers: Vec<_> = bad.problems().into_iter().map(|(pointer, _)| pointer).collect();
        assert_eq!(pointers, ["/width", "/channels"]);
        assert!(Profile::default().problems().is_empty());
    }
}
