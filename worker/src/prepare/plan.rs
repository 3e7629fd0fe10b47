//! What is to be done with a file: a pure decision.

use super::scan::Scan;
use crate::source::buffer::MAX_IDR_DISTANCE_MS;
use crate::source::probe::MediaInfo;
use crate::source::recipe;
use state::prepared::Job;
use state::wire::Making;

/// What will be done.
#[derive(Debug)]
pub(super) struct Plan {
    /// The original's picture, where it is copied.
    pub(super) copied: Option<Scan>,
    /// Why the file is prepared, in words.
    pub(super) reason: String,
}

/// Decides. `scanned` is what the whole picture looks like, where its kind may be copied. The inner error says that
/// nothing is to be done, and why.
///
/// # Errors
/// Why the file cannot be prepared.
pub(super) fn plan(
    info: &MediaInfo,
    job: &Job,
    scanned: Option<Scan>,
) -> Result<Result<Plan, String>, String> {
    if info.video.is_none() {
        return Ok(Err("has no picture; its sound is played with the slate".to_owned()));
    }
    let recipe = recipe::decide(info, &job.profile)?;
    let against = scanned.as_ref().and_then(against_copying);
    let picture_fits = recipe.video == Making::Copy && against.is_none();
    let sound_fits = recipe.audio != Making::Transcode;
    if picture_fits && sound_fits && !(job.even_if_it_fits && info.audio.is_some()) {
        return Ok(Err(recipe.reason));
    }
    let nothing_else = recipe.video == Making::Copy && recipe.audio == Making::Copy;
    let reason = match against {
        _ if picture_fits && sound_fits => "its loudness was to be set".to_owned(),
        None => recipe.reason,
        Some(why) if nothing_else => why,
        Some(why) => format!("{why}; {}", recipe.reason),
    };
    Ok(Ok(Plan { copied: scanned.filter(|_| picture_fits), reason }))
}

/// Why a picture that could be copied by its kind must not be.
fn against_copying(scan: &Scan) -> Option<String> {
    if scan.frames == 0 || scan.idr.count == 0 {
        return Some("has no IDR picture".to_owned());
    }
    if scan.headers > 1 {
        return Some("its parameter sets change on the way".to_owned());
    }
    if scan.begins_hidden {
        return Some("an edit list begins between two IDR pictures".to_owned());
    }
    let open = if scan.false_keys > 0 { " (open GOP)" } else { "" };
    (scan.idr.widest_ms > MAX_IDR_DISTANCE_MS).then(|| format!("IDR pictures are more than 4 s apart{open}"))
}
