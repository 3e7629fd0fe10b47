//! A worker of another program takes a channel over from the one that plays: the change of workers that follows an
//! upgrade. The successor is started shortly before an item ends, opens the item that follows, and waits for the
//! channel's lock; then the worker that plays is asked to leave at the boundary. When to do what is decided in
//! [`next_step`], which is pure.

use super::channel::Channel;
use super::process::Process;
use super::reconcile::Wanted;
use super::seen::{Ending, Life, Now, Origin, Run, Stage, Why};
use super::socket::Line;
use super::spawn::LogMark;
use super::{Event, Supervisor, program, spawn};
use state::channel::StreamConfig;
use state::ids::{ChannelId, Ulid};
use state::profile::Profile;
use state::wire::{Cursor, Heartbeat, Hello, Playing, ToWorker};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A successor is started when this much of the item is left, ms: less is too short to open the next one.
const LEFT_MS: std::ops::RangeInclusive<u64> = 4_000..=30_000;

/// Items shorter than this are never in that window for long enough to be met in it, ms.
const SHORT_MS: u64 = 8_000;

/// After a successor that failed the channel is left alone for this long.
const TRY_AGAIN: Duration = Duration::from_secs(60);

/// How a channel's worker stands to its successor.
#[derive(Debug, Default)]
pub(super) struct Handover {
    /// The worker that plays runs another program than the one that is installed.
    outdated: bool,
    /// Who waits.
    pub(super) successor: Option<Successor>,
    /// A successor failed; not before this time the next one.
    not_before: Option<Instant>,
}

/// A worker that waits for its turn.
#[derive(Debug)]
pub(super) struct Successor {
    pub(super) run: Run,
    pub(super) line: Option<Line>,
    pub(super) beat: Option<Arc<Heartbeat>>,
    pub(super) log: LogMark,
    pub(super) epoch: u64,
    pub(super) first_sequence: u64,
    /// The item that follows the one on the air.
    pub(super) cursor: Cursor,
    /// That of the worker that plays.
    pub(super) profile: Option<Profile>,
    /// The worker that plays was told of it.
    announced: bool,
}

impl Successor {
    pub(super) fn heard(&mut self, beat: Heartbeat, now: Now) {
        self.run.reach(Stage::Beating, now.mono);
        self.beat = Some(Arc::new(beat));
    }

    /// It has opened what it will play.
    fn is_ready(&self) -> bool {
        self.beat.as_ref().and_then(|beat| beat.next.as_ref()).is_some_and(|next| next.ready)
    }
}

impl Handover {
    pub(super) fn successor_of(&mut self, run: &Ulid) -> Option<&mut Successor> {
        self.successor.as_mut().filter(|successor| successor.run.id == *run)
    }

    /// It is the worker that plays from now on, and of the program that is installed.
    pub(super) fn take_successor(&mut self) -> Option<Successor> {
        std::mem::take(self).successor.filter(|successor| successor.run.ending.is_none())
    }
}

/// What to do about the change of workers.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// Start the successor, which begins here.
    Prepare(Cursor),
    /// Tell the worker that plays to leave at the next boundary.
    Announce,
    /// End the successor, for this reason.
    Dismiss(&'static str),
}

/// What to do now. `free` says that no other channel is changing its worker: one at a time, so that a program that
/// does not work does not take all channels off the air.
fn next_step(wanted: Wanted, channel: &Channel, free: bool, now: Instant) -> Option<Step> {
    let playing = match &channel.life {
        Life::Running(run) if run.ending.is_none() && wanted == Wanted::On => Some(run),
        _ => None,
    };
    match (&channel.handover.successor, playing) {
        (Some(successor), _) if successor.run.ending.is_some() => None,
        (Some(_), None) => Some(Step::Dismiss("there is nothing to be taken over any more")),
        (Some(successor), Some(_)) if successor.run.silent_at() <= now => Some(Step::Dismiss("it is silent")),
        (Some(successor), Some(_)) => {
            (successor.is_ready() && !successor.announced).then_some(Step::Announce)
        }
        (None, Some(run)) => {
            let allowed = free && channel.handover.not_before.is_none_or(|at| at <= now);
            let due = channel.handover.outdated && run.stage == Stage::Beating && allowed;
            channel.beat.as_deref().filter(|_| due).and_then(boundary).map(Step::Prepare)
        }
        (None, None) => None,
    }
}

/// Where a successor would begin, if this is the time to start it.
fn boundary(beat: &Heartbeat) -> Option<Cursor> {
    let item = beat.item.as_ref().filter(|_| beat.playing == Playing::Programme)?;
    let soon = item
        .duration_ms
        .is_none_or(|length| length < SHORT_MS || LEFT_MS.contains(&length.saturating_sub(item.position_ms)));
    let next = beat.next.as_ref().filter(|_| soon)?;
    Some(Cursor { item: next.id.clone(), key: next.key.clone(), offset_ms: 0 })
}

impl Channel {
    /// No worker lives, neither one that plays nor one that waits.
    pub(super) fn is_over(&self) -> bool {
        self.life == Life::None && self.handover.successor.is_none()
    }

    /// A worker was started that will begin at the cursor.
    pub(super) fn await_successor(
        &mut self,
        id: Ulid,
        process: Process,
        log: LogMark,
        cursor: Cursor,
        now: Now,
    ) {
        self.state.epoch += 1;
        let (stage, heard, origin) = (Stage::Started, now.mono, Origin::Ours);
        self.handover.successor = Some(Successor {
            run: Run { id, process, origin, stage, heard, sending: None, ending: None },
            line: None,
            beat: None,
            log,
            epoch: self.state.epoch,
            first_sequence: self.next_sequences(),
            cursor,
            profile: self.beat.as_ref().and_then(|beat| beat.profile.clone()),
            announced: false,
        });
    }

    /// The program of a worker that was left to us was compared with the installed one.
    pub(super) fn compared(&mut self, run: &Ulid, another: bool) {
        if matches!(&self.life, Life::Running(own) if own.id == *run) {
            if another {
                tracing::info!(channel.id = %self.state.id, run.id = %run, "the worker is of another program; a new one takes over at the end of an item");
            }
            self.handover.outdated = another;
        }
    }

    /// The successor's process has ended before its turn came.
    pub(super) fn successor_gone(&mut self, code: Option<i32>, now: Now) {
        let Some(successor) = self.handover.successor.take() else { return };
        // Who was told to go has done nothing wrong.
        if successor.run.ending.is_none() {
            let words = super::channel::exit_words(code, successor.log.last_line());
            tracing::warn!(channel.id = %self.state.id, run.id = %successor.run.id, error_type = "handover_failed", words,
                will_retry = true, "the worker that was to take over has ended; the old one plays on");
            self.handover.not_before = Some(now.mono + TRY_AGAIN);
        }
    }
}

impl Supervisor {
    /// Does what is next on the way from one worker to another.
    pub(super) async fn hand_over(&mut self, id: &ChannelId, now: Now) {
        let free = self.channels.values().all(|channel| channel.handover.successor.is_none());
        let wanted = self.wanted(id);
        let Some(channel) = self.channels.get(id) else { return };
        match next_step(wanted, channel, free, now.mono) {
            // A new worker could not send where the old one does.
            Some(Step::Prepare(_)) if self.lacks_keys(id) => {}
            Some(Step::Prepare(cursor)) => self.start_successor(id, cursor, now).await,
            Some(Step::Announce) => self.announce(id),
            Some(Step::Dismiss(why)) => self.dismiss_successor(id, why),
            None => {}
        }
    }

    fn lacks_keys(&self, id: &ChannelId) -> bool {
        self.wishes.get(id).is_some_and(|wish| !self.briefing.keyring.closed(&wish).is_empty())
    }

    async fn start_successor(&mut self, id: &ChannelId, cursor: Cursor, now: Now) {
        let run = Ulid::new(now.wall);
        let started = spawn::worker(&self.config, id, &run, true);
        let Some(channel) = self.channels.get_mut(id) else { return };
        let spawn::Started { process, log } = match started {
            Ok(started) => started,
            Err(error) => {
                tracing::error!(channel.id = %id, error_type = "handover_failed", will_retry = true, %error,
                    "the worker that was to take over cannot be started; the old one plays on");
                channel.handover.not_before = Some(now.mono + TRY_AGAIN);
                return;
            }
        };
        tracing::info!(channel.id = %id, run.id = %run, pid = process.pid, "a worker was started to take over");
        channel.await_successor(run.clone(), process, log, cursor, now);
        self.watch(id, run, process);
        self.save(id).await;
    }

    /// The successor has called: it may have lost its line, and has its spec then.
    pub(super) fn successor_called(&mut self, hello: &Hello, wish: StreamConfig, line: Line, now: Now) {
        let known = self.channels.get_mut(&hello.channel);
        let successor = known.and_then(|channel| channel.handover.successor_of(&hello.run));
        let Some(successor) = successor else { return };
        let stage = if hello.briefed { Stage::Briefed } else { Stage::Called };
        successor.run.reach(stage, now.mono);
        successor.line = Some(line.clone());
        if !hello.briefed {
            self.brief(hello, wish, line);
        }
    }

    fn announce(&mut self, id: &ChannelId) {
        let Some(channel) = self.channels.get_mut(id) else { return };
        let told = channel.line.as_ref().is_some_and(|line| line.try_send(ToWorker::GiveWay));
        if let Some(successor) = channel.handover.successor.as_mut().filter(|_| told) {
            tracing::info!(channel.id = %id, run.id = %successor.run.id, "the worker is told to give way");
            successor.announced = true;
        }
    }

    /// Ends the successor. It holds nothing yet, so there is nothing to take leave of.
    pub(super) fn dismiss_successor(&mut self, id: &ChannelId, why: &str) {
        let known = self.channels.get_mut(id).and_then(|channel| channel.handover.successor.as_mut());
        let Some(successor) = known.filter(|successor| successor.run.ending.is_none()) else { return };
        tracing::info!(channel.id = %id, run.id = %successor.run.id, why, "the worker that was to take over is not needed");
        successor.run.ending = Some(Ending { why: Why::Asked, since: Instant::now(), killed: true });
        successor.run.process.kill();
    }

    /// Finds out whether a worker that was left to us is of the program that is installed now.
    pub(super) fn compare_programs(&self, id: &ChannelId, run: &Ulid) {
        let life = self.channels.get(id).map(|channel| &channel.life);
        let Some(Life::Running(Run { id: own, process, origin: Origin::Adopted, .. })) = life else { return };
        if own != run {
            return;
        }
        let (channel, run, pid) = (id.clone(), run.clone(), process.pid);
        let (installed, events) = (self.config.worker.clone(), self.events.clone());
        tokio::spawn(async move {
            match crate::off_thread(move || program::is_another(pid, &installed)).await {
                Ok(another) => drop(events.send(Event::Compared { channel, run, another }).await),
                Err(error) => {
                    tracing::warn!(channel.id = %channel, run.id = %run, %error, "whether the worker is the installed program is not known");
                }
            }
        });
    }
}

#[cfg(test)]
mod tests;
