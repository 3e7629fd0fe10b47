//! The bytes of an original, as a file of this machine: itself, the cache's copy, or fetched once for the job. A
//! fetch that was broken off goes on where it was, as long as the object is the same.

use super::step::Bench;
use super::work::Work;
use state::prepared::{Job, Stage};
use state::storage::{Provider, StorageSettings};
use state::wire::MediaAt;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;
use storage::{Storage, StorageError};

/// Connections for one object before it is given up.
const TRIES: u32 = 5;

/// Finds or fetches the original.
///
/// # Errors
/// Why it cannot be had, in words.
pub(super) async fn original(bench: &mut Bench<'_>, job: &Job, work: &Work) -> Result<PathBuf, String> {
    let size = match &job.item.at {
        MediaAt::Path(path) => return Ok(path.clone()),
        MediaAt::Object { size } => *size,
    };
    let settings = job.storage.clone().filter(|s| s.provider != Provider::Local);
    let settings = settings.ok_or("is in a bucket, and no bucket is configured")?;
    if let Some(copy) =
        storage::cache::find(&job.cache_dir, &settings.bucket, &job.item.key, &job.item.content)
    {
        return Ok(copy);
    }
    work.check_space(size)?;
    fetch(bench, job, work, settings, size).await
}

async fn fetch(
    bench: &mut Bench<'_>,
    job: &Job,
    work: &Work,
    settings: StorageSettings,
    size: u64,
) -> Result<PathBuf, String> {
    let storage = Storage::open(settings, job.tls_ca_file.as_deref()).map_err(|error| error.to_string())?;
    let path = work.file("original");
    let mut tries = 1;
    loop {
        match fetch_once(bench, job, &storage, &path, size).await {
            Ok(()) => return Ok(path),
            Err(Broken::Bucket(error)) if error.is_worth_retrying() && tries < TRIES => {
                tracing::warn!(item.key = %job.item.key, %error, tries, "the fetch broke off");
                tokio::time::sleep(std::time::Duration::from_secs(1 << tries)).await;
                tries += 1;
            }
            Err(Broken::Bucket(error)) => return Err(error.to_string()),
            Err(Broken::Here(why)) => return Err(why),
        }
    }
}

enum Broken {
    Bucket(StorageError),
    Here(String),
}

async fn fetch_once(
    bench: &mut Bench<'_>,
    job: &Job,
    storage: &Storage,
    path: &PathBuf,
    size: u64,
) -> Result<(), Broken> {
    let here = |error: std::io::Error| Broken::Here(format!("{}: {error}", path.display()));
    let mut file = OpenOptions::new().create(true).append(true).open(path).map_err(here)?;
    let mut have = file.metadata().map_err(here)?.len();
    if have > size {
        file.set_len(0).map_err(here)?;
        have = 0;
    }
    if have < size {
        let content = Some(job.item.content.as_str()).filter(|c| !c.is_empty());
        let mut body = storage.get(&job.item.key, have, content).await.map_err(Broken::Bucket)?;
        while let Some(bytes) = body.chunk().await.map_err(Broken::Bucket)? {
            file.write_all(&bytes).map_err(here)?;
            have += bytes.len() as u64;
            bench.tell_now_and_then(Stage::Look, have, size).map_err(Broken::Here)?;
        }
    }
    if have == size { Ok(()) } else { Err(Broken::Here(format!("{have} of {size} bytes were fetched"))) }
}
