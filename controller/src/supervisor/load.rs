//! What an earlier controller left: its documents, and the workers that may have outlived it.

use super::Supervisor;
use super::channel::Channel;
use super::process::Process;
use super::seen::{Life, Now};
use super::spawn;
use state::ids::{ChannelId, Ulid};
use state::seen::{LastWords, StreamState};
use state::store;

impl Supervisor {
    /// Loads what was last seen of a channel and looks whether its worker still lives.
    pub(super) fn load(&mut self, id: &ChannelId) -> anyhow::Result<()> {
        let now = Now::read();
        let loaded = store::load::<StreamState>(&self.config.channel_dir(id), now.wall)?;
        for alert in &loaded.alerts {
            tracing::error!(channel.id = %id, "{alert}");
        }
        let mut state = loaded.document.unwrap_or_else(|| StreamState::new(id.clone()));
        self.pen.found().renew(&mut state);
        let unfinished = state.run.clone().filter(|run| run.exit_words.is_none());
        let left = unfinished.clone().map(|run| {
            let process = Process { pid: run.pid, started: run.pid_start };
            (run.id, process)
        });
        let mut channel = Channel::new(state, loaded.alerts, now);
        channel.log = spawn::end_of_log(&self.config, id);
        match left.filter(|(_, process)| process.is_known()) {
            Some((run, process)) => {
                tracing::info!(channel.id = %id, run.id = %run, pid = process.pid, "a worker was left by an earlier controller");
                channel.found(run.clone(), process, now);
                if matches!(&channel.life, Life::Running(run) if run.ending.is_some()) {
                    process.terminate();
                }
                self.watch(id, run, process);
            }
            None => self.nobody_left(&mut channel, unfinished.map(|run| run.id), now),
        }
        let living = match &channel.life {
            Life::Running(run) => Some(run.id.clone()),
            _ => None,
        };
        self.channels.insert(id.clone(), channel);
        for alert in self.open_books(id, living.as_ref(), now)? {
            tracing::error!(channel.id = %id, "{alert}");
            self.channels.entry(id.clone()).and_modify(|channel| channel.alerts.push(alert));
        }
        self.publish(id);
        Ok(())
    }

    fn nobody_left(&mut self, channel: &mut Channel, run: Option<Ulid>, now: Now) {
        let id = channel.state.id.clone();
        let wish = self.wishes.get(&id);
        let last = run.and_then(|run| LastWords::of(&self.config.state_dir.join("run"), &id, &run));
        if last.as_ref().is_some_and(|last| last.finished) && wish.as_ref().is_some_and(|wish| !wish.looped) {
            self.finished.push(id);
            channel.over();
        }
        if let Some(next) = last.as_ref().and_then(|last| last.next.clone()) {
            channel.state.cursor = Some(next);
        }
        channel.found_none(last.map(|last| last.words), now);
        channel.bound_wait(&wish.map(|wish| wish.restart).unwrap_or_default(), now);
    }
}
