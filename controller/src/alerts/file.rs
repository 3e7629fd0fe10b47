//! What is remembered of alerts: open ones, recent ones, and letters on their way, in one file, so that an alert and
//! the word of it are on the disk together.

use super::book::Pages;
use super::outbox::Letters;
use super::webhooks::Kept;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use state::store::{self, Document, StoreError};
use std::path::{Path, PathBuf};

/// The file.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Remembered {
    version: u32,
    revision: u64,
    /// Which alerts are open and which were.
    #[serde(flatten)]
    pub pages: Pages,
    /// What is on its way.
    #[serde(flatten)]
    pub letters: Letters,
    /// Fields that a newer version wrote.
    #[serde(flatten)]
    other: Map<String, Value>,
}

impl Default for Remembered {
    fn default() -> Self {
        let (pages, letters) = (Pages::default(), Letters::default());
        Self { version: Self::VERSION, revision: 0, pages, letters, other: Map::new() }
    }
}

state::document!(Remembered, "alerts.json", version 1);

/// The folder `STATE_DIR/alerts`.
#[derive(Debug, Clone)]
pub struct Folder(PathBuf);

impl Folder {
    /// The folder in this state folder; made when something is written.
    pub fn of(state_dir: &Path) -> Self {
        Self(state_dir.join("alerts"))
    }

    /// Reads a document. One that cannot be read is as good as none, and what is wrong is added to `troubles`:
    /// alerts are needed most when things are broken.
    pub fn load<T: Document + Default>(&self, troubles: &mut Vec<String>) -> T {
        match store::load::<T>(&self.0, state::now()) {
            Ok(loaded) => {
                troubles.extend(loaded.alerts);
                loaded.document.unwrap_or_default()
            }
            Err(error) => {
                troubles.push(error.to_string());
                T::default()
            }
        }
    }

    /// Puts what is remembered on the disk, over whatever is there: it is ours alone.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn save(&self, remembered: &Remembered) -> Result<Remembered, StoreError> {
        store::put_own(&self.0, remembered)
    }

    /// Puts the webhooks on the disk.
    ///
    /// # Errors
    /// Those of [`store::put`]; nothing is changed then.
    pub fn save_webhooks(&self, kept: &Kept) -> Result<Kept, StoreError> {
        store::put(&self.0, kept)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_file_is_put_aside_and_alerts_go_on() {
        let folder = tempfile::tempdir().unwrap();
        let alerts = Folder::of(folder.path());
        let saved = alerts.save(&Remembered::default()).unwrap();
        assert_eq!(alerts.save(&saved).unwrap().revision, saved.revision + 1);
        let path = folder.path().join("alerts/alerts.json");
        std::fs::write(&path, b"{\"version\":").unwrap();
        std::fs::remove_file(path.with_file_name("alerts.json.prev")).unwrap();
        let mut troubles = Vec::new();
        assert!(alerts.load::<Remembered>(&mut troubles).pages.open.is_empty());
        assert!(troubles[0].contains("was put aside"), "{troubles:?}");
    }
}
