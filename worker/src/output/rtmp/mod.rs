//! RTMP(S) push: one task, one bounded queue and one retry owner per destination.
//!
//! `protocol` speaks the bytes, `dial` makes the way there, the files here decide when and what to send.
//! Nothing in this room knows of playlists, HLS or the controller; no key leaves it but to the server it is for.

mod board;
mod destination;
pub mod dial;
mod failure;
mod flow;
mod muxer;
mod progress;
pub mod protocol;
mod queue;
mod retry;
mod sending;
mod tuning;

pub use destination::Destination;
pub use tuning::Tuning;
