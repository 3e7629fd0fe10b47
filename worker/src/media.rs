//! The one form in which media travels through the worker: FLV tag bodies, which are RTMP message bodies,
//! with times of the channel.

use bytes::Bytes;
use std::sync::Arc;

/// Picture or sound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Track {
    /// H.264.
    Video,
    /// AAC-LC.
    Audio,
}

/// One access unit on its way to the outputs. Cheap to clone: the bytes and the configuration are shared.
#[derive(Debug, Clone)]
pub struct Tag {
    /// Which track.
    pub track: Track,
    /// Decoding time, ms of channel time (0 is the start of the run). Strictly increasing within a track.
    pub dts: i64,
    /// Composition time: presentation minus decoding time in ms, never negative; 0 for audio.
    pub cts: i32,
    /// For video: an IDR picture (NAL unit type 5), the only place to enter a stream. Audio: always false.
    pub idr: bool,
    /// For an IDR: decoding time of the next one, where the read-ahead has seen it.
    pub next_idr: Option<i64>,
    /// The FLV tag body (Adobe FLV 10.1, E.4.2/E.4.3): video `[frame/codec, 1, cts:3, AVCC NAL units…]`,
    /// audio `[0xAF, 1, raw AAC frame…]`. Never a sequence header: those are in `config`.
    pub body: Bytes,
    /// The parameters this access unit is decoded with.
    pub config: Arc<TrackConfig>,
}

impl Tag {
    /// Presentation time, ms of channel time.
    pub fn pts(&self) -> i64 {
        self.dts + i64::from(self.cts)
    }
}

/// Parameters of a track: its sequence header and what it says.
///
/// Two configurations are the same when their headers are the same bytes ([`TrackConfig::same`]).
#[derive(Debug, PartialEq)]
pub struct TrackConfig {
    /// The FLV sequence header tag body: video `[0x17, 0, 0,0,0, AVCDecoderConfigurationRecord…]`,
    /// audio `[0xAF, 0, AudioSpecificConfig…]`.
    pub header: Bytes,
    /// What it says, for onMetaData and playlists.
    pub shape: Shape,
}

impl TrackConfig {
    /// Whether a decoder needs no new header to go from one to the other.
    pub fn same(a: &Arc<Self>, b: &Arc<Self>) -> bool {
        Arc::ptr_eq(a, b) || a.header == b.header
    }
}

/// Size and rate of a track.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Shape {
    /// H.264 video.
    Video {
        /// Pixels.
        width: u32,
        /// Pixels.
        height: u32,
        /// Frames per second.
        fps: f64,
        /// kbit/s, as far as known; 0 when not.
        kbps: u32,
    },
    /// AAC audio.
    Audio {
        /// Hz.
        sample_rate: u32,
        /// 1 or 2.
        channels: u8,
        /// kbit/s, as far as known; 0 when not.
        kbps: u32,
    },
}
