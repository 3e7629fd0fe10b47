//! One publication from its first IDR to its end: tags in, chunks out, the server's words heard all the while.

use super::destination::{Board, Closing};
use super::dial::Link;
use super::failure::{Failure, Stage};
use super::progress::{Progress, Standing};
use super::protocol::chunk::{self, Header, kind};
use super::protocol::metadata;
use super::protocol::peer::Event;
use super::protocol::publish::{self, CHUNK_SIZE, Publication, PublishError};
use super::protocol::url::Target;
use super::tuning::Tuning;
use crate::media::{Tag, Track, TrackConfig};
use state::destination::Boundary;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::{Duration, MissedTickBehavior, interval_at, timeout};

/// Bytes of media that are put into chunks at a time.
const BATCH: usize = 256 * 1024;
/// An output buffer larger than this is given back after use.
const KEPT_BUFFER: usize = 512 * 1024;
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
    /// Bytes acknowledged by RTMP itself.
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
        let acked =
            kernel.map_or(0, |acked| acked.bytes.saturating_sub(self.acked_before)).max(self.acked_by_words);
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
            if let Turn::Read(0) = turn(&mut self.link, &mut self.out, &mut input).await? {
                return Ok(());
            }
        }
        self.link.shutdown().await?;
        let rest = async {
            while !matches!(turn(&mut self.link, &mut self.out, &mut input).await, Ok(Turn::Read(0)) | Err(_))
            {
            }
        };
        let _ = timeout(LAST_WORDS, rest).await;
        Ok(())
    }
}

/// Bytes on their way out.
struct Out {
    bytes: Vec<u8>,
    sent: usize,
    flushed: bool,
    /// When the kernel last took something, or had nothing to take.
    moved: Instant,
}

impl Out {
    fn new(now: Instant) -> Self {
        Self { bytes: Vec::new(), sent: 0, flushed: true, moved: now }
    }

    fn is_idle(&self) -> bool {
        self.bytes.is_empty() && self.flushed
    }

    /// Bytes were added; the clock of the write deadline starts if it stood still.
    fn filled(&mut self, now: Instant) {
        if self.flushed && !self.bytes.is_empty() {
            self.flushed = false;
            self.moved = now;
        }
    }

    fn advance(&mut self, written: usize) {
        self.sent += written;
        self.moved = Instant::now();
        if self.sent == self.bytes.len() {
            self.bytes.clear();
            self.bytes.shrink_to(KEPT_BUFFER);
            self.sent = 0;
        }
    }
}

enum Turn {
    /// All that was to be sent is with the kernel.
    Written,
    /// So many bytes came; 0 is the end.
    Read(usize),
}

/// Writes and reads at the same time, until one of them has something to say. Nothing is lost when it is dropped.
async fn turn(link: &mut Link, out: &mut Out, input: &mut [u8]) -> io::Result<Turn> {
    poll_fn(|cx| {
        while !out.bytes.is_empty() {
            match Pin::new(&mut *link).poll_write(cx, &out.bytes[out.sent..])? {
                Poll::Ready(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(written) => out.advance(written),
                Poll::Pending => break,
            }
        }
        if out.bytes.is_empty() && !out.flushed && Pin::new(&mut *link).poll_flush(cx)?.is_ready() {
            out.flushed = true;
            return Poll::Ready(Ok(Turn::Written));
        }
        let mut buffer = ReadBuf::new(input);
        match Pin::new(&mut *link).poll_read(cx, &mut buffer)? {
            Poll::Ready(()) => Poll::Ready(Ok(Turn::Read(buffer.filled().len()))),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// Turns tags into messages with the timestamps of this connection, headers where they are needed.
struct Muxer {
    stream: u32,
    boundary: Boundary,
    first_timestamp: u64,
    planned_reconnect: u64,
    /// Channel time of the first IDR; nothing is sent before it.
    base: Option<i64>,
    video: Option<Arc<TrackConfig>>,
    audio: Option<Arc<TrackConfig>>,
}

impl Muxer {
    fn new(stream: u32, boundary: Boundary, tuning: &Tuning) -> Self {
        Self {
            stream,
            boundary,
            first_timestamp: u64::from(tuning.first_timestamp_ms),
            planned_reconnect: tuning.planned_reconnect_ms,
            base: None,
            video: None,
            audio: None,
        }
    }

    /// Appends a tag. False when it belongs to a new connection and was not appended.
    fn write(&mut self, tag: &Tag, audio: Option<&Arc<TrackConfig>>, out: &mut Vec<u8>) -> bool {
        let Some(base) = self.base.or(tag.idr.then_some(tag.dts)) else { return true };
        let Ok(age) = u64::try_from(tag.dts - base) else { return true };
        let time = self.first_timestamp + age;
        if self.base.is_none() {
            self.base = Some(base);
            self.audio = audio.cloned();
            self.announce(tag, audio, time, out);
        } else if self.is_reconnect_due(tag, time) {
            return false;
        } else if self.differs(tag) {
            self.announce(tag, None, time, out);
        }
        self.message(kind_of(tag.track), time, &tag.body, out);
        true
    }

    fn is_reconnect_due(&self, tag: &Tag, time: u64) -> bool {
        let old = tag.idr && time >= self.planned_reconnect;
        let known = |track| self.config(track).is_some();
        old || (self.boundary == Boundary::Reconnect && known(tag.track) && self.differs(tag))
    }

    fn differs(&self, tag: &Tag) -> bool {
        !self.config(tag.track).is_some_and(|sent| TrackConfig::same(sent, &tag.config))
    }

    fn config(&self, track: Track) -> Option<&Arc<TrackConfig>> {
        match track {
            Track::Video => self.video.as_ref(),
            Track::Audio => self.audio.as_ref(),
        }
    }

    /// onMetaData and the header of the tag's track; `audio` where its header is due too.
    fn announce(&mut self, tag: &Tag, audio: Option<&Arc<TrackConfig>>, time: u64, out: &mut Vec<u8>) {
        match tag.track {
            Track::Video => self.video = Some(Arc::clone(&tag.config)),
            Track::Audio => self.audio = Some(Arc::clone(&tag.config)),
        }
        let body = metadata::body(self.video.as_deref(), self.audio.as_deref());
        self.message(kind::DATA, time, &body, out);
        self.message(kind_of(tag.track), time, &tag.config.header, out);
        if let Some(audio) = audio {
            self.message(kind::AUDIO, time, &audio.header, out);
        }
    }

    fn message(&self, kind: u8, time: u64, body: &[u8], out: &mut Vec<u8>) {
        let chunk_stream = match kind {
            kind::AUDIO => 4,
            kind::VIDEO => 6,
            _ => 5,
        };
        let header = Header { chunk_stream, timestamp: time as u32, kind, stream: self.stream };
        chunk::write(out, CHUNK_SIZE, header, body);
    }
}

fn kind_of(track: Track) -> u8 {
    match track {
        Track::Video => kind::VIDEO,
        Track::Audio => kind::AUDIO,
    }
}
