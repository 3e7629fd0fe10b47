//! Media: what there is, and the copies of it that this machine keeps. One task fetches for all channels of the host.
//!
//! It runs on a thread of its own, because it writes to the disk and decrypts what comes, and neither may hold up the
//! API and the supervisor. Workers find the copies by themselves ([`storage::cache::find`]).

pub mod amount;
mod fetcher;
pub mod library;
mod results;
mod tally;
mod wants;

pub use tally::Counts;

use crate::config::Config;
use crate::supervisor::Handle;
use crate::wishes::Wishes;
use anyhow::Context;
use library::Library;
use serde::Serialize;
use state::ids::ChannelId;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use storage::cache::{Cache, Shelf, Usage, free_bytes, usage};

/// Most bytes of copies, unless told otherwise, if half of the free disk is more.
const USUAL_BUDGET: u64 = 10_000_000_000;

/// What is told of the cache.
#[derive(Debug, Clone, Default, Serialize)]
pub struct CacheShown {
    /// Whether copies are kept: media are in a bucket, and the budget is not 0.
    pub enabled: bool,
    /// Most bytes that are kept.
    pub budget: u64,
    /// Bytes that are kept, parts and prepared files included.
    pub used: u64,
    /// Whole copies.
    pub files: usize,
    /// Prepared files that count in the budget, and their bytes.
    pub prepared_files: usize,
    /// Bytes.
    pub prepared_bytes: u64,
    /// What is being fetched.
    pub fetching: Option<Fetching>,
    /// Bytes that were fetched since the controller started.
    pub fetched_bytes: u64,
    /// Openings since the controller started.
    #[serde(flatten)]
    pub counts: Counts,
    /// Part of the openings that were hits; null before the first one.
    pub hit_ratio: Option<f64>,
    /// Why nothing can be fetched, while that is so.
    pub problem: Option<String>,
}

/// An object that is being fetched.
#[derive(Debug, Clone, Serialize)]
pub struct Fetching {
    /// Its key.
    pub key: String,
    /// Bytes that are here.
    pub done: u64,
    /// Bytes in all.
    pub size: u64,
}

#[derive(Default)]
struct Shown {
    cache: CacheShown,
    channels: BTreeMap<ChannelId, Counts>,
    /// What someone must do something about.
    alert: Option<String>,
    /// Where the copies are, once they are kept.
    shelf: Option<Shelf>,
}

/// What others may see of the cache.
#[derive(Clone, Default)]
pub struct Media(Arc<Mutex<Shown>>);

impl Media {
    /// The cache as it is.
    pub fn cache(&self) -> CacheShown {
        self.shown().cache.clone()
    }

    /// What the cache was good for to a channel; `None` where media are files.
    pub fn of(&self, channel: &ChannelId) -> Option<Counts> {
        self.shown().channels.get(channel).copied()
    }

    /// What someone must do something about.
    pub fn alert(&self) -> Option<String> {
        self.shown().alert.clone()
    }

    /// Why nothing more can be prepared at the moment: what was prepared fills the budget. What of it is not in use is
    /// removed before long. Reads the disk.
    pub fn full(&self) -> Option<String> {
        let shelf = self.shown().shelf.clone()?;
        let used = Usage::of(&shelf.held().ok()?).prepared_bytes;
        let full = shelf.budget() > 0 && used >= shelf.budget();
        full.then(|| "the files that were prepared fill the cache; raise CACHE_BYTES".to_owned())
    }

    fn shown(&self) -> MutexGuard<'_, Shown> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Begins to keep copies, where media are in a bucket, and to hold what is prepared to the budget. Where media are
/// files there is a budget only if somebody gave one.
///
/// # Errors
/// The cache folder cannot be used, or the thread cannot be started.
pub fn start(
    config: &Config,
    library: Arc<Library>,
    wishes: Arc<Wishes>,
    supervisor: Handle,
) -> anyhow::Result<Media> {
    let media = Media::default();
    if !library.is_bucket() && config.cache_bytes.unwrap_or(0) == 0 {
        return Ok(media);
    }
    let folder = config.state_dir.join("cache");
    let budget = config.cache_bytes.map_or_else(|| usual_budget(&folder), Ok)?;
    let enabled = budget > 0 && library.is_bucket();
    let bucket = &library.settings().bucket;
    let cache = Cache::open(&folder, bucket, budget, config.cache_bytes_per_s).context("open the cache")?;
    media.shown().shelf = Some(cache.shelf().clone());
    media.shown().cache = CacheShown { enabled, budget, ..CacheShown::default() };
    tracing::info!(budget = amount::words(budget), enabled, "the cache is open");
    let fetcher = fetcher::Fetcher::new(
        cache,
        library,
        wishes,
        supervisor,
        media.clone(),
        config.tls_ca_file.as_deref(),
    )?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let thread = std::thread::Builder::new().name("media".to_owned());
    // It ends with the process, at any moment: every step of it may be the last.
    thread.spawn(move || runtime.block_on(fetcher.run())).context("start the thread that fetches media")?;
    Ok(media)
}

/// Half of what is free, counting what the cache has taken already.
fn usual_budget(folder: &Path) -> anyhow::Result<u64> {
    let words = || folder.display().to_string();
    let used = usage(folder).with_context(words)?.bytes;
    let free = free_bytes(folder).with_context(words)?;
    Ok(USUAL_BUDGET.min((free + used) / 2))
}
