//! Where a living worker was told to send, so that it hears of every change and of nothing else.
//!
//! A worker that calls with its spec in hand, after a reload or a crash of the controller, is told in any case: what
//! was changed in between is on the disk, and nobody knows what the worker was told before.

use super::Supervisor;
use super::seen::{Life, Stage};
use super::socket::Line;
use ring::digest::{SHA256, digest};
use state::ids::{ChannelId, DestinationId};
use state::wire::{DestinationSpec, ToWorker};

/// What was said over which line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Told {
    line: u64,
    /// How often wishes had been changed: another channel may have left a stream key, or taken it.
    changes: u64,
    /// Of the list, because a key is not to be kept here.
    digest: Vec<u8>,
}

impl Told {
    pub(super) fn of(line: &Line, changes: u64, list: &[DestinationSpec], keep: &[DestinationId]) -> Self {
        let text = serde_json::to_vec(&(list, keep)).unwrap_or_default();
        Self { line: line.id, changes, digest: digest(&SHA256, &text).as_ref().to_vec() }
    }
}

impl Supervisor {
    /// The worker has its spec.
    pub(super) fn was_told(&mut self, id: &ChannelId, told: Told) {
        if let Some(channel) = self.channels.get_mut(id) {
            channel.told = Some(told);
        }
    }

    /// Tells a living worker where to send, if that is news to it. A line that has no room now is tried again at the
    /// next look.
    pub(super) fn tell_destinations(&mut self, id: &ChannelId) {
        let Some(channel) = self.channels.get(id) else { return };
        let Some(line) = channel.line.clone().filter(|_| listens(&channel.life)) else { return };
        let before = channel.told.as_ref().filter(|told| told.line == line.id);
        let changes = self.wishes.changes();
        if before.is_some_and(|told| told.changes == changes) {
            return;
        }
        let Some(wish) = self.wishes.get(id) else { return };
        let taken = self.taken_from(&wish);
        let mut list = self.briefing.destinations(&wish);
        list.retain(|destination| !taken.contains(&destination.id));
        let keep = self.briefing.keyring.closed(&wish);
        let told = Told::of(&line, changes, &list, &keep);
        let news = before.is_none_or(|before| before.digest != told.digest);
        let count = list.len();
        if news && !line.try_send(ToWorker::Destinations { list, keep }) {
            return;
        }
        if news {
            tracing::info!(channel.id = %id, destinations = count, "the worker is told where to send");
        }
        self.was_told(id, told);
    }
}

/// Whether a worker has its spec and is to go on.
fn listens(life: &Life) -> bool {
    match life {
        Life::Running(run) => run.ending.is_none() && matches!(run.stage, Stage::Briefed | Stage::Beating),
        _ => false,
    }
}
