//! What the supervisor does about a channel: start its worker, end it, and take in how it ended. What is to be done
//! was decided in [`super::reconcile`]; here it is done, and saved.

use super::books::Ended;
use super::channel::{Channel, Verdict, exit_words, verdict};
use super::process::Process;
use super::reconcile::Action;
use super::seen::{Ending, FIRST_WORD, Life, Now, Origin, Stage, Why};
use super::{Event, Supervisor, backoff, spawn};
use state::ids::{ChannelId, Ulid};
use state::phase::{Happening, Phase, Wish};
use state::seen::{Began, LastWords};
use state::store;
use state::wire::ToWorker;
use std::time::Duration;

/// How often the lock of a worker that does not call is tried.
const TRY_LOCK_EVERY: Duration = Duration::from_millis(500);

impl Supervisor {
    pub(super) async fn act(&mut self, id: &ChannelId, action: Action, now: Now) {
        match action {
            Action::Spawn => self.spawn(id, now).await,
            Action::End(why) => self.end(id, why, now).await,
            Action::Kill => self.kill(id),
            Action::TryLock => self.try_lock(id, now),
            Action::StopWaiting => {
                let over = !self.wishes.is_on(id);
                self.change(id, |channel| {
                    channel.life = Life::None;
                    channel.state.next_retry_at = None;
                    channel.state.gave_up = false;
                    channel.happen(Happening::Ended, now);
                    if over {
                        channel.over();
                    }
                })
                .await;
            }
            Action::ForgetFailures => self.change(id, |channel| channel.state.retry_count = 0).await,
        }
    }

    pub(super) async fn spawn(&mut self, id: &ChannelId, now: Now) {
        if self.is_held(id) {
            let Some(channel) = self.channels.get_mut(id) else { return };
            tracing::warn!(channel.id = %id, "a worker lives that nobody knows; it is waited for");
            channel.life = Life::Held { since: now.mono, look_at: now.mono + TRY_LOCK_EVERY, alerted: false };
            return;
        }
        let run = Ulid::new(now.wall);
        let started = spawn::worker(&self.config, id, &run, false);
        let policy = self.wishes.get(id).map(|wish| wish.restart).unwrap_or_default();
        let Some(channel) = self.channels.get_mut(id) else { return };
        channel.attempt(now);
        match started {
            Ok(started) => {
                let process = started.process;
                tracing::info!(channel.id = %id, run.id = %run, pid = process.pid, "worker started");
                channel.spawned(run.clone(), process, started.log, now);
                self.books.began(id, &run);
                self.watch(id, run, process);
            }
            Err(error) => {
                let failures = channel.failed(Happening::SpawnFailed, &policy, now);
                let (retry_count, will_retry) = (channel.state.retry_count, !channel.state.gave_up);
                tracing::error!(channel.id = %id, run.id = %run, error_type = "worker_spawn_failed", failures,
                    retry_count, will_retry, %error, "the worker cannot be started");
                channel.state.failed_run = Some(unborn(run, now, &error));
            }
        }
        self.save(id).await;
    }

    pub(super) async fn end(&mut self, id: &ChannelId, why: Why, now: Now) {
        let unproven = self.is_unproven(id);
        let Some(channel) = self.channels.get_mut(id) else { return };
        let Life::Running(run) = &mut channel.life else { return };
        if unproven {
            let (run, pid) = (run.id.clone(), run.process.pid);
            tracing::warn!(channel.id = %id, run.id = %run, pid, "nobody holds the channel; the process is left alone");
            return self.exited(id, &run, None, now).await;
        }
        match why {
            Why::Asked => {
                tracing::info!(channel.id = %id, run.id = %run.id, pid = run.process.pid, "worker is told to end");
            }
            Why::Hung => tracing::error!(channel.id = %id, run.id = %run.id, pid = run.process.pid,
                stage = ?run.stage, silent_s = now.mono.saturating_duration_since(run.heard).as_secs(), error_type = "worker_hung",
                retry_count = channel.state.retry_count, "the worker is silent and is replaced"),
        }
        run.ending = Some(Ending { why, since: now.mono, killed: false });
        let process = run.process;
        let told =
            why == Why::Asked && channel.line.as_ref().is_some_and(|line| line.try_send(ToWorker::Stop));
        if !told {
            process.terminate();
        }
        if why != Why::Hung && matches!(channel.state.phase, Phase::Starting | Phase::Live) {
            channel.happen(Happening::StopAsked, now);
        }
        self.save(id).await;
    }

    pub(super) fn kill(&mut self, id: &ChannelId) {
        let Some(Life::Running(run)) = self.channels.get_mut(id).map(|c| &mut c.life) else { return };
        let process = run.process;
        tracing::warn!(channel.id = %id, run.id = %run.id, pid = process.pid, "the worker does not end and is killed");
        run.ending = run.ending.map(|ending| Ending { killed: true, ..ending });
        process.kill();
    }

    /// Somebody holds the channel and does not call. When the lock is free there is nobody left to hear from.
    fn try_lock(&mut self, id: &ChannelId, now: Now) {
        let held = self.is_held(id);
        let Some(channel) = self.channels.get_mut(id) else { return };
        let Life::Held { since, look_at, alerted } = &mut channel.life else { return };
        if !held {
            channel.life = Life::None;
            return;
        }
        *look_at = now.mono + TRY_LOCK_EVERY;
        if !*alerted && *since + FIRST_WORD <= now.mono {
            *alerted = true;
            tracing::error!(channel.id = %id, error_type = "worker_unknown", will_retry = true,
                "an unknown worker holds the channel and does not call; look who has run/{id}.lock open");
        }
    }

    /// Whether a worker holds the channel. A lock that cannot be tried is nobody's: the worker tries it itself.
    fn is_held(&self, id: &ChannelId) -> bool {
        spawn::is_held(&self.config, id).unwrap_or_else(|error| {
            tracing::error!(channel.id = %id, %error, "the channel's lock cannot be tried");
            false
        })
    }

    /// Whether the process that was left to us may not be a worker at all: it has not called, and nobody holds the
    /// channel. Another one may have its pid and, after a restart of the machine, its start time.
    fn is_unproven(&self, id: &ChannelId) -> bool {
        let life = self.channels.get(id).map(|channel| &channel.life);
        let silent = matches!(life, Some(Life::Running(run))
            if run.origin == Origin::Adopted && run.stage == Stage::Started);
        silent && !self.is_held(id)
    }

    /// Learns of the end of a worker, whoever its parent is.
    pub(super) fn watch(&self, channel: &ChannelId, run: Ulid, process: Process) {
        let (channel, events) = (channel.clone(), self.events.clone());
        tokio::spawn(async move {
            let code = process.ended().await;
            let _ = events.send(Event::Exited { channel, run, code }).await;
        });
    }

    pub(super) fn kill_all(&mut self) {
        for id in self.channels.keys().cloned().collect::<Vec<_>>() {
            self.kill(&id);
        }
    }

    pub(super) async fn exited(&mut self, id: &ChannelId, run: &Ulid, code: Option<i32>, now: Now) {
        let Some(wish) = self.wishes.get(id) else { return };
        let Some(channel) = self.channels.get_mut(id) else { return };
        if channel.handover.successor_of(run).is_some() {
            return channel.successor_gone(code, now);
        }
        let Some(ending) = channel.run(run).map(|run| run.ending.map(|ending| ending.why)) else { return };
        let last = LastWords::of(&self.config.state_dir.join("run"), id, run);
        let code = code.or(last.as_ref().map(|last| last.exit_code));
        let line =
            channel.log.last_line().map(|line| state::mask::line(&line, &self.briefing.secrets(&wish)));
        let words = exit_words(code, line);
        channel.keep_position(now);
        let beat = channel.beat.take();
        channel.gone(code, words.clone(), now);
        let finished = last.as_ref().map_or(code == Some(0), |last| last.finished) && !wish.looped;
        let next = last.and_then(|last| last.next);
        let verdict = verdict(wish.wish, ending, finished, next.is_some());
        let ended = Ended { run, beat, code, words: &words, as_asked: verdict != Verdict::Crashed };
        self.run_over(id, &ended, wish.session_id.clone(), now);
        let Some(channel) = self.channels.get_mut(id) else { return };
        match verdict {
            Verdict::AsAsked => {
                tracing::info!(channel.id = %id, run.id = %run, code, "worker ended as asked");
                channel.happen(Happening::Ended, now);
                if wish.wish == Wish::Off {
                    channel.over();
                }
            }
            Verdict::Finished => {
                tracing::info!(channel.id = %id, run.id = %run, "the playlist has ended");
                channel.happen(Happening::Ended, now);
                channel.over();
                self.switch_off(id).await;
            }
            Verdict::GaveWay => {
                channel.gave_way(next, now);
                let by = channel.state.run.as_ref().map(|run| tracing::field::display(&run.id));
                tracing::info!(channel.id = %id, run.id = %run, by, "the worker gave way");
                if let Some(successor) = channel.state.run.as_ref().filter(|next| next.exit_words.is_none()) {
                    self.books.began(id, &successor.id);
                }
            }
            Verdict::Crashed => {
                channel.state.failed_run.clone_from(&channel.state.run);
                let failures = channel.failed(Happening::Crashed, &wish.restart, now);
                let error_type = if ending == Some(Why::Hung) { "worker_hung" } else { "worker_crashed" };
                tell_failure(channel, error_type, failures, &words);
            }
        }
        self.save(id).await;
        self.publish(id);
    }

    pub(super) async fn switch_off(&self, id: &ChannelId) {
        let turn = self.wishes.turn().await;
        let Some(wish) = self.wishes.get(id) else { return };
        if let Err(error) = turn.switch_off(wish).await {
            tracing::error!(channel.id = %id, %error, "the end of the playlist cannot be saved");
        }
    }

    pub(super) async fn change(&mut self, id: &ChannelId, how: impl FnOnce(&mut Channel)) {
        if let Some(channel) = self.channels.get_mut(id) {
            how(channel);
            self.save(id).await;
        }
    }

    /// Puts a channel's state on the disk. What cannot be saved stays in memory and becomes an alert: a full disk
    /// must not take a channel off the air.
    pub(super) async fn save(&mut self, id: &ChannelId) {
        let Some(channel) = self.channels.get_mut(id) else { return };
        let folder = self.config.channel_dir(id);
        let document = channel.state.clone();
        let saved = crate::off_thread(move || store::put_own(&folder, &document)).await;
        match saved {
            Ok(saved) => {
                channel.state.revision = saved.revision;
                channel.save_failed = None;
                self.note_runs(id);
            }
            Err(error) => {
                tracing::error!(channel.id = %id, %error, "the state cannot be saved");
                channel.save_failed = Some(format!("channel {id}: the state cannot be saved: {error}"));
            }
        }
    }
}

fn unborn(id: Ulid, now: Now, error: &std::io::Error) -> state::seen::RunSeen {
    state::seen::RunSeen {
        exit_words: Some(format!("the worker cannot be started: {error}")),
        ended_at: Some(now.wall),
        ..state::seen::RunSeen::begun(id, 0, 0, now.wall, Began::Start)
    }
}

/// From the third in a row on, and when nothing more is tried, someone must act.
fn tell_failure(channel: &Channel, error_type: &str, failures: u32, words: &str) {
    let state = &channel.state;
    let (id, retry_count, will_retry) = (&state.id, state.retry_count, !state.gave_up);
    let run = state.run.as_ref().map_or("", |run| run.id.as_str());
    let next_retry_at = state.next_retry_at.map(tracing::field::display);
    if failures >= backoff::ALERT_AFTER || !will_retry {
        tracing::error!(channel.id = %id, run.id = run, error_type, failures, retry_count, will_retry, next_retry_at,
            words, "the worker keeps failing");
    } else {
        tracing::warn!(channel.id = %id, run.id = run, error_type, failures, retry_count, will_retry, next_retry_at,
            words, "the worker failed");
    }
}
