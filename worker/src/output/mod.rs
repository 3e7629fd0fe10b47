//! Where the timeline goes: RTMP(S) destinations and HLS. Each output takes tags without ever making the
//! timeline wait, and none of them knows of another.

pub mod hls;
pub mod rtmp;

use crate::media::Tag;
use hls::Hls;
use rtmp::{Destination, News};
use state::Timestamp;
use state::ids::DestinationId;
use state::wire::{DestinationSeen, DestinationSpec, DestinationState, HlsSeen, HlsSpec, WorkerSpec};
use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::JoinSet;

/// Time that a destination gets to say goodbye when it is taken away while on the air.
const LEAVE_DEADLINE: Duration = Duration::from_secs(10);

/// All outputs of a channel.
pub struct Outputs {
    destinations: Vec<Destination>,
    /// Destinations that were taken away and say goodbye.
    leaving: JoinSet<()>,
    /// Destinations that were taken away in this run.
    left: HashSet<DestinationId>,
    /// Another run came before this one, and its connections may not be forgotten yet.
    came_before: bool,
    tls_ca_file: Option<PathBuf>,
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
        let hls = spec.hls.clone().map_or(HlsOutput::Unwanted, |hls| HlsOutput::Waiting(hls, spec.epoch));
        let (destinations, leaving, tls_ca_file) = (Vec::new(), JoinSet::new(), spec.tls_ca_file.clone());
        let (left, came_before) = (HashSet::new(), spec.epoch > 1);
        let mut outputs = Outputs { destinations, leaving, left, came_before, tls_ca_file, hls, changed };
        outputs.update(spec.destinations.clone());
        outputs
    }

    /// From now on these are all destinations. New ones begin at their next IDR, missing ones say goodbye in the
    /// background, changed ones follow ([`Destination::update`]), and the others notice nothing.
    pub fn update(&mut self, list: Vec<DestinationSpec>) {
        let mut before = std::mem::take(&mut self.destinations);
        for spec in list {
            if self.destinations.iter().any(|known| known.spec().id == spec.id) {
                tracing::error!(destination.id = %spec.id, "a destination is in the list twice; the second is left out");
                continue;
            }
            let known = before.iter().position(|known| known.spec().id == spec.id);
            let destination = match known.map(|at| before.swap_remove(at)) {
                Some(mut known) => {
                    known.update(spec);
                    known
                }
                None => self.start(spec),
            };
            self.destinations.push(destination);
        }
        while self.leaving.try_join_next().is_some() {}
        for gone in before {
            self.left.insert(gone.spec().id.clone());
            self.leaving.spawn(gone.close(LEAVE_DEADLINE));
        }
        self.changed.notify_one();
    }

    fn start(&self, spec: DestinationSpec) -> Destination {
        let (tls_ca_file, changed) = (self.tls_ca_file.clone(), Arc::clone(&self.changed));
        match self.came_before || self.left.contains(&spec.id) {
            true => Destination::start_again(spec, tls_ca_file, changed),
            false => Destination::start(spec, tls_ca_file, changed),
        }
    }

    /// What has happened to the destinations since the last call.
    pub fn news(&self) -> Vec<News> {
        self.destinations.iter().flat_map(Destination::news).collect()
    }

    /// No output at all: another worker has them.
    pub fn none(changed: Arc<Notify>) -> Outputs {
        let (destinations, leaving) = (Vec::new(), JoinSet::new());
        let (left, hls) = (HashSet::new(), HlsOutput::Unwanted);
        Outputs { destinations, leaving, left, came_before: true, tls_ca_file: None, hls, changed }
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
                HlsOutput::Failed(HlsSeen { next_sequence, error, ..HlsSeen::default() })
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
            HlsOutput::Waiting(spec, _) => {
                Some(HlsSeen { next_sequence: spec.first_sequence, ..HlsSeen::default() })
            }
            HlsOutput::Running(hls) => Some(hls.seen()),
            HlsOutput::Failed(seen) => Some(seen.clone()),
        }
    }

    /// Closes everything, all at once, within `deadline`.
    pub async fn close(mut self, deadline: Duration) {
        for destination in self.destinations.drain(..) {
            self.leaving.spawn(destination.close(deadline));
        }
        if let HlsOutput::Running(hls) = self.hls {
            // The last segment is flushed on a thread of its own, so that the destinations close meanwhile.
            let _ = tokio::task::spawn_blocking(move || hls.finish(deadline)).await;
        }
        let everybody = async { while self.leaving.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(deadline, everybody).await;
    }
}
