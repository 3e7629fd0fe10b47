//! The sound of a test clip: a quiet carrier, beeps at the flashes, perhaps a marker tone; and how they are found
//! again. Pure functions.
//!
//! The carrier makes holes and clicks measurable: where it is missing, something was lost.

use std::f64::consts::TAU;
use std::ops::Range;

/// The carrier under everything: Hz and amplitude (-20 dB).
const CARRIER: (f64, f64) = (300.0, 0.1);
/// The beep at each flash.
const BEEP: (f64, f64) = (1000.0, 0.4);
/// Length of a beep, seconds.
const BEEP_S: f64 = 0.05;
/// The tone that marks what must not be lost.
const MARKER: (f64, f64) = (2000.0, 0.3);
/// Fade at both ends of a tone, seconds: shorter than any error that matters, and free of clicks.
const RAMP_S: f64 = 0.002;
/// Loudness (root mean square) below which a window is silent; the carrier alone has 0.07.
const SILENCE: f64 = 0.02;

/// What a clip sounds like. Times are seconds of media time.
#[derive(Debug, Clone, PartialEq)]
pub struct Score {
    /// Hz.
    pub rate: u32,
    /// Channels, which all sound the same.
    pub channels: u16,
    /// First and last sample.
    pub span: Range<f64>,
    /// Where beeps begin.
    pub beeps: Vec<f64>,
    /// Where the marker tone is.
    pub marker: Option<Range<f64>>,
}

/// A WAV file (16-bit PCM) of the score, its first sample at `span.start`.
pub fn wav(score: &Score) -> Vec<u8> {
    let frames = ((score.span.end - score.span.start) * f64::from(score.rate)).round() as u32;
    let data = frames * u32::from(score.channels) * 2;
    let mut out = Vec::with_capacity(44 + data as usize);
    out.extend_from_slice(b"RIFF");
    out.extend_from_slice(&(36 + data).to_le_bytes());
    out.extend_from_slice(b"WAVEfmt \x10\0\0\0\x01\0");
    out.extend_from_slice(&score.channels.to_le_bytes());
    out.extend_from_slice(&score.rate.to_le_bytes());
    out.extend_from_slice(&(score.rate * u32::from(score.channels) * 2).to_le_bytes());
    out.extend_from_slice(&(score.channels * 2).to_le_bytes());
    out.extend_from_slice(b"\x10\0data");
    out.extend_from_slice(&data.to_le_bytes());
    for n in 0..frames {
        let value = at(score, score.span.start + f64::from(n) / f64::from(score.rate));
        let sample = ((value * 32767.0) as i16).to_le_bytes();
        (0..score.channels).for_each(|_| out.extend_from_slice(&sample));
    }
    out
}

fn at(score: &Score, t: f64) -> f64 {
    let tone = |(hz, amplitude): (f64, f64), span: Range<f64>| {
        let ramp = ((t - span.start).min(span.end - t) / RAMP_S).clamp(0.0, 1.0);
        amplitude * ramp * (TAU * hz * (t - span.start)).sin()
    };
    let beeps: f64 = score.beeps.iter().map(|b| tone(BEEP, *b..b + BEEP_S)).sum();
    let marker = score.marker.clone().map_or(0.0, |span| tone(MARKER, span));
    tone(CARRIER, score.span.clone()) + beeps + marker
}

/// Where beeps begin, in samples.
pub fn beeps(samples: &[f32], rate: u32) -> Vec<usize> {
    tones(samples, rate, BEEP).into_iter().map(|span| span.start).collect()
}

/// Where the marker tone is, in samples.
pub fn markers(samples: &[f32], rate: u32) -> Vec<Range<usize>> {
    tones(samples, rate, MARKER)
}

/// Stretches of at least 20 ms in which `tone` has half its amplitude or more.
fn tones(samples: &[f32], rate: u32, tone: (f64, f64)) -> Vec<Range<usize>> {
    let (window, hop) = (rate as usize / 200, rate as usize / 1000);
    let loud: Vec<bool> =
        samples.windows(window).step_by(hop).map(|w| magnitude(w, rate, tone.0) > tone.1 * 0.4).collect();
    stretches(&loud, 20).map(|s| s.start * hop + window / 2..s.end * hop + window / 2).collect()
}

/// Silences of at least `least_ms`, in samples.
pub fn silences(samples: &[f32], rate: u32, least_ms: usize) -> Vec<Range<usize>> {
    let hop = rate as usize / 200;
    let silent: Vec<bool> = samples.chunks(hop).map(|w| loudness(w) < SILENCE).collect();
    stretches(&silent, least_ms.div_ceil(5).max(1)).map(|s| s.start * hop..s.end * hop).collect()
}

/// Clicks, in samples: jumps that none of the tones can make.
///
/// The second difference of the beep, the sharpest tone beside the marker, is below 0.03 at 44.1 kHz; that of the
/// marker below 0.025. A step of half the carrier's height has 0.05 and more.
pub fn clicks(samples: &[f32], rate: u32) -> Vec<usize> {
    let apart = rate as usize / 50;
    let mut found: Vec<usize> = Vec::new();
    for (n, w) in samples.windows(3).enumerate() {
        let jump = (w[0] - 2.0 * w[1] + w[2]).abs() > 0.08;
        if jump && found.last().is_none_or(|last| n - last > apart) {
            found.push(n + 1);
        }
    }
    found
}

/// Runs of `true` of at least `least` entries.
fn stretches(flags: &[bool], least: usize) -> impl Iterator<Item = Range<usize>> {
    let mut found = Vec::new();
    let mut start = 0;
    for part in flags.chunk_by(|a, b| a == b) {
        if part[0] && part.len() >= least {
            found.push(start..start + part.len());
        }
        start += part.len();
    }
    found.into_iter()
}

fn loudness(window: &[f32]) -> f64 {
    let sum: f64 = window.iter().map(|s| f64::from(*s).powi(2)).sum();
    (sum / window.len().max(1) as f64).sqrt()
}

/// Amplitude of one frequency in a window (Goertzel's filter).
fn magnitude(window: &[f32], rate: u32, hz: f64) -> f64 {
    let factor = 2.0 * (TAU * hz / f64::from(rate)).cos();
    let (a, b) = window.iter().fold((0.0, 0.0), |(a, b), s| (f64::from(*s) + factor * a - b, a));
    (a * a + b * b - factor * a * b).max(0.0).sqrt() * 2.0 / window.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: u32 = 48_000;

    fn played(marker: Option<Range<f64>>) -> Vec<f32> {
        let score = Score { rate: RATE, channels: 1, span: 0.0..3.0, beeps: vec![0.4, 1.4, 2.4], marker };
        wav(&score)[44..].chunks(2).map(|b| f32::from(i16::from_le_bytes([b[0], b[1]])) / 32768.0).collect()
    }

    #[test]
    fn beeps_and_markers_are_found_within_two_milliseconds() {
        let samples = played(Some(0.6..1.0));
        let starts: Vec<f64> = beeps(&samples, RATE).iter().map(|s| *s as f64 / 48_000.0).collect();
        assert_eq!(starts.len(), 3, "{starts:?}");
        for (found, made) in starts.iter().zip([0.4, 1.4, 2.4]) {
            assert!((found - made).abs() < 0.002, "{found} {made}");
        }
        let [marker] = &markers(&samples, RATE)[..] else { panic!("one marker") };
        assert!(marker.start.abs_diff(28_800) < 200 && marker.end.abs_diff(48_000) < 200, "{marker:?}");
    }

    #[test]
    fn a_hole_is_found_and_a_whole_tone_has_none() {
        let mut samples = played(None);
        assert_eq!(silences(&samples, RATE, 30), []);
        samples[96_000..100_800].fill(0.0);
        let [hole] = &silences(&samples, RATE, 30)[..] else { panic!("one hole") };
        assert!(hole.start.abs_diff(96_000) < 480 && hole.end.abs_diff(100_800) < 480, "{hole:?}");
    }

    #[test]
    fn a_step_is_a_click_and_tones_are_not() {
        let mut samples = played(Some(0.6..1.0));
        assert_eq!(clicks(&samples, RATE), Vec::<usize>::new());
        samples[60_000..].iter_mut().for_each(|s| *s += 0.1);
        assert_eq!(clicks(&samples, RATE).len(), 1);
    }
}
