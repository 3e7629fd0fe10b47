//! The bytes of an original, as a file of this machine: itself, the cache's copy, or fetched once for the job. A
//! fetch that was broken off goes on where it was, as long as the object is the same.

use super::Failure;
use super::step::Bench;
use super::work::Work;
use state::prepared::{Job, Stage};
use state::storage::Provider;
use state::wire::MediaAt;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;
use storage::{MediaFile, Storage, StorageError};

/// Connections for one object before it is given up.
const TRIES: u32 = 5;

/// The job's bucket; `None` where media are files.
///
/// # Errors
/// It cannot be used.
pub(super) fn bucket(job: &Job) -> Result<Option<Storage>, Failure> {
    let settings = job.storage.clone().filter(|settings| settings.provider != Provider::Local);
    let opened = settings.map(|settings| Storage::open(settings, job.tls_ca_file.as_deref()));
    Ok(opened.transpose()?)
}

/// Finds or fetches the original.
///
/// # Errors
/// Why it cannot be had.
pub(super) async fn original(
    bench: &mut Bench<'_>,
    job: &Job,
    work: &Work,
    bucket: Option<&Storage>,
) -> Result<PathBuf, Failure> {
    let size = match &job.item.at {
        MediaAt::Path(path) => return Ok(path.clone()),
        MediaAt::Object { size } => *size,
    };
    let (key, content) = (job.item.key.clone(), job.item.content.clone());
    let (Some(bucket), Some(settings)) = (bucket, &job.storage) else {
        return Err(Failure::File("is in a bucket, and no bucket is configured".to_owned()));
    };
    if let Some(copy) = storage::cache::find(&job.cache_dir, &settings.bucket, &key, &content) {
        return Ok(copy);
    }
    work.check_space(size)?;
    let path = work.file("original");
    download(bench, bucket, &MediaFile { key, size, content }, &path).await?;
    Ok(path)
}

/// Brings an object to `path`, going on with what is there of it.
///
/// # Errors
/// Why it cannot be had.
pub(super) async fn download(
    bench: &mut Bench<'_>,
    bucket: &Storage,
    object: &MediaFile,
    path: &Path,
) -> Result<(), Failure> {
    let mut tries = 1;
    loop {
        match download_once(bench, bucket, object, path).await {
            Err(Broken::Bucket(error)) if error.is_worth_retrying() && tries < TRIES => {
                tracing::warn!(item.key = %object.key, %error, tries, "the fetch broke off");
                tokio::time::sleep(Duration::from_secs(1 << tries)).await;
                tries += 1;
            }
            Err(Broken::Bucket(error)) => return Err(error.into()),
            Err(Broken::Here(why)) => return Err(Failure::File(why)),
            Ok(()) => return Ok(()),
        }
    }
}

enum Broken {
    Bucket(StorageError),
    Here(String),
}

async fn download_once(
    bench: &mut Bench<'_>,
    bucket: &Storage,
    object: &MediaFile,
    path: &Path,
) -> Result<(), Broken> {
    let here = |error: std::io::Error| Broken::Here(format!("{}: {error}", path.display()));
    let mut file = OpenOptions::new().create(true).append(true).open(path).map_err(here)?;
    let mut have = file.metadata().map_err(here)?.len();
    if have > object.size {
        file.set_len(0).map_err(here)?;
        have = 0;
    }
    if have < object.size {
        let mut body = bucket.get(&object.key, have, Some(&object.content)).await.map_err(Broken::Bucket)?;
        while let Some(bytes) = body.chunk().await.map_err(Broken::Bucket)? {
            file.write_all(&bytes).map_err(here)?;
            have += bytes.len() as u64;
            bench.tell_now_and_then(Stage::Look, have, object.size).map_err(Broken::Here)?;
        }
    }
    let whole = have == object.size;
    whole.then_some(()).ok_or_else(|| Broken::Here(format!("{have} of {} bytes were fetched", object.size)))
}
