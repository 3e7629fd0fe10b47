//! One publication from its first IDR to its end: tags in, chunks out, the server's words heard all the while.

use super::board::Board;
use super::dial::Link;
use super::failure::{Failure, Stage};
use super::flow::{Out, Turn, turn};
use super::measure::Measure;
use super::muxer::Muxer;
use super::progress::{Progress, Standing};
use super::protocol::peer::Event;
use super::protocol::publish::{self, Publication, PublishError};
use super::protocol::url::Target;
use super::pusher::Orders;
use super::rules;
use super::tuning::Tuning;
use super::ways::{self, Broke};
use crate::media::Track;
use state::secret::Secret;
use state::wire::DestinationSpec;
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
    /// We were told something new that this connection cannot serve.
    Told,
    /// A new connection is due; the queue begins with the IDR for it.
    Planned,
    /// The same, because the server wants it, there if it says where.
    Invited(Option<Target>),
    /// It broke, after a publication or before.
    Failed(Failure, Broke),
}

/// A publication and what it needs.
pub(super) struct Sending<'a> {
    link: Link,
    publication: Publication,
    spec: Arc<DestinationSpec>,
    target: &'a Target,
    board: &'a Board,
    tuning: &'a Tuning,
    muxer: Muxer,
    measure: Measure,
    out: Out,
    progress: Progress,
    /// What the kernel had acknowledged before the first media byte.
    acked_before: u64,
    /// Bytes acknowledged by RTMP itself; they count where the kernel does not tell, and come later where it does.
    acked_by_words: u64,
    began: Instant,
    /// How it will end at the next IDR, and when it ends without one.
    leaving: Option<(Ended, Instant)>,
    /// Whether the end of the session has been told.
    told_ending: bool,
}

impl<'a> Sending<'a> {
    pub(super) fn new(
        link: Link,
        publication: Publication,
        spec: &Arc<DestinationSpec>,
        target: &'a Target,
        board: &'a Board,
        tuning: &'a Tuning,
    ) -> Self {
        let began = Instant::now();
        let acked_before = link.acked().map_or(0, |acked| acked.bytes);
        let muxer = Muxer::new(publication.stream, spec, tuning);
        Self {
            link,
            publication,
            spec: Arc::clone(spec),
            target,
            board,
            tuning,
            muxer,
            measure: Measure::default(),
            out: Out::new(began),
            progress: Progress::new(began),
            acked_before,
            acked_by_words: 0,
            began,
            leaving: None,
            told_ending: false,
        }
    }

    /// Sends until something ends it. Everything that can wake it is in this one list. `worn_out` is the key with
    /// which a session came near its end, to know it again.
    pub(super) async fn run(mut self, orders: &mut Orders, worn_out: &mut Option<Secret>) -> Ended {
        let second = Duration::from_secs(1);
        let mut tick = interval_at(tokio::time::Instant::now() + second / 5, second);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut input = [0; 2048];
        loop {
            if self.out.is_idle() && self.fill(BATCH) {
                let ended = self.leaving.take().map_or(Ended::Planned, |(ended, _)| ended);
                return self.end(ended).await;
            }
            let step = tokio::select! {
                turn = turn(&mut self.link, &mut self.out, &mut input) => self.turned(turn, &input),
                () = self.board.filled(), if self.out.is_idle() => Ok(()),
                _ = tick.tick() => self.judge(worn_out),
                () = orders.changed() => match orders.newest() {
                    Some(spec) => { self.take(spec); Ok(()) }
                    None => {
                        self.fill(usize::MAX);
                        return self.end(Ended::Told).await;
                    }
                },
            };
            if let Err(failure) = step {
                self.board.close_queue();
                return Ended::Failed(failure, Broke::Early);
            }
            if let Some((ended, _)) = self.leaving.take_if(|(_, at)| *at <= Instant::now()) {
                self.board.close_queue();
                // A peer that takes nothing hears no goodbye either.
                return if self.out.is_idle() { self.end(ended).await } else { ended };
            }
        }
    }

    /// Follows new words: in this connection, or with another one from the next IDR on.
    fn take(&mut self, spec: Arc<DestinationSpec>) {
        if ways::stays(&self.spec, &spec, self.target) {
            self.muxer.adopt(&spec, self.tuning);
            self.spec = spec;
        } else {
            self.leave(Ended::Told);
        }
    }

    fn leave(&mut self, ended: Ended) {
        self.muxer.ask_for_renewal();
        let at = self.leaving.take().map_or(Instant::now() + self.tuning.change, |(_, at)| at);
        self.leaving = Some((ended, at));
    }

    /// Puts waiting tags of up to about `bytes` into chunks. True when a new connection is due.
    fn fill(&mut self, bytes: usize) -> bool {
        let (mut tags, audio) = self.board.take(bytes);
        let audio =
            tags.iter().find(|tag| tag.track == Track::Audio).map(|tag| Arc::clone(&tag.config)).or(audio);
        let due = tags.iter().enumerate().find_map(|(at, tag)| {
            let due = self.muxer.write(tag, audio.as_ref(), &mut self.out.bytes).map(|due| (at, due));
            if due.is_none() {
                self.measure.note(tag);
            }
            due
        });
        if let Some((at, why)) = due {
            tracing::info!(destination.id = %self.spec.id, ?why, "a new connection is due");
            self.board.hold_queue(tags.split_off(at));
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
                Event::Reconnect(tc_url) => self.invited(tc_url.as_deref()),
                _ => {}
            }
        }
        self.out.filled(Instant::now());
        if self.out.bytes.len() > MAX_OUT {
            return Err(Failure::timeout(self.target, "take our answers", self.tuning.write));
        }
        Ok(())
    }

    /// An invitation that leads nowhere, or out of TLS, is one to come back to the same place.
    fn invited(&mut self, tc_url: Option<&str>) {
        let target = tc_url.map(|url| self.target.redirected(url)).transpose().unwrap_or_else(|error| {
            tracing::warn!(destination.id = %self.spec.id, %error, "the server sends us to no place to go to");
            None
        });
        self.leave(Ended::Invited(target));
    }

    /// The server counts modulo 2^32.
    fn acknowledged(&mut self, bytes: u32) {
        let step = bytes.wrapping_sub(self.acked_by_words as u32);
        if step < 1 << 31 {
            self.acked_by_words += u64::from(step);
        }
    }

    /// Once a second: what has been acknowledged, and what that means.
    fn judge(&mut self, worn_out: &mut Option<Secret>) -> Result<(), Failure> {
        let now = Instant::now();
        self.watch_session(worn_out);
        self.board.warned(self.warnings(worn_out.as_ref()));
        let kernel = self.link.acked();
        self.board.round_trip(kernel.map(|acked| acked.rtt_ms));
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

    /// Tells once that the session will end, early enough that somebody may send another key.
    fn watch_session(&mut self, worn_out: &mut Option<Secret>) {
        if let Some(left) = self.muxer.session_ends_in()
            && !self.told_ending
        {
            self.told_ending = true;
            *worn_out = Some(self.spec.key.clone());
            self.board.session_ending(left.as_secs());
        }
    }

    fn warnings(&self, worn_out: Option<&Secret>) -> Vec<String> {
        let mut warnings = rules::warnings(self.spec.platform, &self.measure.sent());
        if worn_out == Some(&self.spec.key) {
            warnings.extend(rules::same_key(self.spec.platform, self.muxer.session_ends_in()));
        }
        warnings
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
