//! Where the samples of a track are and when they are shown: a cursor over the tables as they are in the file
//! (ISO/IEC 14496-12, 8.6 and 8.7). No table is ever expanded.

use super::boxes::{Refused, Table, need, only, word};
use bytes::Bytes;
use std::sync::Arc;

/// Most samples of a track: a week of sound. A few bytes can claim billions of equal ones, and each is gone over.
const MOST_SAMPLES: u64 = 1 << 25;

/// One access unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sample {
    /// Place in the file, bytes.
    pub(super) offset: u64,
    /// Length in bytes.
    pub(super) size: u32,
    /// Decoding time, ticks of the track.
    pub(super) dts: i64,
    /// Presentation minus decoding time, ticks; not negative.
    pub(super) composition: i64,
    /// Whether the file flags it as one to enter at.
    pub(super) sync: bool,
}

impl Sample {
    /// Presentation time, ticks.
    pub(super) fn pts(&self) -> i64 {
        self.dts + self.composition
    }
}

/// The tables of a track.
#[derive(Debug)]
pub(super) struct Tables {
    durations: Table<2>,
    compositions: Option<Table<2>>,
    chunks: Table<3>,
    sizes: Sizes,
    offsets: Offsets,
    syncs: Option<Table<1>>,
    /// Composition times are lifted by this, so that none is negative, and decoding times lowered.
    lift: i64,
}

#[derive(Debug)]
enum Sizes {
    Same { size: u32, count: usize },
    Each(Table<1>),
}

#[derive(Debug)]
enum Offsets {
    Short(Table<1>),
    Long(Table<2>),
}

impl Tables {
    /// Reads a sample table box.
    ///
    /// # Errors
    /// What about it is unusual.
    pub(super) fn read(stbl: &Bytes) -> Result<Self, Refused> {
        let compositions = only(stbl, b"ctts")?.map(|body| Table::<2>::read(&body, 4)).transpose()?;
        let lowest = compositions.iter().flat_map(Table::iter).map(|[_, offset]| offset as i32).min();
        let tables = Self {
            durations: Table::read(&need(stbl, b"stts")?, 4)?,
            compositions,
            chunks: Table::read(&need(stbl, b"stsc")?, 4)?,
            sizes: sizes(&need(stbl, b"stsz")?)?,
            offsets: match (only(stbl, b"stco")?, only(stbl, b"co64")?) {
                (Some(body), None) => Offsets::Short(Table::read(&body, 4)?),
                (None, Some(body)) => Offsets::Long(Table::read(&body, 4)?),
                _ => return Err(Refused("there is not one table of chunk offsets")),
            },
            syncs: only(stbl, b"stss")?.map(|body| Table::read(&body, 4)).transpose()?,
            lift: i64::from(lowest.unwrap_or(0).min(0)).abs(),
        };
        tables.check()?;
        Ok(tables)
    }

    /// How long samples last: runs of so many samples of so many ticks each.
    pub(super) fn durations(&self) -> &Table<2> {
        &self.durations
    }

    /// What is added to the decoding time of the first sample, ticks, as the file says it: it may be negative.
    pub(super) fn first_composition(&self) -> i64 {
        let first = self.compositions.as_ref().and_then(|table| table.get(0));
        first.map_or(0, |[_, offset]| i64::from(offset as i32))
    }

    /// Whether presentation times differ from decoding times.
    pub(super) fn reorders(&self) -> bool {
        self.compositions.is_some()
    }

    /// Bytes of all samples.
    pub(super) fn bytes(&self) -> u64 {
        match &self.sizes {
            Sizes::Same { size, count } => u64::from(*size) * *count as u64,
            Sizes::Each(table) => table.iter().map(|[size]| u64::from(size)).sum(),
        }
    }

    /// All tables speak of the same number of samples.
    fn check(&self) -> Result<(), Refused> {
        let count = self.count() as u64;
        let sum = |table: &Table<2>| table.iter().map(|[count, _]| u64::from(count)).sum::<u64>();
        if count == 0 {
            return Err(Refused("there are no samples"));
        }
        if count > MOST_SAMPLES {
            return Err(Refused("it says that it has more samples than a file can have"));
        }
        let compositions = self.compositions.as_ref().map_or(count, sum);
        if sum(&self.durations) != count || compositions != count || self.in_chunks() != Some(count) {
            return Err(Refused("tables disagree about the number of samples"));
        }
        let rising = |table: &Table<1>| table.iter().zip(table.iter().skip(1)).all(|([a], [b])| a < b);
        if !self.syncs.as_ref().is_none_or(rising) {
            return Err(Refused("sync samples are not in order"));
        }
        Ok(())
    }

    /// Samples in all chunks; `None` where the table of chunks makes no sense.
    fn in_chunks(&self) -> Option<u64> {
        let chunks = match &self.offsets {
            Offsets::Short(table) => table.len(),
            Offsets::Long(table) => table.len(),
        };
        let past_the_last = u32::try_from(chunks).ok()?.checked_add(1)?;
        if self.chunks.get(0)?[0] != 1 {
            return None;
        }
        let ends = self.chunks.iter().skip(1).map(|[first, ..]| first).chain([past_the_last]);
        let of_each = |([first, samples, _], end): ([u32; 3], u32)| {
            Some(u64::from(end.checked_sub(first)?) * u64::from(samples))
        };
        self.chunks.iter().zip(ends).map(of_each).sum()
    }

    /// How many samples there are.
    pub(super) fn count(&self) -> usize {
        match &self.sizes {
            Sizes::Same { count, .. } => *count,
            Sizes::Each(table) => table.len(),
        }
    }

    /// Whether every sample may be entered at.
    pub(super) fn all_sync(&self) -> bool {
        self.syncs.is_none()
    }

    fn size(&self, index: usize) -> Option<u32> {
        match &self.sizes {
            Sizes::Same { size, count } => (index < *count).then_some(*size),
            Sizes::Each(table) => table.get(index).map(|[size]| size),
        }
    }

    fn offset(&self, chunk: usize) -> Option<u64> {
        match &self.offsets {
            Offsets::Short(table) => table.get(chunk).map(|[offset]| u64::from(offset)),
            Offsets::Long(table) => {
                table.get(chunk).map(|[high, low]| u64::from(high) << 32 | u64::from(low))
            }
        }
    }
}

fn sizes(body: &Bytes) -> Result<Sizes, Refused> {
    let cut = Refused("a table is shorter than it says");
    match word(body, 4).ok_or(cut)? {
        0 => Ok(Sizes::Each(Table::read(body, 8)?)),
        size => Ok(Sizes::Same { size, count: word(body, 8).ok_or(cut)? as usize }),
    }
}

/// A run of equal entries in a table: which entry, and how many of its samples are still to come.
#[derive(Debug, Clone, Copy, Default)]
struct Run {
    entry: usize,
    used: u32,
}

impl Run {
    /// The value for the present sample, and one step on.
    fn step(&mut self, table: &Table<2>) -> Option<u32> {
        loop {
            let [count, value] = table.get(self.entry)?;
            if self.used < count {
                self.used += 1;
                return Some(value);
            }
            (self.entry, self.used) = (self.entry + 1, 0);
        }
    }
}

/// A place in a track. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Cursor {
    tables: Arc<Tables>,
    index: usize,
    dts: i64,
    duration: Run,
    composition: Run,
    /// Entry of the table of chunks, chunk, sample within the chunk.
    entry: usize,
    chunk: usize,
    in_chunk: u32,
    /// Where the next sample of this chunk begins.
    offset: u64,
    sync: usize,
}

impl Cursor {
    /// At the first sample.
    pub(super) fn new(tables: Arc<Tables>) -> Self {
        let dts = -tables.lift;
        let offset = tables.offset(0).unwrap_or(0);
        let (duration, composition) = (Run::default(), Run::default());
        Self {
            tables,
            index: 0,
            dts,
            duration,
            composition,
            entry: 0,
            chunk: 0,
            in_chunk: 0,
            offset,
            sync: 0,
        }
    }

    /// Whether the next sample is one to enter at.
    fn is_sync(&mut self) -> bool {
        let Some(syncs) = &self.tables.syncs else { return true };
        let number = self.index as u64 + 1;
        while syncs.get(self.sync).is_some_and(|[sync]| u64::from(sync) < number) {
            self.sync += 1;
        }
        syncs.get(self.sync).is_some_and(|[sync]| u64::from(sync) == number)
    }

    /// The chunk that the next sample is in begins: its offset, and the entry that speaks of it.
    fn enter_chunk(&mut self) -> Option<()> {
        let next_entry = self.tables.chunks.get(self.entry + 1);
        if next_entry.is_some_and(|[first, ..]| first as usize <= self.chunk + 1) {
            self.entry += 1;
        }
        self.offset = self.tables.offset(self.chunk)?;
        Some(())
    }
}

impl Iterator for Cursor {
    type Item = Sample;

    fn next(&mut self) -> Option<Sample> {
        let size = self.tables.size(self.index)?;
        loop {
            let [_, in_each, _] = self.tables.chunks.get(self.entry)?;
            if self.in_chunk < in_each {
                break;
            }
            (self.chunk, self.in_chunk) = (self.chunk + 1, 0);
            self.enter_chunk()?;
        }
        let composition = match &self.tables.compositions {
            Some(table) => i64::from(self.composition.step(table)? as i32) + self.tables.lift,
            None => 0,
        };
        let sync = self.is_sync();
        let sample = Sample { offset: self.offset, size, dts: self.dts, composition, sync };
        self.dts = self.dts.checked_add(i64::from(self.duration.step(&self.tables.durations)?))?;
        self.offset = self.offset.checked_add(u64::from(size))?;
        self.index += 1;
        self.in_chunk += 1;
        Some(sample)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(kind: &[u8; 4], words: &[u32]) -> Vec<u8> {
        let body: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
        [&(body.len() as u32 + 8).to_be_bytes()[..], kind, &body].concat()
    }

    /// So many samples of three bytes in one chunk.
    fn claim(count: u32) -> Bytes {
        let tables = [
            table(b"stts", &[0, 1, count, 1]),
            table(b"stsc", &[0, 1, 1, count, 1]),
            table(b"stsz", &[0, 3, count]),
            table(b"stco", &[0, 1, 100]),
        ];
        Bytes::from(tables.concat())
    }

    #[test]
    fn equal_samples_are_found_and_billions_of_them_are_not_believed() {
        let tables = Tables::read(&claim(3)).unwrap();
        let offsets: Vec<u64> = Cursor::new(Arc::new(tables)).map(|sample| sample.offset).collect();
        assert_eq!(offsets, [100, 103, 106]);
        let refused = Tables::read(&claim(u32::MAX)).unwrap_err();
        assert!(refused.to_string().contains("more samples"), "{refused}");
    }
}
