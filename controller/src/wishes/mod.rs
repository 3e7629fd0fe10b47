//! What is wanted of every channel: on disk first, then in memory. Knows nothing of processes.
//!
//! One change at a time: whoever holds the [`Turn`] may change a wish, so that "is it on?" and "switch it on"
//! cannot be torn apart by a second caller.

pub mod destinations;

use crate::config::Config;
use state::channel::StreamConfig;
use state::ids::{ChannelId, PublicId};
use state::phase::Wish;
use state::store::{self, StoreError};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Every channel's wish.
pub struct Wishes {
    folder: PathBuf,
    known: Mutex<BTreeMap<ChannelId, StreamConfig>>,
    turn: tokio::sync::Mutex<()>,
    alerts: Vec<String>,
}

/// The right to change wishes.
pub struct Turn<'a> {
    wishes: &'a Wishes,
    _held: tokio::sync::MutexGuard<'a, ()>,
}

impl Wishes {
    /// Loads every channel in the state folder, and `main`, which is always there.
    ///
    /// # Errors
    /// A file is there and cannot be read, or `main` cannot be saved for the first time.
    pub fn load(config: &Config) -> anyhow::Result<Self> {
        let folder = config.state_dir.join("channels");
        let mut known = BTreeMap::new();
        let mut alerts = Vec::new();
        for id in channel_folders(&folder)? {
            let loaded = store::load::<StreamConfig>(&folder.join(id.as_str()), state::now())?;
            alerts.extend(loaded.alerts);
            match loaded.document {
                Some(document) if document.id == id => drop(known.insert(id, document)),
                Some(document) => alerts.push(format!(
                    "{}: the file says it is channel {}, so it is not used",
                    folder.join(id.as_str()).display(),
                    document.id
                )),
                None => {}
            }
        }
        if !known.contains_key(&ChannelId::main()) {
            // Saved at once, because its public id is part of addresses from now on.
            let main = StreamConfig::new(ChannelId::main());
            known.insert(main.id.clone(), store::put(&folder.join(main.id.as_str()), &main)?);
        }
        Ok(Self { folder, known: Mutex::new(known), turn: tokio::sync::Mutex::new(()), alerts })
    }

    /// What was wrong with the files, for people.
    pub fn alerts(&self) -> &[String] {
        &self.alerts
    }

    /// Whether a key of any channel is sealed.
    pub fn hold_secrets(&self) -> bool {
        let known = self.known();
        let mut all = known.values().flat_map(|config| &config.destinations);
        all.any(|destination| destination.sealed_key.is_some() || destination.sealed_key_url.is_some())
    }

    /// A channel's wish.
    pub fn get(&self, channel: &ChannelId) -> Option<StreamConfig> {
        self.known().get(channel).cloned()
    }

    /// How often any channel's wish was changed.
    pub fn changes(&self) -> u64 {
        self.known().values().map(|config| config.revision).sum()
    }

    /// How many channels there are.
    pub fn count(&self) -> usize {
        self.known().len()
    }

    /// Whether there is such a channel.
    pub fn is_known(&self, channel: &ChannelId) -> bool {
        self.known().contains_key(channel)
    }

    /// Whether a channel shall be on the air.
    pub fn is_on(&self, channel: &ChannelId) -> bool {
        self.known().get(channel).is_some_and(|config| config.wish == Wish::On)
    }

    /// Whether a channel's fallback shall be on the air by order.
    pub fn slate_on(&self, channel: &ChannelId) -> bool {
        self.known().get(channel).is_some_and(|config| config.slate_on)
    }

    /// The channel that viewers know by this name, and whether anybody may watch it.
    pub fn by_public_id(&self, public_id: &PublicId) -> Option<(ChannelId, bool)> {
        let known = self.known();
        let config = known.values().find(|config| config.public_id == *public_id)?;
        Some((config.id.clone(), config.hls.public))
    }

    /// The names of all channels.
    pub fn ids(&self) -> Vec<ChannelId> {
        self.known().keys().cloned().collect()
    }

    /// All channels, by name.
    pub fn all(&self) -> Vec<StreamConfig> {
        self.known().values().cloned().collect()
    }

    /// Waits for the right to change something.
    pub async fn turn(&self) -> Turn<'_> {
        Turn { wishes: self, _held: self.turn.lock().await }
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<ChannelId, StreamConfig>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn<'_> {
    /// Saves a changed wish. It is on the disk when this returns.
    ///
    /// # Errors
    /// Those of [`store::put`]; nothing is changed then.
    pub async fn put(&self, config: StreamConfig) -> Result<StreamConfig, StoreError> {
        let folder = self.wishes.folder.join(config.id.as_str());
        let saved = crate::off_thread(move || store::put(&folder, &config)).await?;
        self.wishes.known().insert(saved.id.clone(), saved.clone());
        Ok(saved)
    }

    /// Saves that a channel is not wanted any more; the broadcast ends with it.
    ///
    /// # Errors
    /// Those of [`store::put`].
    pub async fn switch_off(&self, mut config: StreamConfig) -> Result<StreamConfig, StoreError> {
        config.wish = Wish::Off;
        config.wish_since = Some(state::now());
        config.session_id = None;
        config.slate_on = false;
        self.put(config).await
    }
}

fn channel_folders(folder: &std::path::Path) -> std::io::Result<Vec<ChannelId>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let id = entry.file_name().to_str().and_then(|name| name.parse().ok());
        found.extend(id.filter(|_| entry.path().is_dir()));
    }
    found.sort();
    Ok(found)
}
