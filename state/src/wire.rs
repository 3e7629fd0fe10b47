//! Every word that controller and worker say to each other, as JSON lines on the controller's unix socket.
//!
//! The worker dials, says [`ToController::Hello`], and gets its [`WorkerSpec`]. Then heartbeats and events go up,
//! orders come down. A line is at most [`MAX_LINE`] bytes.

use crate::Timestamp;
use crate::destination::{Boundary, Platform};
use crate::ids::{ChannelId, DestinationId, PublicId, Ulid};
use crate::profile::Profile;
use crate::secret::{self, Secret};
use crate::storage::StorageSettings;
use serde::{Deserialize, Serialize};
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
#[derive(Debug, Clone, Serialize, Deserialize)]
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
}

fn four() -> u32 {
    4
}
fn window() -> usize {
    8
}

/// Where the programme stands: enough to go on within a GOP.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// The playlist entry.
    pub item: Ulid,
    /// Its key, in case the entry is gone.
    pub key: String,
    /// Milliseconds of the item that have been sent.
    pub offset_ms: u64,
}

/// What a worker sees of itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// Which run.
    pub run: Ulid,
    /// Its epoch.
    pub epoch: u64,
    /// Counts the heartbeats of the run.
    pub seq: u64,
    /// When.
    pub at: Timestamp,
    /// What is being sent right now.
    pub playing: Playing,
    /// Why it is not the programme, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub because: Option<String>,
    /// Since when `playing` has been what it is.
    pub since: Timestamp,
    /// Media sent since the run began, ms of channel time.
    pub sent_ms: u64,
    /// The item on the air.
    #[serde(default)]
    pub item: Option<ItemSeen>,
    /// The item that is opened or will be opened next.
    #[serde(default)]
    pub next: Option<NextSeen>,
    /// The profile of this run, once it is known.
    #[serde(default)]
    pub profile: Option<Profile>,
    /// Every destination.
    #[serde(default)]
    pub destinations: Vec<DestinationSeen>,
    /// Its own HLS.
    #[serde(default)]
    pub hls: Option<HlsSeen>,
    /// Where a new run should go on.
    #[serde(default)]
    pub cursor: Option<Cursor>,
    /// Items that were left or could not be played in this run, newest last, at most 20.
    #[serde(default)]
    pub failed_items: Vec<ItemFailure>,
    /// Figures of the splice.
    #[serde(default)]
    pub counts: Counts,
}

/// What is being sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Playing {
    /// Nothing yet.
    Nothing,
    /// An item of the playlist.
    Programme,
    /// The slate, because there is nothing else.
    Fallback,
}

/// The item on the air.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ItemSeen {
    /// The playlist entry.
    pub id: Ulid,
    /// Its key.
    pub key: String,
    /// Milliseconds of it that have been sent.
    pub position_ms: u64,
    /// Its length, where the file says.
    pub duration_ms: Option<u64>,
    /// How its picture is made.
    pub video: Making,
    /// How its sound is made.
    pub audio: Making,
    /// Why, in words: `fits the profile`, `HEVC is not H.264`.
    pub reason: String,
}

/// The item after it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NextSeen {
    /// The playlist entry.
    pub id: Ulid,
    /// Its key.
    pub key: String,
    /// Whether it is opened and waiting.
    pub ready: bool,
}

/// How a track is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Making {
    /// The file's own bytes.
    Copy,
    /// Decoded and encoded to the profile.
    Transcode,
    /// The item has no such track; the worker makes silence.
    Silent,
}

/// One destination as its task sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DestinationSeen {
    /// Which.
    pub id: DestinationId,
    /// Where it stands.
    pub state: DestinationState,
    /// Since when.
    pub since: Timestamp,
    /// Bytes that the peer has acknowledged over all connections of this run.
    pub accepted_bytes: u64,
    /// When that number last grew.
    #[serde(default)]
    pub accepted_at: Option<Timestamp>,
    /// Acknowledged kbit/s over the last seconds.
    pub bitrate_kbps: u32,
    /// Connections after the first.
    pub reconnects: u64,
    /// Tags dropped because the peer was too slow.
    pub dropped: u64,
    /// Failures in a row.
    pub attempt: u32,
    /// When the next try is due.
    #[serde(default)]
    pub next_retry_at: Option<Timestamp>,
    /// The newest failure.
    #[serde(default)]
    pub last_error: Option<DestinationError>,
}

/// Where a destination stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DestinationState {
    /// Nothing tried yet.
    Idle,
    /// Resolving, connecting, shaking hands, publishing.
    Connecting,
    /// Published and sending; nothing acknowledged yet or not lately.
    Sending,
    /// The peer acknowledges media.
    Live,
    /// Failed; the next try has a time.
    Waiting,
    /// Closed on purpose.
    Closed,
}

/// Why a destination failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DestinationError {
    /// A short name to search for: `resolve`, `connect`, `tls`, `handshake`, `timeout`, `closed`, or the server's own
    /// status code such as `NetStream.Publish.BadName`.
    pub code: String,
    /// What happened and what to do, without secrets.
    pub words: String,
    /// When.
    pub at: Timestamp,
}

/// The HLS output as its writer sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HlsSeen {
    /// Segments in the playlist.
    pub segments: u64,
    /// Sequence number that the next segment will have.
    pub next_sequence: u64,
    /// When the newest segment was published.
    #[serde(default)]
    pub last_segment_at: Option<Timestamp>,
    /// Why segments cannot be written, in words; `None` while they can.
    #[serde(default)]
    pub error: Option<String>,
}

/// An item that was left or skipped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ItemFailure {
    /// Its key.
    pub key: String,
    /// Why, in words.
    pub reason: String,
    /// When.
    pub at: Timestamp,
}

/// Figures of the splice since the run began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Counts {
    /// Changes from one feed to another.
    pub boundaries: u64,
    /// Silent audio frames inserted.
    pub silent_frames: u64,
    /// Audio frames dropped to keep the grid.
    pub dropped_audio: u64,
    /// Largest delay between a tag's due time and its sending, ms.
    pub max_late_ms: u64,
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
    /// What: `item.started`, `item.ended`, `item.failed`, `destination.live`, `destination.failed`, `fallback.started`.
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
    }
}
