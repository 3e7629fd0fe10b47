//! The log of what was on the air, for whoever asks: read from the journal line by line, handed on in pieces, so that
//! a year of it needs no more memory than a day.

use crate::engines::House;
use crate::engines::unknown_channel;
use crate::error::Problem;
use crate::records::as_run::{AsRun, Entry};
use crate::records::{csv, events};
use bytes::Bytes;
use serde::Deserialize;
use state::Timestamp;
use state::ids::{ChannelId, Ulid};
use std::io;
use std::path::PathBuf;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

/// Exports at a time; whoever comes later is told to come again.
pub const MOST_AT_ONCE: usize = 4;
/// Pieces that wait for a slow reader.
const PIECES: usize = 4;
/// A piece is sent when it has this many bytes.
const PIECE: usize = 32 * 1024;
/// A reader that takes nothing for this long is left.
const PATIENCE: Duration = Duration::from_secs(30);
/// Without `from`, this much is told.
const USUAL: jiff::SignedDuration = jiff::SignedDuration::from_hours(24);

/// As what it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// One object with a list.
    #[default]
    Json,
    /// RFC 4180.
    Csv,
}

/// Which part of the log: entries that began in `from..to`.
#[derive(Debug, Clone, Copy)]
pub struct Range {
    /// The first moment.
    pub from: Timestamp,
    /// The first moment that does not belong to it any more.
    pub to: Timestamp,
}

impl Range {
    /// The range that was asked for; by default the last 24 hours.
    ///
    /// # Errors
    /// 400 when it ends before it begins.
    pub fn asked(from: Option<Timestamp>, to: Option<Timestamp>, now: Timestamp) -> Result<Self, Problem> {
        // What begins at this very moment belongs to "until now".
        let to = to.unwrap_or(now + jiff::SignedDuration::from_secs(60));
        let from = from.unwrap_or_else(|| to.min(now).checked_sub(USUAL).unwrap_or(Timestamp::MIN));
        match from <= to {
            true => Ok(Self { from, to }),
            false => Err(Problem::new(400, "the query cannot be used: from is later than to")),
        }
    }

    fn holds(&self, entry: &Entry) -> bool {
        (self.from..self.to).contains(&entry.started_at)
    }
}

/// Pieces of the answer, in order; an error means that the rest cannot be read.
pub type Pieces = mpsc::Receiver<io::Result<Bytes>>;

/// Begins to read.
///
/// # Errors
/// 404 unknown channel; 429 too many read at this moment.
pub fn export(house: &House, channel: &ChannelId, range: Range, format: Format) -> Result<Pieces, Problem> {
    house.wishes.is_known(channel).then_some(()).ok_or_else(|| unknown_channel(channel))?;
    let words = "too many exports at this moment; ask again in a few seconds";
    let permit = house.exports.clone().try_acquire_owned().map_err(|_| Problem::new(429, words))?;
    let sight = house.supervisor.sight(channel);
    let living = sight.filter(|sight| sight.alive).and_then(|sight| Some(sight.state.run?.id));
    let (sender, pieces) = mpsc::channel(PIECES);
    let writer = Writer { sender, format, range, piece: Vec::new(), first: true, _permit: permit };
    let folder = house.config.channel_dir(channel);
    tokio::task::spawn_blocking(move || writer.run(folder, living.as_ref()));
    Ok(pieces)
}

/// Whoever asked is gone, or takes nothing.
struct Left;

struct Writer {
    sender: mpsc::Sender<io::Result<Bytes>>,
    format: Format,
    range: Range,
    piece: Vec<u8>,
    first: bool,
    _permit: OwnedSemaphorePermit,
}

impl Writer {
    fn run(mut self, folder: PathBuf, living: Option<&Ulid>) {
        let written = self.write_all(&folder, living);
        if let Ok(Err(error)) = written {
            tracing::error!(folder = %folder.display(), %error, "the journal cannot be read");
            let _ = self.send(Err(error));
        }
    }

    fn write_all(&mut self, folder: &std::path::Path, living: Option<&Ulid>) -> Result<io::Result<()>, Left> {
        self.piece.extend_from_slice(match self.format {
            Format::Json => b"{\"entries\":[",
            Format::Csv => csv::HEADER.as_bytes(),
        });
        let files = match events::open(folder, self.range.from) {
            Ok(files) => files,
            Err(error) => return Ok(Err(error)),
        };
        let (mut as_run, mut entries) = (AsRun::default(), Vec::new());
        'reading: for file in files {
            for kept in events::read(file) {
                let kept = match kept {
                    Ok(kept) => kept,
                    Err(error) => return Ok(Err(error)),
                };
                let over = kept.event.at_wall >= self.range.to;
                as_run.take(&kept, &mut entries);
                self.write(&mut entries)?;
                // What is open was begun after the end of the range, so nothing that follows belongs to it.
                if over && as_run.open_since().is_none_or(|since| since >= self.range.to) {
                    break 'reading;
                }
            }
        }
        entries.extend(as_run.rest(living));
        self.write(&mut entries)?;
        self.piece.extend_from_slice(if self.format == Format::Json { b"]}\n" } else { b"" });
        self.flush().map(Ok)
    }

    fn write(&mut self, entries: &mut Vec<Entry>) -> Result<(), Left> {
        for entry in entries.drain(..).filter(|entry| self.range.holds(entry)) {
            match self.format {
                Format::Csv => self.piece.extend_from_slice(csv::line(&entry).as_bytes()),
                Format::Json => {
                    self.piece.extend_from_slice(if self.first { b"\n" } else { b",\n" });
                    // Writing to memory cannot fail.
                    let _ = serde_json::to_writer(&mut self.piece, &entry);
                }
            }
            self.first = false;
        }
        if self.piece.len() >= PIECE { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), Left> {
        let piece = Bytes::from(std::mem::take(&mut self.piece));
        self.send(Ok(piece))
    }

    fn send(&self, piece: io::Result<Bytes>) -> Result<(), Left> {
        let sent = Handle::current().block_on(self.sender.send_timeout(piece, PATIENCE));
        sent.map_err(|_| Left)
    }
}
