//! Where media comes from: probing a file, deciding what to copy, running FFmpeg, and reading what it writes.
//! Nothing here knows of the channel's timeline.

pub mod admission;
pub mod asc;
pub mod buffer;
pub mod child;
pub mod course;
pub mod disk;
pub mod feed;
pub mod fit;
pub mod flv;
pub mod known;
mod lettering;
pub mod link_server;
pub mod mp4;
pub mod object;
pub mod open;
pub mod parameters;
pub mod prepared;
pub mod probe;
pub mod recipe;
pub mod reel;
pub mod resume;
pub mod slate;
pub mod stream;
mod turn;
