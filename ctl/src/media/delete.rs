//! `streamctl media delete`.

use super::Report;
use crate::Outcome;
use serde::Serialize;
use storage::{Storage, StorageError};

#[derive(Serialize)]
struct Deleted {
    deleted: bool,
}

pub(super) async fn run(storage: &Storage, keys: &[String], json: bool) -> Outcome {
    let mut report = Report::new(json);
    for key in keys {
        let result = delete(storage, key).await.map_err(Into::into);
        report.add(key, result, |_| format!("deleted {key}"));
    }
    report.end()
}

/// Storage is content when there is nothing to delete; whoever mistyped a key is not.
async fn delete(storage: &Storage, key: &str) -> Result<Deleted, StorageError> {
    storage.stat(key).await?;
    storage.delete(key).await?;
    Ok(Deleted { deleted: true })
}
