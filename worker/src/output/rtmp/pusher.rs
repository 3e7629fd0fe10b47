//! The task of a destination: the one owner of its retries.
//!
//! | from | to | when |
//! |---|---|---|
//! | Idle, Waiting | Connecting | the task starts, the wait is over, or it is told something new |
//! | Connecting | Sending | Publish.Start |
//! | Sending | Live | acknowledged bytes advance |
//! | Live | Sending | they have not for 5 s |
//! | Connecting, Sending, Live | Waiting | a failure; the next try has a time |
//! | Sending, Live | Connecting | a planned reconnect, or another address or key |
//! | any | Closed | asked to close |

use super::board::Board;
use super::dial;
use super::failure::{self, Failure, Kind, Stage};
use super::protocol::handshake;
use super::protocol::publish::{self, Publication};
use super::protocol::url::{BadUrl, Target};
use super::retry;
use super::sending::{Ended, Sending};
use super::tuning::Tuning;
use super::ways::{Broke, Way, Ways};
use state::mask;
use state::wire::{DestinationSpec, DestinationState};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::time::timeout;

/// What is wanted of the task.
#[derive(Debug, Clone)]
pub(super) enum Wish {
    /// Publish there.
    Publish(Arc<DestinationSpec>),
    /// Say goodbye.
    Leave,
}

/// The wishes, the newest of which counts.
pub(super) struct Orders(watch::Receiver<Wish>);

impl Orders {
    pub(super) fn new(wishes: watch::Receiver<Wish>) -> Self {
        Self(wishes)
    }

    /// Where to publish; `None` when the end is wanted.
    pub(super) fn newest(&mut self) -> Option<Arc<DestinationSpec>> {
        match &*self.0.borrow_and_update() {
            Wish::Publish(spec) => Some(Arc::clone(spec)),
            Wish::Leave => None,
        }
    }

    /// Returns when there is something that [`Self::newest`] has not given yet.
    pub(super) async fn changed(&mut self) {
        if self.0.changed().await.is_err() {
            // The handle is gone; it takes the task with it.
            std::future::pending::<()>().await;
        }
        self.0.mark_changed();
    }
}

/// What the task knows.
pub(super) struct Pusher {
    tls_ca_file: Option<PathBuf>,
    tuning: Tuning,
    board: Arc<Board>,
    spec: Option<Arc<DestinationSpec>>,
    ways: Result<Ways, BadUrl>,
    /// When our newest publication ended; the server may not have noticed yet.
    ended_at: Option<Instant>,
    /// When ours was last there, as far as is known: a server may hold the key for a while after that.
    shadow_of: Option<Instant>,
    /// The key with which a session came near its end.
    worn_out: Option<state::secret::Secret>,
}

impl Pusher {
    pub(super) fn new(tls_ca_file: Option<PathBuf>, tuning: Tuning, board: Arc<Board>) -> Self {
        let ways = Err(BadUrl("it is not known yet"));
        let shadow_of = tuning.came_before.then(Instant::now);
        Self { tls_ca_file, tuning, board, spec: None, ways, ended_at: None, shadow_of, worn_out: None }
    }

    pub(super) async fn run(mut self, mut orders: Orders) {
        while let Some(spec) = orders.newest() {
            self.take(&spec);
            self.board.set(DestinationState::Connecting);
            let wait = match self.once(&spec, &mut orders).await {
                Ended::Told => Duration::ZERO,
                Ended::Planned => self.renew(),
                Ended::Invited(target) => self.follow(target),
                Ended::Failed(failure, broke) => self.failed(failure, broke),
            };
            if !wait.is_zero() {
                let _ = timeout(wait, orders.changed()).await;
            }
        }
        self.board.set(DestinationState::Closed);
    }

    /// Words about another place or key begin a new life, without the failures of the old one.
    fn take(&mut self, spec: &Arc<DestinationSpec>) {
        let place = |spec: &DestinationSpec| (spec.url.clone(), spec.backup_url.clone(), spec.key.clone());
        if self.spec.as_ref().is_none_or(|old| place(old) != place(spec)) {
            self.ways = Ways::of(spec);
            self.board.forget_failures();
        }
        self.spec = Some(Arc::clone(spec));
    }

    /// One connection, from the name of the server to the end of the publication.
    async fn once(&mut self, spec: &Arc<DestinationSpec>, orders: &mut Orders) -> Ended {
        let ways = match &mut self.ways {
            Ok(ways) => ways,
            Err(error) => return Ended::Failed(Failure::bad_url(error), Broke::Early),
        };
        let way = ways.present();
        let target = way.target.clone();
        self.board.on_the_way(mask::url(&target.tc_url()));
        let opened = tokio::select! {
            opened = open(way, self.tls_ca_file.as_deref(), self.tuning.opening) => opened,
            () = orders.changed() => return Ended::Told,
        };
        let (link, publication, address) = match opened {
            Ok(opened) => opened,
            Err(failure) => return Ended::Failed(failure.cleaned(&target), Broke::Early),
        };
        way.addresses.worked(address);
        ways.published(Instant::now());
        self.board.published(self.ended_at.is_some());
        let began = Instant::now();
        let sending = Sending::new(link, publication, spec, &target, &self.board, &self.tuning);
        let ended = sending.run(orders, &mut self.worn_out).await;
        self.ended_at = Some(Instant::now());
        self.shadow_of = self.ended_at;
        let stable = began.elapsed() >= self.tuning.stable;
        match ended {
            Ended::Failed(failure, _) => broken(ways, failure, stable, address, &target),
            other => {
                if stable {
                    ways.stable();
                }
                other
            }
        }
    }

    fn renew(&mut self) -> Duration {
        if let Ok(ways) = &mut self.ways {
            ways.renewed(Instant::now());
        }
        Duration::ZERO
    }

    fn follow(&mut self, target: Option<Target>) -> Duration {
        let followed = self.ways.as_mut().is_ok_and(|ways| ways.follow(target));
        if followed { Duration::ZERO } else { self.failed(Failure::in_circles(), Broke::Early) }
    }

    /// Notes a failure and says how long to wait.
    fn failed(&mut self, failure: Failure, broke: Broke) -> Duration {
        let ours = self.shadow_of.is_some_and(|at| at.elapsed() < retry::SHADOW);
        let kind = if ours && failure::is_busy(&failure.code) { Kind::Busy } else { failure.kind };
        let attempt = self.board.attempt().saturating_add(1);
        let rounds = self.ways.as_mut().map_or(Some(attempt), |ways| ways.failed(broke));
        let wait = rounds.map_or(Duration::ZERO, |rounds| retry::delay(kind, rounds, random_unit()));
        self.board.failed(&failure, attempt, wait);
        wait
    }
}

/// A publication broke: how, and whether its address is to be blamed.
fn broken(ways: &mut Ways, failure: Failure, stable: bool, address: SocketAddr, target: &Target) -> Ended {
    let broke = if stable { failure.broke() } else { Broke::Early };
    if stable {
        ways.stable();
    }
    if broke != Broke::Closed {
        ways.present().addresses.failed(address);
    }
    Ended::Failed(failure.cleaned(target), broke)
}

/// Opens a connection and publishes. An address that leads to nothing is remembered.
async fn open(
    way: &mut Way,
    ca_file: Option<&Path>,
    limit: Duration,
) -> Result<(dial::Link, Publication, SocketAddr), Failure> {
    let Way { target, addresses } = way;
    let (mut link, address) = dial::open(target, addresses, ca_file, limit).await?;
    let publication = introduce(&mut link, target, limit).await.inspect_err(|_| addresses.failed(address))?;
    Ok((link, publication, address))
}

async fn introduce(link: &mut dial::Link, target: &Target, limit: Duration) -> Result<Publication, Failure> {
    let shaken = timeout(limit, handshake::shake(link)).await;
    let c2 = shaken
        .map_err(|_| Failure::timeout(target, "shake hands", limit))?
        .map_err(|error| Failure::publish(target, Stage::Handshake, &error))?;
    let published = timeout(limit, publish::publish(link, c2, target)).await;
    published
        .map_err(|_| Failure::timeout(target, "accept the publication", limit))?
        .map_err(|error| Failure::publish(target, Stage::Publish, &error))
}

/// A random number in 0..1.
fn random_unit() -> f64 {
    let mut bytes = [0; 4];
    state::ids::fill_random(&mut bytes);
    f64::from(u32::from_ne_bytes(bytes)) / (f64::from(u32::MAX) + 1.0)
}
