//! Making a reel: the item is opened as if it were to be played, and what would be sent is written down.

use super::write::{self, Tracks, Writer};
use super::{Label, SETTINGS};
use crate::media::Shape;
use crate::source::buffer::{Buffer, End, MAX_IDR_DISTANCE_MS};
use crate::source::disk;
use crate::source::open::{Opened, Opener};
use state::atomic;
use state::profile::Profile;
use state::wire::{ItemSpec, Making};
use std::path::Path;
use std::time::Duration;
use tokio::time::timeout;

/// A source that brings nothing for this long is given up; it is read at the lowest priority.
const STALLED: Duration = Duration::from_secs(120);
/// Pictures that may be missing before the end that the file promises, ms.
const EARLY_MS: i64 = 1_000;
/// A shorter loop is a mistake, ms.
const SHORTEST_MS: i64 = 500;
/// Space that is left to others, bytes.
const SPARE: u64 = 64 << 20;

/// Makes the reel of an item and puts it in its place.
///
/// # Errors
/// Why it cannot be made, in words.
pub(super) async fn make(
    opener: &Opener,
    item: &ItemSpec,
    profile: &Profile,
    path: &Path,
) -> Result<(), String> {
    let part = path.with_extension("part");
    let label = match try_both_ways(opener, item, profile, &part).await {
        Ok(label) => label,
        Err(why) => {
            let rest = part.clone();
            let _ = disk::soon(&part, move || std::fs::remove_file(rest)).await;
            return Err(why);
        }
    };
    let text = serde_json::to_vec_pretty(&label).map_err(|error| error.to_string())?;
    let to = path.to_owned();
    let publish = disk::ask(path, move || {
        std::fs::rename(&part, &to)?;
        atomic::sync_folder_of(&to)?;
        atomic::replace(&to.with_extension("json"), &text)
    });
    // The disk may take its time; the channel plays on meanwhile.
    let published = timeout(STALLED, publish).await.map_err(|_| "the disk does not answer".to_owned())?;
    published.flatten().map_err(|error| format!("{}: {error}", path.display()))
}

/// A picture that looks as if it could be copied may turn out on its way to have too few IDR pictures.
async fn try_both_ways(
    opener: &Opener,
    item: &ItemSpec,
    profile: &Profile,
    part: &Path,
) -> Result<Label, String> {
    let opened = match opener.open_prepared(item, profile, 0).await {
        Some(opened) => opened,
        None => opener.open(item.clone(), opener.probe(item).await?, profile, 0, None).await?,
    };
    let copied = opened.recipe.video == Making::Copy;
    let (label, widest_ms) = record(opened, item, profile, part).await?;
    if !copied || widest_ms <= MAX_IDR_DISTANCE_MS {
        return Ok(label);
    }
    let why = format!("IDR pictures are {:.1} s apart", widest_ms as f64 / 1000.0);
    let info = opener.probe(item).await?;
    let opened = opener.open(item.clone(), info, profile, 0, Some(why)).await?;
    record(opened, item, profile, part).await.map(|(label, _)| label)
}

/// Writes everything down; gives the label and the largest distance between two IDR pictures, ms.
async fn record(
    opened: Opened,
    item: &ItemSpec,
    profile: &Profile,
    part: &Path,
) -> Result<(Label, i64), String> {
    check_space(&opened, profile, part).await?;
    let writer = Writer::create(part).map_err(|error| format!("{}: {error}", part.display()))?;
    let picture = picture_of(&opened, profile);
    let frame_ms = 1000.0 / picture.2.max(1.0);
    let mut tracks = Tracks::default();
    let told = copy(&opened, &mut tracks, &writer, frame_ms).await;
    let size = writer.finish().await.map_err(|error| format!("{}: {error}", part.display()))?;
    told?;
    let length_ms = tracks.length_ms(frame_ms);
    all_of_it(&opened, length_ms)?;
    let label = Label {
        settings: SETTINGS,
        key: item.key.clone(),
        content: item.content.clone(),
        profile: profile.clone(),
        made_at: state::now(),
        length_ms,
        size,
        has_audio: tracks.has_audio,
        picture,
    };
    let widest_ms = opened.feed.buffer().idr().widest_ms;
    Ok((label, widest_ms))
}

async fn copy(opened: &Opened, tracks: &mut Tracks, writer: &Writer, frame_ms: f64) -> Result<(), String> {
    let expects_audio = opened.feed.buffer().has_audio;
    if !writer.put(write::head()).await {
        return Ok(());
    }
    loop {
        let next = timeout(STALLED, opened.feed.wait_until(|buffer| take(buffer, tracks))).await;
        let end = next.map_err(|_| format!("brought nothing for {} s", STALLED.as_secs()))?;
        opened.feed.taken();
        let bytes = tracks.give(expects_audio, end.as_ref().map(|_| frame_ms));
        // A writer that takes nothing has failed, and says so at its end.
        if !writer.put(bytes).await {
            return Ok(());
        }
        match end {
            Some(End::Complete) => return Ok(()),
            Some(End::Broken(why)) => return Err(why),
            None => {}
        }
    }
}

/// Everything in hand, and the end where it was reached; `None` when there is nothing new.
fn take(buffer: &mut Buffer, tracks: &mut Tracks) -> Option<Option<End>> {
    if buffer.video.is_empty() && buffer.audio.is_empty() && buffer.end.is_none() {
        return None;
    }
    tracks.video.extend(buffer.video.drain(..));
    tracks.audio.extend(buffer.audio.drain(..));
    Some(buffer.end.clone())
}

fn picture_of(opened: &Opened, profile: &Profile) -> (u32, u32, f64, u32) {
    match opened.feed.buffer().shape() {
        Shape::Video { width, height, fps, kbps } => (width, height, fps, kbps),
        Shape::Audio { .. } => (profile.width, profile.height, profile.fps.per_second(), profile.video_kbps),
    }
}

/// FFmpeg says nothing about the end of a truncated file and exits 0.
fn all_of_it(opened: &Opened, length_ms: i64) -> Result<(), String> {
    let promised = opened.info.video.as_ref().and_then(|v| v.duration_ms);
    let promised = promised.and_then(|ms| i64::try_from(ms).ok()).unwrap_or(0);
    if length_ms + EARLY_MS < promised {
        let (read, promised) = (length_ms as f64 / 1e3, promised as f64 / 1e3);
        return Err(format!("breaks off after {read:.1} s of {promised:.1} s"));
    }
    if length_ms < SHORTEST_MS {
        return Err(format!("is too short to be looped: {length_ms} ms"));
    }
    Ok(())
}

async fn check_space(opened: &Opened, profile: &Profile, part: &Path) -> Result<(), String> {
    let folder = part.parent().unwrap_or(part).to_owned();
    let asked = folder.clone();
    let room = disk::soon(part, move || rustix::fs::statvfs(&asked)).await;
    let room = room.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
    let free = room.f_bavail.saturating_mul(room.f_frsize);
    let kbps = picture_of(opened, profile).3.max(profile.video_kbps) + profile.audio_kbps;
    let length = opened.info.duration_ms.unwrap_or(0);
    let needed = SPARE + length * u64::from(kbps) / 8;
    if free < needed {
        let (needed, free, place) = (needed >> 20, free >> 20, folder.display());
        return Err(format!("needs up to {needed} MB in {place}, and {free} MB are free"));
    }
    Ok(())
}
