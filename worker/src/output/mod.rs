//! Where the timeline goes: RTMP(S) destinations and HLS. Each output takes tags without ever making the
//! timeline wait, and none of them knows of another.

pub mod hls;
pub mod rtmp;

use crate::media::Tag;
use hls::Hls;
use rtmp::Destination;
use state::Timestamp;
use state::wire::{DestinationSeen, DestinationState, HlsSeen, HlsSpec, WorkerSpec};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

/// All outputs of a channel.
pub struct Outputs {
    destinations: Vec<Destination>,
    hls: HlsOutput,
    changed: Arc<Notify>,
}

/// HLS begins with the timeline, because its dates do.
enum HlsOutput {
    Unwanted,
    Waiting(HlsSpec, u64),
    Running(Box<Hls>),
    Failed(HlsSeen),
}

impl Outputs {
    /// Starts connecting every destination. `changed` is notified when one of them changes its state.
    pub fn connect(spec: &WorkerSpec, changed: Arc<Notify>) -> Outputs {
        let start = |d: &state::wire::DestinationSpec| {
            Destination::start(d.clone(), spec.tls_ca_file.clone(), Arc::clone(&changed))
        };
        let destinations = spec.destinations.iter().map(start).collect();
        let hls = spec.hls.clone().map_or(HlsOutput::Unwanted, |hls| HlsOutput::Waiting(hls, spec.epoch));
        Outputs { destinations, hls, changed }
    }

    /// No output at all: another worker has them.
    pub fn none(changed: Arc<Notify>) -> Outputs {
        Outputs { destinations: Vec::new(), hls: HlsOutput::Unwanted, changed }
    }

    /// Whether a destination takes media, or there is none to wait for.
    pub fn is_heard(&self) -> bool {
        let taken =
            |d: &Destination| matches!(d.seen().state, DestinationState::Sending | DestinationState::Live);
        self.destinations.is_empty() || self.destinations.iter().any(taken)
    }

    /// Channel time 0 is `anchor`.
    pub fn begin(&mut self, anchor: Timestamp) {
        let HlsOutput::Waiting(spec, epoch) = &self.hls else { return };
        self.hls = match Hls::start(spec.clone(), *epoch, anchor, Arc::clone(&self.changed)) {
            Ok(hls) => HlsOutput::Running(Box::new(hls)),
            Err(error) => {
                tracing::error!(%error, folder = %spec.dir.display(), "HLS cannot be written; the destinations go on");
                let error = Some(format!("HLS cannot be written: {error}"));
                let next_sequence = spec.first_sequence;
                HlsOutput::Failed(HlsSeen { segments: 0, next_sequence, last_segment_at: None, error })
            }
        };
    }

    /// Hands tags to every output; never waits.
    pub fn send(&mut self, tags: &[Tag]) {
        for tag in tags {
            for destination in &self.destinations {
                destination.send(tag);
            }
            if let HlsOutput::Running(hls) = &mut self.hls {
                hls.send(tag);
            }
        }
    }

    /// Every destination.
    pub fn destinations_seen(&self) -> Vec<DestinationSeen> {
        self.destinations.iter().map(Destination::seen).collect()
    }

    /// The HLS output.
    pub fn hls_seen(&self) -> Option<HlsSeen> {
        match &self.hls {
            HlsOutput::Unwanted => None,
            HlsOutput::Waiting(spec, _) => Some(HlsSeen {
                segments: 0,
                next_sequence: spec.first_sequence,
                last_segment_at: None,
                error: None,
            }),
            HlsOutput::Running(hls) => Some(hls.seen()),
            HlsOutput::Failed(seen) => Some(seen.clone()),
        }
    }

    /// Closes everything, all at once, within `deadline`.
    pub async fn close(self, deadline: Duration) {
        let closing: Vec<_> =
            self.destinations.into_iter().map(|d| tokio::spawn(d.close(deadline))).collect();
        if let HlsOutput::Running(hls) = self.hls {
            // The last segment is flushed on a thread of its own, so that the destinations close meanwhile.
            let _ = tokio::task::spawn_blocking(move || hls.finish(deadline)).await;
        }
        for one in closing {
            let _ = one.await;
        }
    }
}
