//! The history of runs on the disk.

use state::ids::ChannelId;
use state::runs::{RunKept, Runs};
use state::store::{self, StoreError};
use std::path::Path;

/// Writes a run, or what is new of it, into the history of a channel. Returns what an operator must know.
///
/// # Errors
/// Those of [`store::load`] and [`store::put`].
pub fn note(folder: &Path, id: ChannelId, run: RunKept) -> Result<Vec<String>, StoreError> {
    let loaded = store::load::<Runs>(folder, state::now())?;
    let mut runs = loaded.document.unwrap_or_else(|| Runs::new(id));
    if runs.runs.contains(&run) {
        return Ok(loaded.alerts);
    }
    runs.note(run);
    store::put(folder, &runs)?;
    Ok(loaded.alerts)
}

/// The newest `limit` runs that began before the run named `before`, newest first.
///
/// # Errors
/// Those of [`store::load`].
pub fn list(folder: &Path, limit: usize, before: Option<&str>) -> Result<Vec<RunKept>, StoreError> {
    let loaded = store::load::<Runs>(folder, state::now())?;
    // A broken file is put aside by whoever reads it first, and only that one hears of it.
    loaded.alerts.iter().for_each(|alert| tracing::error!("{alert}"));
    let runs = loaded.document.map(|found| found.runs).unwrap_or_default().into_iter().rev();
    // Names of runs are in the order of their beginnings.
    let earlier = runs.filter(|kept| before.is_none_or(|before| kept.run.id.as_str() < before));
    Ok(earlier.take(limit).collect())
}
