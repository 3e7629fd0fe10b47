//! What happened on the air, kept in `channels/<id>/events.jsonl`. A worker is told that an event is kept when it is
//! on the disk, and not before: until then it repeats it to every controller that it finds.

use super::books::Shelf;
use super::marks::{Marks, last_events};
use super::sheet::Sheet;
use super::socket::Line;
use crate::config::Config;
use crate::crowd::Seldom;
use crate::records::events::{ASIDE, FILE, Kept, LONGEST};
use crate::records::runs;
use state::ids::{ChannelId, Ulid};
use state::rotate;
use state::runs::RunKept;
use state::store;
use state::totals::Totals;
use state::wire::{Event, ToWorker};
use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Most events on their way to the disk.
const WAITING: usize = 1024;

/// Events that a disk refused are tried again after so long.
const AGAIN: Duration = Duration::from_secs(1);

/// Something on its way to the disk.
#[derive(Debug)]
pub(super) enum Keep {
    /// For the journal.
    Event(Entry),
    /// For the history of runs.
    Run(ChannelId, Box<RunKept>),
    /// The books, and where is shown what is on the disk.
    Totals(Box<Totals>, Arc<Shelf>),
    /// What moves of all channels.
    Sheet(Box<Sheet>),
}

/// An event, and whom to tell when it is on the disk.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) channel: ChannelId,
    pub(super) event: Event,
    /// The broadcast that it belongs to.
    pub(super) session: Option<Ulid>,
    /// Nobody where the controller itself noticed it.
    pub(super) line: Option<Line>,
}

/// Starts the journal. It writes what it gets until the sender is gone.
pub(super) fn open(config: Arc<Config>) -> (mpsc::Sender<Keep>, JoinHandle<()>) {
    let (sender, inbox) = mpsc::channel(WAITING);
    let folder_of = move |channel: &ChannelId| config.channel_dir(channel);
    (sender, tokio::spawn(write_all(folder_of, inbox)))
}

async fn write_all(folder_of: impl Fn(&ChannelId) -> PathBuf, mut inbox: mpsc::Receiver<Keep>) {
    let mut last: BTreeMap<ChannelId, Marks> = BTreeMap::new();
    let mut waiting: BTreeMap<ChannelId, Vec<Entry>> = BTreeMap::new();
    let mut troubles = Seldom::default();
    while let Some(more) = take_more(&mut inbox, &waiting).await {
        for keep in more {
            match keep {
                Keep::Event(entry) => waiting.entry(entry.channel.clone()).or_default().push(entry),
                Keep::Run(channel, run) => note_run(folder_of(&channel), channel, *run).await,
                Keep::Totals(totals, shelf) => put_totals(folder_of(&totals.id), *totals, &shelf).await,
                Keep::Sheet(sheet) => sheet.put().await,
            }
        }
        for (channel, entries) in std::mem::take(&mut waiting) {
            let folder = folder_of(&channel);
            let events: Vec<Kept> = entries.iter().map(Kept::of).collect();
            let before = last.remove(&channel);
            let kept = crate::off_thread(move || keep(&folder, &events, before)).await;
            match kept {
                Ok(marks) => {
                    acknowledge(&entries);
                    last.insert(channel, marks);
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

/// Waits for more to keep, and not for long while events are to be tried again; `None` when nobody will say more. When
/// too many wait, no more are taken: the supervisor then hangs up, and the worker says them again later.
async fn take_more(
    inbox: &mut mpsc::Receiver<Keep>,
    waiting: &BTreeMap<ChannelId, Vec<Entry>>,
) -> Option<Vec<Keep>> {
    let mut more = Vec::new();
    let count: usize = waiting.values().map(Vec::len).sum();
    if count == 0 {
        return (inbox.recv_many(&mut more, WAITING).await > 0).then_some(more);
    }
    tokio::time::sleep(AGAIN).await;
    while more.len() + count < WAITING
        && let Ok(keep) = inbox.try_recv()
    {
        more.push(keep);
    }
    (!more.is_empty() || !inbox.is_closed()).then_some(more)
}

/// The newest event of every run is enough, and only its own line is told.
fn acknowledge(entries: &[Entry]) {
    let told: Vec<_> = entries.iter().filter_map(|e| Some((e.line.as_ref()?, e.event.seq))).collect();
    for (i, (line, seq)) in told.iter().enumerate() {
        if told[i + 1..].iter().all(|(later, _)| later.id != line.id) {
            line.try_send(ToWorker::Ack { seq: *seq });
        }
    }
}

/// What cannot be written here is written with the next change, or by the next controller.
async fn note_run(folder: PathBuf, channel: ChannelId, run: RunKept) {
    let id = channel.clone();
    let noted = crate::off_thread(move || runs::note(&folder, id, run)).await;
    match noted {
        Ok(alerts) => alerts.iter().for_each(|alert| tracing::error!(channel.id = %channel, "{alert}")),
        Err(error) => {
            tracing::error!(channel.id = %channel, %error, "a run cannot be written into the history")
        }
    }
}

impl Kept {
    fn of(entry: &Entry) -> Self {
        Self { event: entry.event.clone(), session: entry.session.clone() }
    }
}

/// What cannot be written is an alert, and is tried again with the next change.
async fn put_totals(folder: PathBuf, totals: Totals, shelf: &Shelf) {
    let id = totals.id.clone();
    let totals = Totals { revision: shelf.revision(), ..totals };
    match crate::off_thread(move || store::put_own(&folder, &totals)).await {
        Ok(saved) => shelf.kept(saved),
        Err(error) => {
            tracing::error!(channel.id = %id, %error, "the time on air cannot be saved");
            shelf.failed(format!("channel {id}: the time on air cannot be saved: {error}"));
        }
    }
}

/// Appends what is new, and waits until it is on the disk. Returns the marks with it.
fn keep(folder: &Path, events: &[Kept], before: Option<Marks>) -> io::Result<Marks> {
    let path = folder.join(FILE);
    let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    let mut marks = match before {
        Some(marks) => marks,
        None => Marks::of(last_events(&path).map_err(named)?),
    };
    let mut lines = Vec::new();
    for kept in events.iter().filter(|kept| marks.is_news(&kept.event)) {
        serde_json::to_writer(&mut lines, kept)?;
        lines.push(b'\n');
    }
    if !lines.is_empty() {
        append(&path, &lines).map_err(named)?;
    }
    Ok(marks)
}

fn append(path: &PathBuf, lines: &[u8]) -> io::Result<()> {
    if fs::metadata(path).is_ok_and(|meta| meta.len() + lines.len() as u64 > LONGEST) {
        rotate::put_aside(path, ASIDE)?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn event(run: &str, seq: u64) -> Kept {
        let (run, at_wall) = (Ulid::from_text(run), state::now());
        let (kind, data) = ("item.started".into(), "x".repeat(50).into());
        Kept { event: Event { run, seq, at_wall, at_media_ms: 0, kind, data }, session: None }
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
        keep(folder.path(), &[event("a", 2), event("a", 3)], Some(first)).unwrap();
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
            let (Kept { event, session }, line) = (event("a", seq), Some(Line::to(1, out.clone())));
            sender.try_send(Keep::Event(Entry { channel: ChannelId::main(), event, session, line })).unwrap();
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
        let first = Marks::of([event("a", 1).event]);
        keep(folder.path(), &[event("a", 2)], Some(first)).unwrap();
        assert_eq!(kept(folder.path()).len(), 1);
        assert!(folder.path().join("events.jsonl.1").exists());
    }

    #[test]
    fn what_was_put_aside_a_moment_ago_is_not_kept_again() {
        let folder = tempfile::tempdir().unwrap();
        keep(folder.path(), &[event("a", 1), event("a", 2)], None).unwrap();
        let path = folder.path().join(FILE);
        fs::rename(&path, folder.path().join("events.jsonl.1")).unwrap();
        keep(folder.path(), &[event("b", 1)], None).unwrap();
        keep(folder.path(), &[event("a", 2), event("a", 3)], None).unwrap();
        assert_eq!(kept(folder.path()), [("b".to_owned(), 1), ("a".to_owned(), 3)]);
    }

    /// What a worker does next.
    #[derive(Debug, Clone)]
    struct Turn {
        /// Which of the workers that live.
        worker: usize,
        /// How many events it has more to tell.
        more: u64,
        /// How many of those that were kept it tells again.
        again: u64,
        /// The controller was killed before.
        restart: bool,
        /// The worker ended, and another one takes its place.
        replaced: bool,
    }

    fn turn() -> impl Strategy<Value = Turn> {
        let often = proptest::bool::weighted;
        let parts = (0..3usize, 0..4u64, 0..4u64, often(0.2), often(0.1));
        parts.prop_map(|(worker, more, again, restart, replaced)| Turn {
            worker,
            more,
            again,
            restart,
            replaced,
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn whoever_speaks_and_says_again_what_every_event_is_kept_once(
            turns in proptest::collection::vec(turn(), 1..30),
        ) {
            let folder = tempfile::tempdir().unwrap();
            let (mut marks, mut runs) = (None, 3);
            let mut workers: Vec<(String, u64)> = (0..3).map(|n| (format!("r{n}"), 0)).collect();
            let mut said: BTreeMap<String, u64> = BTreeMap::new();
            for Turn { worker, more, again, restart, replaced } in turns {
                if replaced {
                    workers[worker] = (format!("r{runs}"), 0);
                    runs += 1;
                }
                let (run, last) = &mut workers[worker];
                let events: Vec<_> =
                    (last.saturating_sub(again) + 1..=*last + more).map(|seq| event(run, seq)).collect();
                let before = marks.take().filter(|_| !restart);
                marks = Some(keep(folder.path(), &events, before).unwrap());
                *last += more;
                said.insert(run.clone(), *last);
            }
            let mut found: BTreeMap<String, Vec<u64>> = BTreeMap::new();
            if folder.path().join(FILE).exists() {
                kept(folder.path()).into_iter().for_each(|(run, seq)| found.entry(run).or_default().push(seq));
            }
            for (run, last) in said {
                let seqs = found.remove(&run).unwrap_or_default();
                prop_assert_eq!(seqs, (1..=last).collect::<Vec<_>>(), "{}", run);
            }
        }
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_an_error_and_not_an_acknowledgement() {
        let folder = tempfile::tempdir().unwrap();
        assert!(keep(&folder.path().join("missing"), &[event("a", 1)], None).is_err());
    }
}
