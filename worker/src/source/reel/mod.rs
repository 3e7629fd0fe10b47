//! A reel: a video that was conformed to the channel's profile once, kept as FLV in a file of this machine, and looped
//! from there for as long as it is wanted. A few seconds of it are in memory, however long it is.
//!
//! A reel is `<cache>/fallback/<name>.flv` with its label `<name>.json` beside it. The label is written last, so that
//! a reel without one does not exist. Channels of one profile share it.

mod make;
mod write;

use super::disk;
use super::feed::Shared;
use super::flv::Cutter;
use super::open::Opener;
use super::turn::Turn;
use crate::media::Shape;
use bytes::BytesMut;
use serde::{Deserialize, Serialize};
use state::prepared;
use state::profile::Profile;
use state::wire::{ItemSpec, MediaAt};
use std::fs::{self, File};
use std::io::{self, Read, Seek};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use tokio::sync::mpsc;
use tokio::time::timeout;

/// Read ahead from the disk, ms.
pub const AHEAD_MS: i64 = 2_500;
/// Counts the ways in which reels have been made: those of another way are not used.
const SETTINGS: u32 = 1;
const CHUNK: usize = 64 * 1024;
/// Chunks that wait between the disk and the buffer.
const CHUNKS: usize = 2;
/// A reel whose disk gives nothing for this long is given up, and opened again later.
const SILENCE: Duration = Duration::from_secs(10);
/// Reels that nobody opened for this long are removed.
const UNUSED: Duration = Duration::from_secs(14 * 24 * 3600);

/// What is known of a reel.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Label {
    settings: u32,
    key: String,
    content: String,
    profile: Profile,
    made_at: state::Timestamp,
    /// Length of the loop, ms.
    length_ms: i64,
    /// Bytes.
    size: u64,
    has_audio: bool,
    /// Pixels, frames per second, and kbit/s where known.
    picture: (u32, u32, f64, u32),
}

/// A reel that is open: its file may be removed and it still plays.
#[derive(Debug)]
pub struct Reel {
    file: File,
    label: Label,
}

impl Reel {
    /// Opens the reel of an item, or makes it first. That gives way to everything else on this machine.
    ///
    /// # Errors
    /// Why there is none, in words.
    pub async fn load_or_make(opener: &Opener, item: &ItemSpec, profile: &Profile) -> Result<Reel, String> {
        let item = ItemSpec { content: content_of(item).await, ..item.clone() };
        let folder = opener.cache_dir.join("fallback");
        let path = folder.join(format!("{}.flv", prepared::name(&item.key, &item.content, profile)));
        // Only one worker makes a reel; the others wait and then find it.
        let _turn = Turn::take(&path.with_extension("lock")).await?;
        if let Some(reel) = look(&path).await?.filter(|reel| reel.label.is_of(&item, profile)) {
            return Ok(reel);
        }
        let opener = Opener { aside: true, ..opener.clone() };
        make::make(&opener, &item, profile, &path).await?;
        // Old ones stay until the next time where the disk has no time for it.
        let _ = disk::soon(&folder.clone(), move || remove_unused(&folder)).await;
        look(&path).await?.ok_or_else(|| format!("{} cannot be read again", path.display()))
    }

    /// Size and rate of its pictures.
    pub fn shape(&self) -> Shape {
        let (width, height, fps, kbps) = self.label.picture;
        Shape::Video { width, height, fps, kbps }
    }

    /// Whether it has sound.
    pub fn has_audio(&self) -> bool {
        self.label.has_audio
    }

    /// Plays it over and over into a buffer, whenever there is room. Returns why it cannot go on.
    pub(super) async fn turn(self, shared: &Shared) -> String {
        let Label { length_ms, .. } = self.label;
        let (send, mut chunks) = mpsc::channel(CHUNKS);
        // A disk that hangs must hold up nothing else, so it has a thread of its own.
        if let Err(error) = disk::stream("reel", move || spool(self.file, &send)) {
            return error.to_string();
        }
        let (mut cutter, mut bytes, mut loops) = (Cutter::default(), BytesMut::new(), 0);
        while shared.has_room().await {
            let Ok(next) = timeout(SILENCE, chunks.recv()).await else {
                return "the disk does not answer".to_owned();
            };
            match next {
                Some(Ok(chunk)) if chunk.is_empty() => {
                    loops += 1;
                    (cutter, bytes) = (Cutter::default(), BytesMut::new());
                    shared.lock().begin_again(loops * length_ms);
                }
                Some(Ok(chunk)) => {
                    bytes.extend_from_slice(&chunk);
                    if let Err(error) = shared.take_in(&mut cutter, &mut bytes) {
                        return error.to_string();
                    }
                }
                Some(Err(error)) => return error.to_string(),
                None => return "its reader has ended".to_owned(),
            }
        }
        "was left".to_owned()
    }
}

impl Label {
    fn is_of(&self, item: &ItemSpec, profile: &Profile) -> bool {
        // Without knowing its content nobody can tell whether it is the same.
        !item.content.is_empty()
            && (&self.key, &self.content, &self.profile) == (&item.key, &item.content, profile)
    }
}

/// Reads a file over and over until nobody takes it any more. An empty chunk is its end.
fn spool(mut file: File, chunks: &mpsc::Sender<io::Result<Vec<u8>>>) {
    loop {
        let mut chunk = vec![0; CHUNK];
        let read = file.read(&mut chunk).and_then(|read| {
            chunk.truncate(read);
            if read == 0 { file.rewind() } else { Ok(()) }
        });
        let failed = read.is_err();
        if chunks.blocking_send(read.map(|()| chunk)).is_err() || failed {
            return;
        }
    }
}

/// A reel that is there, marked as used.
async fn look(path: &Path) -> Result<Option<Reel>, String> {
    let file = path.to_owned();
    let found = disk::soon(path, move || {
        // A reel that cannot be touched is made again some day.
        open(&file).inspect(|reel| drop(reel.file.set_modified(SystemTime::now())))
    });
    found.await.map_err(|error| format!("{}: {error}", path.display()))
}

/// Opens a reel whose label is sound.
fn open(path: &Path) -> Option<Reel> {
    let label: Label = serde_json::from_slice(&fs::read(path.with_extension("json")).ok()?).ok()?;
    let file = File::open(path).ok()?;
    let whole = file.metadata().ok()?.len() == label.size;
    (whole && label.settings == SETTINGS && label.length_ms > 0).then_some(Reel { file, label })
}

/// What a file on this machine holds is asked of the file where nobody said it.
async fn content_of(item: &ItemSpec) -> String {
    match &item.at {
        MediaAt::Path(path) if item.content.is_empty() => {
            disk::metadata(path).await.map(|meta| prepared::content_of(&meta)).unwrap_or_default()
        }
        _ => item.content.clone(),
    }
}

/// A channel that plays one of them has it open. Locks stay: a lock that is removed under somebody is held twice.
fn remove_unused(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    let is = |path: &Path, ending: &str| path.extension().is_some_and(|e| e == ending);
    let all = entries.flatten().map(|entry| entry.path());
    let media: Vec<PathBuf> = all.filter(|path| is(path, "flv") || is(path, "part")).collect();
    for path in media {
        let used = fs::metadata(&path).and_then(|meta| meta.modified());
        if used.is_ok_and(|at| at.elapsed().is_ok_and(|age| age > UNUSED)) {
            tracing::info!(file = %path.display(), "removed a fallback that nobody used for long");
            if is(&path, "flv") {
                let _ = fs::remove_file(path.with_extension("json"));
            }
            let _ = fs::remove_file(&path);
        }
    }
}
