//! `streamctl media upload`.

use super::{Failure, Report};
use crate::Outcome;
use crate::show::{self, Progress};
use serde::Serialize;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use storage::{MediaFile, Storage, StorageError};

#[derive(Serialize)]
struct Uploaded {
    file: PathBuf,
    size: u64,
    content: String,
    skipped: bool,
}

pub(super) async fn run(
    storage: &Storage,
    files: &[PathBuf],
    library: &str,
    prefix: &str,
    skip_existing: bool,
    json: bool,
) -> Outcome {
    let planned = match plan(files, library, prefix) {
        Ok(planned) => planned,
        Err(problems) => {
            problems.iter().for_each(|problem| show::error(problem));
            return Outcome::Misused;
        }
    };
    if let Some((_, key)) = planned.iter().find(|(_, key)| storage.is_prepared(key)) {
        show::error(&format!("{key:?} would never be played: STORAGE_PREPARED_PREFIX is for prepared files"));
        return Outcome::Misused;
    }
    let mut report = Report::new(json);
    for (file, key) in &planned {
        let result = upload(storage, file, key, skip_existing).await.map_err(Failure::from);
        report.add(key, result, |done| {
            let verb = if done.skipped { "already there:" } else { "uploaded" };
            format!("{verb} {key} ({})", show::bytes(done.size))
        });
    }
    report.end()
}

async fn upload(
    storage: &Storage,
    file: &Path,
    key: &str,
    skip_existing: bool,
) -> Result<Uploaded, StorageError> {
    let is = |media: MediaFile, skipped| Uploaded {
        file: file.to_owned(),
        size: media.size,
        content: media.content,
        skipped,
    };
    if skip_existing && let Some(there) = already(storage, file, key).await? {
        return Ok(is(there, true));
    }
    let mut progress = Progress::of(key);
    let stored = storage.put(key, file, &mut |done, total| progress.at(done, total)).await;
    progress.end();
    Ok(is(stored?, false))
}

async fn already(storage: &Storage, file: &Path, key: &str) -> Result<Option<MediaFile>, StorageError> {
    let size = std::fs::metadata(file).map(|meta| meta.len()).ok();
    match storage.stat(key).await {
        Ok(there) => Ok(Some(there).filter(|there| Some(there.size) == size)),
        Err(StorageError::NoKey(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Which file gets which key, decided before the first byte is sent.
///
/// # Errors
/// Every file that cannot be uploaded, one line each.
fn plan(files: &[PathBuf], library: &str, prefix: &str) -> Result<Vec<(PathBuf, String)>, Vec<String>> {
    let (mut planned, mut problems, mut taken) = (Vec::new(), Vec::new(), BTreeSet::new());
    for file in files {
        match key_of(file, library, prefix) {
            Ok(key) if !taken.insert(key.clone()) => {
                problems.push(format!("two files would both be {key:?}; rename one"))
            }
            Ok(key) => planned.push((file.clone(), key)),
            Err(problem) => problems.push(format!("{}: {problem}", file.display())),
        }
    }
    if problems.is_empty() { Ok(planned) } else { Err(problems) }
}

fn key_of(file: &Path, library: &str, prefix: &str) -> Result<String, String> {
    if file.is_dir() {
        return Err("is a folder; name the files in it".to_owned());
    }
    let name = file.file_name().and_then(|name| name.to_str()).ok_or("must have a name in UTF-8")?;
    let folder = prefix.trim_matches('/');
    let slash = if folder.is_empty() { "" } else { "/" };
    let key = format!("{library}{folder}{slash}{name}");
    if !storage::is_media_key(&key) {
        let endings = storage::MEDIA_EXTENSIONS.join(", ");
        return Err(format!(
            "would never be played as {key:?}: media files end in {endings}, and no part is hidden"
        ));
    }
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(files: &[&str], library: &str, prefix: &str) -> Result<Vec<String>, Vec<String>> {
        let files: Vec<_> = files.iter().map(PathBuf::from).collect();
        plan(&files, library, prefix).map(|planned| planned.into_iter().map(|(_, key)| key).collect())
    }

    #[test]
    fn keys_are_names_below_the_library_and_the_folder() {
        assert_eq!(planned(&["/x/a b.mp4", "c.MKV"], "", "").unwrap(), ["a b.mp4", "c.MKV"]);
        for prefix in ["shows", "shows/", "/shows/"] {
            assert_eq!(planned(&["a.mp4"], "tv/", prefix).unwrap(), ["tv/shows/a.mp4"]);
        }
    }

    #[test]
    fn what_would_never_play_or_would_overwrite_a_neighbour_is_refused_before_the_start() {
        let problems =
            planned(&["x/a.mp4", "y/a.mp4", "notes.txt", ".hidden.mp4", "/tmp"], "", "").unwrap_err();
        assert_eq!(problems.len(), 4, "{problems:#?}");
        assert!(planned(&["a.mp4"], "", ".secret").is_err());
    }
}
