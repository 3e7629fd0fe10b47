//! One channel as the supervisor holds it: its state, its worker's life, and the rules by which one becomes
//! the next. Decides; acting is `mod.rs`'s work.

use super::air::{Air, Is};
use super::backoff;
use super::brief::RunFacts;
use super::handover::{Handover, Successor};
use super::process::Process;
use super::seen::{Ending, Life, Now, Origin, Run, Stage, Why};
use super::socket::Line;
use super::spawn::LogMark;
use super::told::Told;
use state::ids::Ulid;
use state::phase::{Happening, Phase, Wish};
use state::restart::Restart;
use state::seen::{Began, RunSeen, StreamState};
use state::wire::{Cursor, Heartbeat, Playing};
use std::sync::Arc;
use std::time::Instant;

/// HLS sequence numbers that are set aside for a run, ahead of what it reports.
const SEQUENCES_AHEAD: u64 = 1000;

/// How often good health is saved, in seconds.
const HEALTH_EVERY_S: i64 = 30;

/// A channel.
pub(super) struct Channel {
    pub state: StreamState,
    pub life: Life,
    pub line: Option<Line>,
    /// Where its worker was told to send.
    pub told: Option<Told>,
    pub beat: Option<Arc<Heartbeat>>,
    pub log: LogMark,
    /// Lowest HLS sequence number of the present run.
    pub first_sequence: u64,
    /// What was wrong with its files, and what could not be saved.
    pub alerts: Vec<String>,
    pub save_failed: Option<String>,
    /// Why the next run will be begun.
    pub began: Began,
    /// Its worker's way to another one, while it is on it.
    pub handover: Handover,
    /// When everything was last done that could be done about it.
    pub settled: Instant,
    pub air: Air,
}

/// How a worker's end is to be understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It was told to.
    AsAsked,
    /// A playlist that does not loop came to its end.
    Finished,
    /// It gave way to another worker.
    GaveWay,
    /// It failed.
    Crashed,
}

/// What the end of a worker means.
pub(super) fn verdict(wish: Wish, ending: Option<Why>, finished: bool, gave_way: bool) -> Verdict {
    match ending {
        Some(Why::Asked) => Verdict::AsAsked,
        _ if wish == Wish::Off => Verdict::AsAsked,
        _ if gave_way => Verdict::GaveWay,
        None if finished => Verdict::Finished,
        _ => Verdict::Crashed,
    }
}

impl Channel {
    pub(super) fn new(state: StreamState, alerts: Vec<String>, now: Now) -> Self {
        let air = Air { is: Is::Off, since: state.phase_since.unwrap_or(now.wall), because: String::new() };
        Self {
            state,
            life: Life::None,
            line: None,
            told: None,
            beat: None,
            log: LogMark::default(),
            first_sequence: 0,
            alerts,
            save_failed: None,
            began: Began::Resume,
            handover: Handover::default(),
            air,
            settled: now.mono,
        }
    }

    /// The one place where the phase changes.
    pub(super) fn happen(&mut self, happening: Happening, now: Now) -> bool {
        let Some(next) = self.state.phase.after(happening) else {
            tracing::error!(channel.id = %self.state.id, phase = ?self.state.phase, ?happening, "cannot happen");
            return false;
        };
        let changed = next != self.state.phase;
        if changed {
            tracing::info!(channel.id = %self.state.id, from = ?self.state.phase, to = ?next, "phase");
            self.state.phase = next;
            self.state.phase_since = Some(now.wall);
        }
        changed
    }

    /// The worker that an earlier controller left was found. The phase stays what it was; nothing is counted.
    pub(super) fn found(&mut self, run: Ulid, process: Process, now: Now) {
        self.life = running(run, process, Origin::Adopted, now);
        match (self.state.phase, &mut self.life) {
            (Phase::Starting | Phase::Live, _) => {}
            // It was told to end, or nearly so.
            (Phase::Stopping, Life::Running(run)) => {
                run.ending = Some(Ending { why: Why::Asked, since: now.mono, killed: false });
            }
            _ => drop(self.happen(Happening::Spawned, now)),
        }
    }

    /// A worker that nobody knew of holds the channel and says who it is.
    pub(super) fn adopted(&mut self, run: Ulid, process: Process, now: Now) {
        if self.state.run.as_ref().is_none_or(|known| known.id != run) {
            // The controller that started it was gone before it could write that down.
            self.state.epoch += 1;
            self.state.run = Some(begun(run.clone(), process, Began::Adoption, now));
        }
        self.state.next_retry_at = None;
        self.state.gave_up = false;
        self.found(run, process, now);
    }

    /// No worker of an earlier controller lives. What it had to wait for is waited for still.
    pub(super) fn found_none(&mut self, last_words: Option<String>, now: Now) {
        if let Some(run) = self.state.run.as_mut().filter(|run| run.exit_words.is_none()) {
            let words = last_words.unwrap_or_else(|| "it ended while no controller was running".to_owned());
            run.exit_words = Some(words);
        }
        let left = self.state.next_retry_at.map(|at| at.duration_since(now.wall).unsigned_abs());
        let left = left.filter(|_| self.state.next_retry_at.is_some_and(|at| at > now.wall));
        self.life = match (self.state.phase, left) {
            (Phase::Error | Phase::Retrying, _) if self.state.gave_up => Life::GaveUp,
            (Phase::Error | Phase::Retrying, Some(left)) => Life::Waiting { due: now.mono + left },
            _ => {
                self.state.next_retry_at = None;
                self.state.gave_up = false;
                self.happen(Happening::Ended, now);
                Life::None
            }
        };
    }

    /// The wait before the next worker never gets longer than the policy says, whatever the clock did.
    pub(super) fn bound_wait(&mut self, policy: &Restart, now: Now) {
        if let Life::Waiting { due } = &mut self.life {
            *due = (*due).min(now.mono + policy.longest());
        }
    }

    /// Someone asked for a start: whatever failed before does not count any more.
    pub(super) fn start_afresh(&mut self) {
        if let Life::Waiting { .. } | Life::GaveUp = self.life {
            self.life = Life::None;
        }
        self.began = Began::Start;
        self.state.gave_up = false;
        self.state.restart_count = 0;
        self.state.retry_count = 0;
        self.state.next_retry_at = None;
        self.state.failed_run = None;
    }

    /// A start is being tried: a restart when it follows a failure.
    pub(super) fn attempt(&mut self, now: Now) {
        if let Life::Waiting { .. } = self.life {
            self.state.retry_count = self.state.retry_count.saturating_add(1);
            self.happen(Happening::RetryScheduled, now);
        }
        self.state.next_retry_at = None;
        self.state.epoch += 1;
    }

    /// A worker was started.
    pub(super) fn spawned(&mut self, run: Ulid, process: Process, log: LogMark, now: Now) {
        let mut began = std::mem::replace(&mut self.began, Began::Start);
        if let Life::Waiting { .. } = self.life {
            self.state.restart_count += 1;
            began = Began::Retry;
        }
        self.state.run = Some(begun(run.clone(), process, began, now));
        self.set_sequences_aside();
        self.log = log;
        self.life = running(run, process, Origin::Ours, now);
        self.happen(Happening::Spawned, now);
    }

    /// For a run that has written nothing yet.
    pub(super) fn set_sequences_aside(&mut self) {
        self.first_sequence = self.next_sequences();
    }

    /// Sequence numbers that nobody else has: the lowest of them.
    pub(super) fn next_sequences(&mut self) -> u64 {
        let first = self.state.hls_sequence_reserved;
        self.state.hls_sequence_reserved = first.saturating_add(SEQUENCES_AHEAD);
        first
    }

    /// A worker could not be started or failed: the next one is due by policy, or none is. Returns the failures in
    /// a row.
    pub(super) fn failed(&mut self, happening: Happening, policy: &Restart, now: Now) -> u32 {
        let failures = self.state.retry_count.saturating_add(1);
        let delay = policy.delay(failures, backoff::jitter());
        self.life = delay.map_or(Life::GaveUp, |delay| Life::Waiting { due: now.mono + delay });
        self.state.gave_up = delay.is_none();
        self.state.next_retry_at = delay.and_then(|delay| state::after(now.wall, delay));
        self.happen(happening, now);
        failures
    }

    /// The worker is gone; its last words are kept.
    pub(super) fn gone(&mut self, code: Option<i32>, words: String, now: Now) {
        self.life = Life::None;
        self.line = None;
        self.beat = None;
        if let Some(run) = &mut self.state.run {
            run.exit_code = code;
            run.exit_words = Some(words);
            run.ended_at = Some(now.wall);
        }
    }

    /// The broadcast is over: the next one starts with the first item.
    pub(super) fn over(&mut self) {
        self.state.cursor = None;
        self.state.retry_count = 0;
    }

    /// The worker that played has given way. Its successor goes on, if there is one: for the channel nothing has
    /// happened then.
    pub(super) fn gave_way(&mut self, next: Option<Cursor>, now: Now) {
        self.state.cursor = next.or(self.state.cursor.take());
        let Some(successor) = self.handover.take_successor() else {
            self.happen(Happening::Ended, now);
            return;
        };
        let Successor { run, line, beat, log, first_sequence, .. } = successor;
        self.state.run = Some(begun(run.id.clone(), run.process, Began::Upgrade, now));
        self.life = Life::Running(run);
        (self.line, self.beat, self.log, self.first_sequence) = (line, beat, log, first_sequence);
    }

    /// The present run or the one that waits to follow it, if it is this one.
    pub(super) fn run(&mut self, id: &Ulid) -> Option<&mut Run> {
        match &mut self.life {
            Life::Running(run) if run.id == *id => Some(run),
            _ => self.handover.successor_of(id).map(|successor| &mut successor.run),
        }
    }

    /// The line to this run.
    pub(super) fn line_of(&mut self, id: &Ulid) -> &mut Option<Line> {
        match self.handover.successor.as_mut().filter(|successor| successor.run.id == *id) {
            Some(successor) => &mut successor.line,
            None => &mut self.line,
        }
    }

    /// What the briefing of this run has to say.
    pub(super) fn facts(&self, id: &Ulid) -> RunFacts {
        let run = id.clone();
        let successor = self.handover.successor.as_ref().filter(|successor| successor.run.id == *id);
        match successor {
            Some(Successor { epoch, cursor, first_sequence, profile, .. }) => RunFacts {
                run,
                epoch: *epoch,
                cursor: Some(cursor.clone()),
                first_sequence: *first_sequence,
                profile: profile.clone(),
            },
            None => RunFacts {
                run,
                epoch: self.state.epoch,
                cursor: self.state.cursor.clone(),
                first_sequence: self.first_sequence,
                profile: None,
            },
        }
    }

    /// Takes in a heartbeat of the present run. Returns whether something must be saved now.
    pub(super) fn heard(&mut self, beat: Heartbeat, now: Now) -> bool {
        let sends = beat.playing != Playing::Nothing;
        self.state.epoch = self.state.epoch.max(beat.epoch);
        if let Life::Running(run) = &mut self.life {
            run.reach(Stage::Beating, now.mono);
            run.sending = if sends { run.sending.or(Some(now.mono)) } else { None };
        }
        let mut save = sends && self.happen(Happening::Sending, now);
        save |= self.reserve(beat.hls.as_ref().map_or(0, |hls| hls.next_sequence));
        save |= self.healthy(now);
        // What the disk refused is tried again every few seconds.
        save |= self.save_failed.is_some() && beat.seq.is_multiple_of(5);
        // On the disk with the next sheet.
        if beat.cursor.is_some() {
            self.state.cursor.clone_from(&beat.cursor);
        }
        self.beat = Some(Arc::new(beat));
        save
    }

    /// Keeps the reserved sequence numbers ahead of those in use.
    fn reserve(&mut self, next: u64) -> bool {
        let short = next.saturating_add(SEQUENCES_AHEAD / 2) > self.state.hls_sequence_reserved;
        if short {
            self.state.hls_sequence_reserved = next.saturating_add(SEQUENCES_AHEAD);
        }
        short
    }

    fn healthy(&mut self, now: Now) -> bool {
        let last = self.state.last_health_check.map_or(i64::MIN, |at| at.as_second());
        let due = now.wall.as_second().saturating_sub(last).saturating_abs() >= HEALTH_EVERY_S;
        if due {
            self.state.last_health_check = Some(now.wall);
        }
        due
    }
}

fn running(id: Ulid, process: Process, origin: Origin, now: Now) -> Life {
    let (stage, heard) = (Stage::Started, now.mono);
    Life::Running(Run { id, process, origin, stage, heard, sending: None, ending: None })
}

fn begun(id: Ulid, process: Process, began: Began, now: Now) -> RunSeen {
    RunSeen::begun(id, process.pid, process.started, now.wall, began)
}

/// How a process ended, for people. The last line of its log says why one failed, and nothing of one that did not.
pub(super) fn exit_words(code: Option<i32>, last_line: Option<String>) -> String {
    let how = match code {
        None => "it ended unseen".to_owned(),
        Some(code @ 129..=192) => format!("killed by signal {}", code - 128),
        Some(code) => format!("exit code {code}"),
    };
    match last_line.filter(|_| code != Some(0)) {
        Some(line) => format!("{how}: {line}"),
        None => how,
    }
}

#[cfg(test)]
mod tests;
