//! One channel as the supervisor holds it: its state, its worker's life, and the rules by which one becomes
//! the next. Decides; acting is `mod.rs`'s work.

use super::air::{Air, Is, View, judge};
use super::backoff;
use super::seen::{Life, Now, Origin, Run, STALE, Sight, Why};
use super::socket::Line;
use super::spawn::LogMark;
use state::ids::Ulid;
use state::phase::{Happening, Phase, Wish};
use state::seen::{RunSeen, StreamState};
use state::wire::{Heartbeat, Playing};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// HLS sequence numbers that are set aside for a run, ahead of what it reports.
const SEQUENCES_AHEAD: u64 = 1000;

/// How often the position is saved.
const CURSOR_EVERY: Duration = Duration::from_secs(5);

/// How often good health is saved, in seconds.
const HEALTH_EVERY_S: i64 = 30;

/// A channel.
pub(super) struct Channel {
    pub state: StreamState,
    pub life: Life,
    pub line: Option<Line>,
    pub beat: Option<Arc<Heartbeat>>,
    pub log: LogMark,
    /// Lowest HLS sequence number of the present run.
    pub first_sequence: u64,
    /// What was wrong with its files, and what could not be saved.
    pub alerts: Vec<String>,
    pub save_failed: Option<String>,
    air: Air,
    cursor_saved: Instant,
}

/// How a worker's end is to be understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It was told to.
    AsAsked,
    /// A playlist that does not loop came to its end.
    Finished,
    /// It failed.
    Crashed,
}

/// What the end of a worker means.
pub(super) fn verdict(wish: Wish, ending: Option<Why>, code: Option<i32>, looped: bool) -> Verdict {
    match ending {
        Some(Why::Asked | Why::Leftover) => Verdict::AsAsked,
        _ if wish == Wish::Off => Verdict::AsAsked,
        None if code == Some(0) && !looped => Verdict::Finished,
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
            beat: None,
            log: LogMark::default(),
            first_sequence: 0,
            alerts,
            save_failed: None,
            air,
            cursor_saved: now.mono,
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

    /// A leftover of an earlier controller was found alive, or not.
    pub(super) fn found(&mut self, alive: Option<u32>, now: Now) {
        match (alive, self.state.run.clone()) {
            (Some(pid), Some(run)) => {
                self.life = running(run.id, pid, Origin::Leftover, now);
            }
            _ => {
                if let Some(run) = self.state.run.as_mut().filter(|run| run.exit_words.is_none()) {
                    run.exit_words = Some("ended while no controller was running".to_owned());
                }
                self.state.next_retry_at = None;
                self.happen(Happening::Ended, now);
            }
        }
    }

    /// Someone asked for a start: whatever failed before does not count any more.
    pub(super) fn start_afresh(&mut self) {
        if let Life::Waiting { .. } = self.life {
            self.life = Life::None;
        }
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
    pub(super) fn spawned(&mut self, run: Ulid, pid: u32, pid_start: u64, log: LogMark, now: Now) {
        if let Life::Waiting { .. } = self.life {
            self.state.restart_count += 1;
        }
        self.state.run = Some(RunSeen {
            id: run.clone(),
            pid,
            pid_start,
            started_at: now.wall,
            exit_code: None,
            exit_words: None,
        });
        self.first_sequence = self.state.hls_sequence_reserved;
        self.state.hls_sequence_reserved += SEQUENCES_AHEAD;
        self.log = log;
        self.life = running(run, pid, Origin::Ours, now);
        self.happen(Happening::Spawned, now);
    }

    /// A worker could not be started or failed: the next one is due by policy. Returns the failures in a row.
    pub(super) fn failed(&mut self, happening: Happening, now: Now) -> u32 {
        let failures = self.state.retry_count.saturating_add(1);
        let delay = backoff::delay(failures, backoff::jitter());
        self.life = Life::Waiting { due: now.mono + delay };
        self.state.next_retry_at = now.wall.checked_add(delay).ok();
        self.happen(happening, now);
        failures
    }

    /// The worker is gone; its last words are kept.
    pub(super) fn gone(&mut self, code: Option<i32>, words: String) {
        self.life = Life::None;
        self.line = None;
        self.beat = None;
        if let Some(run) = &mut self.state.run {
            run.exit_code = code;
            run.exit_words = Some(words);
        }
    }

    /// The broadcast is over: the next one starts with the first item.
    pub(super) fn over(&mut self) {
        self.state.cursor = None;
        self.state.retry_count = 0;
    }

    /// The present run, if it is this one.
    pub(super) fn run(&mut self, id: &Ulid) -> Option<&mut Run> {
        match &mut self.life {
            Life::Running(run) if run.id == *id => Some(run),
            _ => None,
        }
    }

    /// Takes in a heartbeat of the present run. Returns whether something must be saved now.
    pub(super) fn heard(&mut self, beat: Heartbeat, now: Now) -> bool {
        let sends = beat.playing != Playing::Nothing;
        if let Life::Running(run) = &mut self.life {
            run.sending = if sends { run.sending.or(Some(now.mono)) } else { None };
        }
        let mut save = sends && self.happen(Happening::Sending, now);
        save |= self.reserve(beat.hls.as_ref().map_or(0, |hls| hls.next_sequence));
        save |= self.healthy(now);
        save |= self.moved_on(&beat, now);
        self.beat = Some(Arc::new(beat));
        save
    }

    /// Keeps the reserved sequence numbers ahead of those in use.
    fn reserve(&mut self, next: u64) -> bool {
        let short = next + SEQUENCES_AHEAD / 2 > self.state.hls_sequence_reserved;
        if short {
            self.state.hls_sequence_reserved = next + SEQUENCES_AHEAD;
        }
        short
    }

    fn healthy(&mut self, now: Now) -> bool {
        let last = self.state.last_health_check.map_or(i64::MIN, |at| at.as_second());
        let due = now.wall.as_second().saturating_sub(last) >= HEALTH_EVERY_S;
        if due {
            self.state.last_health_check = Some(now.wall);
        }
        due
    }

    /// The newest position is kept in memory at once and on disk every few seconds.
    fn moved_on(&mut self, beat: &Heartbeat, now: Now) -> bool {
        let Some(cursor) = &beat.cursor else { return false };
        if self.state.cursor.as_ref() == Some(cursor) {
            return false;
        }
        self.state.cursor = Some(cursor.clone());
        let due = self.cursor_saved + CURSOR_EVERY <= now.mono;
        if due {
            self.cursor_saved = now.mono;
        }
        due
    }

    /// When the newest heartbeat will say nothing about now any more.
    pub(super) fn stale_at(&self) -> Option<Instant> {
        match &self.life {
            Life::Running(run) => run.heard.map(|heard| heard + STALE + Duration::from_millis(1)),
            _ => None,
        }
    }

    /// What others may know, with the air judged anew.
    pub(super) fn sight(&mut self, wish: Wish, now: Now) -> Sight {
        let heard = match &self.life {
            Life::Running(run) => run.heard,
            _ => None,
        };
        let age = heard.map_or(Duration::MAX, |heard| now.mono.saturating_duration_since(heard));
        let failure = self.state.failed_run.as_ref().and_then(|run| run.exit_words.as_deref());
        let beat = self.beat.as_deref().map(|beat| (beat, age));
        let view = View { wish, phase: self.state.phase, failure, beat };
        self.air = judge(view, &self.air, now.wall);
        Sight {
            state: self.state.clone(),
            beat: self.beat.clone(),
            alive: matches!(self.life, Life::Running(_)),
            air: self.air.clone(),
            alerts: self.alerts_now(),
        }
    }

    fn alerts_now(&self) -> Vec<String> {
        let failing = self.state.phase == Phase::Error && self.state.retry_count + 1 >= backoff::ALERT_AFTER;
        let failing = failing.then(|| {
            format!(
                "channel {}: the worker failed {} times in a row",
                self.state.id,
                self.state.retry_count + 1
            )
        });
        self.alerts.iter().cloned().chain(self.save_failed.clone()).chain(failing).collect()
    }
}

fn running(id: Ulid, pid: u32, origin: Origin, now: Now) -> Life {
    Life::Running(Run { id, pid, origin, since: now.mono, heard: None, sending: None, ending: None })
}

/// How a process ended, for people.
pub(super) fn exit_words(code: Option<i32>, last_line: Option<String>) -> String {
    let how = match code {
        None => "it ended unseen".to_owned(),
        Some(code @ 129..=192) => format!("killed by signal {}", code - 128),
        Some(code) => format!("exit code {code}"),
    };
    match last_line {
        Some(line) => format!("{how}: {line}"),
        None => how,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_end_of_a_list_that_does_not_loop_is_a_good_end_unasked() {
        use Verdict::{AsAsked, Crashed, Finished};
        let cases = [
            (Wish::On, None, Some(0), false, Finished),
            (Wish::On, None, Some(0), true, Crashed),
            (Wish::On, None, Some(1), false, Crashed),
            (Wish::On, None, Some(137), true, Crashed),
            (Wish::On, None, None, true, Crashed),
            (Wish::On, Some(Why::Hung), Some(0), false, Crashed),
            (Wish::On, Some(Why::Asked), Some(137), true, AsAsked),
            (Wish::On, Some(Why::Leftover), None, true, AsAsked),
            (Wish::Off, None, Some(1), true, AsAsked),
            (Wish::Off, Some(Why::Hung), Some(143), true, AsAsked),
        ];
        for (wish, ending, code, looped, expected) in cases {
            assert_eq!(
                verdict(wish, ending, code, looped),
                expected,
                "{wish:?} {ending:?} {code:?} {looped}"
            );
        }
    }

    #[test]
    fn the_end_is_told_in_words() {
        assert_eq!(exit_words(Some(137), None), "killed by signal 9");
        assert_eq!(exit_words(Some(2), Some("no disk".into())), "exit code 2: no disk");
    }

    #[test]
    fn sequence_numbers_never_go_back_and_stay_ahead() {
        let now = Now::read();
        let mut channel = Channel::new(StreamState::new(state::ids::ChannelId::main()), Vec::new(), now);
        let log = LogMark::default();
        channel.attempt(now);
        channel.spawned(Ulid::from_text("a"), 1, 1, log.clone(), now);
        assert_eq!((channel.first_sequence, channel.state.hls_sequence_reserved), (0, 1000));
        assert!(!channel.reserve(400));
        assert!(channel.reserve(600));
        assert_eq!(channel.state.hls_sequence_reserved, 1600);
        channel.gone(Some(1), String::new());
        channel.failed(Happening::Crashed, now);
        channel.attempt(now);
        channel.spawned(Ulid::from_text("b"), 2, 2, log, now);
        assert_eq!(channel.first_sequence, 1600);
        assert_eq!((channel.state.restart_count, channel.state.retry_count, channel.state.epoch), (1, 1, 2));
    }
}
