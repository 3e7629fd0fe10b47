//! What moves all the time, position and sums, is put on the disk every few seconds on one sheet for all channels: a
//! hundred of them then cost no more writes than one. See [`state::recent`].

use super::Supervisor;
use super::books::Shelf;
use super::journal::Keep;
use super::seen::Now;
use state::recent::{Newest, Recent};
use state::store::{self, Document};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How often a sheet is written: so much is lost when power fails.
const EVERY: Duration = Duration::from_secs(5);

/// Writes the sheets.
pub(super) struct Pen {
    folder: PathBuf,
    /// What was found, and from then on what all sheets have in common.
    recent: Recent,
    /// What was wrong with the file.
    alerts: Vec<String>,
    due: Instant,
    /// One sheet is on its way at a time, however slow the disk is.
    turn: Arc<Semaphore>,
}

impl Pen {
    /// Reads what an earlier controller left.
    pub(super) fn open(folder: &Path, now: Now) -> Result<Self, store::StoreError> {
        let loaded = store::load::<Recent>(folder, now.wall)?;
        Ok(Self {
            folder: folder.to_owned(),
            recent: loaded.document.unwrap_or_default(),
            alerts: loaded.alerts,
            due: now.mono + EVERY,
            turn: Arc::new(Semaphore::new(1)),
        })
    }

    /// What an earlier controller left.
    pub(super) fn found(&self) -> &Recent {
        &self.recent
    }
}

/// One sheet on its way to the disk.
#[derive(Debug)]
pub(super) struct Sheet {
    folder: PathBuf,
    recent: Recent,
    /// Where is shown what is on the disk, one for each channel of the sheet.
    shelves: Vec<Arc<Shelf>>,
    _turn: OwnedSemaphorePermit,
}

impl Sheet {
    /// Puts it on the disk. What cannot be written is an alert of its channels, and is tried again with the next one.
    pub(super) async fn put(self) {
        let Self { folder, mut recent, shelves, _turn } = self;
        for (newest, shelf) in recent.channels.values_mut().zip(&shelves) {
            newest.totals.revision = shelf.revision();
        }
        match crate::off_thread(move || store::put_own(&folder, &recent)).await {
            Ok(saved) => {
                let all = saved.channels.into_values().zip(shelves);
                all.for_each(|(newest, shelf)| shelf.kept(newest.totals));
            }
            Err(error) => {
                tracing::error!(%error, "position and time on air cannot be saved");
                let words = format!("position and time on air cannot be saved: {error}");
                shelves.iter().for_each(|shelf| shelf.failed(words.clone()));
            }
        }
    }
}

impl Supervisor {
    /// Hands the next sheet to the disk when it is due. One that does not get there in time is left out: the one after
    /// it says more.
    pub(super) fn keep_sheet(&mut self) {
        let now = Instant::now();
        if now < self.pen.due {
            return;
        }
        self.pen.due = now + EVERY;
        let Ok(turn) = self.pen.turn.clone().try_acquire_owned() else { return };
        let (mut shelves, mut recent) = (Vec::new(), self.pen.recent.clone());
        recent.channels.clear();
        for (id, channel) in &self.channels {
            let Some((totals, shelf)) = self.books.moving(id) else { continue };
            let (state_revision, cursor) = (channel.state.revision, channel.state.cursor.clone());
            recent.channels.insert(id.clone(), Newest { state_revision, cursor, totals });
            shelves.push(shelf);
        }
        if shelves.is_empty() {
            return;
        }
        let sheet = Sheet { folder: self.pen.folder.clone(), recent, shelves, _turn: turn };
        if self.journal.try_send(Keep::Sheet(Box::new(sheet))).is_ok() {
            self.pen.recent.set_revision(self.pen.recent.revision() + 1);
        }
    }

    /// A broken sheet is told of with the channel that is always there.
    pub(super) fn tell_broken_sheet(&mut self) {
        let alerts = std::mem::take(&mut self.pen.alerts);
        alerts.iter().for_each(|alert| tracing::error!("{alert}"));
        if let Some(channel) = self.channels.values_mut().next() {
            channel.alerts.extend(alerts);
        }
        // What was found has been taken over.
        self.pen.recent.channels.clear();
    }
}
