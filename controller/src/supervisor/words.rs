//! What workers say, and what they are told.

use super::greeting::{Caller, Greeting, greet};
use super::journal::{Entry, Keep};
use super::process::Process;
use super::seen::{Now, Stage};
use super::socket::Line;
use super::told::Told;
use super::{Event, Supervisor};
use state::channel::StreamConfig;
use state::ids::{ChannelId, DestinationId, Ulid};
use state::wire::{Hello, ToController, ToWorker};

/// Longest line of a worker that is repeated, in characters.
const LONGEST_LINE: usize = 2000;

impl Supervisor {
    /// A worker has called. Who is not welcome is told to stop: two workers of one channel would throw each other
    /// off the air.
    pub(super) async fn called(&mut self, hello: Hello, peer: Option<u32>, line: Line, now: Now) {
        let (id, run, version) = (&hello.channel, &hello.run, &hello.version);
        let wanted = self.wanted(id);
        let known = self.channels.get_mut(id).zip(self.wishes.get(id));
        let Some((channel, wish)) = known else {
            return send_away(&hello, &line, "there is no such channel");
        };
        if channel.handover.successor_of(run).is_some() {
            return self.successor_called(&hello, wish, line, now);
        }
        let process =
            Process::of(hello.pid).filter(|_| peer.is_none_or(|peer| peer == 0 || peer == hello.pid));
        let newest = channel.state.run.as_ref().map(|run| &run.id);
        let adopted = match greet(Caller { run, process }, &channel.life, newest, wanted) {
            Greeting::SendAway(why) => return send_away(&hello, &line, why),
            Greeting::Welcome => None,
            Greeting::Adopt(process) => Some(process),
        };
        if let Some(process) = adopted {
            channel.adopted(run.clone(), process, now);
            self.books.began(id, run);
        }
        tracing::info!(channel.id = %id, run.id = %run, pid = hello.pid, version, briefed = hello.briefed,
            adopted = adopted.is_some(), "worker called");
        channel.line = Some(line.clone());
        if let Some(run) = channel.run(run).filter(|run| run.stage == Stage::Started || !hello.briefed) {
            run.reach(if hello.briefed { Stage::Briefed } else { Stage::Called }, now.mono);
        }
        if adopted.is_some() && !hello.briefed {
            channel.set_sequences_aside();
        }
        if hello.briefed {
            self.tell_fallback(id);
        } else {
            self.brief(&hello, wish, line);
        }
        self.compare_programs(id, run);
        if let Some(process) = adopted {
            self.watch(id, run.clone(), process);
            self.save(id).await;
        }
    }

    /// Tells a worker what to play. Listing the media may take its time.
    pub(super) fn brief(&self, hello: &Hello, wish: StreamConfig, line: Line) {
        let Some(channel) = self.channels.get(&hello.channel) else { return };
        let facts = channel.facts(&hello.run);
        let (taken, changes) = (self.taken_from(&wish), self.wishes.changes());
        let (briefing, events) = (self.briefing.clone(), self.events.clone());
        let (channel, run) = (hello.channel.clone(), hello.run.clone());
        tokio::spawn(async move {
            let mut spec = briefing.spec(&wish, facts).await;
            spec.destinations.retain(|destination| !taken.contains(&destination.id));
            let told = Told::of(&line, changes, &spec.destinations, &[]);
            line.send(ToWorker::Spec(Box::new(spec))).await;
            let _ = events.send(Event::Briefed { channel, run, told }).await;
        });
    }

    /// Destinations that another wanted channel has already, with the same key. The API refuses them; files that
    /// were edited by hand and a new environment do not ask it.
    pub(super) fn taken_from(&self, wish: &StreamConfig) -> Vec<DestinationId> {
        let taken = self.briefing.keyring.taken(wish, &self.wishes.all());
        for (id, by) in &taken {
            tracing::error!(channel.id = %wish.id, destination.id = %id, error_type = "destination_in_use",
                "left out: channel {by} sends to the same place with the same key");
        }
        taken.into_iter().map(|(id, _)| id).collect()
    }

    pub(super) async fn said(&mut self, id: &ChannelId, run: &Ulid, words: ToController, now: Now) {
        let Some(channel) = self.channels.get_mut(id) else { return };
        if channel.run(run).is_none() {
            return;
        }
        match words {
            ToController::Heartbeat(beat) if beat.run == *run => {
                if let Some(successor) = channel.handover.successor_of(run) {
                    return successor.heard(*beat, now);
                }
                self.books.heard(id, &beat, self.wishes.is_on(id), now);
                let save = channel.heard(*beat, now);
                self.tell_slate(id);
                if save {
                    self.save(id).await;
                }
            }
            ToController::Event(event) => {
                let (kind, data) = (&event.kind, &event.data);
                tracing::info!(channel.id = %id, run.id = %run, event.seq = event.seq, kind, %data, "worker event");
                let _ = self.happenings.send((id.clone(), event.clone()));
                let Some(line) = channel.line_of(run).clone() else { return };
                let session = self.wishes.get(id).and_then(|wish| wish.session_id);
                let entry = Entry { channel: id.clone(), event, session, line: Some(line) };
                if self.journal.try_send(Keep::Event(entry)).is_err() {
                    // Hanging up makes the worker call again, and say again what was not acknowledged.
                    tracing::warn!(channel.id = %id, run.id = %run, "events come faster than the disk takes them");
                    *channel.line_of(run) = None;
                }
            }
            ToController::Log { level, line } => self.log(id, run, &level, &line),
            ToController::WantItems { after } => self.next_items(id, run, after.saturating_add(1)),
            ToController::Hello(_) | ToController::Heartbeat(_) => {}
        }
    }

    /// Lists the media anew and hands it to the worker.
    fn next_items(&mut self, id: &ChannelId, run: &Ulid, generation: u64) {
        let line = self.channels.get_mut(id).and_then(|channel| channel.line_of(run).clone());
        let Some((line, wish)) = line.zip(self.wishes.get(id)) else { return };
        if wish.fallback_video.is_some() {
            // There may be another content under its key.
            self.tell_fallback(id);
        }
        let briefing = self.briefing.clone();
        tokio::spawn(async move {
            let items = briefing.items(&wish).await;
            line.send(ToWorker::Items { generation, items }).await;
        });
    }

    /// A line of a worker's log. The worker keeps secrets out of it; we make sure.
    fn log(&self, id: &ChannelId, run: &Ulid, level: &str, line: &str) {
        let Some(wish) = self.wishes.get(id) else { return };
        let shown: String = line.chars().filter(|c| !c.is_control()).take(LONGEST_LINE).collect();
        let line = state::mask::line(&shown, &self.briefing.secrets(&wish));
        match level {
            "error" => tracing::error!(channel.id = %id, run.id = %run, worker.line = line, "worker"),
            _ => tracing::warn!(channel.id = %id, run.id = %run, worker.line = line, "worker"),
        }
    }
}

fn send_away(hello: &Hello, line: &Line, why: &str) {
    let (id, run, pid) = (&hello.channel, &hello.run, hello.pid);
    tracing::warn!(channel.id = %id, run.id = %run, pid, why, "a worker that nobody wants is told to stop");
    line.try_send(ToWorker::Stop);
}
