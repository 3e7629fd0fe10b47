//! How loud a sound is and what is to be added to it: reading FFmpeg's `ebur128`, and pure decisions.

use state::prepared::LoudnessTarget;

/// A sound is not made louder by more than this: what is that quiet is mostly noise.
const MOST_GAIN_DB: f64 = 20.0;
/// A correction smaller than this is not worth another run.
const NEAR_DB: f64 = 0.2;
/// The limiter sees samples and not what is between them, and AAC adds its own: it is set this much lower, dB.
const LIMITER_MARGIN_DB: f64 = 1.0;
/// The lowest limit that the filter takes, dB.
const LOWEST_LIMIT_DB: f64 = -24.0;

/// A measured sound.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Measured {
    /// Integrated loudness, LUFS.
    pub(super) lufs: f64,
    /// True peak, dBTP.
    pub(super) peak_dbtp: f64,
}

/// Reads the summary that `ebur128=peak=true` prints at its end; `None` for silence and for anything else.
pub(super) fn parse(words: &str) -> Option<Measured> {
    let summary = words.rsplit_once("Summary:")?.1;
    let figure = |name: &str, unit: &str| {
        let line = summary.lines().find_map(|line| line.trim().strip_prefix(name))?;
        line.trim().strip_suffix(unit)?.trim().parse::<f64>().ok().filter(|n| n.is_finite())
    };
    let measured = Measured { lufs: figure("I:", "LUFS")?, peak_dbtp: figure("Peak:", "dBFS")? };
    // The absolute gate: nothing was louder than this.
    (measured.lufs > -70.0).then_some(measured)
}

/// What is done to a sound.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Change {
    /// Added throughout, dB.
    pub(super) gain_db: f64,
    /// Peaks above this are limited, dB of full scale.
    pub(super) limit_db: Option<f64>,
}

impl Change {
    /// For a sound that cannot be measured.
    pub(super) const NONE: Change = Change { gain_db: 0.0, limit_db: None };

    /// For a sound as loud as `found`.
    pub(super) fn first(found: Measured, target: LoudnessTarget) -> Self {
        let gain_db = (target.lufs - found.lufs).min(MOST_GAIN_DB);
        let passes = found.peak_dbtp + gain_db > target.peak_dbtp;
        Self { gain_db, limit_db: passes.then_some(target.peak_dbtp - LIMITER_MARGIN_DB) }
    }

    /// What must be done instead when this has led to `found`; `None` when it was right.
    pub(super) fn corrected(self, found: Measured, target: LoudnessTarget) -> Option<Self> {
        let mut next = self;
        let over = found.peak_dbtp - target.peak_dbtp;
        if over > 0.0 {
            let present = self.limit_db.unwrap_or(target.peak_dbtp);
            next.limit_db = Some((present - over - 0.1).max(LOWEST_LIMIT_DB));
        }
        let missing = target.lufs - found.lufs;
        if missing.abs() > NEAR_DB {
            next.gain_db = (self.gain_db + missing).min(MOST_GAIN_DB);
        }
        (next != self).then_some(next)
    }

    /// As filters, each with a comma behind it.
    pub(super) fn filters(self) -> String {
        let gain = if self.gain_db == 0.0 { String::new() } else { format!("volume={:.2}dB,", self.gain_db) };
        let limit = self.limit_db.map(|db| {
            let limit = 10f64.powf(db / 20.0);
            format!("alimiter=limit={limit:.5}:level=false:latency=true:attack=5:release=50,")
        });
        gain + &limit.unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SAID: &str = "[Parsed_ebur128_2 @ 0x5] Summary:\n\n  Integrated loudness:\n    I:         -23.4 LUFS\n    \
        Threshold: -33.5 LUFS\n\n  Loudness range:\n    LRA:         0.1 LU\n\n  True peak:\n    Peak:       -6.2 dBFS\n";

    #[test]
    fn the_summary_is_read_and_silence_is_nothing() {
        assert_eq!(parse(SAID), Some(Measured { lufs: -23.4, peak_dbtp: -6.2 }));
        assert_eq!(parse(&SAID.replace("-23.4", "-70.0").replace("-6.2", "-inf")), None);
        assert_eq!(parse("Summary:"), None);
    }

    #[test]
    fn peaks_are_limited_only_where_they_would_pass() {
        let target = LoudnessTarget::default();
        let quiet = Change::first(Measured { lufs: -20.0, peak_dbtp: -9.0 }, target);
        assert_eq!(quiet, Change { gain_db: 6.0, limit_db: None });
        assert_eq!(quiet.filters(), "volume=6.00dB,");
        let sharp = Change::first(Measured { lufs: -20.0, peak_dbtp: -3.0 }, target);
        assert_eq!(sharp, Change { gain_db: 6.0, limit_db: Some(-2.0) });
        let loud = Change::first(Measured { lufs: -8.0, peak_dbtp: 0.5 }, target);
        assert_eq!(loud, Change { gain_db: -6.0, limit_db: None });
        let whisper = Change::first(Measured { lufs: -60.0, peak_dbtp: -50.0 }, target);
        assert_eq!(whisper.gain_db, MOST_GAIN_DB);
    }

    #[test]
    fn a_result_that_is_off_is_corrected_and_one_that_is_right_is_kept() {
        let target = LoudnessTarget::default();
        let change = Change { gain_db: 6.0, limit_db: Some(-2.0) };
        assert_eq!(change.corrected(Measured { lufs: -14.1, peak_dbtp: -1.2 }, target), None);
        let next = change.corrected(Measured { lufs: -15.0, peak_dbtp: -0.5 }, target).unwrap();
        assert!((next.gain_db - 7.0).abs() < 1e-9 && (next.limit_db.unwrap() + 2.6).abs() < 1e-9, "{next:?}");
    }

    proptest! {
        #[test]
        fn any_words_are_no_reason_to_panic(words in "(Summary:)?[ \\na-zA-Z:.0-9-]{0,200}") {
            if let Some(found) = parse(&words) {
                let change = Change::first(found, LoudnessTarget::default());
                prop_assert!(change.gain_db.is_finite() && change.gain_db <= MOST_GAIN_DB);
            }
        }
    }
}
