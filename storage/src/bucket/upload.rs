//! Storing a file: small ones in one request, large ones in equal parts, going on where a broken upload stopped.

use super::client::{while_completing, while_sending};
use super::fault::Place;
use super::sending::{piece, watched};
use crate::StorageError;
use crate::folder::content_of;
use aws_sdk_s3::Client;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use md5::{Digest, Md5};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

const MIB: u64 = 1024 * 1024;

/// Up to here one request is enough.
const ONE_REQUEST: u64 = 64 * MIB;

/// Smallest part; R2 wants all but the last to be of one length.
const PART: u64 = 16 * MIB;

/// Most parts of an upload (S3 and R2).
const MOST_PARTS: u64 = 10_000;

/// How a file is stored under a key.
pub(super) struct Upload<'a> {
    client: &'a Client,
    place: &'a Place,
    key: &'a str,
    file: &'a Path,
    size: u64,
    /// Of the file on this machine when the upload began.
    content: String,
}

/// What the bucket holds of an unfinished upload.
struct Unfinished {
    id: String,
    /// Part number to size and ETag.
    parts: BTreeMap<i32, (u64, String)>,
}

impl<'a> Upload<'a> {
    pub(super) async fn of(
        client: &'a Client,
        place: &'a Place,
        key: &'a str,
        file: &'a Path,
    ) -> Result<Self, StorageError> {
        let meta = tokio::fs::metadata(file).await.map_err(|error| unreadable(file, &error))?;
        if !meta.is_file() {
            return Err(StorageError::Other(format!("{} is not a file", file.display())));
        }
        Ok(Self { client, place, key, file, size: meta.len(), content: content_of(&meta) })
    }

    pub(super) async fn run(&self, progress: &mut (dyn FnMut(u64, u64) + Send)) -> Result<(), StorageError> {
        progress(0, self.size);
        if self.size <= ONE_REQUEST {
            self.at_once(progress).await?;
        } else {
            self.in_parts(progress).await?;
        }
        progress(self.size, self.size);
        Ok(())
    }

    async fn at_once(&self, progress: &mut (dyn FnMut(u64, u64) + Send)) -> Result<(), StorageError> {
        let (body, sent) = piece(self.file, 0, self.size).await?;
        let request = self.client.put_object().bucket(&self.place.bucket).key(self.key).body(body);
        let request = async {
            let answer = request.customize().config_override(while_sending()).send().await;
            answer.map(drop).map_err(|error| self.fault(&error))
        };
        let answer = watched(request, &sent, &mut |count| progress(count, self.size)).await;
        // Also after an error: a file that shrinks looks like a broken connection.
        self.unchanged().await?;
        answer
    }

    async fn in_parts(&self, progress: &mut (dyn FnMut(u64, u64) + Send)) -> Result<(), StorageError> {
        let upload = match self.unfinished().await? {
            Some(upload) => upload,
            None => Unfinished { id: self.begin().await?, parts: BTreeMap::new() },
        };
        let done = match self.send_and_complete(&upload, progress).await {
            // A file that shrinks looks like a broken connection; its change is the better reason.
            Err(error) => Err(self.unchanged().await.err().unwrap_or(error)),
            done => done,
        };
        if done.as_ref().is_err_and(|error| !error.is_worth_retrying()) {
            self.abort(&upload.id).await;
        }
        done
    }

    async fn send_and_complete(
        &self,
        upload: &Unfinished,
        progress: &mut (dyn FnMut(u64, u64) + Send),
    ) -> Result<(), StorageError> {
        let length = part_length(self.size);
        let mut completed = Vec::new();
        for number in 1..=i32::try_from(self.size.div_ceil(length)).unwrap_or(i32::MAX) {
            let from = (u64::from(number.unsigned_abs()) - 1) * length;
            let length = length.min(self.size - from);
            let etag = match upload.parts.get(&number) {
                Some((size, etag)) if *size == length && self.is_the_same(from, length, etag).await? => {
                    etag.clone()
                }
                _ => self.send_part(&upload.id, number, from, length, progress).await?,
            };
            progress(from + length, self.size);
            completed.push(CompletedPart::builder().part_number(number).e_tag(etag).build());
        }
        self.unchanged().await?;
        self.complete(&upload.id, completed).await
    }

    async fn send_part(
        &self,
        id: &str,
        number: i32,
        from: u64,
        length: u64,
        progress: &mut (dyn FnMut(u64, u64) + Send),
    ) -> Result<String, StorageError> {
        let (body, sent) = piece(self.file, from, length).await?;
        let request = self.client.upload_part().bucket(&self.place.bucket).key(self.key);
        let request = request.upload_id(id).part_number(number).body(body);
        let request = async {
            let answer = request.customize().config_override(while_sending()).send().await;
            answer.map_err(|error| self.fault(&error))
        };
        let answer = watched(request, &sent, &mut |count| progress(from + count, self.size)).await?;
        answer.e_tag.ok_or_else(|| {
            StorageError::Unsupported(format!("{} names no ETag for a part", self.place.service))
        })
    }

    /// The newest unfinished upload of this key. A service that cannot tell has none.
    async fn unfinished(&self) -> Result<Option<Unfinished>, StorageError> {
        let request = self.client.list_multipart_uploads().bucket(&self.place.bucket).prefix(self.key);
        let found = match request.send().await.map_err(|error| self.fault(&error)) {
            Ok(page) => page.uploads.unwrap_or_default(),
            Err(StorageError::Unsupported(_)) => return Ok(None),
            Err(fault) => return Err(fault),
        };
        let own = found.into_iter().filter(|upload| upload.key.as_deref() == Some(self.key));
        let newest = own.max_by_key(|upload| upload.initiated.map(|at| at.secs()));
        let Some(id) = newest.and_then(|upload| upload.upload_id) else { return Ok(None) };
        match self.parts(&id).await {
            Ok(parts) => Ok(Some(Unfinished { id, parts })),
            // It was ended meanwhile.
            Err(StorageError::NoKey(_)) => Ok(None),
            Err(fault) => Err(fault),
        }
    }

    async fn parts(&self, id: &str) -> Result<BTreeMap<i32, (u64, String)>, StorageError> {
        let request = self.client.list_parts().bucket(&self.place.bucket).key(self.key).upload_id(id);
        let mut pages = request.into_paginator().send();
        let mut parts = BTreeMap::new();
        while let Some(page) = pages.next().await {
            for part in page.map_err(|error| self.fault(&error))?.parts.unwrap_or_default() {
                if let (Some(number), Some(etag)) = (part.part_number, part.e_tag) {
                    parts.insert(number, (super::size_of(part.size), etag));
                }
            }
        }
        Ok(parts)
    }

    async fn begin(&self) -> Result<String, StorageError> {
        let request = self.client.create_multipart_upload().bucket(&self.place.bucket).key(self.key);
        let answer = request.send().await.map_err(|error| self.fault(&error))?;
        answer.upload_id.ok_or_else(|| {
            StorageError::Unsupported(format!("{} begins no multipart upload", self.place.service))
        })
    }

    async fn complete(&self, id: &str, parts: Vec<CompletedPart>) -> Result<(), StorageError> {
        let parts = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
        let request = self.client.complete_multipart_upload().bucket(&self.place.bucket).key(self.key);
        let request = request.upload_id(id).multipart_upload(parts).customize();
        let answer = request.config_override(while_completing()).send().await;
        answer.map(drop).map_err(|error| self.fault(&error))
    }

    /// Parts that nobody will complete are paid for until they are removed.
    async fn abort(&self, id: &str) {
        let request = self.client.abort_multipart_upload().bucket(&self.place.bucket).key(self.key);
        if let Err(error) = request.upload_id(id).send().await {
            let error = self.fault(&error);
            tracing::warn!(media.key = self.key, %error, "the parts of a refused upload could not be removed");
        }
    }

    /// The ETag of a part is the MD5 of its bytes (R2, and S3 unless encrypted with KMS keys, where all is sent again).
    async fn is_the_same(&self, from: u64, length: u64, etag: &str) -> Result<bool, StorageError> {
        let path = self.file.to_owned();
        let hashed = tokio::task::spawn_blocking(move || md5_of(&path, from, length)).await;
        let hash =
            hashed.map_err(io::Error::other).and_then(|hash| hash).map_err(|e| unreadable(self.file, &e))?;
        Ok(etag.trim_matches('"') == hash)
    }

    async fn unchanged(&self) -> Result<(), StorageError> {
        let meta = tokio::fs::metadata(self.file).await.map_err(|error| unreadable(self.file, &error))?;
        if content_of(&meta) == self.content {
            return Ok(());
        }
        Err(StorageError::Changed(format!(
            "{} changed while it was uploaded; upload it again when it is complete",
            self.file.display()
        )))
    }

    fn fault<E>(
        &self,
        error: &aws_sdk_s3::error::SdkError<E, aws_sdk_s3::config::http::HttpResponse>,
    ) -> StorageError
    where
        E: aws_sdk_s3::error::ProvideErrorMetadata + std::error::Error + 'static,
    {
        self.place.fault(Some(self.key), error)
    }
}

fn unreadable(file: &Path, error: &io::Error) -> StorageError {
    StorageError::file(&format!("read {}", file.display()), error)
}

/// The same for the same size, so that an upload that goes on cuts the file as the broken one did.
fn part_length(size: u64) -> u64 {
    size.div_ceil(MOST_PARTS).div_ceil(MIB).saturating_mul(MIB).max(PART)
}

fn md5_of(path: &Path, from: u64, length: u64) -> io::Result<String> {
    let mut file = std::fs::File::open(path)?;
    file.seek(SeekFrom::Start(from))?;
    let mut rest = file.take(length);
    let (mut hash, mut piece) = (Md5::new(), vec![0; 256 * 1024]);
    loop {
        let got = rest.read(&mut piece)?;
        if got == 0 {
            break;
        }
        hash.update(&piece[..got]);
    }
    Ok(hash.finalize().iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_size_fits_into_the_parts_that_are_allowed() {
        let tib = MIB * MIB;
        for size in [ONE_REQUEST + 1, 1000 * MIB, 160_000 * MIB, 160_000 * MIB + 1, 5 * tib] {
            let length = part_length(size);
            assert!(size.div_ceil(length) <= MOST_PARTS, "{size}");
            assert!(
                length >= PART && length.is_multiple_of(MIB) && length <= 5 * 1024 * MIB,
                "{size}: {length}"
            );
        }
    }
}
