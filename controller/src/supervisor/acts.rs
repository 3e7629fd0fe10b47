//! What the supervisor does about a channel: start its worker, end it, and take in how it ended. What is to be done
//! was decided in [`super::reconcile`]; here it is done, and saved.

use super::channel::{Channel, Verdict, exit_words, verdict};
use super::reconcile::Action;
use super::seen::{Ending, Life, Now, Why};
use super::{Event, Supervisor, backoff, process, spawn};
use state::ids::{ChannelId, Ulid};
use state::phase::{Happening, Phase, Wish};
use state::seen::StreamState;
use state::store::{self, StoreError};
use state::wire::ToWorker;
use std::os::unix::process::ExitStatusExt;
use tokio::sync::mpsc;

impl Supervisor {
    pub(super) async fn act(&mut self, id: &ChannelId, action: Action, now: Now) {
        match action {
            Action::Spawn => self.spawn(id, now).await,
            Action::End(why) => self.end(id, why, now).await,
            Action::Kill => self.kill(id),
            Action::StopWaiting => {
                let over = !self.wishes.is_on(id);
                self.change(id, |channel| {
                    channel.life = Life::None;
                    channel.state.next_retry_at = None;
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
        let run = Ulid::new(now.wall);
        let started = spawn::worker(&self.config, id, &run);
        let Some(channel) = self.channels.get_mut(id) else { return };
        channel.attempt(now);
        match started {
            Ok(started) => {
                let pid_start = process::start_time(started.pid).unwrap_or_default();
                tracing::info!(channel.id = %id, run.id = %run, pid = started.pid, "worker started");
                channel.spawned(run.clone(), started.pid, pid_start, started.log, now);
                tokio::spawn(wait(started.child, id.clone(), run, self.events.clone()));
            }
            Err(error) => {
                let failures = channel.failed(Happening::SpawnFailed, now);
                tracing::error!(channel.id = %id, run.id = %run, failures, %error, "the worker cannot be started");
                channel.state.failed_run = Some(unborn(run, now, &error));
            }
        }
        self.save(id).await;
    }

    pub(super) async fn end(&mut self, id: &ChannelId, why: Why, now: Now) {
        let Some(channel) = self.channels.get_mut(id) else { return };
        let Life::Running(run) = &mut channel.life else { return };
        tracing::info!(channel.id = %id, run.id = %run.id, ?why, "worker is told to end");
        run.ending = Some(Ending { why, since: now.mono, killed: false });
        let pid = run.pid;
        let told =
            why == Why::Asked && channel.line.as_ref().is_some_and(|line| line.try_send(ToWorker::Stop));
        if !told {
            process::terminate(pid);
        }
        if why != Why::Hung && matches!(channel.state.phase, Phase::Starting | Phase::Live) {
            channel.happen(Happening::StopAsked, now);
        }
        self.save(id).await;
    }

    pub(super) fn kill(&mut self, id: &ChannelId) {
        let Some(Life::Running(run)) = self.channels.get_mut(id).map(|c| &mut c.life) else { return };
        tracing::warn!(channel.id = %id, run.id = %run.id, pid = run.pid, "the worker does not end and is killed");
        run.ending = run.ending.map(|ending| Ending { killed: true, ..ending });
        process::kill(run.pid);
    }

    pub(super) fn kill_all(&mut self) {
        for id in self.channels.keys().cloned().collect::<Vec<_>>() {
            self.kill(&id);
        }
    }

    pub(super) async fn exited(&mut self, id: &ChannelId, run: &Ulid, code: Option<i32>, now: Now) {
        let Some(wish) = self.wishes.get(id) else { return };
        let Some(channel) = self.channels.get_mut(id) else { return };
        let Some(ending) = channel.run(run).map(|run| run.ending.map(|ending| ending.why)) else { return };
        let line =
            channel.log.last_line().map(|line| state::mask::line(&line, &self.briefing.secrets(&wish)));
        let words = exit_words(code, line);
        channel.gone(code, words.clone());
        match verdict(wish.wish, ending, code, wish.looped) {
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
            Verdict::Crashed => {
                channel.state.failed_run.clone_from(&channel.state.run);
                let failures = channel.failed(Happening::Crashed, now);
                if failures >= backoff::ALERT_AFTER {
                    tracing::error!(channel.id = %id, run.id = %run, code, failures, words, "the worker keeps failing");
                } else {
                    tracing::warn!(channel.id = %id, run.id = %run, code, failures, words, "the worker failed");
                }
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
        let saved = crate::off_thread(move || put_over(&folder, document)).await;
        match saved {
            Ok(saved) => {
                channel.state.revision = saved.revision;
                channel.save_failed = None;
            }
            Err(error) => {
                tracing::error!(channel.id = %id, %error, "the state cannot be saved");
                channel.save_failed = Some(format!("channel {id}: the state cannot be saved: {error}"));
            }
        }
    }
}

/// The state is ours alone: whatever revision is on disk, ours follows it.
fn put_over(folder: &std::path::Path, mut document: StreamState) -> Result<StreamState, StoreError> {
    match store::put(folder, &document) {
        Err(StoreError::Conflict { found, .. }) => {
            document.revision = found;
            store::put(folder, &document)
        }
        result => result,
    }
}

fn unborn(id: Ulid, now: Now, error: &std::io::Error) -> state::seen::RunSeen {
    state::seen::RunSeen {
        id,
        pid: 0,
        pid_start: 0,
        started_at: now.wall,
        exit_code: None,
        exit_words: Some(format!("the worker cannot be started: {error}")),
    }
}

async fn wait(mut child: tokio::process::Child, channel: ChannelId, run: Ulid, events: mpsc::Sender<Event>) {
    let status = child.wait().await;
    let code = status.ok().and_then(|s| s.code().or_else(|| s.signal().map(|signal| 128 + signal)));
    let _ = events.send(Event::Exited { channel, run, code }).await;
}
