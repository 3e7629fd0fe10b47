//! What a worker is told: items, destinations with opened keys, HLS, programs. Built when it calls, never saved.

use crate::config::Config;
use crate::ffmpeg::Tools;
use crate::media::library::Library;
use crate::wishes::destinations::Keyring;
use state::channel::StreamConfig;
use state::ids::Ulid;
use state::playlist::{Item, Playlist};
use state::profile::Profile;
use state::secret::Secret;
use state::storage::StorageSettings;
use state::wire::{Cursor, DestinationSpec, HlsSpec, ItemSpec, MediaAt, WorkerSpec};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use storage::MediaFile;

/// Everything that is needed to brief a worker.
pub struct Briefing {
    /// What the environment says.
    pub config: Arc<Config>,
    /// Opens stream keys.
    pub keyring: Arc<Keyring>,
    /// What there is to play.
    pub library: Arc<Library>,
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
    /// The profile of the run before, where this one takes over from it.
    pub profile: Option<Profile>,
}

impl Briefing {
    /// The whole message. Lists the storage.
    pub async fn spec(&self, wish: &StreamConfig, facts: RunFacts) -> WorkerSpec {
        let files = self.library.files_or_old_ones().await;
        let items = items_of(wish, &self.library, &files);
        let fallback = self.fallback(wish, &files);
        let tools = self.tools();
        WorkerSpec {
            channel: wish.id.clone(),
            storage: self.storage(),
            name: wish.name.clone(),
            run: facts.run,
            epoch: facts.epoch,
            generation: 0,
            items,
            looped: wish.looped,
            profile: wish.profile.clone().or(facts.profile),
            destinations: self.destinations(wish),
            hls: wish.hls.enabled.then(|| HlsSpec {
                dir: self.config.hls_dir.join(wish.public_id.as_str()),
                public_id: wish.public_id.clone(),
                target_duration_s: 4,
                window: 8,
                first_sequence: facts.first_sequence,
                first_pts: 0,
            }),
            ffmpeg: tools.ffmpeg,
            ffprobe: tools.ffprobe,
            tls_ca_file: self.config.tls_ca_file.clone(),
            cache_dir: self.cache_dir(),
            cursor: facts.cursor,
            prepares: self.config.prepares,
            fallback,
            slate_on: wish.slate_on,
        }
    }

    /// What the channel plays in the next round. Lists the storage; where that fails, what was listed before is used,
    /// and without that nothing: the worker shows its slate and asks again.
    pub async fn items(&self, wish: &StreamConfig) -> Vec<ItemSpec> {
        let files = self.library.files_or_old_ones().await;
        items_of(wish, &self.library, &files)
    }

    /// What the channel shows when there is nothing else, by a listing.
    pub fn fallback(&self, wish: &StreamConfig, files: &[MediaFile]) -> Option<ItemSpec> {
        let key = wish.fallback_video.as_deref()?;
        let listed = files.iter().find(|file| file.key == key).cloned();
        let unknown = || MediaFile { key: key.to_owned(), size: 0, content: String::new() };
        let file = listed.or_else(|| self.library.named(key)).unwrap_or_else(unknown);
        Some(spec_of(&self.library, Ulid::from_text(key), file))
    }

    /// The items behind keys of the library, wherever they are played; `None` for each that is not in it. With
    /// `anew` a bucket is listed, else what was listed last is used.
    pub async fn items_by_key(&self, keys: &[String], anew: bool) -> Vec<Option<ItemSpec>> {
        let files = match self.library.is_bucket() && !anew {
            true => self.library.known_files(),
            false => self.library.files_or_old_ones().await,
        };
        let by_key: HashMap<&str, &MediaFile> = files.iter().map(|file| (file.key.as_str(), file)).collect();
        let spec = |key: &String| {
            let file = *by_key.get(key.as_str())?;
            Some(spec_of(&self.library, Ulid::from_text(key), file.clone()))
        };
        keys.iter().map(spec).collect()
    }

    /// Things that can be made again: the slate, copies of media, prepared media.
    pub fn cache_dir(&self) -> PathBuf {
        self.config.state_dir.join("cache")
    }

    /// How workers reach the bucket; `None` where media are files.
    pub fn storage(&self) -> Option<StorageSettings> {
        self.library.is_bucket().then(|| self.library.settings().clone())
    }

    /// Where it is sent: every enabled destination whose key opens.
    pub fn destinations(&self, wish: &StreamConfig) -> Vec<DestinationSpec> {
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
        let keys =
            all.iter().filter_map(|wanted| self.keyring.spec(&wish.id, wanted).ok()).map(|spec| spec.key);
        let storage = self.library.settings();
        let of_storage = [&storage.access_key_id, &storage.secret_access_key].into_iter().cloned();
        keys.chain(of_storage.filter(|secret| !secret.is_empty())).collect()
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

/// A round of a channel's items, by a listing. What is not in the listing is named all the same: the worker finds out
/// what becomes of it.
pub(crate) fn items_of(wish: &StreamConfig, library: &Library, files: &[MediaFile]) -> Vec<ItemSpec> {
    match &wish.playlist {
        Playlist::Storage => {
            files.iter().map(|file| spec_of(library, Ulid::from_text(&file.key), file.clone())).collect()
        }
        Playlist::List { items } => {
            let listed: HashMap<&str, &MediaFile> =
                files.iter().map(|file| (file.key.as_str(), file)).collect();
            let known =
                |key: &str| listed.get(key).map(|file| (*file).clone()).or_else(|| library.named(key));
            let unknown = |key: &str| MediaFile { key: key.to_owned(), size: 0, content: String::new() };
            let spec = |item: &Item| {
                let file = known(&item.key).unwrap_or_else(|| unknown(&item.key));
                spec_of(library, item.id.clone(), file)
            };
            items.iter().map(spec).collect()
        }
    }
}

fn spec_of(library: &Library, id: Ulid, file: MediaFile) -> ItemSpec {
    let at = match library.is_bucket() {
        true => MediaAt::Object { size: file.size },
        false => MediaAt::Path(library.settings().local_dir.join(&file.key)),
    };
    ItemSpec { id, key: file.key, at, content: file.content }
}
