//! The line to the controller: dialled again for as long as the worker lives, because the channel plays on without
//! it. Heartbeats are dropped while it is away; events wait until they are acknowledged, and so does the newest
//! question for items.

use state::wire::{Event, Hello, MAX_LINE, ToController, ToWorker};
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::OwnedReadHalf;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

const REDIAL: Duration = Duration::from_millis(500);
const WRITE_DEADLINE: Duration = Duration::from_secs(5);
/// Events kept while nobody acknowledges them; the oldest go first.
const SPOOL: usize = 10_000;

/// Starts the line. What comes down arrives in the receiver; what is sent to the sender goes up.
pub fn dial(socket: PathBuf, hello: Hello) -> (mpsc::Sender<ToController>, mpsc::Receiver<ToWorker>) {
    let (up, from_session) = mpsc::channel(256);
    let (to_session, down) = mpsc::channel(16);
    let line = Line { hello, from_session, to_session, spool: VecDeque::new(), question: None };
    tokio::spawn(line.keep(socket));
    (up, down)
}

struct Line {
    hello: Hello,
    from_session: mpsc::Receiver<ToController>,
    to_session: mpsc::Sender<ToWorker>,
    spool: VecDeque<Event>,
    /// A question that has not been answered.
    question: Option<u64>,
}

/// Why a connection ended.
enum Lost {
    /// The controller is gone; dial again.
    Peer,
    /// The session is gone; end.
    Session,
}

impl Line {
    async fn keep(mut self, socket: PathBuf) {
        loop {
            if let Ok(stream) = UnixStream::connect(&socket).await
                && matches!(self.talk(stream).await, Lost::Session)
            {
                return;
            }
            if !self.wait(&socket).await {
                return;
            }
        }
    }

    /// Waits before dialling again; false when the session is gone.
    async fn wait(&mut self, socket: &Path) -> bool {
        tracing::debug!(socket = %socket.display(), "the controller does not answer");
        let pause = sleep(REDIAL);
        tokio::pin!(pause);
        loop {
            tokio::select! {
                () = &mut pause => return true,
                message = self.from_session.recv() => match message {
                    Some(message) => self.remember(&message),
                    None => return false,
                },
            }
        }
    }

    async fn talk(&mut self, stream: UnixStream) -> Lost {
        let (reading, mut writing) = stream.into_split();
        // A line is read by a task of its own, so that a half-read one is never dropped by a select.
        let (lines, mut orders) = mpsc::channel(16);
        let reader = tokio::spawn(read_lines(reading, lines));
        let mut backlog = vec![ToController::Hello(self.hello.clone())];
        backlog.extend(self.spool.iter().cloned().map(ToController::Event));
        backlog.extend(self.question.map(|after| ToController::WantItems { after }));
        let lost = 'talking: loop {
            for message in std::mem::take(&mut backlog) {
                if !write(&mut writing, &message).await {
                    break 'talking Lost::Peer;
                }
            }
            tokio::select! {
                order = orders.recv() => match order {
                    Some(ToWorker::Ack { seq }) => self.spool.retain(|e| e.seq > seq),
                    Some(order) => {
                        self.note(&order);
                        if self.to_session.send(order).await.is_err() {
                            break Lost::Session;
                        }
                    }
                    None => break Lost::Peer,
                },
                message = self.from_session.recv() => match message {
                    Some(message) => {
                        self.remember(&message);
                        backlog.push(message);
                    }
                    None => break Lost::Session,
                },
            }
        };
        reader.abort();
        lost
    }

    /// What is said again to the next controller.
    fn remember(&mut self, message: &ToController) {
        match message {
            ToController::Event(event) => self.keep_event(event.clone()),
            ToController::WantItems { after } => self.question = Some(*after),
            ToController::Hello(_) | ToController::Heartbeat(_) | ToController::Log { .. } => {}
        }
    }

    fn note(&mut self, order: &ToWorker) {
        match order {
            ToWorker::Spec(_) => self.hello.briefed = true,
            ToWorker::Items { .. } => self.question = None,
            _ => {}
        }
    }

    fn keep_event(&mut self, event: Event) {
        if self.spool.len() == SPOOL {
            self.spool.pop_front();
        }
        self.spool.push_back(event);
    }
}

async fn write(to: &mut (impl AsyncWriteExt + Unpin), message: &ToController) -> bool {
    let Ok(mut line) = serde_json::to_vec(message) else { return true };
    line.push(b'\n');
    matches!(timeout(WRITE_DEADLINE, to.write_all(&line)).await, Ok(Ok(())))
}

async fn read_lines(from: OwnedReadHalf, lines: mpsc::Sender<ToWorker>) {
    let mut reader = BufReader::new(from);
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = (&mut reader).take(MAX_LINE as u64).read_until(b'\n', &mut line).await;
        if !matches!(read, Ok(n) if n > 0) || line.last() != Some(&b'\n') {
            return;
        }
        match serde_json::from_slice(&line) {
            Ok(order) => {
                if lines.send(order).await.is_err() {
                    return;
                }
            }
            // A newer controller may know words that this worker does not.
            Err(error) => tracing::warn!(%error, "an order is not understood"),
        }
    }
}
