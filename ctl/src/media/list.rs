//! `streamctl media list`.

use crate::{Outcome, show};
use serde::Serialize;
use storage::{MediaFile, Storage};

#[derive(Serialize)]
struct Row<'a> {
    key: &'a str,
    size: u64,
    content: &'a str,
}

pub(super) async fn run(storage: &Storage, json: bool) -> Outcome {
    let files = match storage.list_media().await {
        Ok(files) => files,
        Err(error) => {
            show::error(&error.to_string());
            return Outcome::Failed;
        }
    };
    if json {
        let rows: Vec<_> = files.iter().map(row).collect();
        show::json(&rows);
    } else {
        files.iter().for_each(|file| show::line(&format!("{:>10}  {}", show::bytes(file.size), file.key)));
        summary(&files);
    }
    Outcome::Done
}

fn row(file: &MediaFile) -> Row<'_> {
    Row { key: &file.key, size: file.size, content: &file.content }
}

/// On stderr, so that stdout holds files only.
fn summary(files: &[MediaFile]) {
    use std::io::Write;
    let all: u64 = files.iter().map(|file| file.size).sum();
    let _ = writeln!(std::io::stderr(), "{} media files, {}", files.len(), show::bytes(all));
}
