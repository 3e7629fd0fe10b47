//! What there is to play: the listing of the storage, remembered so that a start need not wait for a bucket and an
//! outage does not empty a playlist, not even for a controller that is started during it.
//!
//! A folder of this machine is listed anew each time: that is quick, and it has no outages.

use serde::{Deserialize, Serialize};
use state::atomic;
use state::storage::{Provider, StorageSettings};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use storage::{MediaFile, Storage, StorageError};

/// A listing that is not older than this is good enough to start with; it is renewed meanwhile.
const FRESH: Duration = Duration::from_secs(60);

/// A listing is not renewed more often than this.
const PAUSE: Duration = Duration::from_secs(5);

/// A listing may take this long, pages and retries included.
const DEADLINE: Duration = Duration::from_secs(25);

/// A channel on the air waits this long for a new listing where there is an old one.
const PATIENCE: Duration = Duration::from_secs(3);

/// Files of which the listing does not say enough are asked for one by one, but not more of them than this.
const MOST_ASKED: usize = 50;

/// Media files by their keys, in natural order.
pub type Listing = Arc<Vec<MediaFile>>;

/// The listing, and how it came to be.
pub struct Library {
    storage: Storage,
    settings: StorageSettings,
    /// Where the listing of a bucket is remembered.
    file: PathBuf,
    known: Mutex<Known>,
    /// Held by whoever lists.
    turn: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Known {
    files: Listing,
    /// Files outside of the listing that someone named.
    named: HashMap<String, MediaFile>,
    /// When it was listed last by this controller.
    listed: Option<Instant>,
    /// When listing was tried last.
    tried: Option<Instant>,
    /// Why it could not be listed, while that is so.
    trouble: Option<StorageError>,
    /// There is a listing, perhaps an old one.
    any: bool,
}

/// The listing as it is on disk.
#[derive(Serialize, Deserialize)]
struct Remembered {
    /// Whose it is: another bucket's is of no use.
    of: String,
    listed_at: state::Timestamp,
    files: Vec<RememberedFile>,
}

#[derive(Serialize, Deserialize)]
struct RememberedFile {
    key: String,
    size: u64,
    content: String,
}

impl Library {
    /// The library of this storage; what is remembered of a bucket is read from the state folder.
    ///
    /// # Errors
    /// Those of [`Storage::open`].
    pub fn open(
        settings: &StorageSettings,
        tls_ca_file: Option<&Path>,
        state_dir: &Path,
    ) -> Result<Self, StorageError> {
        let storage = Storage::open(settings.clone(), tls_ca_file)?;
        let file = state_dir.join("library.json");
        let remembered = if is_bucket(settings) { recall(&file, &place(settings)) } else { None };
        let known = remembered.map(|files| Known { files: Arc::new(files), any: true, ..Known::default() });
        Ok(Self {
            storage,
            settings: settings.clone(),
            file,
            known: Mutex::new(known.unwrap_or_default()),
            turn: tokio::sync::Mutex::default(),
        })
    }

    /// Where media live.
    pub fn settings(&self) -> &StorageSettings {
        &self.settings
    }

    /// Whether media live in a bucket.
    pub fn is_bucket(&self) -> bool {
        is_bucket(&self.settings)
    }

    /// The listing, at most a minute old, or one from before an outage.
    ///
    /// # Errors
    /// Why there is none: what someone has to mend, or an outage and nothing is remembered.
    pub async fn files(self: &Arc<Self>) -> Result<Listing, StorageError> {
        if !self.is_bucket() {
            return self.list().await;
        }
        let (fresh, due) = {
            let known = self.known();
            let fresh = known.listed.is_some_and(|at| at.elapsed() < FRESH) && known.trouble.is_none();
            (fresh.then(|| known.files.clone()), known.tried.is_none_or(|at| at.elapsed() >= PAUSE))
        };
        if let Some(files) = fresh {
            if due {
                tokio::spawn(self.clone().renew());
            }
            return Ok(files);
        }
        match self.list().await {
            Err(error) if error.is_worth_retrying() && self.known().any => Ok(self.known().files.clone()),
            result => result,
        }
    }

    /// The listing for a channel that is on the air: an old one is better than none.
    pub async fn files_or_old_ones(self: &Arc<Self>) -> Listing {
        let patience = if self.known().any { PATIENCE } else { DEADLINE };
        // Listing goes on when patience is over, for whoever asks next.
        let library = self.clone();
        let listing = tokio::spawn(async move { library.files().await });
        match tokio::time::timeout(patience, listing).await {
            Ok(Ok(Ok(files))) => files,
            _ => self.known_files(),
        }
    }

    /// What is known without asking anybody.
    pub fn known_files(&self) -> Listing {
        self.known().files.clone()
    }

    /// A file that someone named, though it is not in the listing.
    pub fn named(&self, key: &str) -> Option<MediaFile> {
        self.known().named.get(key).cloned()
    }

    /// Looks for keys that the listing does not show, because they are hidden, outside of the prefix or of an unknown
    /// kind; gives those that are not there.
    ///
    /// # Errors
    /// Why nobody can tell.
    pub async fn missing<'a>(self: &Arc<Self>, keys: &[&'a str]) -> Result<Vec<&'a str>, StorageError> {
        let files = self.files().await?;
        let listed: HashMap<&str, &MediaFile> = files.iter().map(|file| (file.key.as_str(), file)).collect();
        let mut missing = Vec::new();
        let mut asked = 0;
        for key in keys.iter().copied().filter(|key| !listed.contains_key(key)) {
            let shown = storage::is_media_key(key) && key.starts_with(&self.settings.prefix);
            if shown || asked == MOST_ASKED {
                missing.push(key);
                continue;
            }
            asked += 1;
            match self.storage.stat(key).await {
                Ok(file) => drop(self.known().named.insert(key.to_owned(), file)),
                Err(StorageError::NoKey(_)) => missing.push(key),
                Err(error) => return Err(error),
            }
        }
        Ok(missing)
    }

    /// Why the storage cannot be listed, or that there is nothing in it. Nobody waits for a bucket here: what is known
    /// is told, and it is asked meanwhile.
    pub async fn problem(self: &Arc<Self>) -> Option<String> {
        if !self.is_bucket() {
            return match self.list().await {
                Ok(files) => files.is_empty().then(|| self.emptiness()),
                Err(error) => Some(error.to_string()),
            };
        }
        if self.known().tried.is_none_or(|at| at.elapsed() >= PAUSE) {
            tokio::spawn(self.clone().renew());
        }
        let known = self.known();
        match &known.trouble {
            Some(trouble) if known.any => Some(format!(
                "the media cannot be listed, so the last listing with {} files is used: {trouble}",
                known.files.len()
            )),
            Some(trouble) => Some(trouble.to_string()),
            None => (known.listed.is_some() && known.files.is_empty()).then(|| self.emptiness()),
        }
    }

    /// That there is nothing to play, and what to do.
    pub fn emptiness(&self) -> String {
        let prefix = match self.settings.prefix.as_str() {
            "" => String::new(),
            prefix => format!(" whose key starts with {prefix:?}"),
        };
        match self.settings.provider {
            Provider::Local => format!(
                "the media folder {} holds no media file{prefix}; put video or audio files in it, or set STORAGE_LOCAL_DIR",
                self.settings.local_dir.display()
            ),
            _ => format!(
                "the bucket {} holds no media file{prefix}; upload some, or set STORAGE_BUCKET or STORAGE_PREFIX",
                self.settings.bucket
            ),
        }
    }

    /// Where a key should be, for people.
    pub fn place_words(&self) -> String {
        match self.settings.provider {
            Provider::Local => format!("the media folder {}", self.settings.local_dir.display()),
            _ => format!("the bucket {}", self.settings.bucket),
        }
    }

    async fn renew(self: Arc<Self>) {
        if self.turn.try_lock().is_ok() {
            // What went wrong is kept for whoever asks.
            let _ = self.list().await;
        }
    }

    async fn list(&self) -> Result<Listing, StorageError> {
        let _turn = self.turn.lock().await;
        let listed = tokio::time::timeout(DEADLINE, self.look()).await.unwrap_or_else(|_| {
            Err(StorageError::TimedOut(format!(
                "{} could not be listed within {} s",
                self.place_words(),
                DEADLINE.as_secs()
            )))
        });
        let changed = self.take_in(&listed);
        if let (true, Ok(files)) = (changed && self.is_bucket(), &listed) {
            self.remember(files.clone()).await;
        }
        listed.map(|_| self.known().files.clone())
    }

    /// ETags are optional in a listing (S3 API reference, "Object"). Without one nothing tells a copy from another, so
    /// files without are asked for one by one, within reason; the others are played over links only.
    async fn look(&self) -> Result<Vec<MediaFile>, StorageError> {
        let mut files = self.storage.list_media().await?;
        for file in files.iter_mut().filter(|file| file.content.is_empty()).take(MOST_ASKED) {
            match self.storage.stat(&file.key).await {
                Ok(found) => *file = found,
                Err(error) if error.is_worth_retrying() => return Err(error),
                Err(_) => {}
            }
        }
        Ok(files)
    }

    /// Keeps what came of a listing; gives whether it differs from the last one.
    fn take_in(&self, listed: &Result<Vec<MediaFile>, StorageError>) -> bool {
        let mut known = self.known();
        let now = Instant::now();
        known.tried = Some(now);
        match listed {
            Ok(files) => {
                if known.trouble.take().is_some() {
                    tracing::info!(files = files.len(), "the media can be listed again");
                }
                known.listed = Some(now);
                let changed = !known.any || *known.files != *files;
                if changed {
                    known.files = Arc::new(files.clone());
                }
                known.any = true;
                changed
            }
            Err(error) => {
                if known.trouble.is_none() {
                    tracing::warn!(code = error.code(), %error, "the media cannot be listed");
                }
                known.trouble = Some(error.clone());
                false
            }
        }
    }

    async fn remember(&self, files: Vec<MediaFile>) {
        let (path, of) = (self.file.clone(), place(&self.settings));
        let saved = crate::off_thread(move || {
            let files = files.into_iter().map(|MediaFile { key, size, content }| RememberedFile {
                key,
                size,
                content,
            });
            let remembered = Remembered { of, listed_at: state::now(), files: files.collect() };
            let text = serde_json::to_vec(&remembered).map_err(std::io::Error::other)?;
            atomic::replace(&path, &text)
        });
        if let Err(error) = saved.await {
            tracing::warn!(%error, "the listing cannot be remembered");
        }
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_bucket(settings: &StorageSettings) -> bool {
    settings.provider != Provider::Local
}

/// Names a place, so that another one's listing is not taken for it. No secrets.
fn place(settings: &StorageSettings) -> String {
    format!("{} {} {}", settings.endpoint, settings.bucket, settings.prefix)
}

/// What was remembered of this place. A file that cannot be read is as good as none: the bucket is listed instead.
fn recall(file: &Path, of: &str) -> Option<Vec<MediaFile>> {
    let remembered: Remembered = serde_json::from_slice(&std::fs::read(file).ok()?).ok()?;
    let files = remembered.files.into_iter();
    let files = files.map(|RememberedFile { key, size, content }| MediaFile { key, size, content });
    (remembered.of == of).then(|| files.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(bucket: &str) -> StorageSettings {
        let local = StorageSettings::local("");
        let endpoint = "http://127.0.0.1:1".to_owned();
        StorageSettings { provider: Provider::R2, endpoint, bucket: bucket.to_owned(), ..local }
    }

    fn open(bucket: &str, folder: &Path) -> Arc<Library> {
        Arc::new(Library::open(&settings(bucket), None, folder).unwrap())
    }

    #[tokio::test]
    async fn an_outage_keeps_the_listing_and_so_does_a_restart_in_it() {
        let folder = tempfile::tempdir().unwrap();
        let library = open("media", folder.path());
        assert!(library.known_files().is_empty());
        let files = vec![MediaFile { key: "a.mp4".into(), size: 5, content: "e".into() }];
        assert!(library.take_in(&Ok(files.clone())));
        assert!(!library.take_in(&Ok(files.clone())), "nothing new");
        assert_eq!(library.problem().await, None);
        library.remember(files.clone()).await;

        library.take_in(&Err(StorageError::Unreachable("the bucket is away".into())));
        assert_eq!(*library.known_files(), files);
        let problem = library.problem().await.unwrap();
        assert!(problem.contains("with 1 files is used: the bucket is away"), "{problem}");

        let restarted = open("media", folder.path());
        assert_eq!(*restarted.files_or_old_ones().await, files);
        assert!(open("another", folder.path()).known_files().is_empty(), "that is not its listing");
        std::fs::write(folder.path().join("library.json"), b"{").unwrap();
        assert!(open("media", folder.path()).known_files().is_empty());
    }

    #[tokio::test]
    async fn an_empty_bucket_is_a_problem_with_words() {
        let folder = tempfile::tempdir().unwrap();
        let library = open("media", folder.path());
        library.take_in(&Ok(Vec::new()));
        assert!(library.problem().await.unwrap().contains("the bucket media holds no media file"));
    }
}
