//! A folder of this machine behind the same words as a bucket.

use crate::{Body, MediaFile, StorageError, StreamUrl, local, media};
use std::fs::Metadata;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;
use tokio::io::{AsyncSeekExt, SeekFrom};
use tokio::sync::watch;

/// How much is copied at once.
const PIECE: usize = 1024 * 1024;

pub(crate) struct Folder {
    path: PathBuf,
    prefix: String,
}

impl Folder {
    pub(crate) fn new(path: PathBuf, prefix: String) -> Self {
        Self { path, prefix }
    }

    pub(crate) async fn list(&self) -> Result<Vec<MediaFile>, StorageError> {
        let (path, prefix) = (self.path.clone(), self.prefix.clone());
        Ok(off_thread(move || local::list(&path, &prefix)).await??)
    }

    pub(crate) async fn stat(&self, key: &str) -> Result<MediaFile, StorageError> {
        let (path, key) = (self.existing(key)?, key.to_owned());
        off_thread(move || match std::fs::metadata(&path) {
            Ok(meta) => Ok(MediaFile { size: meta.len(), content: content_of(&meta), key }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(StorageError::no_key(&key)),
            Err(error) => Err(StorageError::file(&format!("read {}", path.display()), &error)),
        })
        .await?
    }

    pub(crate) async fn get(
        &self,
        key: &str,
        from: u64,
        content: Option<&str>,
    ) -> Result<Body, StorageError> {
        let path = self.existing(key)?;
        let failed = |error: io::Error| StorageError::file(&format!("read {}", path.display()), &error);
        let mut file = tokio::fs::File::open(&path).await.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => StorageError::no_key(key),
            _ => failed(error),
        })?;
        let meta = file.metadata().await.map_err(failed)?;
        let media = MediaFile { key: key.to_owned(), size: meta.len(), content: content_of(&meta) };
        if content.is_some_and(|wanted| wanted != media.content) {
            return Err(StorageError::changed(key));
        }
        if from > 0 && from >= media.size {
            return Err(StorageError::range(key, from));
        }
        file.seek(SeekFrom::Start(from)).await.map_err(failed)?;
        Ok(Body::of_file(file, media, from))
    }

    /// Copies beside the target first, so that nobody ever plays half a file.
    pub(crate) async fn put(
        &self,
        key: &str,
        file: &Path,
        progress: &mut (dyn FnMut(u64, u64) + Send),
    ) -> Result<MediaFile, StorageError> {
        let (source, target) = (file.to_owned(), self.inside(key)?);
        let (told, mut heard) = watch::channel((0, 0));
        let copying = off_thread(move || copy(&source, &target, &told));
        tokio::pin!(copying);
        loop {
            tokio::select! {
                Ok(()) = heard.changed() => {
                    let (done, total) = *heard.borrow_and_update();
                    progress(done, total);
                }
                copied = &mut copying => {
                    copied??;
                    break;
                }
            }
        }
        let (done, total) = *heard.borrow();
        progress(done, total);
        self.stat(key).await
    }

    pub(crate) async fn delete(&self, key: &str) -> Result<(), StorageError> {
        let path = self.inside(key)?;
        match tokio::fs::remove_file(&path).await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(StorageError::file(&format!("delete {}", path.display()), &error))
            }
            _ => Ok(()),
        }
    }

    pub(crate) async fn link(&self, key: &str) -> Result<StreamUrl, StorageError> {
        let path = self.existing(key)?;
        if !tokio::fs::try_exists(&path).await.unwrap_or(false) {
            return Err(StorageError::no_key(key));
        }
        let text = path.to_str().ok_or_else(|| {
            StorageError::Unsupported(format!(
                "the folder {} has a name that is not UTF-8; rename it",
                self.path.display()
            ))
        })?;
        Ok(StreamUrl::new(text))
    }

    pub(crate) async fn check(&self) -> Result<(), StorageError> {
        let path = self.path.clone();
        off_thread(move || local::readable(&path)).await??;
        Ok(())
    }

    /// The path of a key that must exist; one that cannot exist is not there.
    fn existing(&self, key: &str) -> Result<PathBuf, StorageError> {
        self.inside(key).map_err(|_| StorageError::no_key(key))
    }

    fn inside(&self, key: &str) -> Result<PathBuf, StorageError> {
        match media::key_problem(key) {
            None => Ok(self.path.join(key)),
            Some(problem) => Err(StorageError::Unsupported(format!("the key {key:?} {problem}"))),
        }
    }
}

/// Which content a file has, as far as one can tell without reading it.
pub(crate) fn content_of(meta: &Metadata) -> String {
    let changed = meta.modified().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
    format!("{}-{}", meta.len(), changed.as_nanos())
}

fn copy(source: &Path, target: &Path, progress: &watch::Sender<(u64, u64)>) -> Result<(), StorageError> {
    let reading = |error: io::Error| StorageError::file(&format!("read {}", source.display()), &error);
    let writing = |error: io::Error| StorageError::file(&format!("write {}", target.display()), &error);
    let mut from = std::fs::File::open(source).map_err(reading)?;
    let total = from.metadata().map_err(reading)?.len();
    let folder = target.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).map_err(writing)?;
    let part = Part::beside(target);
    let mut to = std::fs::File::create(&part.0).map_err(writing)?;
    let (mut piece, mut done) = (vec![0; PIECE], 0);
    loop {
        progress.send_replace((done, total));
        let got = from.read(&mut piece).map_err(reading)?;
        if got == 0 {
            break;
        }
        to.write_all(&piece[..got]).map_err(writing)?;
        done += got as u64;
    }
    to.sync_all().map_err(writing)?;
    std::fs::rename(&part.0, target).map_err(writing)
}

/// A half copy: hidden, so that it is never listed, and gone when it is dropped unfinished.
struct Part(PathBuf);

impl Part {
    fn beside(target: &Path) -> Self {
        let name = target.file_name().unwrap_or_default().to_string_lossy();
        Self(target.with_file_name(format!(".{name}.{}.part", std::process::id())))
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

async fn off_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, StorageError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| StorageError::Other(format!("reading the media folder was given up: {error}")))
}
