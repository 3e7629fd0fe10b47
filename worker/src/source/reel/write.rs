//! A reel on its way to the disk: tags in order of time as FLV (Adobe FLV 10.1, annex E), written by a thread of its
//! own.

use crate::media::TrackConfig;
use crate::source::buffer::{SourceTag, TIME_SHIFT_MS};
use crate::source::disk;
use std::collections::VecDeque;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

/// A disk that takes nothing for this long is given up; writing a long video through to it may take a while.
const SILENCE: Duration = Duration::from_secs(120);
/// A track is waited for over this much of the other, ms: the reader of a reel needs both at the same time.
const LONGEST_SKEW_MS: i64 = 2_000;

/// Pictures and sounds that are not written yet.
#[derive(Debug, Default)]
pub(super) struct Tracks {
    pub(super) video: VecDeque<SourceTag>,
    pub(super) audio: VecDeque<SourceTag>,
    config: Option<Arc<TrackConfig>>,
    /// Presentation time of the first picture, ms of the item: time 0 of the reel.
    begins: Option<i64>,
    /// Latest presentation time, ms of the reel.
    shown: i64,
    /// Whether there was a sound.
    pub(super) has_audio: bool,
}

impl Tracks {
    /// Everything whose order is known, as bytes. `frame_ms` is given when there is no more to come: what sounds after
    /// the last picture is left out.
    pub(super) fn give(&mut self, expects_audio: bool, over: Option<f64>) -> Vec<u8> {
        let mut bytes = Vec::new();
        if let (None, Some(first)) = (self.begins, self.video.front()) {
            self.begins = Some(first.pts());
        }
        while let Some(video_next) = self.next_is_video(expects_audio, over.is_some()) {
            if video_next {
                self.give_picture(&mut bytes);
            } else if let Some(sound) = self.audio.pop_front() {
                let at = sound.dts - self.begins.unwrap_or(0);
                if at >= 0 && over.is_none_or(|frame_ms| at < self.length_ms(frame_ms)) {
                    self.has_audio = true;
                    put_tag(8, at, &sound.body, &mut bytes);
                }
            }
        }
        bytes
    }

    /// Length of the pictures so far, ms.
    pub(super) fn length_ms(&self, frame_ms: f64) -> i64 {
        self.shown + frame_ms.round() as i64
    }

    fn next_is_video(&self, expects_audio: bool, over: bool) -> Option<bool> {
        let span =
            |tags: &VecDeque<SourceTag>| tags.back().zip(tags.front()).map_or(0, |(b, f)| b.dts - f.dts);
        match (self.video.front(), self.audio.front()) {
            (Some(picture), Some(sound)) => Some(picture.dts <= sound.dts),
            (Some(_), None) => {
                (over || !expects_audio || span(&self.video) > LONGEST_SKEW_MS).then_some(true)
            }
            (None, Some(_)) => (over || span(&self.audio) > LONGEST_SKEW_MS).then_some(false),
            (None, None) => None,
        }
    }

    fn give_picture(&mut self, bytes: &mut Vec<u8>) {
        let Some(picture) = self.video.pop_front() else { return };
        let begins = self.begins.unwrap_or(0);
        let new = picture
            .config
            .as_ref()
            .filter(|config| self.config.as_ref().is_none_or(|present| !TrackConfig::same(present, config)));
        if let Some(config) = new {
            put_tag(9, picture.dts - begins, &config.header, bytes);
            self.config = Some(Arc::clone(config));
        }
        put_tag(9, picture.dts - begins, &picture.body, bytes);
        self.shown = self.shown.max(picture.pts() - begins);
    }
}

/// The head of a file with picture and sound.
pub(super) fn head() -> Vec<u8> {
    b"FLV\x01\x05\x00\x00\x00\x09\x00\x00\x00\x00".to_vec()
}

fn put_tag(kind: u8, at_ms: i64, body: &[u8], bytes: &mut Vec<u8>) {
    // A tag holds at most 2^24 bytes; none that was read is longer.
    let size = (body.len() as u32).to_be_bytes();
    let at = ((at_ms + TIME_SHIFT_MS) as u32).to_be_bytes();
    bytes.extend([kind, size[1], size[2], size[3], at[1], at[2], at[3], at[0], 0, 0, 0]);
    bytes.extend_from_slice(body);
    bytes.extend((body.len() as u32 + 11).to_be_bytes());
}

/// A file that is being written.
pub(super) struct Writer {
    chunks: mpsc::Sender<Vec<u8>>,
    ended: oneshot::Receiver<io::Result<u64>>,
}

impl Writer {
    /// Begins a file anew.
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        let (chunks, from_maker) = mpsc::channel(4);
        let (tell, ended) = oneshot::channel();
        let path = path.to_owned();
        disk::stream("reel-writer", move || drop(tell.send(write(&path, from_maker))))?;
        Ok(Self { chunks, ended })
    }

    /// Writes more; false when nothing can be written any more, and [`Self::finish`] says why.
    pub(super) async fn put(&self, chunk: Vec<u8>) -> bool {
        timeout(SILENCE, self.chunks.send(chunk)).await.is_ok_and(|sent| sent.is_ok())
    }

    /// The length of the file, once all of it is on the disk.
    pub(super) async fn finish(self) -> io::Result<u64> {
        drop(self.chunks);
        let ended = timeout(SILENCE, self.ended).await;
        let ended = ended.map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "the disk does not answer"))?;
        ended.unwrap_or_else(|_| Err(io::Error::other("its writer has ended")))
    }
}

fn write(path: &Path, mut chunks: mpsc::Receiver<Vec<u8>>) -> io::Result<u64> {
    // A new file: who hung at the old one may still write into it.
    let _ = fs::remove_file(path);
    let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(path)?;
    let mut written = 0;
    while let Some(chunk) = chunks.blocking_recv() {
        file.write_all(&chunk)?;
        written += chunk.len() as u64;
    }
    file.sync_all()?;
    Ok(written)
}
