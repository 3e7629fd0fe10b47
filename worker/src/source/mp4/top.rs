//! The boxes at the top of a file, of which only the heads are read, and the movie box, which is read whole.

use super::boxes::{Kind, Refused, long, word};
use super::place::Place;
use bytes::Bytes;
use std::io;

/// Largest movie box that is read: about a day of media.
const MAX_MOOV: u64 = 96 << 20;
/// Largest movie box of an object: its tables stay in memory for as long as it is read.
const MAX_MOOV_OF_OBJECT: u64 = 16 << 20;
/// Boxes at the top of a file that are looked at.
const MOST_AT_TOP: usize = 256;

/// A box at the top of a file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Top {
    pub(super) kind: Kind,
    /// Where its body begins, bytes of the file.
    pub(super) body: u64,
    /// Where it ends.
    pub(super) end: u64,
}

/// The box that begins at this place; `None` where the file ends.
///
/// # Errors
/// When it cannot be read, or is longer than the file.
pub(super) fn box_at(place: &mut Place, at: u64) -> Result<Option<Top>, Refused> {
    let left = place.size().saturating_sub(at);
    if left < 16 {
        return Ok(None);
    }
    let head = place.whole(at, 16).map_err(unreadable)?;
    let (length, header) = match word(&head, 0) {
        Some(0) => (left, 8),
        Some(1) => (long(&head, 8).unwrap_or(0), 16),
        length => (u64::from(length.unwrap_or(0)), 8),
    };
    if length < header || length > left {
        return Err(Refused("a box is longer than the file"));
    }
    Ok(Some(Top { kind: [head[4], head[5], head[6], head[7]], body: at + header, end: at + length }))
}

/// The movie box of a file.
///
/// # Errors
/// When it is no MP4, or one that is left to FFmpeg.
pub(super) fn movie(place: &mut Place) -> Result<Bytes, Refused> {
    let most = if matches!(place, Place::File(..)) { MAX_MOOV } else { MAX_MOOV_OF_OBJECT };
    let mut at = 0;
    for number in 0..MOST_AT_TOP {
        let Some(top) = box_at(place, at)? else { break };
        if number == 0 && top.kind != *b"ftyp" {
            return Err(Refused("it is no MP4"));
        }
        match &top.kind {
            b"moov" if top.end - top.body > most => return Err(Refused("its tables are too large")),
            b"moov" => {
                let length = usize::try_from(top.end - top.body).unwrap_or(0);
                return place.whole(top.body, length).map_err(unreadable);
            }
            b"moof" | b"sidx" | b"styp" => return Err(Refused("it is fragmented")),
            _ => at = top.end,
        }
    }
    Err(Refused("it has no movie box"))
}

pub(super) fn unreadable(_: io::Error) -> Refused {
    Refused("it cannot be read")
}
