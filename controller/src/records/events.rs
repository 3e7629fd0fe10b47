//! The journal on the disk: one JSON line per event in `events.jsonl`, and older files beside it. Reading only; the
//! supervisor writes, because it must not acknowledge before an event is on the disk.

use serde::{Deserialize, Serialize};
use state::Timestamp;
use state::ids::Ulid;
use state::wire::Event;
use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Name of the file.
pub const FILE: &str = "events.jsonl";

/// A file above this many bytes is put aside.
pub const LONGEST: u64 = 10 * 1024 * 1024;

/// How many files that were put aside are kept.
pub const ASIDE: u32 = 9;

/// Longer lines are passed over, in bytes.
const LONGEST_LINE: usize = 64 * 1024;

/// An event as it is kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Kept {
    /// What the worker said.
    #[serde(flatten)]
    pub event: Event,
    /// The broadcast that it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<Ulid>,
}

/// Opens the files that hold events since `from`, oldest first. They stay readable whatever is put aside meanwhile.
///
/// # Errors
/// Whatever the file system says; files that are not there are no error.
pub fn open(folder: &Path, from: Timestamp) -> io::Result<Vec<File>> {
    let path = folder.join(FILE);
    let aside = (1..=ASIDE).map(|n| PathBuf::from(format!("{}.{n}", path.display())));
    let (mut found, mut seen) = (Vec::new(), HashSet::new());
    // From the newest to the oldest: a file that is put aside meanwhile is met twice, and none is missed.
    for path in std::iter::once(path.clone()).chain(aside) {
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        let meta = file.metadata()?;
        // Events may be dated a little ahead of their writing.
        let changed = meta.mtime() + 60 >= from.as_second();
        if changed && seen.insert(meta.ino()) {
            found.push(file);
        }
    }
    found.reverse();
    Ok(found)
}

/// The events of a file, in order. Torn lines and lines that nobody understands are passed over.
pub fn read(file: File) -> impl Iterator<Item = io::Result<Kept>> {
    let mut reader = BufReader::with_capacity(64 * 1024, file);
    std::iter::from_fn(move || {
        loop {
            match next_line(&mut reader) {
                Ok(None) => return None,
                Ok(Some(line)) => match serde_json::from_slice(&line) {
                    Ok(kept) => return Some(Ok(kept)),
                    Err(_) => continue,
                },
                Err(error) => return Some(Err(error)),
            }
        }
    })
}

/// One line without its end; an empty one in place of one that is too long.
fn next_line(reader: &mut impl BufRead) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    loop {
        let chunk = reader.fill_buf()?;
        if chunk.is_empty() {
            return Ok((!line.is_empty()).then_some(line));
        }
        let end = chunk.iter().position(|b| *b == b'\n');
        let taken = &chunk[..end.unwrap_or(chunk.len())];
        if line.len() <= LONGEST_LINE {
            line.extend_from_slice(taken);
        }
        let used = taken.len() + usize::from(end.is_some());
        reader.consume(used);
        if end.is_some() {
            return Ok(Some(if line.len() > LONGEST_LINE { Vec::new() } else { line }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::{Seek, Write};

    fn line(seq: u64) -> String {
        format!(
            "{{\"run\":\"r\",\"seq\":{seq},\"at_wall\":\"2026-01-01T00:00:00Z\",\"at_media_ms\":0,\"kind\":\"x\"}}\n"
        )
    }

    fn seqs(bytes: &[u8]) -> Vec<u64> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file.rewind().unwrap();
        read(file).map(|kept| kept.unwrap().event.seq).collect()
    }

    #[test]
    fn torn_strange_and_endless_lines_cost_no_other() {
        let endless = format!("{{\"run\":\"{}\"}}\n", "x".repeat(3 * LONGEST_LINE));
        let text =
            [line(1), "{\"run\":\"r\",\"se\n".into(), endless, "\n\n".into(), line(2), line(3)].concat();
        assert_eq!(seqs(text.as_bytes()), [1, 2, 3]);
        assert_eq!(seqs(&text.as_bytes()[..text.len() - 20]), [1, 2], "the last one is half written");
    }

    #[test]
    fn a_file_that_is_put_aside_while_others_are_opened_is_read_once() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("events.jsonl"), line(2)).unwrap();
        std::fs::write(at("events.jsonl.1"), line(1)).unwrap();
        std::fs::hard_link(at("events.jsonl"), at("events.jsonl.2")).unwrap();
        let files = open(folder.path(), Timestamp::MIN).unwrap();
        let found: Vec<_> = files.into_iter().flat_map(read).map(|kept| kept.unwrap().event.seq).collect();
        assert_eq!(found, [1, 2]);
        let later = state::now().checked_add(std::time::Duration::from_secs(3600)).unwrap();
        assert!(open(folder.path(), later).unwrap().is_empty(), "nothing in them is so young");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_to_their_end(bytes in proptest::collection::vec(any::<u8>(), 0..4000)) {
            let whole = [bytes.as_slice(), b"\n", line(7).as_bytes()].concat();
            prop_assert_eq!(seqs(&whole).last().copied(), Some(7));
        }
    }
}
