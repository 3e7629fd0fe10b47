//! What the journal holds already: the newest event of each run, from memory or from the end of the file.

use crate::records::events::FILE;
use state::ids::Ulid;
use state::rotate;
use state::wire::Event;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

/// Runs whose newest event is known. A run speaks until its worker has gone; at most a worker, its successor and what
/// they replaced are told of at a time.
const MOST_RUNS: usize = 8;

/// How much of the journal is read again after a restart, bytes.
const TAIL: u64 = 64 * 1024;

/// The newest event of each run that may still speak. Whoever spoke last is last.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Marks(Vec<(Ulid, u64)>);

impl Marks {
    pub(super) fn of(events: impl IntoIterator<Item = Event>) -> Self {
        let mut marks = Self::default();
        for event in events {
            marks.is_news(&event);
        }
        marks
    }

    /// Takes in an event; false when it was there before. A worker says its events in order.
    pub(super) fn is_news(&mut self, event: &Event) -> bool {
        let at = self.0.iter().position(|(run, _)| *run == event.run);
        let known = at.map(|at| self.0.remove(at).1);
        let is_news = known.is_none_or(|seq| seq < event.seq);
        self.0.push((event.run.clone(), known.unwrap_or(0).max(event.seq)));
        self.0.drain(..self.0.len().saturating_sub(MOST_RUNS));
        is_news
    }
}

/// The newest events that are kept in a channel's folder, oldest first.
///
/// # Errors
/// The journal is there and cannot be read.
pub(crate) fn recent(folder: &Path) -> io::Result<Vec<Event>> {
    last_events(&folder.join(FILE))
}

/// The end of the journal; what a crash has torn is passed over. Where the file was put aside a moment ago, the end of
/// the one before it is read as well.
pub(super) fn last_events(path: &Path) -> io::Result<Vec<Event>> {
    let newest = tail(path)?;
    let before = if (newest.len() as u64) < TAIL { tail(&rotate::aside(path, 1))? } else { Vec::new() };
    let lines = before.split(|b| *b == b'\n').chain(newest.split(|b| *b == b'\n'));
    Ok(lines.filter_map(|line| serde_json::from_slice::<Event>(line).ok()).collect())
}

fn tail(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let end = file.seek(SeekFrom::End(0))?;
    file.seek(SeekFrom::Start(end.saturating_sub(TAIL)))?;
    let mut bytes = Vec::new();
    file.take(TAIL).read_to_end(&mut bytes)?;
    Ok(bytes)
}
