//! Where the timeline goes: RTMP(S) destinations and HLS. Each output takes tags without ever making the
//! timeline wait, and none of them knows of another.

pub mod hls;
pub mod rtmp;
