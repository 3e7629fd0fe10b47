//! Media files in storage.

mod delete;
mod list;
mod prepare;
mod probe;
mod upload;

use crate::args::Media;
use crate::environment::Surroundings;
use crate::{Outcome, show};
use serde::Serialize;
use storage::{Storage, StorageError};

/// Does it.
pub(crate) async fn run(action: Media, surroundings: &Surroundings, json: bool) -> Outcome {
    let storage = match Storage::open(surroundings.storage.clone(), surroundings.tls_ca_file.as_deref()) {
        Ok(storage) => storage,
        Err(error) => {
            show::error(&error.to_string());
            return Outcome::Misused;
        }
    };
    let library = &surroundings.storage.prefix;
    match action {
        Media::Upload { files, prefix, skip_existing } => {
            upload::run(&storage, &files, library, &prefix, skip_existing, json).await
        }
        Media::List => list::run(&storage, json).await,
        Media::Probe { keys } => probe::run(&storage, surroundings, &keys, json).await,
        Media::Delete { keys } => delete::run(&storage, &keys, json).await,
        Media::Prepare { keys, all, channel, loudness, wait } => {
            let ask = prepare::Ask { keys, all, channel, loudness };
            prepare::run(surroundings, &ask, wait, json).await
        }
    }
}

/// What became of one file, in JSON: its own fields, or the error.
#[derive(Serialize)]
struct Entry<T: Serialize> {
    key: String,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    done: Option<T>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Failure>,
}

#[derive(Serialize)]
struct Failure {
    code: &'static str,
    words: String,
}

impl From<StorageError> for Failure {
    fn from(error: StorageError) -> Self {
        Self { code: error.code(), words: error.to_string() }
    }
}

/// What became of every file: one line each as they come, or one document at the end.
struct Report<T: Serialize> {
    json: bool,
    entries: Vec<Entry<T>>,
}

impl<T: Serialize> Report<T> {
    fn new(json: bool) -> Self {
        Self { json, entries: Vec::new() }
    }

    /// Shows one; `words` is its line.
    fn add(&mut self, key: &str, result: Result<T, Failure>, words: impl Fn(&T) -> String) {
        let (done, error) = match result {
            Ok(done) => (Some(done), None),
            Err(failure) => (None, Some(failure)),
        };
        if let Some(failure) = &error {
            show::error(&failure.words);
        } else if let Some(done) = done.as_ref().filter(|_| !self.json) {
            show::line(&words(done));
        }
        self.entries.push(Entry { key: key.to_owned(), done, error });
    }

    fn end(self) -> Outcome {
        if self.json {
            show::json(&self.entries);
        }
        let failed = self.entries.iter().any(|entry| entry.error.is_some());
        if failed { Outcome::Failed } else { Outcome::Done }
    }
}
