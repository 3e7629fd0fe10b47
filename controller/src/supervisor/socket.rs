//! The controller's unix socket: workers dial in, say who they are, and from then on both sides speak in lines.
//! This file knows lines and connections; what the words mean is the supervisor's business.

use super::Event;
use anyhow::{Context, bail};
use state::wire::{Heartbeat, Hello, MAX_LINE, ToController, ToWorker};
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::OwnedWriteHalf;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;

/// Longest path that fits into a socket address (`sun_path` without its final zero), in bytes.
const LONGEST_PATH: usize = 107;

/// How long a caller may take to say who it is, and a worker to take a line.
const PATIENCE: Duration = Duration::from_secs(10);

/// The way to a worker. It hangs up when the last clone is dropped.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    /// Tells this connection from the next one of the same run.
    pub(crate) id: u64,
    out: mpsc::Sender<ToWorker>,
}

impl Line {
    /// A line of a test.
    #[cfg(test)]
    pub(crate) fn to(id: u64, out: mpsc::Sender<ToWorker>) -> Self {
        Self { id, out }
    }

    /// Sends, unless the worker has stopped listening.
    pub(crate) async fn send(&self, words: ToWorker) -> bool {
        self.out.send_timeout(words, PATIENCE).await.is_ok()
    }

    /// Sends if there is room right now.
    pub(crate) fn try_send(&self, words: ToWorker) -> bool {
        self.out.try_send(words).is_ok()
    }
}

/// Opens the socket, 0600. Whoever holds the controller's lock may remove what an earlier one left.
///
/// # Errors
/// The path is too long for a socket, or the folder cannot be written.
pub fn listen(path: &Path) -> anyhow::Result<std::os::unix::net::UnixListener> {
    let length = path.as_os_str().len();
    if length > LONGEST_PATH {
        bail!(
            "the socket path {} has {length} bytes and {LONGEST_PATH} is the most a socket can have; set a shorter STATE_DIR",
            path.display()
        );
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(error).with_context(|| path.display().to_string());
        }
        _ => {}
    }
    let listener = std::os::unix::net::UnixListener::bind(path)
        .with_context(|| format!("open the socket {}", path.display()))?;
    listener.set_nonblocking(true)?;
    fs::set_permissions(path, Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Takes calls for as long as the controller lives.
pub(super) async fn accept(listener: UnixListener, events: mpsc::Sender<Event>) {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let id = NEXT.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(serve(stream, id, events.clone()));
            }
            Err(error) => {
                tracing::warn!(%error, "a worker's call could not be taken");
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    }
}

async fn serve(stream: UnixStream, id: u64, events: mpsc::Sender<Event>) {
    let ours = rustix::process::geteuid().as_raw();
    let peer = stream.peer_cred().ok().filter(|peer| peer.uid() == ours || peer.uid() == 0);
    let Some(peer) = peer else { return tracing::warn!("a call from another user was refused") };
    let peer = peer.pid().and_then(|pid| u32::try_from(pid).ok());
    let (reader, writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    let Some(hello) = hello(&mut reader).await else {
        return tracing::warn!("a call that does not begin with hello was refused");
    };
    let (channel, run) = (hello.channel.clone(), hello.run.clone());
    let (out, orders) = mpsc::channel(16);
    if events.send(Event::Called { hello, peer, line: Line { id, out } }).await.is_err() {
        return;
    }
    let mut speaking = tokio::spawn(speak(writer, orders));
    loop {
        tokio::select! {
            line = next_line(&mut reader) => match line {
                Ok(Some(Words::Unknown)) => {
                    tracing::debug!(channel.id = %channel, run.id = %run, "words of a newer worker were passed over");
                }
                Ok(Some(Words::Known(words))) => {
                    let said = Event::Said { channel: channel.clone(), run: run.clone(), words };
                    if events.send(said).await.is_err() {
                        break;
                    }
                }
                Ok(None) => break,
                Err(error) => {
                    tracing::warn!(channel.id = %channel, run.id = %run, %error, "the worker's words make no sense");
                    break;
                }
            },
            _ = &mut speaking => break,
        }
    }
    speaking.abort();
    let _ = events.send(Event::HungUp { channel, line: id }).await;
}

async fn hello(reader: &mut (impl AsyncBufRead + Unpin)) -> Option<Hello> {
    match tokio::time::timeout(PATIENCE, next_line(reader)).await {
        Ok(Ok(Some(Words::Known(words)))) => match *words {
            ToController::Hello(hello) => Some(hello),
            _ => None,
        },
        _ => None,
    }
}

/// Writes orders until the supervisor drops the line or the worker stops reading.
async fn speak(mut writer: OwnedWriteHalf, mut orders: mpsc::Receiver<ToWorker>) {
    while let Some(order) = orders.recv().await {
        let Ok(mut line) = serde_json::to_vec(&order) else { continue };
        line.push(b'\n');
        match tokio::time::timeout(PATIENCE, writer.write_all(&line)).await {
            Ok(Ok(())) => {}
            _ => return,
        }
    }
}

/// One line of a worker.
#[derive(Debug)]
enum Words {
    Known(Box<ToController>),
    /// A newer worker may know words that this controller does not.
    Unknown,
}

async fn next_line(reader: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Option<Words>> {
    let Some(line) = bounded_line(reader, MAX_LINE).await? else { return Ok(None) };
    understand(&line).map(Some)
}

/// How a heartbeat begins.
const BEAT: &[u8] = b"{\"type\":\"heartbeat\",";

fn understand(line: &[u8]) -> io::Result<Words> {
    // Almost all that is ever said. What is first sorted by its type costs twice as much.
    if line.starts_with(BEAT)
        && let Ok(beat) = serde_json::from_slice::<Heartbeat>(line)
    {
        return Ok(Words::Known(Box::new(ToController::Heartbeat(Box::new(beat)))));
    }
    match serde_json::from_slice(line) {
        Ok(words) => Ok(Words::Known(words)),
        Err(error) => match serde_json::from_slice::<serde_json::Value>(line) {
            Ok(value) if value.get("type").is_some_and(serde_json::Value::is_string) => Ok(Words::Unknown),
            _ => Err(io::Error::other(error)),
        },
    }
}

/// One line of at most `most` bytes, without its end; `None` at the end of the stream.
async fn bounded_line(reader: &mut (impl AsyncBufRead + Unpin), most: usize) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    loop {
        let chunk = reader.fill_buf().await?;
        if chunk.is_empty() {
            return Ok(None);
        }
        let end = chunk.iter().position(|&b| b == b'\n');
        let taken = &chunk[..end.unwrap_or(chunk.len())];
        if line.len() + taken.len() > most {
            return Err(io::Error::other(format!("a line is longer than {most} bytes")));
        }
        line.extend_from_slice(taken);
        let used = taken.len() + usize::from(end.is_some());
        reader.consume(used);
        if end.is_some() {
            return Ok(Some(line));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_a_newer_worker_are_passed_over_and_nonsense_is_not() {
        let known = br#"{"type":"want_items","after":3}"#;
        assert!(matches!(understand(known).unwrap(), Words::Known(_)));
        assert!(matches!(understand(br#"{"type":"sings","song":1}"#).unwrap(), Words::Unknown));
        for nonsense in [&b"{}"[..], b"hello", b"", b"[1]", b"{\"type\":7}"] {
            assert!(understand(nonsense).is_err());
        }
    }

    #[test]
    fn a_heartbeat_is_understood_however_it_begins() {
        let beat = Heartbeat::new(state::ids::Ulid::from_text("r"), 7, 8, state::now());
        let words = ToController::Heartbeat(Box::new(beat.clone()));
        let line = serde_json::to_vec(&words).unwrap();
        assert!(line.starts_with(BEAT));
        let sorted = serde_json::to_vec(&serde_json::to_value(&words).unwrap()).unwrap();
        assert!(!sorted.starts_with(BEAT));
        for line in [line, sorted] {
            let Words::Known(words) = understand(&line).unwrap() else { panic!("it is known") };
            assert!(matches!(*words, ToController::Heartbeat(heard) if *heard == beat));
        }
        let torn = [BEAT, b"\"run\":"].concat();
        assert!(understand(&torn).is_err());
    }

    #[tokio::test]
    async fn lines_are_bounded() {
        let mut reader = BufReader::with_capacity(4, &b"one\ntwo three\nlast"[..]);
        assert_eq!(bounded_line(&mut reader, 9).await.unwrap().as_deref(), Some(&b"one"[..]));
        assert_eq!(bounded_line(&mut reader, 9).await.unwrap().as_deref(), Some(&b"two three"[..]));
        assert_eq!(bounded_line(&mut reader, 9).await.unwrap(), None, "a line without an end is not a line");
        let mut reader = BufReader::with_capacity(4, &b"0123456789\n"[..]);
        assert!(bounded_line(&mut reader, 9).await.is_err());
    }

    #[tokio::test]
    async fn a_path_that_does_not_fit_is_named() {
        let path = Path::new("/tmp").join("x".repeat(110));
        let words = listen(&path).unwrap_err().to_string();
        assert!(words.contains("107") && words.contains("STATE_DIR"), "{words}");
    }
}
