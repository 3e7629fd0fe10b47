//! Tags in, chunks of segments out: applies the cuts to the byte stream. It knows neither files nor threads, and
//! never holds a whole segment.

use super::segment::{self, Coming, Cut, Running};
use super::ts::Muxer;
use crate::media::{Tag, Track, TrackConfig};
use std::sync::Arc;

/// Bytes that are worth waking the writer for.
pub(super) const CHUNK: usize = 128 * 1024;
/// Sound of the old parameters comes up to this long after the first picture of the new ones was decoded.
const CROSSING_MS: i64 = 500;
const CROSSING_TAGS: usize = 64;
/// Sound that starts this little before the new picture belongs to it.
const CROSSING_EARLY_MS: i64 = 12;

/// A piece of a segment. The first carries `begin`, the last `end`.
#[derive(Debug, Default)]
pub(super) struct Chunk {
    pub(super) begin: Option<Begin>,
    pub(super) bytes: Vec<u8>,
    pub(super) end: Option<End>,
}

/// What is known when a segment begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Begin {
    /// Start in ms of channel time.
    pub(super) start_ms: i64,
    /// Wall clock at that moment, ms since 1970.
    pub(super) wall_ms: i64,
    pub(super) discontinuity: bool,
}

/// What is known when it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct End {
    pub(super) duration_ms: u64,
    pub(super) independent: bool,
}

/// Where chunks go: gives the next empty buffer, or `None` when it could not take the chunk.
pub(super) type Give<'a> = &'a mut dyn FnMut(Chunk) -> Option<Vec<u8>>;

/// Figures since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Figures {
    /// Segments that had to begin without an IDR.
    pub(super) forced: u64,
    /// Chunks that were not taken.
    pub(super) refused: u64,
    /// Tags that did not get into a segment for that.
    pub(super) dropped: u64,
}

/// See the module.
pub(super) struct Segmenter {
    target_ms: i64,
    muxer: Muxer,
    open: Option<Open>,
    crossing: Option<Crossing>,
    last: LastSeen,
    /// The next segment does not follow on from the one before.
    torn: bool,
    chunk: Chunk,
    /// Tags in `chunk`.
    tags: u64,
    /// A chunk was not taken, so tags are dropped up to the next IDR.
    refused: bool,
    figures: Figures,
}

/// The segment that is being filled.
struct Open {
    running: Running,
    video: Arc<TrackConfig>,
    audio: Option<Arc<TrackConfig>>,
    /// Whether its first picture is an IDR, once there is a picture.
    independent: Option<bool>,
}

/// New picture parameters have come, and sound of the old segment still comes.
struct Crossing {
    /// Presentation time of the first new picture, ms.
    at: i64,
    held: Vec<Tag>,
}

/// The newest tag of each track, ms.
#[derive(Default)]
struct LastSeen {
    video: Option<i64>,
    audio: Option<i64>,
    /// From one picture to the next.
    step: i64,
}

impl Segmenter {
    /// Nothing is written before the first IDR.
    pub(super) fn new(target_s: u32, muxer: Muxer) -> Self {
        Self {
            target_ms: i64::from(target_s) * 1000,
            muxer,
            open: None,
            crossing: None,
            last: LastSeen::default(),
            torn: false,
            chunk: Chunk::default(),
            tags: 0,
            refused: false,
            figures: Figures::default(),
        }
    }

    /// Figures since the start.
    pub(super) fn figures(&self) -> Figures {
        self.figures
    }

    /// Takes a tag. `wall_ms` is the wall clock, ms since 1970.
    pub(super) fn push(&mut self, tag: &Tag, wall_ms: i64, give: Give) {
        match self.crossing.take() {
            None => self.accept(tag, wall_ms, give),
            Some(crossing) => self.cross(crossing, tag, wall_ms, give),
        }
    }

    /// Ends the open segment; the next begins at an IDR.
    pub(super) fn finish(&mut self, wall_ms: i64, give: Give) {
        // What is held may itself hold the next change.
        while let Some(crossing) = self.crossing.take() {
            self.enter(crossing, wall_ms, give);
        }
        self.tear(give);
    }

    fn accept(&mut self, tag: &Tag, wall_ms: i64, give: Give) {
        let Some(open) = &self.open else { return self.await_idr(tag, wall_ms, give) };
        match segment::cut(open.running, self.coming(open, tag), self.target_ms) {
            Cut::No => {}
            Cut::Parameters if tag.track == Track::Video => {
                self.crossing = Some(Crossing { at: tag.pts(), held: vec![tag.clone()] });
                return;
            }
            Cut::Parameters => self.turn(tag, true, wall_ms, give),
            Cut::Clean => self.turn(tag, false, wall_ms, give),
            Cut::Forced => {
                self.figures.forced += 1;
                self.turn(tag, false, wall_ms, give);
            }
            Cut::Torn => {
                self.tear(give);
                return self.await_idr(tag, wall_ms, give);
            }
        }
        self.write(tag, give);
    }

    fn coming(&self, open: &Open, tag: &Tag) -> Coming {
        let (changed, follows) = match tag.track {
            Track::Video => {
                let changed = !TrackConfig::same(&open.video, &tag.config);
                let later = self.last.video.is_none_or(|last| tag.dts > last);
                (changed, later && (tag.idr || !changed))
            }
            Track::Audio => {
                let changed = open.audio.as_ref().is_some_and(|audio| !TrackConfig::same(audio, &tag.config));
                (changed, self.last.audio.is_none_or(|last| tag.dts > last))
            }
        };
        let idr = tag.idr && tag.track == Track::Video;
        Coming { dts: tag.dts, idr, next_idr: tag.next_idr, changed, follows }
    }

    fn await_idr(&mut self, tag: &Tag, wall_ms: i64, give: Give) {
        if tag.idr && tag.track == Track::Video {
            self.refused = false;
            self.begin(tag.dts, tag.config.clone(), None, wall_ms);
            self.write(tag, give);
        } else if self.refused {
            self.figures.dropped += 1;
        }
    }

    /// Sound that is heard before the new picture is seen goes to the old segment, all else waits.
    fn cross(&mut self, mut crossing: Crossing, tag: &Tag, wall_ms: i64, give: Give) {
        if tag.track == Track::Audio && self.belongs_before(&crossing, tag) {
            self.write(tag, give);
            // A chunk that was not taken closes the old segment; the new one begins all the same.
            self.crossing = Some(crossing);
            return;
        }
        let over = tag.track == Track::Audio
            || tag.dts.saturating_sub(crossing.at) > CROSSING_MS
            || crossing.held.len() >= CROSSING_TAGS;
        crossing.held.push(tag.clone());
        if over {
            self.enter(crossing, wall_ms, give);
        } else {
            self.crossing = Some(crossing);
        }
    }

    fn belongs_before(&self, crossing: &Crossing, tag: &Tag) -> bool {
        let same =
            |open: &Open| open.audio.as_ref().is_none_or(|audio| TrackConfig::same(audio, &tag.config));
        let follows = self.last.audio.is_none_or(|last| tag.dts > last);
        self.open.as_ref().is_some_and(same)
            && follows
            && tag.dts < crossing.at.saturating_sub(CROSSING_EARLY_MS)
    }

    fn enter(&mut self, crossing: Crossing, wall_ms: i64, give: Give) {
        for (number, tag) in crossing.held.iter().enumerate() {
            match number {
                0 if self.open.is_some() => {
                    self.turn(tag, true, wall_ms, give);
                    self.write(tag, give);
                }
                _ => self.push(tag, wall_ms, give),
            }
        }
    }

    /// Ends the open segment where `tag` begins, and opens the next one there.
    fn turn(&mut self, tag: &Tag, changed: bool, wall_ms: i64, give: Give) {
        let Some(open) = &self.open else { return };
        let (video, audio) = match (tag.track, changed) {
            (Track::Video, true) => (tag.config.clone(), None),
            (Track::Audio, true) => (open.video.clone(), Some(tag.config.clone())),
            (_, false) => (open.video.clone(), open.audio.clone()),
        };
        let end = tag.dts.max(open.running.start.saturating_add(1));
        self.torn |= changed;
        self.close(end, give);
        if self.refused && !tag.idr {
            return;
        }
        self.refused = false;
        self.begin(end, video, audio, wall_ms);
    }

    /// Ends the open segment with nothing to follow it.
    fn tear(&mut self, give: Give) {
        if let Some(open) = &self.open {
            let end = segment::end(open.running, self.last.step, self.target_ms);
            self.close(end, give);
        }
        self.torn = true;
        self.last = LastSeen::default();
    }

    fn begin(&mut self, at: i64, video: Arc<TrackConfig>, audio: Option<Arc<TrackConfig>>, wall_ms: i64) {
        let discontinuity = std::mem::take(&mut self.torn);
        self.muxer.begin(discontinuity, &mut self.chunk.bytes);
        self.chunk.begin = Some(Begin { start_ms: at, wall_ms, discontinuity });
        self.open = Some(Open { running: Running { start: at, last: at }, video, audio, independent: None });
    }

    fn close(&mut self, end: i64, give: Give) {
        let Some(open) = self.open.take() else { return };
        self.muxer.flush(&mut self.chunk.bytes);
        let duration_ms = end.saturating_sub(open.running.start).max(1) as u64;
        self.chunk.end = Some(End { duration_ms, independent: open.independent.unwrap_or(true) });
        self.hand_over(give);
    }

    fn write(&mut self, tag: &Tag, give: Give) {
        let Some(open) = &mut self.open else { return };
        open.running.last = open.running.last.max(tag.dts);
        match tag.track {
            Track::Video => {
                open.independent.get_or_insert(tag.idr);
                self.last.step = tag.dts.saturating_sub(self.last.video.unwrap_or(tag.dts));
                self.last.video = Some(tag.dts);
                self.muxer.video(tag, &mut self.chunk.bytes);
            }
            Track::Audio => {
                open.audio.get_or_insert_with(|| tag.config.clone());
                self.last.audio = Some(tag.dts);
                self.muxer.audio(tag, &mut self.chunk.bytes);
            }
        }
        self.tags += 1;
        if self.chunk.bytes.len() >= CHUNK {
            self.hand_over(give);
        }
    }

    fn hand_over(&mut self, give: Give) {
        let tags = std::mem::take(&mut self.tags);
        match give(std::mem::take(&mut self.chunk)) {
            Some(bytes) => self.chunk.bytes = bytes,
            None => {
                self.figures.refused += 1;
                self.figures.dropped += tags;
                self.muxer.forget();
                self.open = None;
                self.last = LastSeen::default();
                (self.torn, self.refused) = (true, true);
            }
        }
    }
}

#[cfg(test)]
#[path = "segmenter_cuts.rs"]
mod cuts;
