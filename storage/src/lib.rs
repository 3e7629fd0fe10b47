//! Where media live: a folder of this machine, a bucket of Cloudflare R2, or of AWS S3 and what speaks like it.
//!
//! A leaf: it knows keys and bytes, and nothing of channels. All providers behave alike behind [`Storage`];
//! one contract suite holds them to it. Requests have deadlines, what may pass is retried here a few times and
//! nowhere else, and credentials and signed links are in no text that anybody sees.

mod body;
#[cfg(feature = "s3")]
mod bucket;
pub mod cache;
mod error;
mod folder;
mod link;
pub mod local;
mod media;
mod order;
mod settings;

pub use body::Body;
pub use error::StorageError;
pub use link::{LINK_VALID, LONGEST_LINK, SHORTEST_LINK, StreamUrl};
pub use media::{MEDIA_EXTENSIONS, MediaFile, is_media_key};
pub use order::natural;
pub use settings::{VARIABLES, settings_from};

use state::storage::{Provider, StorageSettings};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// The place where media live. Cheap to clone; all clones share one pool of connections.
#[derive(Clone)]
pub struct Storage {
    place: Place,
    shortest_link: Duration,
    /// Keys that begin so are no media; empty means none.
    prepared_prefix: Arc<str>,
}

#[derive(Clone)]
enum Place {
    Folder(Arc<folder::Folder>),
    #[cfg(feature = "s3")]
    Bucket(Arc<bucket::Bucket>),
}

/// Calls the same method of whichever place it is.
macro_rules! at_place {
    ($storage:expr, $place:ident => $call:expr) => {
        match &$storage.place {
            Place::Folder($place) => $call,
            #[cfg(feature = "s3")]
            Place::Bucket($place) => $call,
        }
    };
}

impl Storage {
    /// Takes the settings; asks nobody yet. `tls_ca_file` is trusted besides the system's certificates (PEM).
    ///
    /// # Errors
    /// [`StorageError::Unsupported`] for a bucket in a build without the feature `s3`; [`StorageError::Other`] for
    /// certificates that cannot be read.
    pub fn open(settings: StorageSettings, tls_ca_file: Option<&Path>) -> Result<Self, StorageError> {
        let prepared_prefix = Arc::from(settings.prepared_prefix.as_str());
        let place = match settings.provider {
            Provider::Local => {
                Place::Folder(Arc::new(folder::Folder::new(settings.local_dir, settings.prefix)))
            }
            Provider::R2 | Provider::S3 => bucket_place(settings, tls_ca_file)?,
        };
        Ok(Self { place, shortest_link: SHORTEST_LINK, prepared_prefix })
    }

    /// For tests: links may expire sooner than a user may ask for.
    #[doc(hidden)]
    #[must_use]
    pub fn with_shortest_link(self, shortest_link: Duration) -> Self {
        Self { shortest_link, ..self }
    }

    /// Every media file under the prefix, in natural order, hidden and prepared ones left out; all pages of a long
    /// listing.
    ///
    /// # Errors
    /// [`StorageError::NoBucket`], [`StorageError::RefusedCredentials`] and those of the way there.
    pub async fn list_media(&self) -> Result<Vec<MediaFile>, StorageError> {
        let mut files = at_place!(self, place => place.list().await)?;
        files.retain(|file| !self.is_prepared(&file.key));
        Ok(files)
    }

    /// Whether a key belongs to the folder of prepared files.
    #[must_use]
    pub fn is_prepared(&self, key: &str) -> bool {
        !self.prepared_prefix.is_empty() && key.starts_with(&*self.prepared_prefix)
    }

    /// Size and content of one media file.
    ///
    /// # Errors
    /// [`StorageError::NoKey`] and those of the way there.
    pub async fn stat(&self, key: &str) -> Result<MediaFile, StorageError> {
        at_place!(self, place => place.stat(key).await)
    }

    /// Opens a media file at byte `from`; with `if_content` only when it is still that content (an empty one is
    /// unknown and fits any).
    ///
    /// # Errors
    /// [`StorageError::NoKey`], [`StorageError::Changed`], [`StorageError::Range`] when `from` is at or behind the
    /// end (0 never is), and those of the way there.
    pub async fn get(&self, key: &str, from: u64, if_content: Option<&str>) -> Result<Body, StorageError> {
        let known = if_content.filter(|content| !content.is_empty());
        at_place!(self, place => place.get(key, from, known).await)
    }

    /// Stores a file under the key, replacing what was there only when all of it has arrived. `progress` hears
    /// (bytes done, bytes in all). Over 64 MiB it goes in parts: the same call after a broken one goes on where that
    /// stopped, sending again what differs. Parts stay for that after errors worth retrying, and are removed after
    /// others.
    ///
    /// # Errors
    /// [`StorageError::NoSpace`], [`StorageError::Changed`] when the file changes meanwhile,
    /// [`StorageError::Unsupported`] for an impossible key, and those of the way there.
    pub async fn put(
        &self,
        key: &str,
        file: &Path,
        progress: &mut (dyn FnMut(u64, u64) + Send),
    ) -> Result<MediaFile, StorageError> {
        at_place!(self, place => place.put(key, file, progress).await)
    }

    /// Removes a media file. One that is not there is no error.
    ///
    /// # Errors
    /// Those of the way there.
    pub async fn delete(&self, key: &str) -> Result<(), StorageError> {
        at_place!(self, place => place.delete(key).await)
    }

    /// A link to the media file, valid from now for `valid` ([`SHORTEST_LINK`] to [`LONGEST_LINK`]); the path for a
    /// local one. A bucket is not asked, so the link of a missing key exists too and answers 404.
    ///
    /// # Errors
    /// [`StorageError::Unsupported`] for another validity.
    pub async fn stream_url(&self, key: &str, valid: Duration) -> Result<StreamUrl, StorageError> {
        link::check_validity(valid, self.shortest_link)?;
        match &self.place {
            Place::Folder(folder) => folder.link(key).await,
            #[cfg(feature = "s3")]
            Place::Bucket(bucket) => bucket.link(key, valid).await,
        }
    }

    /// Whether it can be used at all, in one cheap call: the folder, or the credentials and the bucket.
    ///
    /// # Errors
    /// [`StorageError::NoBucket`], [`StorageError::RefusedCredentials`], [`StorageError::ClockSkew`] and those of
    /// the way there.
    pub async fn check(&self) -> Result<(), StorageError> {
        at_place!(self, place => place.check().await)
    }
}

impl std::fmt::Debug for Storage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Storage")
    }
}

#[cfg(feature = "s3")]
fn bucket_place(settings: StorageSettings, tls_ca_file: Option<&Path>) -> Result<Place, StorageError> {
    Ok(Place::Bucket(Arc::new(bucket::Bucket::open(settings, tls_ca_file)?)))
}

#[cfg(not(feature = "s3"))]
fn bucket_place(_: StorageSettings, _: Option<&Path>) -> Result<Place, StorageError> {
    Err(StorageError::Unsupported(
        "this build has no support for buckets (it was built without the feature s3); use STORAGE_PROVIDER=local, or \
         build again without --no-default-features, which takes 1.7 GB of memory"
            .to_owned(),
    ))
}
