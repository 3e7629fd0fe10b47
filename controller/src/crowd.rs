//! How many connections there may be at once, so that callers never use up the file descriptors that keep channels on
//! the air, state on the disk and alerts on their way.

use rustix::process::{Resource, getrlimit};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Descriptors that callers do not get, where there are plenty.
const RESERVED: u64 = 256;

/// Most connections, where nothing limits them.
const MOST: u64 = 100_000;

/// The room for connections.
#[derive(Debug)]
pub struct Crowd {
    most: usize,
    places: Arc<Semaphore>,
}

impl Crowd {
    /// As many as the limit of open files leaves room for.
    pub fn of_this_process() -> Self {
        Self::new(getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX))
    }

    fn new(files: u64) -> Self {
        let most = files.saturating_sub(RESERVED.min(files / 2)).clamp(1, MOST);
        let most = usize::try_from(most).unwrap_or(1);
        Self { most, places: Arc::new(Semaphore::new(most)) }
    }

    /// Waits for a place; it is free again when the result is dropped.
    pub async fn place(&self) -> Option<OwnedSemaphorePermit> {
        // It is never closed.
        self.places.clone().acquire_owned().await.ok()
    }

    /// How many connections there may be, when there is no room for another one.
    pub fn is_full(&self) -> Option<usize> {
        (self.places.available_permits() == 0).then_some(self.most)
    }
}

/// Says something at most every few seconds.
#[derive(Debug, Default)]
pub struct Seldom(Option<Instant>);

impl Seldom {
    /// Whether it may be said again.
    pub fn may(&mut self) -> bool {
        let may = self.0.is_none_or(|at| at.elapsed() >= Duration::from_secs(10));
        if may {
            self.0 = Some(Instant::now());
        }
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn callers_wait_when_the_room_is_full_and_never_take_the_last_descriptors() {
        assert_eq!((Crowd::new(128).most, Crowd::new(65_536).most), (64, 65_280));
        assert_eq!((Crowd::new(0).most, Crowd::new(u64::MAX).most), (1, 100_000));
        let crowd = Crowd::new(2);
        let place = crowd.place().await;
        assert_eq!(crowd.is_full(), Some(1));
        let waits = tokio::time::timeout(Duration::from_millis(20), crowd.place()).await;
        assert!(waits.is_err());
        drop(place);
        assert_eq!(crowd.is_full(), None);
        assert!(crowd.place().await.is_some());
    }

    #[test]
    fn the_same_is_not_said_over_and_over() {
        let mut seldom = Seldom::default();
        assert!(seldom.may() && !seldom.may());
    }
}
