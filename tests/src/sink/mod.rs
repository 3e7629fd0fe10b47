//! A loopback RTMP sink: takes publishes, records each as FLV with the publisher's own timestamps, and writes down
//! what happened and when. For tests and the demo; it keeps no key and speaks to nobody else.

mod arrivals;
mod flv;
mod journal;
mod publish;

pub use arrivals::{Arrival, read as read_arrivals};
pub use journal::Journal;

use anyhow::{Context, Result};
use std::collections::HashSet;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

/// Connections at a time; more wait at the door.
const MOST_CONNECTIONS: usize = 256;
/// How long open recordings get to be closed at the end.
const CLOSING: Duration = Duration::from_secs(5);

/// Application and key of everything that is being published. Held for moments only.
type Busy = Arc<Mutex<HashSet<(String, String)>>>;

/// Serves until `stop` says true, then closes every recording. Files go into `folder`.
pub async fn serve(
    listener: TcpListener,
    folder: &Path,
    journal: Journal,
    mut stop: watch::Receiver<bool>,
) -> Result<()> {
    let busy = Busy::default();
    let doors = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    let mut tasks = JoinSet::new();
    let journal = Arc::new(journal);
    loop {
        let next = async {
            let permit = doors.clone().acquire_owned().await;
            (permit, listener.accept().await)
        };
        let (permit, accepted) = tokio::select! {
            next = next => next,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        // A connection that is gone before it is accepted is the peer's affair.
        let Ok((stream, _)) = accepted else { continue };
        let connection = publish::Connection::new(folder, journal.clone(), busy.clone());
        let stop = stop.clone();
        tasks.spawn(async move {
            connection.run(stream, stop).await;
            drop(permit);
        });
        while tasks.try_join_next().is_some() {}
    }
    let all = async { while tasks.join_next().await.is_some() {} };
    tokio::time::timeout(CLOSING, all).await.context("close the recordings in time")
}
