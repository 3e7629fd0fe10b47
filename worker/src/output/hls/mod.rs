//! HLS: MPEG-TS segments and a media playlist, written by the worker and served by others.
//!
//! A tag goes through `segmenter` (which asks `segment` where to cut, and `ts` for the bytes) on the caller's
//! thread; chunks of it go through a bounded queue to `writer`, a thread of its own, which keeps `shelf`: the
//! `playlist`, the files of the `folder`, and the `janitor`. No HTTP here.

mod adts;
mod annexb;
mod folder;
mod janitor;
mod playlist;
mod segment;
mod segmenter;
mod shelf;
mod ts;
#[cfg(test)]
mod twins;
mod writer;

use crate::media::Tag;
use segmenter::{Figures, Segmenter};
use shelf::Plan;
use state::Timestamp;
use state::wire::{HlsSeen, HlsSpec};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use ts::Muxer;
use writer::Writer;

/// Cuts tags into segments that nobody writes; how many bytes they have. Only the fuzzer asks for it.
#[cfg(fuzzing)]
pub fn segmented(tags: &[Tag]) -> usize {
    let (mut segmenter, mut sum) = (Segmenter::new(4, Muxer::default()), 0);
    let mut give = |chunk: segmenter::Chunk| {
        sum += chunk.bytes.len();
        Some(Vec::new())
    };
    tags.iter().for_each(|tag| segmenter.push(tag, 0, &mut give));
    segmenter.finish(0, &mut give);
    sum
}

/// The HLS output of a run.
pub struct Hls {
    segmenter: Segmenter,
    writer: Writer,
    reported: Figures,
}

impl Hls {
    /// Starts to write into `spec.dir`, and goes on with the playlist found there.
    ///
    /// `epoch` is part of segment names, `anchor` is the wall time of channel time 0; `changed` is notified when
    /// an error appears or goes, and at the first segment. A folder that cannot be written is no error here: it
    /// shows in [`Hls::seen`] and is tried again with every segment.
    ///
    /// # Errors
    /// When the system refuses a thread.
    pub fn start(spec: HlsSpec, epoch: u64, anchor: Timestamp, changed: Arc<Notify>) -> io::Result<Self> {
        let target_s = spec.target_duration_s.max(1);
        let muxer = match spec.first_pts {
            0 => Muxer::default(),
            first => Muxer::beginning_at(first),
        };
        let plan = Plan {
            dir: spec.dir,
            epoch,
            target_s,
            window: spec.window,
            first_sequence: spec.first_sequence,
            anchor_ms: anchor.as_millisecond(),
        };
        let writer = Writer::start(plan, changed)?;
        Ok(Self { segmenter: Segmenter::new(target_s, muxer), writer, reported: Figures::default() })
    }

    /// Takes a tag. Never waits: when the disk is too slow, tags are dropped up to the next IDR.
    pub fn send(&mut self, tag: &Tag) {
        let writer = &self.writer;
        self.segmenter.push(tag, state::now().as_millisecond(), &mut |chunk| writer.offer(chunk));
        self.report();
    }

    fn report(&mut self) {
        let figures = self.segmenter.figures();
        if figures.forced > self.reported.forced {
            tracing::debug!(hls.forced_cuts = figures.forced, "no IDR within the target duration");
        }
        // Once for each chunk that was lost and not for every tag after it.
        if figures.refused > self.reported.refused {
            self.writer
                .report(format!("the disk is too slow: {} frames dropped in this run", figures.dropped));
        }
        self.reported = figures;
    }

    /// The output as it is now.
    pub fn seen(&self) -> HlsSeen {
        self.writer.seen()
    }

    /// Ends the last segment and publishes it. The playlist stays open: the channel may come back.
    ///
    /// Blocks until it is done, at most for `deadline`. A version may not follow the one before within half a
    /// target duration, so give it that and a little more.
    pub fn finish(mut self, deadline: Duration) {
        let by = Instant::now() + deadline;
        let writer = &self.writer;
        self.segmenter.finish(state::now().as_millisecond(), &mut |chunk| writer.offer(chunk));
        self.writer.finish(by);
    }
}
