//! What workers say, and what they are told.

use super::Supervisor;
use super::brief::RunFacts;
use super::seen::{Life, Now};
use super::socket::Line;
use state::ids::{ChannelId, Ulid};
use state::wire::{Hello, ToController, ToWorker};

impl Supervisor {
    pub(super) fn called(&mut self, hello: Hello, line: Line, now: Now) {
        let (id, version) = (&hello.channel, &hello.version);
        let known = self.channels.get_mut(id).zip(self.wishes.get(id));
        let Some((channel, wish)) =
            known.filter(|(c, _)| matches!(&c.life, Life::Running(r) if r.id == hello.run))
        else {
            // Dropping the line hangs up.
            return tracing::warn!(channel.id = %id, run.id = %hello.run, "a call of an unknown run was refused");
        };
        tracing::info!(channel.id = %id, run.id = %hello.run, pid = hello.pid, version, "worker called");
        if let Some(run) = channel.run(&hello.run) {
            run.heard = Some(now.mono);
        }
        channel.line = Some(line.clone());
        let facts = RunFacts {
            run: hello.run,
            epoch: channel.state.epoch,
            cursor: channel.state.cursor.clone(),
            first_sequence: channel.first_sequence,
        };
        let briefing = self.briefing.clone();
        tokio::spawn(async move {
            let spec = briefing.spec(&wish, facts).await;
            line.send(ToWorker::Spec(Box::new(spec))).await;
        });
    }

    pub(super) async fn said(&mut self, id: &ChannelId, run: &Ulid, words: ToController, now: Now) {
        let Some(channel) = self.channels.get_mut(id) else { return };
        let Some(present) = channel.run(run) else { return };
        present.heard = Some(now.mono);
        match words {
            ToController::Heartbeat(beat) if beat.run == *run => {
                if channel.heard(*beat, now) {
                    self.save(id).await;
                }
            }
            ToController::Event(event) => {
                let (kind, data) = (&event.kind, &event.data);
                tracing::info!(channel.id = %id, run.id = %run, event.seq = event.seq, kind, %data, "worker event");
                if let Some(line) = &channel.line {
                    line.try_send(ToWorker::Ack { seq: event.seq });
                }
            }
            ToController::WantItems { after } => self.next_items(id, after + 1),
            ToController::Hello(_) | ToController::Heartbeat(_) => {}
        }
    }

    /// Lists the media anew and hands it to the worker.
    pub(super) fn next_items(&self, id: &ChannelId, generation: u64) {
        let line = self.channels.get(id).and_then(|channel| channel.line.clone());
        let Some((line, wish)) = line.zip(self.wishes.get(id)) else { return };
        let briefing = self.briefing.clone();
        tokio::spawn(async move {
            let items = briefing.items(&wish).await;
            line.send(ToWorker::Items { generation, items }).await;
        });
    }
}
