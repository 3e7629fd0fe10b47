//! Whether a recording shows what was played: every picture, in step with the sound, without gaps and holes.
//! Pure functions over a [`Recording`].

use crate::blind::{self, Blind};
use crate::recording::{Packet, RATE, Recording};
use crate::runs::{Run, runs, without_first_run, without_last_run};
use crate::sound;
use crate::zoo::Animal;
use std::fmt;
use std::ops::Range;

/// What is tolerated.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Sound against picture, ms, either way.
    pub sync_ms: f64,
    /// Time between pictures at a boundary beyond the longer of both items' steps, ms.
    pub extra_gap_ms: f64,
    /// Time between audio frames, ms.
    pub audio_step_ms: f64,
    /// Missing sound where an item has some, ms.
    pub hole_ms: f64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { sync_ms: 40.0, extra_gap_ms: 45.0, audio_step_ms: 48.0, hole_ms: 50.0 }
    }
}

/// Figures of one item.
#[derive(Debug, Clone)]
pub struct Row {
    /// File name, or the number where nobody knows the item.
    pub name: String,
    /// First and last frame seen.
    pub seen: Range<u16>,
    /// Frames missing between them.
    pub lost: usize,
    /// Frames shown more than once.
    pub repeated: usize,
    /// Beep time minus flash time of each mark, ms: positive when the sound is late.
    pub offsets: Vec<f64>,
    /// Time from the last picture of the item before, beyond the usual step, ms.
    pub extra_gap_ms: f64,
    /// How much of the frame it fills, percent of width and height.
    pub filled: [u8; 2],
}

/// The outcome: figures by item and every problem in words.
#[derive(Debug, Clone, Default)]
pub struct Verdict {
    /// Figures in the order of the recording.
    pub rows: Vec<Row>,
    /// What is wrong; empty when all is well.
    pub problems: Vec<String>,
    /// Longest time between audio frames, ms.
    pub audio_step_ms: f64,
    /// Longest disagreement of the audio timestamps with a count of the samples since the first, ms.
    pub audio_drift_ms: f64,
    /// Longest time between two key pictures, ms.
    pub idr_distance_ms: f64,
}

impl Verdict {
    /// Largest amount by which sound and picture disagree, ms.
    pub fn worst_offset_ms(&self) -> f64 {
        self.rows.iter().flat_map(|r| &r.offsets).fold(0.0, |worst, o| o.abs().max(worst))
    }
}

/// Judges the recording of a loop over `items` that was stopped somewhere. At least `least` of its runs are whole.
pub fn judge_loop(recording: Recording, items: &[Animal], least: usize, limits: &Limits) -> Verdict {
    let recording = without_last_run(recording);
    let whole = runs(&recording).len();
    let played: Vec<Animal> = items.iter().cycle().take(whole).cloned().collect();
    let mut verdict = judge(&recording, &played, limits);
    if whole < least {
        verdict.problems.push(format!("{whole} whole items on the air, at least {least} expected"));
    }
    verdict
}

/// Judges a piece out of the middle of a loop over `items`, cut off at both ends.
pub fn judge_window(recording: Recording, items: &[Animal], least: usize, limits: &Limits) -> Verdict {
    let recording = without_first_run(recording);
    let first = runs(&recording).first().map_or(0, |run| run.item);
    let at = items.iter().position(|a| a.clip.item == first).unwrap_or(0);
    let rotated: Vec<Animal> = items.iter().cycle().skip(at).take(items.len()).cloned().collect();
    judge_loop(recording, &rotated, least, limits)
}

/// Compares a recording with what was played. Cut-off runs at both ends of a recording are the caller's to leave
/// out: `items` says which runs must be there, in order, and each is judged.
pub fn judge(recording: &Recording, items: &[Animal], limits: &Limits) -> Verdict {
    let runs = runs(recording);
    let beeps = times(recording, &sound::beeps(&recording.sound.samples, RATE));
    let blind = blind::find(items, &runs);
    let mut verdict = Verdict { problems: decode_problems(recording), ..Verdict::default() };
    verdict.problems.extend(unread(recording, &blind));
    judge_order(&runs, items, &mut verdict);
    for one in &blind {
        let (row, problems) = one.judge(recording, &beeps, limits.sync_ms);
        verdict.rows.push(row);
        verdict.problems.extend(problems);
    }
    let mut before: Option<&Run> = None;
    for run in &runs {
        let Some(animal) = items.iter().find(|a| a.clip.item == run.item) else { continue };
        let mut row = row(run, animal, before, &beeps);
        row.extra_gap_ms -= before.map_or(0.0, |b| blind.iter().map(|one| one.held_ms(b, run)).sum());
        verdict.problems.extend(item_problems(&row, animal, limits));
        verdict.rows.push(row);
        before = Some(run);
    }
    verdict.idr_distance_ms = idr_distance_ms(recording);
    let quiet: Vec<Range<f64>> = runs.iter().flat_map(|run| quiet_parts(run, items)).collect();
    let quiet: Vec<Range<f64>> = blind.iter().map(Blind::quiet).chain(quiet).collect();
    judge_sound(recording, &quiet, limits, &mut verdict);
    verdict
}

fn judge_order(runs: &[Run], items: &[Animal], verdict: &mut Verdict) {
    let seen: Vec<u8> = runs.iter().map(|r| r.item).collect();
    let wanted: Vec<u8> = items.iter().filter(|a| a.clip.picture).map(|a| a.clip.item).collect();
    if seen != wanted {
        verdict.problems.push(format!("items on the air were {seen:?} and not {wanted:?}"));
    }
}

fn row(run: &Run, animal: &Animal, before: Option<&Run>, beeps: &[f64]) -> Row {
    let numbers: Vec<u16> = run.pictures.iter().map(|p| p.0).collect();
    let jumps = numbers.windows(2).map(|w| usize::from((w[1] - w[0]).div_ceil(animal.every)));
    let nearest = |flash: &f64| {
        let offsets = beeps.iter().map(|b| (b - flash) * 1000.0).filter(|o| o.abs() < 400.0);
        offsets.min_by(|a, b| a.abs().total_cmp(&b.abs()))
    };
    Row {
        name: animal.clip.file.to_owned(),
        filled: run.filled,
        seen: numbers.first().copied().unwrap_or(0)..numbers.last().copied().unwrap_or(0),
        lost: jumps.clone().map(|j| j.saturating_sub(1)).sum(),
        repeated: jumps.filter(|j| *j == 0).count(),
        offsets: run.flashes.iter().filter_map(nearest).collect(),
        extra_gap_ms: before
            .map_or(0.0, |earlier| (run.start() - earlier.last() - run.step().max(earlier.step())) * 1000.0),
    }
}

fn item_problems(row: &Row, animal: &Animal, limits: &Limits) -> Vec<String> {
    let mut found = Vec::new();
    let name = &row.name;
    let last_is_right = row.seen.end == animal.last || animal.cut && row.seen.end < animal.last;
    if row.seen.start != animal.first || !last_is_right {
        let (first, last) = (animal.first, animal.last);
        found.push(format!(
            "{name}: pictures {}..={} seen, {first}..={last} expected",
            row.seen.start, row.seen.end
        ));
    }
    if (row.lost > 0 || row.repeated > 0) && !animal.uneven {
        found.push(format!("{name}: {} pictures lost, {} repeated", row.lost, row.repeated));
    }
    if let Some(worst) = row.offsets.iter().copied().find(|o| o.abs() > limits.sync_ms) {
        found.push(format!("{name}: sound is {worst:+.0} ms off the picture"));
    }
    if row.filled.iter().zip(animal.filled).any(|(seen, wanted)| seen.abs_diff(wanted) > 3) {
        found.push(format!(
            "{name}: {:?} % of the frame is picture, {:?} expected",
            row.filled, animal.filled
        ));
    }
    let wanted = animal.beeps();
    if row.offsets.len() < wanted && !animal.cut {
        found.push(format!("{name}: {} of {wanted} marks seen and heard", row.offsets.len()));
    }
    // A picture that begins late is waited for with the picture before it: a hold, not a gap.
    let hold = animal.clip.video_start * 1000.0;
    if row.extra_gap_ms > limits.extra_gap_ms + hold {
        found.push(format!("{name}: {:.0} ms too long without a picture before it", row.extra_gap_ms));
    }
    found
}

fn decode_problems(recording: &Recording) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    if !recording.decode_errors.is_empty() {
        let first = recording.decode_errors.iter().take(5).cloned().collect::<Vec<_>>().join(" / ");
        found.push(format!("{} decode errors: {first}", recording.decode_errors.len()));
    }
    for (video, name) in [(true, "video"), (false, "audio")] {
        let back = backward_steps(&recording.packets, video);
        if !back.is_empty() {
            found.push(format!("{name}: decoding time does not rise at {back:?} s"));
        }
    }
    found
}

/// Pictures without a code belong to items without a picture, and nowhere else.
fn unread(recording: &Recording, blind: &[Blind<'_>]) -> Option<String> {
    let known = |at: f64| blind.iter().any(|one| one.covers(at));
    let unread = recording.pictures.iter().filter(|p| p.reading.code.is_none() && !known(p.pts));
    let times: Vec<f64> = unread.map(|p| p.pts).collect();
    (!times.is_empty())
        .then(|| format!("{} pictures without a code, the first at {:.3} s", times.len(), times[0]))
}

/// Longest time between two key pictures, ms.
fn idr_distance_ms(recording: &Recording) -> f64 {
    let keys: Vec<f64> = recording.packets.iter().filter(|p| p.video && p.key).map(|p| p.dts).collect();
    keys.windows(2).map(|w| (w[1] - w[0]) * 1000.0).fold(0.0, f64::max)
}

/// Decoding times, in seconds, that are not later than the one before in the same track.
pub fn backward_steps(packets: &[Packet], video: bool) -> Vec<f64> {
    let times: Vec<f64> = packets.iter().filter(|p| p.video == video).map(|p| p.dts).collect();
    times.windows(2).filter(|w| w[1] <= w[0]).map(|w| w[1]).collect()
}

fn judge_sound(rec: &Recording, quiet: &[Range<f64>], limits: &Limits, verdict: &mut Verdict) {
    let audio: Vec<f64> = rec.packets.iter().filter(|p| !p.video).map(|p| p.pts).collect();
    verdict.audio_step_ms = audio.windows(2).map(|w| (w[1] - w[0]) * 1000.0).fold(0.0, f64::max);
    verdict.audio_drift_ms = drift_ms(rec);
    if verdict.audio_step_ms > limits.audio_step_ms {
        verdict.problems.push(format!("audio frames are up to {:.0} ms apart", verdict.audio_step_ms));
    }
    for hole in sound::silences(&rec.sound.samples, RATE, limits.hole_ms as usize) {
        let hole = rec.sound.time_of(hole.start)..rec.sound.time_of(hole.end);
        let left = uncovered_ms(&hole, quiet);
        if left >= limits.hole_ms {
            let (from, to) = (hole.start, hole.end);
            verdict.problems.push(format!("{left:.0} ms of sound are missing in {from:.3}..{to:.3} s"));
        }
    }
    for click in times(rec, &sound::clicks(&rec.sound.samples, RATE)) {
        verdict.problems.push(format!("a click at {click:.3} s"));
    }
}

/// Parts of a run in which its clip has no sound, in the recording's time.
fn quiet_parts(run: &Run, items: &[Animal]) -> Vec<Range<f64>> {
    let Some(animal) = items.iter().find(|a| a.clip.item == run.item) else { return Vec::new() };
    let clip = &animal.clip;
    let shown = run.start()..run.last() + run.step();
    let zero = run.start() - clip.video_start - f64::from(animal.first) / f64::from(clip.fps);
    match &clip.audio {
        None => vec![shown],
        Some(audio) => {
            vec![shown.start - clip.video_start..zero + audio.span.start, zero + audio.span.end..shown.end]
        }
    }
}

/// What `quiet` leaves of `hole`, ms; each quiet part counts 30 ms longer at both ends, for coding delay.
fn uncovered_ms(hole: &Range<f64>, quiet: &[Range<f64>]) -> f64 {
    const SLACK_S: f64 = 0.03;
    let covered: f64 = quiet
        .iter()
        .filter(|q| q.end > q.start)
        .map(|q| (hole.end.min(q.end + SLACK_S) - hole.start.max(q.start - SLACK_S)).max(0.0))
        .sum();
    (hole.end - hole.start - covered) * 1000.0
}

/// How far audio timestamps and a count of samples disagree at worst, ms.
fn drift_ms(recording: &Recording) -> f64 {
    let pieces = &recording.sound.pieces;
    let Some((_, first)) = pieces.first() else { return 0.0 };
    let off = |(start, pts): &(usize, f64)| (pts - first - *start as f64 / f64::from(RATE)) * 1000.0;
    pieces.iter().map(off).fold(0.0, |worst, o| if o.abs() > f64::abs(worst) { o } else { worst })
}

fn times(recording: &Recording, samples: &[usize]) -> Vec<f64> {
    samples.iter().map(|s| recording.sound.time_of(*s)).collect()
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:28} {:>11} {:>4} {:>4} {:>8}  sound - picture, ms",
            "item", "frames", "lost", "rep.", "gap ms"
        )?;
        for row in &self.rows {
            let frames = format!("{}..={}", row.seen.start, row.seen.end);
            let offsets: Vec<String> = row.offsets.iter().map(|o| format!("{o:+.0}")).collect();
            let (name, gap) = (&row.name, row.extra_gap_ms);
            let (lost, repeated, offsets) = (row.lost, row.repeated, offsets.join(" "));
            writeln!(f, "{name:28} {frames:>11} {lost:>4} {repeated:>4} {gap:>8.1}  {offsets}")?;
        }
        let (step, drift) = (self.audio_step_ms, self.audio_drift_ms);
        writeln!(f, "audio step at most {step:.0} ms, timestamps against samples {drift:+.0} ms")?;
        self.problems.iter().try_for_each(|problem| writeln!(f, "PROBLEM {problem}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_and_earlier_decoding_times_are_steps_back() {
        let packet = |video, dts| Packet { video, pts: dts, dts, key: false };
        let packets = [packet(true, 0.0), packet(false, 0.0), packet(true, 0.03), packet(true, 0.03)];
        assert_eq!(backward_steps(&packets, true), [0.03]);
        assert_eq!(backward_steps(&packets, false), Vec::<f64>::new());
    }

    #[test]
    fn a_hole_counts_only_where_sound_was_due() {
        let quiet = [Range { start: 1.0, end: 2.0 }, Range { start: 5.0, end: 4.0 }];
        assert!(uncovered_ms(&(1.0..2.02), &quiet) < 1.0);
        assert!(uncovered_ms(&(1.9..2.2), &quiet) > 150.0);
        assert!(uncovered_ms(&(4.0..4.1), &quiet) > 99.0);
    }
}
