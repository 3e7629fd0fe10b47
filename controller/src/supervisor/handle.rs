//! What the rest of the controller holds of the supervisor: questions, wishes, and nothing that could stop its loop.

use super::seen::Sight;
use super::{Ask, Event, Happenings, Sights};
use state::ids::ChannelId;
use state::wire;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use tokio::sync::{broadcast, mpsc, oneshot};

/// The way to the supervisor.
#[derive(Clone)]
pub struct Handle {
    pub(super) events: mpsc::Sender<Event>,
    pub(super) told: Happenings,
    pub(super) sights: Sights,
    pub(super) leaving: Arc<AtomicBool>,
}

impl Handle {
    /// What is seen of a channel.
    pub fn sight(&self, channel: &ChannelId) -> Option<Sight> {
        self.sights.lock().unwrap_or_else(PoisonError::into_inner).get(channel).map(|sight| (**sight).clone())
    }

    /// Tells that a wish has changed, and waits until something has been done about it.
    pub async fn ask(&self, channel: ChannelId, ask: Ask) {
        let (done, told) = oneshot::channel();
        if self.events.send(Event::Asked { channel, ask, done }).await.is_ok() {
            // The wish is saved, so an answer that does not come changes nothing.
            let _ = tokio::time::timeout(Duration::from_secs(5), told).await;
        }
    }

    /// Whether the loop turns: it has to answer before the deadline.
    pub async fn is_turning(&self, deadline: Duration) -> bool {
        let (done, told) = oneshot::channel();
        let answer = async { self.events.send(Event::Pulse { done }).await.is_ok() && told.await.is_ok() };
        tokio::time::timeout(deadline, answer).await.unwrap_or(false)
    }

    /// What is seen of every channel.
    pub fn sights(&self) -> Vec<Arc<Sight>> {
        self.sights.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// What workers say has happened, from now on. Until it is kept, a worker says it again with the same run and
    /// number.
    pub fn events(&self) -> broadcast::Receiver<(ChannelId, wire::Event)> {
        self.told.subscribe()
    }

    /// Whether the controller is ending.
    pub fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Relaxed)
    }

    /// Ends all workers and leaves the wishes as they are.
    pub async fn leave(&self) {
        self.leaving.store(true, Ordering::Relaxed);
        let _ = self.events.send(Event::Leave).await;
    }
}
