//! Whether there is anything to play. Reads folders: not on the async thread.

use crate::config::Config;
use state::channel::{FieldProblem, StreamConfig};
use state::playlist::Playlist;
use std::path::Path;

/// Why nothing can be played from this folder; `None` when there is something.
pub fn folder_problem(folder: &Path, prefix: &str) -> Option<String> {
    match storage::local::list(folder, prefix) {
        Err(error) => Some(error.to_string()),
        Ok(files) if files.is_empty() => Some(format!(
            "the media folder {} holds no media file{}; put video or audio files in it, or set STORAGE_LOCAL_DIR",
            folder.display(),
            if prefix.is_empty() { String::new() } else { format!(" whose key starts with {prefix:?}") }
        )),
        Ok(_) => None,
    }
}

/// What stands in the way of playing this channel's playlist. With `named`, every item of a list must exist,
/// because someone has just asked for it; otherwise one is enough, and the worker skips the rest.
pub fn problems(config: &Config, wish: &StreamConfig, named: bool) -> Vec<FieldProblem> {
    match &wish.playlist {
        Playlist::Storage => folder_problem(&config.media_dir, &config.media_prefix)
            .map(|words| FieldProblem::at("/media", words))
            .into_iter()
            .collect(),
        Playlist::List { items } => {
            let missing = |key: &str| storage::local::path_of(&config.media_dir, key).is_none();
            let gone: Vec<_> = items.iter().enumerate().filter(|(_, item)| missing(&item.key)).collect();
            if !named && gone.len() < items.len() {
                return Vec::new();
            }
            let words = format!("is not in the media folder {}", config.media_dir.display());
            gone.into_iter().map(|(i, _)| FieldProblem::at(format!("/media/{i}"), &words)).collect()
        }
    }
}
