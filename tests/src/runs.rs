//! Which items a recording shows, and where one ends and the next begins. Pure functions over a [`Recording`].

use crate::picture::Code;
use crate::recording::Recording;

/// An item as it was seen: pictures of one clip in rising order, without another between them.
#[derive(Debug, Clone, Default)]
pub struct Run {
    /// Number in the barcode.
    pub item: u8,
    /// Frame number and presentation time of each picture.
    pub pictures: Vec<(u16, f64)>,
    /// Presentation times at which the picture lights up.
    pub flashes: Vec<f64>,
    /// How much of the frame the picture fills, percent of width and height: the least that was seen.
    pub filled: [u8; 2],
}

impl Run {
    /// Presentation time of its first picture.
    pub fn start(&self) -> f64 {
        self.pictures.first().map_or(0.0, |p| p.1)
    }

    /// Presentation time of its last picture.
    pub fn last(&self) -> f64 {
        self.pictures.last().map_or(0.0, |p| p.1)
    }

    /// Usual time from one of its pictures to the next, seconds.
    pub fn step(&self) -> f64 {
        let mut steps: Vec<f64> = self.pictures.windows(2).map(|w| w[1].1 - w[0].1).collect();
        steps.sort_by(f64::total_cmp);
        steps.get(steps.len() / 2).copied().unwrap_or(0.0)
    }
}

/// Splits a recording into items. Pictures without a code (a slate) belong to none.
pub fn runs(recording: &Recording) -> Vec<Run> {
    let mut found: Vec<Run> = Vec::new();
    let mut lit = false;
    for picture in &recording.pictures {
        let Some(Code { item, frame }) = picture.reading.code else { continue };
        let goes_on = found.last().is_some_and(|run| {
            run.item == item && run.pictures.last().is_some_and(|(last, _)| *last <= frame)
        });
        if !goes_on {
            found.push(Run { item, filled: [100, 100], ..Run::default() });
            lit = false;
        }
        let Some(run) = found.last_mut() else { continue };
        run.pictures.push((frame, picture.pts));
        for (least, seen) in run.filled.iter_mut().zip(picture.reading.filled) {
            *least = seen.min(*least);
        }
        if picture.reading.flash && !lit {
            run.flashes.push(picture.pts);
        }
        lit = picture.reading.flash;
    }
    found
}

/// A recording that begins somewhere: without its first item, which is cut off.
pub fn without_first_run(mut recording: Recording) -> Recording {
    let Some(begin) = runs(&recording).get(1).map(Run::start) else { return recording };
    recording.pictures.retain(|p| p.pts >= begin);
    recording.packets.retain(|p| p.pts >= begin);
    recording.sound.pieces.retain(|(_, pts)| *pts >= begin);
    let cut = recording.sound.pieces.first().map_or(recording.sound.samples.len(), |(start, _)| *start);
    recording.sound.samples.drain(..cut);
    recording.sound.pieces.iter_mut().for_each(|(start, _)| *start -= cut);
    recording
}

/// A recording of a loop that was stopped somewhere: without its last item, which is cut off.
pub fn without_last_run(mut recording: Recording) -> Recording {
    let Some(end) = runs(&recording).last().map(Run::start) else { return recording };
    recording.pictures.retain(|p| p.pts < end);
    recording.packets.retain(|p| p.pts < end);
    recording.sound.pieces.retain(|(_, pts)| *pts < end);
    let samples = recording.sound.pieces.last().map_or(0, |(start, _)| *start);
    recording.sound.samples.truncate(samples);
    recording.sound.pieces.pop();
    recording
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::picture::Reading;
    use crate::recording::Picture;

    fn picture(n: usize, item: u8, frame: u16) -> Picture {
        let reading = Reading {
            code: Some(Code { item, frame }),
            flash: frame % 30 > 27,
            luma: 100,
            filled: [100, 100],
        };
        Picture { pts: n as f64 / 30.0, reading }
    }

    #[test]
    fn a_loop_and_a_change_of_item_each_begin_a_run() {
        let codes = [(1, 0), (1, 1), (1, 1), (1, 0), (1, 1), (2, 5), (2, 7)];
        let pictures = codes.iter().enumerate().map(|(n, (item, frame))| picture(n, *item, *frame)).collect();
        let found = runs(&Recording { pictures, ..Recording::default() });
        let shape: Vec<_> = found.iter().map(|r| (r.item, r.pictures.len())).collect();
        assert_eq!(shape, [(1, 3), (1, 2), (2, 2)]);
    }
}
