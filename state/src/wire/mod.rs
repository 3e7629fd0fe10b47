//! Every word that controller and worker say to each other, as JSON lines on the controller's unix socket.
//!
//! The worker dials, says [`ToController::Hello`], and gets its [`WorkerSpec`]. Then heartbeats and events go up,
//! orders come down. A line is at most [`MAX_LINE`] bytes.

mod seen;

pub use seen::*;

use crate::Timestamp;
use crate::destination::{Boundary, Platform};
use crate::ids::{ChannelId, DestinationId, PublicId, Ulid};
use crate::mask;
use crate::profile::Profile;
use crate::secret::{self, Secret};
use crate::storage::StorageSettings;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::PathBuf;

/// Longest line either side accepts, in bytes. A playlist of 10,000 items fits.
pub const MAX_LINE: usize = 8 * 1024 * 1024;

/// What a worker says.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ToController {
    /// The first line of a connection.
    Hello(Hello),
    /// Every second, and at once on a change.
    Heartbeat(Box<Heartbeat>),
    /// Something that happened, to be kept. Repeated until acknowledged.
    Event(Event),
    /// The last item of the playlist was opened: what comes next?
    WantItems {
        /// The generation that is running out.
        after: u64,
    },
    /// A line of the worker's log that somebody should see: a warning or worse. Not repeated, and not every one
    /// of a flood.
    Log {
        /// `warn` or `error`.
        level: String,
        /// The line as it is in the log file.
        line: String,
    },
}

/// What the controller says.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ToWorker {
    /// The answer to `Hello`.
    Spec(Box<WorkerSpec>),
    /// The items of the next round.
    Items {
        /// Counts up; an older generation is ignored.
        generation: u64,
        /// What to play after the present round.
        items: Vec<ItemSpec>,
    },
    /// Close the destinations, end FFmpeg, exit 0.
    Stop,
    /// Leave the present item for the next one.
    Skip,
    /// All places that the channel is sent to from now on: new ones begin at their next IDR, missing ones are closed,
    /// changed ones reconnect, and the others notice nothing.
    Destinations {
        /// The whole list.
        list: Vec<DestinationSpec>,
        /// Others that stay as they are, if the worker has them: their keys cannot be opened at present.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        keep: Vec<DestinationId>,
    },
    /// The fallback goes on the air and stays there, or gives way to the programme again.
    Slate {
        /// Whether it shall be on the air.
        on: bool,
    },
    /// Another fallback video, or none.
    Fallback {
        /// The video; without one the slate is shown.
        item: Option<ItemSpec>,
    },
    /// Leave at the next item boundary: a worker that was started with `--standby` waits for the channel's lock.
    GiveWay,
    /// Events up to this sequence number are kept.
    Ack {
        /// Highest sequence number that is on disk.
        seq: u64,
    },
}

/// Who is calling.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Hello {
    /// For which channel.
    pub channel: ChannelId,
    /// Which run.
    pub run: Ulid,
    /// Its process id.
    pub pid: u32,
    /// Version of the worker program.
    pub version: String,
    /// Whether it has its spec already, from this controller or one before.
    #[serde(default)]
    pub briefed: bool,
}

/// All that a worker needs to know. It carries secrets and never touches a disk.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct WorkerSpec {
    /// For which channel.
    pub channel: ChannelId,
    /// What people call the channel; shown on the slate.
    pub name: String,
    /// Which run.
    pub run: Ulid,
    /// Fencing number of the run.
    pub epoch: u64,
    /// Counts the playlists sent to this run.
    #[serde(default)]
    pub generation: u64,
    /// What to play.
    pub items: Vec<ItemSpec>,
    /// Whether to start over at the end.
    #[serde(rename = "loop", default = "yes")]
    pub looped: bool,
    /// Explicit profile, or `None` for that of the first playable item.
    #[serde(default)]
    pub profile: Option<Profile>,
    /// Where to send it.
    #[serde(default)]
    pub destinations: Vec<DestinationSpec>,
    /// Its own HLS, if wanted.
    #[serde(default)]
    pub hls: Option<HlsSpec>,
    /// The FFmpeg program.
    pub ffmpeg: PathBuf,
    /// The ffprobe program.
    pub ffprobe: PathBuf,
    /// Certificates to trust besides the system's, in PEM.
    #[serde(default)]
    pub tls_ca_file: Option<PathBuf>,
    /// A folder for things that can be made again: the slate, copies of media, prepared media.
    pub cache_dir: PathBuf,
    /// How to reach the bucket; absent where media are files.
    #[serde(default)]
    pub storage: Option<StorageSettings>,
    /// Where to go on; `None` starts with the first item.
    #[serde(default)]
    pub cursor: Option<Cursor>,
    /// Whether files that do not fit are prepared: only then may one be passed over until it is.
    #[serde(default)]
    pub prepares: bool,
    /// What is shown when there is nothing else; without one, a slate is made.
    #[serde(default)]
    pub fallback: Option<ItemSpec>,
    /// Begin with the fallback on the air, by order; see [`ToWorker::Slate`].
    #[serde(default)]
    pub slate_on: bool,
}

fn yes() -> bool {
    true
}

/// One item to play.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ItemSpec {
    /// Names the playlist entry.
    pub id: Ulid,
    /// The media file's key in storage.
    pub key: String,
    /// Where the bytes are.
    pub at: MediaAt,
    /// What tells this content from another under the same key: an ETag, or size and time of change.
    #[serde(default)]
    pub content: String,
}

/// Where an item's bytes are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MediaAt {
    /// A file on this machine.
    Path(PathBuf),
    /// An object in the bucket of [`WorkerSpec::storage`], under the item's key.
    Object {
        /// Its length in bytes.
        size: u64,
    },
}

/// One place to send to.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DestinationSpec {
    /// Names it within the channel.
    pub id: DestinationId,
    /// What people call it.
    pub name: String,
    /// Whose rules apply.
    pub platform: Platform,
    /// `rtmp://` or `rtmps://` host[:port]/app.
    pub url: String,
    /// The stream key.
    #[serde(with = "secret::exposed")]
    pub key: Secret,
    /// What it may see at a change of parameters.
    #[serde(default)]
    pub boundary: Boundary,
    /// Another way in, tried when the first fails; same form as `url`, same key.
    #[serde(default)]
    pub backup_url: Option<String>,
    /// Longest connection, in seconds; a new one is begun before, at an item boundary where one comes in time.
    /// `None`: 23 days.
    #[serde(default)]
    pub max_session_s: Option<u64>,
    /// First timestamp of each connection, ms modulo 2^32. Only trials of wrapped clocks want another than 0; they
    /// turn the planned reconnect off as well.
    #[serde(default)]
    pub first_timestamp_ms: u32,
}

/// Addresses are masked: people paste keys into them.
impl fmt::Debug for DestinationSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, platform, url, backup_url, boundary, .. } = self;
        let mut shown = f.debug_struct("DestinationSpec");
        shown.field("id", id).field("platform", platform).field("url", &mask::url(url));
        shown.field("backup_url", &backup_url.as_deref().map(mask::url)).field("boundary", boundary);
        shown.finish_non_exhaustive()
    }
}

impl DestinationSpec {
    /// A destination with one way in and nothing special.
    pub fn new(
        id: DestinationId,
        name: impl Into<String>,
        platform: Platform,
        url: impl Into<String>,
        key: Secret,
    ) -> Self {
        Self {
            id,
            name: name.into(),
            platform,
            url: url.into(),
            key,
            boundary: Boundary::default(),
            backup_url: None,
            max_session_s: None,
            first_timestamp_ms: 0,
        }
    }
}

/// Where and how to write HLS.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct HlsSpec {
    /// The channel's own folder; made if missing.
    pub dir: PathBuf,
    /// Name in URLs.
    pub public_id: PublicId,
    /// Longest segment in seconds; fixed for the life of the playlist.
    #[serde(default = "four")]
    pub target_duration_s: u32,
    /// Segments kept in the playlist, at least 6.
    #[serde(default = "window")]
    pub window: usize,
    /// Lowest media sequence number this run may use, unless it continues the playlist found in `dir`.
    #[serde(default)]
    pub first_sequence: u64,
    /// First presentation time in the transport stream, 90 kHz ticks modulo 2^33. Only trials of a wrapped clock want
    /// another than 0.
    #[serde(default)]
    pub first_pts: u64,
}

fn four() -> u32 {
    4
}
fn window() -> usize {
    8
}

/// Something that happened and is to be kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Which run.
    pub run: Ulid,
    /// Counts the events of the run, from 1.
    pub seq: u64,
    /// When, by the wall.
    pub at_wall: Timestamp,
    /// When, in ms of channel time.
    pub at_media_ms: i64,
    /// What: `item.started`, `item.resumed`, `item.ended`, `item.failed`, `fallback.started`, `destination.added`,
    /// `destination.live`, `destination.failed`, `destination.removed`, `destination.session_ending`; the controller
    /// adds `run.ended`.
    pub kind: String,
    /// Details by kind.
    #[serde(default)]
    pub data: serde_json::Value,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wire_carries_the_key_and_debug_does_not() {
        let text = r#"{"id":"y","name":"Y","platform":"youtube","url":"rtmp://h/a","key":"abcd-efgh"}"#;
        let spec: DestinationSpec = serde_json::from_str(text).unwrap();
        assert_eq!(spec.key.expose(), "abcd-efgh");
        assert!(serde_json::to_string(&spec).unwrap().contains("abcd-efgh"));
        assert!(!format!("{spec:?}").contains("abcd-efgh"));
        let pasted = DestinationSpec { url: "rtmp://h/a?key=abcd-efgh".into(), ..spec };
        assert!(!format!("{pasted:?}").contains("abcd-efgh"));
    }
}
