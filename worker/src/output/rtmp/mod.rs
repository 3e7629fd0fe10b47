//! RTMP(S) push: one task, one bounded queue and one retry owner per destination.
//!
//! `protocol` speaks the bytes, `dial` makes the way there, the files here decide when and what to send: `pusher` over
//! all connections, `sending` within one, `ways` and `retry` where and when next, `lease` how long.
//! Nothing in this room knows of playlists, HLS or the controller; no key leaves it but to the server it is for.

mod board;
mod destination;
pub mod dial;
mod failure;
mod flow;
mod lease;
mod measure;
mod muxer;
mod progress;
pub mod protocol;
mod pusher;
pub(super) mod queue;
mod retry;
mod rules;
mod sending;
pub mod trial;
mod tuning;
mod ways;

pub use board::News;
pub use destination::Destination;
pub use tuning::Tuning;
