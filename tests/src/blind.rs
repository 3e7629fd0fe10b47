//! Items without a picture of their own: the slate is seen while they are heard. Pure functions over a [`Recording`].

use crate::analysis::Row;
use crate::recording::Recording;
use crate::runs::Run;
use crate::zoo::Animal;
use std::ops::Range;

/// How much longer than its sound an item's picture may be, seconds: the pictures of a last small group.
const LONGER_S: f64 = 0.12;

/// An item without a picture, and when it was on the air, in the recording's time.
#[derive(Debug)]
pub struct Blind<'a> {
    animal: &'a Animal,
    shown: Range<f64>,
}

/// Those of `items` that have no picture, where the items before and after them were seen.
pub fn find<'a>(items: &'a [Animal], runs: &[Run]) -> Vec<Blind<'a>> {
    let run_of = |animal: &Animal| runs.iter().find(|run| run.item == animal.clip.item);
    let between = |three: &'a [Animal]| {
        let [before, animal, after] = three else { return None };
        let (before, after) = (run_of(before)?, run_of(after)?);
        let shown = before.last() + before.step()..after.start();
        (!animal.clip.picture).then_some(Blind { animal, shown })
    };
    items.windows(3).filter_map(between).collect()
}

impl Blind<'_> {
    /// Whether this moment belongs to it.
    pub fn covers(&self, at: f64) -> bool {
        self.shown.start - 0.005 <= at && at < self.shown.end
    }

    /// How long it should be seen, ms, where it is between these two.
    pub fn held_ms(&self, before: &Run, after: &Run) -> f64 {
        let between = before.last() < self.shown.start && self.shown.end <= after.start();
        if between { self.animal.clip.seconds * 1000.0 } else { 0.0 }
    }

    /// What follows its sound until its picture ends.
    pub fn quiet(&self) -> Range<f64> {
        self.shown.start + self.animal.clip.seconds..self.shown.end
    }

    /// Its figures and what is wrong with them: sound is measured from the first picture of the slate.
    pub fn judge(&self, recording: &Recording, beeps: &[f64], sync_ms: f64) -> (Row, Vec<String>) {
        let clip = &self.animal.clip;
        let heard: Vec<f64> =
            beeps.iter().filter(|b| self.covers(**b)).map(|b| b - self.shown.start).collect();
        let offsets: Vec<f64> = heard.iter().zip(clip.marks()).map(|(b, mark)| (b - mark) * 1000.0).collect();
        let name = clip.file;
        let mut problems = Vec::new();
        if heard.len() != clip.marks().len() || offsets.iter().any(|o| o.abs() > sync_ms) {
            problems.push(format!("{name}: beeps at {heard:.3?} s of it, {:?} expected", clip.marks()));
        }
        let length = self.shown.end - self.shown.start;
        if length < clip.seconds - 0.035 || length > clip.seconds + LONGER_S {
            problems.push(format!("{name}: seen for {length:.3} s and not {} s", clip.seconds));
        }
        let pictures: Vec<_> = recording.pictures.iter().filter(|p| self.covers(p.pts)).collect();
        if pictures.iter().any(|p| p.reading.code.is_some() || !(20..120).contains(&p.reading.luma)) {
            problems.push(format!("{name}: something else than the slate was seen"));
        }
        if let Some(gap) = pictures.windows(2).map(|w| w[1].pts - w[0].pts).find(|gap| *gap > 0.045) {
            problems.push(format!("{name}: {:.0} ms without a picture of the slate", gap * 1000.0));
        }
        let seen = 0..pictures.len() as u16;
        let filled = [100, 100];
        (
            Row { name: name.to_owned(), seen, lost: 0, repeated: 0, offsets, extra_gap_ms: 0.0, filled },
            problems,
        )
    }
}
