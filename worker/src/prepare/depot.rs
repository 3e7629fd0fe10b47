//! Results under a prefix of the bucket: what one host has prepared, the others take over. A certificate is sent last,
//! as on the disk; what is taken over is measured before it gets its name here.

use super::original::download;
use super::step::Bench;
use super::work::Work;
use super::{Failure, scan};
use state::prepared::{self, Certificate, Job, Stage};
use std::path::Path;
use storage::{Storage, StorageError};
use tokio::sync::watch;

/// The longest certificate that is read, bytes: 10,000 IDR pictures fit with ease.
const LONGEST_PAPER: usize = 1024 * 1024;

/// The folder of results in the bucket.
pub(super) struct Depot<'a> {
    bucket: &'a Storage,
    prefix: &'a str,
}

impl<'a> Depot<'a> {
    /// That of a job; `None` where results stay on this machine, and for a file whose content has no name: nobody
    /// could tell the result of an older one.
    pub(super) fn of(job: &'a Job, bucket: Option<&'a Storage>) -> Option<Self> {
        let prefix = job.storage.as_ref()?.prepared_prefix.as_str();
        let bucket = bucket.filter(|_| !prefix.is_empty() && !job.item.content.is_empty())?;
        Some(Self { bucket, prefix })
    }

    /// Fetches what another host has prepared for this job, if there is something, and measures it.
    ///
    /// # Errors
    /// The bucket is away. Anything else that is wrong there is no reason not to prepare the file here.
    pub(super) async fn take(
        &self,
        bench: &mut Bench<'_>,
        job: &Job,
        work: &Work,
    ) -> Result<Option<Certificate>, Failure> {
        match self.fetch(bench, job, work).await {
            Err(Failure::File(why)) => {
                tracing::warn!(item.key = %job.item.key, why, "what the bucket holds for it is of no use");
                Ok(None)
            }
            taken => taken,
        }
    }

    async fn fetch(
        &self,
        bench: &mut Bench<'_>,
        job: &Job,
        work: &Work,
    ) -> Result<Option<Certificate>, Failure> {
        let Some(certificate) = self.certificate(job).await? else { return Ok(None) };
        let object = self.bucket.stat(&self.key(job, "mp4")).await?;
        if object.size != certificate.size {
            return Err(Failure::File("its length is not what its certificate says".to_owned()));
        }
        work.check_space(object.size)?;
        let path = work.result();
        // What an interrupted job has left there may be something else.
        let _ = std::fs::remove_file(&path);
        download(bench, self.bucket, &object, &path).await?;
        let found = scan::result(bench, job, &path, certificate.loudness.is_some()).await?;
        if found.frames != certificate.frames || found.parameters() != certificate.parameters {
            return Err(Failure::File("it is not what its certificate says".to_owned()));
        }
        Ok(Some(certificate))
    }

    /// Keeps a result in the bucket, unless one is there that does as well.
    ///
    /// # Errors
    /// It could not be kept.
    pub(super) async fn keep(&self, bench: &mut Bench<'_>, job: &Job) -> Result<(), Failure> {
        let (media, paper) = prepared::files(&job.cache_dir, &name(job));
        if self.certificate(job).await?.is_some() {
            return Ok(());
        }
        for (path, ending) in [(media, "mp4"), (paper, "json")] {
            self.put(bench, &self.key(job, ending), &path).await?;
        }
        tracing::info!(item.key = %job.item.key, "what was prepared is kept in the bucket");
        Ok(())
    }

    async fn put(&self, bench: &mut Bench<'_>, key: &str, path: &Path) -> Result<(), Failure> {
        let (told, mut heard) = watch::channel((0, 0));
        let mut progress = move |done, total| {
            told.send_replace((done, total));
        };
        let sending = self.bucket.put(key, path, &mut progress);
        tokio::pin!(sending);
        loop {
            tokio::select! {
                sent = &mut sending => return Ok(sent.map(drop)?),
                Ok(()) = heard.changed() => {
                    let (done, total) = *heard.borrow_and_update();
                    bench.tell_now_and_then(Stage::Keep, done, total)?;
                }
            }
        }
    }

    /// The certificate in the bucket, if it is one for this job.
    async fn certificate(&self, job: &Job) -> Result<Option<Certificate>, Failure> {
        let mut body = match self.bucket.get(&self.key(job, "json"), 0, None).await {
            Ok(body) => body,
            Err(StorageError::NoKey(_)) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let mut text = Vec::new();
        while let Some(bytes) = body.chunk().await? {
            text.extend_from_slice(&bytes);
            if text.len() > LONGEST_PAPER {
                return Ok(None);
            }
        }
        let certificate = serde_json::from_slice::<Certificate>(&text).ok();
        let fits = |c: &Certificate| c.is_about(&job.item, &job.profile) && c.is_as_loud_as(job.loudness);
        Ok(certificate.filter(fits))
    }

    fn key(&self, job: &Job, ending: &str) -> String {
        format!("{}{}.{ending}", self.prefix, name(job))
    }
}

fn name(job: &Job) -> String {
    prepared::name(&job.item.key, &job.item.content, &job.profile)
}
