//! Reading a file in bursts: the samples of the next moment are looked up in the tables, read with as few calls as
//! their places allow, straight to where they stay until they are sent, and cut into tags. That one piece of memory,
//! as large as they are, is all that a burst takes, and it is free again when its last tag has been sent.
//!
//! What comes after them the kernel is asked to have ready: its cache is no worker's memory, and a disk that is slow
//! for seconds is not noticed.

use super::planned::Planned;
use super::reader::{Lane, Reader};
use super::samples::{Cursor, Sample};
use crate::source::buffer::{MAX_IDR_DISTANCE_MS, TIME_SHIFT_MS, has_idr};
use crate::source::flv::{Kind, NextIdr, RawTag};
use crate::source::parameters::first_slice;
use bytes::BytesMut;
use rustix::fs::{Advice, fadvise};
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, IoSliceMut};
use std::num::NonZeroU64;
use std::ops::Range;
use std::os::unix::fs::FileExt;

/// Parts that one call reads; Linux takes 1024.
const MOST_PARTS: usize = 512;
/// The kernel is asked for this much after what was read, µs.
const KERNEL_AHEAD_US: i64 = 6_000_000;
/// And for no more than this at once, bytes.
const KERNEL_AHEAD: u64 = 16 << 20;
/// Looked at of a picture to see what it is, bytes; more where parameter sets and messages fill that.
const LOOKS: [usize; 2] = [4 * 1024, 64 * 1024];
/// The next IDR picture is looked for over this much, ms: far more than may lie between two.
const SEARCHED_MS: i64 = 3 * MAX_IDR_DISTANCE_MS;

/// How much is read at once: it ends where the first of the two is reached.
#[derive(Debug, Clone, Copy)]
pub struct Amount {
    /// Time, ms.
    pub ms: i64,
    /// Bytes; one sample may be more.
    pub bytes: usize,
}

/// A sample and the place where it was read to.
#[derive(Debug)]
struct Part {
    planned: Planned,
    /// Where the track goes on, for a picture that can be entered at.
    after: Option<(Option<Sample>, Cursor)>,
    body: BytesMut,
    read: bool,
}

impl Reader {
    /// Appends the tags of a file's next samples. False when there are no more.
    ///
    /// # Errors
    /// Why nothing more can be read, in words. What could be read before is appended.
    pub(super) fn burst(&mut self, amount: Amount, tags: &mut Vec<RawTag>) -> Result<bool, String> {
        let mut parts = Vec::new();
        let planned = self.plan(amount, &mut parts);
        let Some(file) = self.place.file() else { return Err("it is no file".to_owned()) };
        let error = fill(file, &mut parts);
        self.tags_of(parts, &error, tags)?;
        self.have_ready();
        planned
    }

    /// Looks up what is read next. What stops that is not in the way of what comes before it.
    fn plan(&mut self, amount: Amount, parts: &mut Vec<Part>) -> Result<bool, String> {
        let (size, zero_us) = (self.place.size(), self.zero_us);
        let (mut sum, mut from_us) = (0, None);
        let more = loop {
            let (due_us, lane) = match self.next_lane() {
                Some(next) => next,
                None => break Ok(false),
            };
            let from_us = *from_us.get_or_insert(due_us);
            if sum > 0 && (sum >= amount.bytes || due_us.saturating_sub(from_us) / 1000 >= amount.ms) {
                break Ok(true);
            }
            match lane.planned(size, zero_us) {
                Err(why) => break Err(why),
                Ok(planned) => {
                    lane.step();
                    let Some(planned) = planned else { continue };
                    sum += planned.length();
                    let enters = planned.kind == Kind::Video && planned.sample.sync;
                    let after = enters.then(|| (lane.next, lane.cursor.clone()));
                    parts.push(Part { planned, after, body: BytesMut::new(), read: false });
                }
            }
        };
        let mut memory = BytesMut::zeroed(sum);
        for part in parts {
            part.body = memory.split_to(part.planned.length());
            part.planned.write_head(&mut part.body);
        }
        more
    }

    /// Makes tags of what was read, up to the first part that could not be.
    fn tags_of(
        &mut self,
        parts: Vec<Part>,
        error: &Option<io::Error>,
        tags: &mut Vec<RawTag>,
    ) -> Result<(), String> {
        for Part { planned, after, body, read } in parts {
            if !read {
                return Err(super::reader::unread(error.as_ref()));
            }
            let picture = &body[planned.head()..];
            if planned.kind == Kind::Video && !self.video.is_whole(picture)? {
                continue;
            }
            let after = after.filter(|_| has_idr(picture, 4));
            let next_idr = after.map(|(next, cursor)| self.idr_after(planned.dts, next, cursor));
            tags.push(RawTag { kind: planned.kind, at_ms: planned.dts + TIME_SHIFT_MS, body, next_idr });
        }
        Ok(())
    }

    /// The IDR picture after one at `from`, ms of the item. Its flag in the file is not enough.
    fn idr_after(&self, from: i64, next: Option<Sample>, cursor: Cursor) -> NextIdr {
        let track = &self.video.track;
        let mut last = from;
        for sample in next.into_iter().chain(cursor).filter(|sample| track.shows(sample)) {
            last = self.millis(track.time_us(sample.dts));
            let is_idr = || self.place.file().is_some_and(|file| is_idr(file, sample));
            if last - from > SEARCHED_MS || (sample.sync && is_idr()) {
                return NextIdr::At(last + TIME_SHIFT_MS);
            }
        }
        NextIdr::None { last: last + TIME_SHIFT_MS }
    }

    /// Asks the kernel for what will be read within the next seconds.
    fn have_ready(&mut self) {
        let Some(file) = self.place.file() else { return };
        let lanes = [Some(&mut self.video), self.audio.as_mut()];
        let mut wanted: Vec<_> = lanes.into_iter().flatten().filter_map(Lane::scout).collect();
        if let [a, b] = &wanted[..]
            && a.start <= b.end
            && b.start <= a.end
        {
            let both = a.start.min(b.start)..a.end.max(b.end);
            wanted.clear();
            wanted.push(both);
        }
        for range in wanted {
            let length = NonZeroU64::new((range.end - range.start).min(KERNEL_AHEAD));
            // Only advice: without it the disk is asked when it is needed.
            let _ = length.map(|_| fadvise(file, range.start, length, Advice::WillNeed));
        }
    }
}

impl Lane {
    /// Where the samples are that came into sight since the last call.
    fn scout(&mut self) -> Option<Range<u64>> {
        let until = self.due_us()?.saturating_add(KERNEL_AHEAD_US);
        let mut found: Option<Range<u64>> = None;
        for sample in self.scout.by_ref() {
            let range = sample.offset..sample.offset.saturating_add(u64::from(sample.size));
            let found = found.get_or_insert(range.clone());
            *found = found.start.min(range.start)..found.end.max(range.end);
            if self.track.time_us(sample.dts) > until {
                break;
            }
        }
        found
    }
}

/// Reads every part, those that follow each other in the file at once. Returns why some could not be read.
fn fill(file: &File, parts: &mut [Part]) -> Option<io::Error> {
    let mut by_place: Vec<&mut Part> = parts.iter_mut().collect();
    by_place.sort_by_key(|part| part.planned.sample.offset);
    let mut rest = &mut by_place[..];
    let mut failed = None;
    while !rest.is_empty() {
        let follows = |pair: &[&mut Part]| pair[0].planned.sample.end() == pair[1].planned.sample.offset;
        let run = 1 + rest.windows(2).take(MOST_PARTS - 1).take_while(|pair| follows(pair)).count();
        let (now, later) = rest.split_at_mut(run);
        let read = read_run(file, now).unwrap_or_else(|error| {
            failed = Some(error);
            0
        });
        let mut end = 0;
        for part in now {
            end += part.planned.sample.size as usize;
            part.read = end <= read;
        }
        rest = later;
    }
    failed
}

/// Reads parts that follow each other in the file; fewer bytes than they are where the file ends.
fn read_run(file: &File, run: &mut [&mut Part]) -> io::Result<usize> {
    let mut at = run[0].planned.sample.offset;
    let from = at;
    let heads = run.iter_mut().map(|part| {
        let head = part.planned.head();
        IoSliceMut::new(&mut part.body[head..])
    });
    let mut slices: Vec<IoSliceMut<'_>> = heads.collect();
    let mut left = &mut slices[..];
    while !left.is_empty() {
        match rustix::io::preadv(file, left, at) {
            Ok(0) => break,
            Ok(read) => {
                at += read as u64;
                IoSliceMut::advance_slices(&mut left, read);
            }
            Err(Errno::INTR) => {}
            // What came before it was read.
            Err(_) if at > from => break,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(usize::try_from(at - from).unwrap_or(usize::MAX))
}

fn is_idr(file: &File, sample: Sample) -> bool {
    let looked = LOOKS.iter().find_map(|look| {
        let mut bytes = vec![0; (*look).min(sample.size as usize)];
        file.read_exact_at(&mut bytes, sample.offset).ok()?;
        first_slice(&bytes)
    });
    looked == Some(5)
}
