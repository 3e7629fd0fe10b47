//! What a worker on the air is told when the wish has changed. Each order may be repeated without harm, so it is told
//! again wherever it could have been lost.

use super::Supervisor;
use super::seen::{Life, Stage};
use state::ids::ChannelId;
use state::wire::ToWorker;

impl Supervisor {
    /// Tells a worker whether the fallback shall be on the air, if it thinks otherwise.
    pub(super) fn tell_slate(&self, id: &ChannelId) {
        let Some(channel) = self.channels.get(id) else { return };
        let on = self.wishes.slate_on(id);
        let differs = channel.beat.as_ref().is_some_and(|beat| beat.slate_on != on);
        if let (true, Some(line)) = (differs && self.wishes.is_on(id), &channel.line) {
            tracing::info!(channel.id = %id, on, "the fallback by order");
            // A worker that does not read is told again after its next heartbeat.
            line.try_send(ToWorker::Slate { on });
        }
    }

    /// Tells a worker which fallback video is wanted. Listing the media may take its time.
    pub(super) fn tell_fallback(&self, id: &ChannelId) {
        let Some(channel) = self.channels.get(id) else { return };
        // The first word that a worker hears is its spec.
        let briefed = matches!(&channel.life, Life::Running(run)
            if matches!(run.stage, Stage::Briefed | Stage::Beating));
        let Some(line) = channel.line.clone().filter(|_| briefed) else { return };
        let (briefing, wishes, id) = (self.briefing.clone(), self.wishes.clone(), id.clone());
        tokio::spawn(async move {
            let files = briefing.library.files_or_old_ones().await;
            // Read last, so that of two changes the second is told last.
            let Some(wish) = wishes.get(&id) else { return };
            let item = briefing.fallback(&wish, &files);
            line.send(ToWorker::Fallback { item }).await;
        });
    }
}
