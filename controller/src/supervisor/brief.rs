//! What a worker is told: items, destinations with opened keys, HLS, programs. Built when it calls, never saved.

use crate::config::Config;
use crate::ffmpeg::Tools;
use crate::wishes::destinations::Keyring;
use state::channel::StreamConfig;
use state::ids::Ulid;
use state::playlist::Playlist;
use state::prepared;
use state::secret::Secret;
use state::storage::StorageSettings;
use state::wire::{Cursor, DestinationSpec, HlsSpec, ItemSpec, MediaAt, WorkerSpec};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Everything that is needed to brief a worker.
pub struct Briefing {
    /// What the environment says.
    pub config: Arc<Config>,
    /// Opens stream keys.
    pub keyring: Arc<Keyring>,
    /// Which FFmpeg there is.
    pub tools: Mutex<Tools>,
}

/// What differs from run to run.
#[derive(Debug, Clone)]
pub struct RunFacts {
    /// Names the run.
    pub run: Ulid,
    /// Fencing number.
    pub epoch: u64,
    /// Where to go on.
    pub cursor: Option<Cursor>,
    /// Lowest HLS sequence number it may use.
    pub first_sequence: u64,
}

impl Briefing {
    /// The whole message. Lists the media folder, so it may wait for a disk: not on the async thread.
    pub fn spec(&self, wish: &StreamConfig, facts: RunFacts) -> WorkerSpec {
        let tools = self.tools();
        WorkerSpec {
            channel: wish.id.clone(),
            storage: self.storage(),
            name: wish.name.clone(),
            run: facts.run,
            epoch: facts.epoch,
            generation: 0,
            items: self.items(wish),
            looped: wish.looped,
            profile: wish.profile.clone(),
            destinations: self.destinations(wish),
            hls: wish.hls.enabled.then(|| HlsSpec {
                dir: self.config.hls_dir.join(wish.public_id.as_str()),
                public_id: wish.public_id.clone(),
                target_duration_s: 4,
                window: 8,
                first_sequence: facts.first_sequence,
            }),
            ffmpeg: tools.ffmpeg,
            ffprobe: tools.ffprobe,
            tls_ca_file: self.config.tls_ca_file.clone(),
            cache_dir: self.cache_dir(),
            cursor: facts.cursor,
            prepares: self.config.prepares,
        }
    }

    /// What the channel plays in the next round. Lists the media folder. A folder that cannot be listed gives
    /// nothing: the worker shows its slate and asks again.
    pub fn items(&self, wish: &StreamConfig) -> Vec<ItemSpec> {
        let folder = &self.config.media_dir;
        match &wish.playlist {
            Playlist::List { items } => {
                items.iter().map(|item| spec_of(folder, item.id.clone(), &item.key)).collect()
            }
            Playlist::Storage => match storage::local::list(folder, &self.config.media_prefix) {
                Ok(files) => files.iter().map(|f| spec_of(folder, Ulid::from_text(&f.key), &f.key)).collect(),
                Err(error) => {
                    tracing::error!(channel.id = %wish.id, %error, "the media cannot be listed");
                    Vec::new()
                }
            },
        }
    }

    /// The item behind a key of the library, wherever it is played. Looks at the disk.
    pub fn item(&self, key: &str) -> Option<ItemSpec> {
        storage::local::path_of(&self.config.media_dir, key)?;
        Some(spec_of(&self.config.media_dir, Ulid::from_text(key), key))
    }

    /// Things that can be made again: the slate, copies of media, prepared media.
    pub fn cache_dir(&self) -> PathBuf {
        self.config.state_dir.join("cache")
    }

    /// How workers reach the bucket; `None` where media are files.
    pub fn storage(&self) -> Option<StorageSettings> {
        None
    }

    fn destinations(&self, wish: &StreamConfig) -> Vec<DestinationSpec> {
        let enabled = self.keyring.of(wish).into_iter().filter(|wanted| wanted.shown.enabled);
        let opened = enabled.filter_map(|wanted| {
            let spec = self.keyring.spec(&wish.id, &wanted);
            let id = &wanted.shown.id;
            spec.inspect_err(
                |error| tracing::error!(channel.id = %wish.id, destination.id = %id, %error, "left out"),
            )
            .ok()
        });
        opened.collect()
    }

    /// Everything of a channel that must never be shown.
    pub fn secrets(&self, wish: &StreamConfig) -> Vec<Secret> {
        let all = self.keyring.of(wish);
        all.iter()
            .filter_map(|wanted| self.keyring.spec(&wish.id, wanted).ok())
            .map(|spec| spec.key)
            .collect()
    }

    /// Which FFmpeg there is.
    pub fn tools(&self) -> Tools {
        self.tools.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Looks for FFmpeg again, if there was none.
    pub async fn look_again(&self) -> Tools {
        if !self.tools().problems.is_empty() {
            let found = crate::ffmpeg::look(&self.config).await;
            *self.tools.lock().unwrap_or_else(PoisonError::into_inner) = found;
        }
        self.tools()
    }
}

fn spec_of(folder: &Path, id: Ulid, key: &str) -> ItemSpec {
    let path = folder.join(key);
    let content = std::fs::metadata(&path).map(|meta| prepared::content_of(&meta)).unwrap_or_default();
    ItemSpec { id, key: key.to_owned(), at: MediaAt::Path(path), content }
}
