//! Whether there is anything to play.

use crate::error::Problem;
use crate::media::library::Library;
use state::channel::{FieldProblem, StreamConfig};
use state::playlist::Playlist;
use std::sync::Arc;
use storage::StorageError;

/// What stands in the way of playing this channel's playlist. With `named`, every item of a list must exist,
/// because someone has just asked for it; otherwise one is enough, and the worker skips the rest.
///
/// # Errors
/// 422 what is missing, and what must be mended at the storage; 503 the storage is away for now.
pub async fn check(library: &Arc<Library>, wish: &StreamConfig, named: bool) -> Result<(), Problem> {
    let problems = match &wish.playlist {
        Playlist::Storage => {
            let files = library.files().await.map_err(refused)?;
            let empty = files.is_empty().then(|| FieldProblem::at("/media", library.emptiness()));
            empty.into_iter().collect()
        }
        Playlist::List { items } => {
            let keys: Vec<&str> = items.iter().map(|item| item.key.as_str()).collect();
            let missing = library.missing(&keys).await.map_err(refused)?;
            if named || missing.len() == keys.len() { absent(library, &keys, &missing) } else { Vec::new() }
        }
    };
    if problems.is_empty() { Ok(()) } else { Err(Problem::invalid(problems)) }
}

/// Whether a video that someone has just named as the fallback is there.
///
/// # Errors
/// 422 it is not, or what must be mended at the storage; 503 the storage is away for now.
pub async fn check_fallback(library: &Arc<Library>, key: Option<&str>) -> Result<(), Problem> {
    let Some(key) = key else { return Ok(()) };
    let at = "/fallback_video";
    let missing = library.missing(&[key]).await.map_err(|error| refused_at(at, error))?;
    if missing.is_empty() {
        return Ok(());
    }
    let words = format!("is not in {}", library.place_words());
    Err(Problem::invalid(vec![FieldProblem::at(at, words)]))
}

fn absent(library: &Library, keys: &[&str], missing: &[&str]) -> Vec<FieldProblem> {
    let missing: std::collections::HashSet<&str> = missing.iter().copied().collect();
    let words = format!("is not in {}", library.place_words());
    let gone = keys.iter().enumerate().filter(|(_, key)| missing.contains(*key));
    gone.map(|(i, _)| FieldProblem::at(format!("/media/{i}"), &words)).collect()
}

fn refused(error: StorageError) -> Problem {
    refused_at("/media", error)
}

fn refused_at(pointer: &str, error: StorageError) -> Problem {
    if error.is_worth_retrying() {
        Problem::unavailable(error.to_string())
    } else {
        Problem::invalid(vec![FieldProblem::at(pointer, error.to_string())])
    }
}
