//! A bucket behind the S3 API: Cloudflare R2, AWS S3, and what speaks like them.
//!
//! Path style, static credentials, checksums only when required (R2 refuses some), one TLS stack. Retries are the
//! SDK's, bounded here, and nobody else's.

mod client;
mod fault;
mod sending;
mod upload;

use crate::{Body, MediaFile, StorageError, StreamUrl, is_media_key, media, natural};
use aws_sdk_s3::Client;
use aws_sdk_s3::presigning::PresigningConfig;
use fault::Place;
use state::storage::StorageSettings;
use std::path::Path;
use std::time::Duration;

pub(crate) struct Bucket {
    client: Client,
    place: Place,
    prefix: String,
}

impl Bucket {
    pub(crate) fn open(settings: StorageSettings, tls_ca_file: Option<&Path>) -> Result<Self, StorageError> {
        let client = client::build(&settings, tls_ca_file)?;
        Ok(Self { client, place: Place::of(&settings), prefix: settings.prefix })
    }

    pub(crate) async fn list(&self) -> Result<Vec<MediaFile>, StorageError> {
        let request = self.client.list_objects_v2().bucket(&self.place.bucket).prefix(&self.prefix);
        let mut pages = request.into_paginator().send();
        let mut found = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| self.place.fault(None, &error))?;
            found.extend(page.contents.unwrap_or_default().into_iter().filter_map(listed));
        }
        found.sort_by(|a, b| natural(&a.key, &b.key));
        Ok(found)
    }

    pub(crate) async fn stat(&self, key: &str) -> Result<MediaFile, StorageError> {
        match self.client.head_object().bucket(&self.place.bucket).key(checked(key)?).send().await {
            Ok(head) => Ok(MediaFile {
                key: key.to_owned(),
                size: size_of(head.content_length),
                content: content_of(head.e_tag.as_deref()),
            }),
            Err(error) => {
                // A HEAD is answered without a body, so without a reason: ask for it with a request that has one.
                let fault = self.place.fault(Some(key), &error);
                if !fault.is_worth_retrying() {
                    self.check().await?;
                }
                Err(fault)
            }
        }
    }

    pub(crate) async fn get(
        &self,
        key: &str,
        from: u64,
        content: Option<&str>,
    ) -> Result<Body, StorageError> {
        let request = self.client.get_object().bucket(&self.place.bucket).key(checked(key)?);
        let request = request
            .set_range((from > 0).then(|| format!("bytes={from}-")))
            .set_if_match(content.map(|etag| format!("\"{etag}\"")));
        let answer = request.send().await.map_err(|error| match self.place.fault(Some(key), &error) {
            StorageError::Range(_) => StorageError::range(key, from),
            fault => fault,
        })?;
        let left = size_of(answer.content_length);
        let size = answer.content_range.as_deref().and_then(whole_length).unwrap_or(left);
        let media = MediaFile { key: key.to_owned(), size, content: content_of(answer.e_tag.as_deref()) };
        // Not every server looks at If-Match when it answers a GET.
        if content.is_some_and(|wanted| wanted != media.content) {
            return Err(StorageError::changed(key));
        }
        if from + left != size {
            return Err(StorageError::Unsupported(format!(
                "{} does not answer ranges, which playing from a bucket needs",
                self.place.service
            )));
        }
        Ok(Body::of_object(answer.body, media, left))
    }

    pub(crate) async fn put(
        &self,
        key: &str,
        file: &Path,
        progress: &mut (dyn FnMut(u64, u64) + Send),
    ) -> Result<MediaFile, StorageError> {
        upload::Upload::of(&self.client, &self.place, checked(key)?, file).await?.run(progress).await?;
        self.stat(key).await
    }

    pub(crate) async fn delete(&self, key: &str) -> Result<(), StorageError> {
        let answer = self.client.delete_object().bucket(&self.place.bucket).key(checked(key)?).send().await;
        match answer.map_err(|error| self.place.fault(Some(key), &error)) {
            Ok(_) | Err(StorageError::NoKey(_)) => Ok(()),
            Err(fault) => Err(fault),
        }
    }

    pub(crate) async fn link(&self, key: &str, valid: Duration) -> Result<StreamUrl, StorageError> {
        let unsigned = || StorageError::Other(format!("no link to {key:?} could be signed"));
        let signing = PresigningConfig::expires_in(valid).map_err(|_| unsigned())?;
        let request = self.client.get_object().bucket(&self.place.bucket).key(checked(key)?);
        let signed = request.presigned(signing).await.map_err(|_| unsigned())?;
        Ok(StreamUrl::new(signed.uri()))
    }

    pub(crate) async fn check(&self) -> Result<(), StorageError> {
        let request =
            self.client.list_objects_v2().bucket(&self.place.bucket).prefix(&self.prefix).max_keys(1);
        request.send().await.map(drop).map_err(|error| self.place.fault(None, &error))
    }
}

fn listed(object: aws_sdk_s3::types::Object) -> Option<MediaFile> {
    let key = object.key.filter(|key| is_media_key(key))?;
    Some(MediaFile { key, size: size_of(object.size), content: content_of(object.e_tag.as_deref()) })
}

/// The SDK makes a request for the bucket itself out of an empty key, so such keys must not reach it.
fn checked(key: &str) -> Result<&str, StorageError> {
    match media::key_problem(key) {
        None => Ok(key),
        Some(problem) => Err(StorageError::Unsupported(format!("the key {key:?} {problem}"))),
    }
}

fn size_of(length: Option<i64>) -> u64 {
    length.and_then(|length| u64::try_from(length).ok()).unwrap_or_default()
}

fn content_of(etag: Option<&str>) -> String {
    etag.unwrap_or_default().trim_matches('"').to_owned()
}

/// The length of the whole in `bytes 5-9/10` (RFC 9110 §14.4).
fn whole_length(content_range: &str) -> Option<u64> {
    content_range.rsplit_once('/')?.1.parse().ok()
}
