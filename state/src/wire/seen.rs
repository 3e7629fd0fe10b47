//! What a worker sees of itself and tells: the words of a heartbeat.

use crate::Timestamp;
use crate::ids::{DestinationId, Ulid};
use crate::profile::Profile;
use serde::{Deserialize, Serialize};

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
    /// Whether the fallback is made, on this machine's disk and open, so that it can be on the air at once.
    #[serde(default)]
    pub protected: bool,
    /// Whether the fallback is on the air, or will be, by order.
    #[serde(default)]
    pub slate_on: bool,
    /// How long the channel was where since the run began.
    #[serde(default)]
    pub airtime: Airtime,
    /// What leaves the timeline.
    #[serde(default)]
    pub flow: Flow,
}

/// Times of a run, each in whole milliseconds of the worker's own steady clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Airtime {
    /// At least one destination (or HLS, where there is none) accepted media.
    pub on_ms: u64,
    /// Wanted, and nobody accepted anything.
    pub dark_ms: u64,
    /// Of `on_ms`: the fallback was on the air in place of the programme.
    pub fallback_ms: u64,
    /// The newest time, of which is not known yet whether it was accepted. All four make up the life of the run.
    #[serde(default)]
    pub open_ms: u64,
}

/// What leaves the timeline for every output, and what was lost on the way.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, Default)]
pub struct Flow {
    /// Pictures per second over the last seconds.
    pub fps: f64,
    /// Sound and picture, kbit/s over the last seconds.
    pub kbps: u32,
    /// Read ahead of the item on the air, ms; absent while no item is.
    #[serde(default)]
    pub ahead_ms: Option<u64>,
    /// Tags that all destinations together dropped in the last minute.
    #[serde(default)]
    pub dropped_lately: u64,
    /// Connections that all destinations together began anew in the last minute.
    #[serde(default)]
    pub reconnects_lately: u64,
}

impl Heartbeat {
    /// The heartbeat of a worker that plays nothing yet.
    pub fn new(run: Ulid, epoch: u64, seq: u64, at: Timestamp) -> Self {
        Self {
            run,
            epoch,
            seq,
            at,
            playing: Playing::Nothing,
            because: None,
            since: at,
            sent_ms: 0,
            item: None,
            next: None,
            profile: None,
            destinations: Vec::new(),
            hls: None,
            cursor: None,
            failed_items: Vec::new(),
            counts: Counts::default(),
            protected: false,
            slate_on: false,
            airtime: Airtime::default(),
            flow: Flow::default(),
        }
    }
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
    /// Where its bytes come from: `file`, `cache` or `bucket`.
    #[serde(default)]
    pub source: String,
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
    /// The item has no picture; the slate is shown while it is heard.
    Slate,
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
    /// The address in use or tried, masked; it differs from the first one while another way in is used.
    #[serde(default)]
    pub way: Option<String>,
    /// What the platform will not like about what is sent, in words.
    #[serde(default)]
    pub warnings: Vec<String>,
    /// How long it accepted media since the run began, ms.
    #[serde(default)]
    pub on_air_ms: u64,
    /// How long it accepted nothing although it was wanted, ms, for whatever reason.
    #[serde(default)]
    pub dark_ms: u64,
    /// Of `on_air_ms`: the fallback was on the air in place of the programme.
    #[serde(default)]
    pub fallback_ms: u64,
    /// Round-trip time of the connection as the kernel sees it, ms.
    #[serde(default)]
    pub rtt_ms: Option<u32>,
    /// Media waiting in its queue, ms.
    #[serde(default)]
    pub queue_ms: u32,
}

impl DestinationSeen {
    /// A destination of which nothing is known but where it stands.
    pub fn new(id: DestinationId, state: DestinationState, since: Timestamp) -> Self {
        Self {
            id,
            state,
            since,
            accepted_bytes: 0,
            accepted_at: None,
            bitrate_kbps: 0,
            reconnects: 0,
            dropped: 0,
            attempt: 0,
            next_retry_at: None,
            last_error: None,
            way: None,
            warnings: Vec::new(),
            on_air_ms: 0,
            dark_ms: 0,
            fallback_ms: 0,
            rtt_ms: None,
            queue_ms: 0,
        }
    }
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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
pub struct HlsSeen {
    /// Segments in the playlist.
    pub segments: u64,
    /// Sequence number that the next segment will have.
    pub next_sequence: u64,
    /// When the newest segment was published.
    #[serde(default)]
    pub last_segment_at: Option<Timestamp>,
    /// Programme date time at which the newest published segment ends: how far viewers can see.
    #[serde(default)]
    pub edge_at: Option<Timestamp>,
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
    /// What 99 of 100 sendings of the last half minute or so did not exceed, ms; the wait for company of up to 24 ms
    /// is in it.
    #[serde(default)]
    pub late_p99_ms: u64,
}
