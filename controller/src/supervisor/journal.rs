//! What happened on the air, kept in `channels/<id>/events.jsonl`. A worker is told that an event is kept when it is
//! on the disk, and not before: until then it repeats it to every controller that it finds.

use super::socket::Line;
use crate::config::Config;
use crate::crowd::Seldom;
use state::ids::{ChannelId, Ulid};
use state::rotate;
use state::wire::{Event, ToWorker};
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// Name of the file.
const FILE: &str = "events.jsonl";

/// A file above this many bytes is put aside.
const LONGEST: u64 = 10 * 1024 * 1024;

/// How many files that were put aside are kept.
const KEPT: u32 = 3;

/// Most events on their way to the disk.
const WAITING: usize = 1024;

/// Events that a disk refused are tried again after so long.
const AGAIN: Duration = Duration::from_secs(1);

/// An event on its way to the disk, and whom to tell when it is there.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) channel: ChannelId,
    pub(super) event: Event,
    pub(super) line: Line,
}

/// Starts the journal. It writes what it gets until the sender is gone.
pub(super) fn open(config: Arc<Config>) -> mpsc::Sender<Entry> {
    let (sender, inbox) = mpsc::channel(WAITING);
    tokio::spawn(write_all(move |channel: &ChannelId| config.channel_dir(channel), inbox));
    sender
}

async fn write_all(folder_of: impl Fn(&ChannelId) -> PathBuf, mut inbox: mpsc::Receiver<Entry>) {
    let mut last: BTreeMap<ChannelId, Mark> = BTreeMap::new();
    let mut waiting: BTreeMap<ChannelId, Vec<Entry>> = BTreeMap::new();
    let mut troubles = Seldom::default();
    while take_more(&mut inbox, &mut waiting).await {
        for (channel, entries) in std::mem::take(&mut waiting) {
            let folder = folder_of(&channel);
            let events: Vec<Event> = entries.iter().map(|entry| entry.event.clone()).collect();
            let before = last.remove(&channel);
            let kept = crate::off_thread(move || keep(&folder, &events, before)).await;
            match kept {
                Ok(mark) => {
                    acknowledge(&entries);
                    last.extend(mark.map(|mark| (channel, mark)));
                }
                // Not acknowledged, and tried again before anything that comes after: a later event in the file
                // would say that these are there.
                Err(error) => {
                    if troubles.may() {
                        tracing::error!(channel.id = %channel, %error, "events cannot be kept");
                    }
                    waiting.insert(channel, entries);
                }
            }
        }
    }
}

/// Waits for events; not for long while others are to be tried again. When too many wait, no more are taken: the
/// supervisor then hangs up, and the worker says them again later.
async fn take_more(inbox: &mut mpsc::Receiver<Entry>, waiting: &mut BTreeMap<ChannelId, Vec<Entry>>) -> bool {
    let mut entries = Vec::new();
    let count: usize = waiting.values().map(Vec::len).sum();
    let open = match count {
        0 => inbox.recv_many(&mut entries, WAITING).await > 0,
        1..WAITING => {
            tokio::time::sleep(AGAIN).await;
            while entries.len() < WAITING - count
                && let Ok(entry) = inbox.try_recv()
            {
                entries.push(entry);
            }
            !inbox.is_closed()
        }
        _ => {
            tokio::time::sleep(AGAIN).await;
            !inbox.is_closed()
        }
    };
    for entry in entries {
        waiting.entry(entry.channel.clone()).or_default().push(entry);
    }
    open
}

/// The newest event of every run is enough, and only its own line is told.
fn acknowledge(entries: &[Entry]) {
    for (i, entry) in entries.iter().enumerate() {
        if entries[i + 1..].iter().all(|later| later.line.id != entry.line.id) {
            entry.line.try_send(ToWorker::Ack { seq: entry.event.seq });
        }
    }
}

/// The newest event in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Mark {
    run: Ulid,
    seq: u64,
}

/// Appends what is new, and waits until it is on the disk. Returns the newest event of the file.
fn keep(folder: &Path, events: &[Event], before: Option<Mark>) -> io::Result<Option<Mark>> {
    let path = folder.join(FILE);
    let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    let mut mark = match before {
        Some(mark) => Some(mark),
        None => newest(&path).map_err(named)?,
    };
    let mut lines = Vec::new();
    for event in events {
        let known = mark.as_ref().is_some_and(|mark| mark.run == event.run && mark.seq >= event.seq);
        if known {
            continue;
        }
        serde_json::to_writer(&mut lines, event)?;
        lines.push(b'\n');
        mark = Some(Mark { run: event.run.clone(), seq: event.seq });
    }
    if !lines.is_empty() {
        append(&path, &lines).map_err(named)?;
    }
    Ok(mark)
}

fn append(path: &PathBuf, lines: &[u8]) -> io::Result<()> {
    if fs::metadata(path).is_ok_and(|meta| meta.len() + lines.len() as u64 > LONGEST) {
        rotate::put_aside(path, KEPT)?;
    }
    let mut file = OpenOptions::new().append(true).read(true).create(true).mode(0o600).open(path)?;
    // A crash may have left half a line; the next one must not grow onto it.
    let end = file.seek(SeekFrom::End(0))?;
    if end > 0 {
        let mut last = [0];
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)?;
        if last != *b"\n" {
            file.write_all(b"\n")?;
        }
    }
    file.write_all(lines)?;
    file.sync_data()?;
    if end == 0 { state::atomic::sync_folder_of(path) } else { Ok(()) }
}

/// The last whole line that can be read; what a crash has torn is passed over.
fn newest(path: &Path) -> io::Result<Option<Mark>> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let end = file.seek(SeekFrom::End(0))?;
    file.seek(SeekFrom::Start(end.saturating_sub(64 * 1024)))?;
    let mut bytes = Vec::new();
    file.take(64 * 1024).read_to_end(&mut bytes)?;
    let mut lines = bytes.split(|b| *b == b'\n').rev();
    let event = lines.find_map(|line| serde_json::from_slice::<Event>(line).ok());
    Ok(event.map(|event| Mark { run: event.run, seq: event.seq }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(run: &str, seq: u64) -> Event {
        let (run, at_wall) = (Ulid::from_text(run), state::now());
        Event { run, seq, at_wall, at_media_ms: 0, kind: "item.started".into(), data: "x".repeat(50).into() }
    }

    fn kept(folder: &Path) -> Vec<(String, u64)> {
        let text = fs::read_to_string(folder.join(FILE)).unwrap();
        let events = text.lines().filter_map(|line| serde_json::from_str::<Event>(line).ok());
        events.map(|event| (event.run.to_string(), event.seq)).collect()
    }

    #[test]
    fn what_is_said_again_is_kept_once() {
        let folder = tempfile::tempdir().unwrap();
        let first = keep(folder.path(), &[event("a", 1), event("a", 2)], None).unwrap();
        // The same controller, then another one that knows only the file.
        keep(folder.path(), &[event("a", 2), event("a", 3)], first).unwrap();
        keep(folder.path(), &[event("a", 1), event("a", 2), event("a", 3), event("a", 4)], None).unwrap();
        keep(folder.path(), &[event("b", 1)], None).unwrap();
        let seqs: Vec<_> = kept(folder.path()).into_iter().map(|(_, seq)| seq).collect();
        assert_eq!(seqs, [1, 2, 3, 4, 1]);
    }

    #[tokio::test]
    async fn what_the_disk_refuses_is_kept_before_what_comes_after_and_acknowledged_then() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("main");
        let (sender, inbox) = mpsc::channel(WAITING);
        let (out, mut told) = mpsc::channel(16);
        let say = |seq| {
            let line = Line::to(1, out.clone());
            sender.try_send(Entry { channel: ChannelId::main(), event: event("a", seq), line }).unwrap();
        };
        let of = path.clone();
        let writing = tokio::spawn(write_all(move |_: &ChannelId| of.clone(), inbox));
        say(1);
        say(2);
        assert!(tokio::time::timeout(Duration::from_millis(200), told.recv()).await.is_err(), "not kept yet");
        fs::create_dir(&path).unwrap();
        say(3);
        let all = async { while !matches!(told.recv().await, Some(ToWorker::Ack { seq: 3 })) {} };
        tokio::time::timeout(Duration::from_secs(20), all).await.unwrap();
        let seqs: Vec<_> = kept(&path).into_iter().map(|(_, seq)| seq).collect();
        assert_eq!(seqs, [1, 2, 3]);
        writing.abort();
    }

    #[test]
    fn half_a_line_of_a_crash_costs_no_whole_one() {
        let folder = tempfile::tempdir().unwrap();
        keep(folder.path(), &[event("a", 1)], None).unwrap();
        let path = folder.path().join(FILE);
        let half = fs::read_to_string(&path).unwrap() + "{\"run\":\"a\",\"seq\":2,";
        fs::write(&path, half).unwrap();
        keep(folder.path(), &[event("a", 2)], None).unwrap();
        assert_eq!(kept(folder.path()).len(), 2);
    }

    #[test]
    fn a_long_file_is_put_aside() {
        let folder = tempfile::tempdir().unwrap();
        keep(folder.path(), &[event("a", 1)], None).unwrap();
        let path = folder.path().join(FILE);
        OpenOptions::new().write(true).open(&path).unwrap().set_len(LONGEST).unwrap();
        keep(folder.path(), &[event("a", 2)], Some(Mark { run: Ulid::from_text("a"), seq: 1 })).unwrap();
        assert_eq!(kept(folder.path()).len(), 1);
        assert!(folder.path().join("events.jsonl.1").exists());
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_an_error_and_not_an_acknowledgement() {
        let folder = tempfile::tempdir().unwrap();
        assert!(keep(&folder.path().join("missing"), &[event("a", 1)], None).is_err());
    }
}
