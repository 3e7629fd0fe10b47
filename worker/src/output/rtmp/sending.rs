//! One publication from its first IDR to its end: tags in, chunks out, the server's words heard all the while.

use super::board::Board;
use super::destination::Closing;
use super::dial::Link;
use super::failure::{Failure, Stage};
use super::flow::{Out, Turn, turn};
use super::muxer::Muxer;
use super::progress::{Progress, Standing};
use super::protocol::peer::Event;
use super::protocol::publish::{self, Publication, PublishError};
use super::protocol::url::Target;
use super::tuning::Tuning;
use crate::media::Track;
use state::destination::Boundary;
use std::io;
use std::sync::Arc;
use std::time::Instant;
use tokio::io::AsyncWriteExt;
use tokio::time::{Duration, MissedTickBehavior, interval_at, timeout};

/// Bytes of media that are put into chunks at a time.
const BATCH: usize = 256 * 1024;
/// Most bytes that may wait to be written. Media alone stays far below; a server that asks for answers and never
/// reads them does not.
const MAX_OUT: usize = 16 * 1024 * 1024;
/// Time that a server gets to close its side after we closed ours.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// How a publication ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// We were asked to close.
    Closed,
    /// A new connection is due; the queue begins with the IDR for it.
    Planned,
    /// It broke.
    Failed(Failure),
}

/// A publication and what it needs.
pub(super) struct Sending<'a> {
    link: Link,
    publication: Publication,
    target: &'a Target,
    board: &'a Board,
    tuning: &'a Tuning,
    muxer: Muxer,
    out: Out,
    progress: Progress,
    /// What the kernel had acknowledged before the first media byte.
    acked_before: u64,
    /// Bytes acknowledged by RTMP itself; they count where the kernel does not tell, and come later where it does.
    acked_by_words: u64,
    began: Instant,
}

impl<'a> Sending<'a> {
    pub(super) fn new(
        link: Link,
        publication: Publication,
        boundary: Boundary,
        target: &'a Target,
        board: &'a Board,
        tuning: &'a Tuning,
    ) -> Self {
        let began = Instant::now();
        let acked_before = link.acked().map_or(0, |acked| acked.bytes);
        let muxer = Muxer::new(publication.stream, boundary, tuning);
        let (out, progress) = (Out::new(began), Progress::new(began));
        Self {
            link,
            publication,
            target,
            board,
            tuning,
            muxer,
            out,
            progress,
            acked_before,
            acked_by_words: 0,
            began,
        }
    }

    /// Sends until something ends it. Everything that can wake it is in this one list.
    pub(super) async fn run(mut self, closing: &mut Closing) -> Ended {
        let second = Duration::from_secs(1);
        let mut tick = interval_at(tokio::time::Instant::now() + second / 5, second);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut input = [0; 2048];
        loop {
            if self.out.is_idle() && self.fill(BATCH) {
                return self.end(Ended::Planned).await;
            }
            let step = tokio::select! {
                turn = turn(&mut self.link, &mut self.out, &mut input) => self.turned(turn, &input),
                () = self.board.filled(), if self.out.is_idle() => Ok(()),
                _ = tick.tick() => self.judge(),
                () = closing.asked() => {
                    self.fill(usize::MAX);
                    return self.end(Ended::Closed).await;
                }
            };
            if let Err(failure) = step {
                self.board.close_queue(Vec::new());
                return Ended::Failed(failure);
            }
        }
    }

    /// Puts waiting tags of up to about `bytes` into chunks. True when a new connection is due.
    fn fill(&mut self, bytes: usize) -> bool {
        let (mut tags, audio) = self.board.take(bytes);
        let audio =
            tags.iter().find(|tag| tag.track == Track::Audio).map(|tag| Arc::clone(&tag.config)).or(audio);
        let due = tags.iter().position(|tag| !self.muxer.write(tag, audio.as_ref(), &mut self.out.bytes));
        if let Some(due) = due {
            self.board.close_queue(tags.split_off(due));
        }
        self.out.filled(Instant::now());
        due.is_some()
    }

    fn turned(&mut self, turn: io::Result<Turn>, input: &[u8]) -> Result<(), Failure> {
        let failed = |error: PublishError| Failure::publish(self.target, Stage::Sending, &error);
        let length = match turn {
            Ok(Turn::Written) => return Ok(()),
            Ok(Turn::Read(0)) => return Err(failed(io::Error::from(io::ErrorKind::UnexpectedEof).into())),
            Ok(Turn::Read(length)) => length,
            Err(error) => return Err(failed(error.into())),
        };
        let heard = self.publication.peer.receive(&input[..length], &mut self.out.bytes);
        for event in heard.map_err(|error| failed(error.into()))? {
            match event {
                Event::Status(status) if status.is_error() => {
                    return Err(failed(PublishError::Refused(status)));
                }
                Event::Acknowledged(bytes) => self.acknowledged(bytes),
                _ => {}
            }
        }
        self.out.filled(Instant::now());
        if self.out.bytes.len() > MAX_OUT {
            return Err(Failure::timeout(self.target, "take our answers", self.tuning.write));
        }
        Ok(())
    }

    /// The server counts modulo 2^32.
    fn acknowledged(&mut self, bytes: u32) {
        let step = bytes.wrapping_sub(self.acked_by_words as u32);
        if step < 1 << 31 {
            self.acked_by_words += u64::from(step);
        }
    }

    /// Once a second: what has been acknowledged, and what that means.
    fn judge(&mut self) -> Result<(), Failure> {
        let now = Instant::now();
        let kernel = self.link.acked();
        let by_kernel = kernel.map(|acked| acked.bytes.saturating_sub(self.acked_before));
        let acked = by_kernel.unwrap_or(self.acked_by_words);
        let outstanding = !self.out.is_idle() || kernel.is_some_and(|acked| acked.outstanding);
        let before = self.progress.acked();
        let standing = self.progress.sample(now, acked, outstanding, self.tuning);
        self.board.sampled(
            self.progress.acked() - before,
            self.progress.kbps(),
            standing == Standing::Advancing,
        );
        if now.duration_since(self.began) >= self.tuning.stable {
            self.board.stable();
        }
        if standing == Standing::Stalled {
            return Err(Failure::timeout(self.target, "acknowledge anything", self.tuning.stalled));
        }
        if !self.out.is_idle() && now.duration_since(self.out.moved) >= self.tuning.write {
            return Err(Failure::timeout(self.target, "take data", self.tuning.write));
        }
        Ok(())
    }

    /// Says goodbye and closes; what was begun is finished first, because half a chunk would garble the goodbye.
    async fn end(mut self, ended: Ended) -> Ended {
        publish::unpublish(self.publication.stream, self.target, &mut self.out.bytes);
        self.out.filled(Instant::now());
        let _ = timeout(self.tuning.write, self.goodbye()).await;
        ended
    }

    /// Reads until the server closes too: closing with unread bytes would reset the connection, and a reset
    /// may overtake the last media.
    async fn goodbye(&mut self) -> io::Result<()> {
        let mut input = [0; 2048];
        while !self.out.is_idle() {
            if turn(&mut self.link, &mut self.out, &mut input).await?.is_end() {
                return Ok(());
            }
        }
        self.link.shutdown().await?;
        let rest = async {
            while turn(&mut self.link, &mut self.out, &mut input).await.is_ok_and(|turn| !turn.is_end()) {}
        };
        let _ = timeout(LAST_WORDS, rest).await;
        Ok(())
    }
}
