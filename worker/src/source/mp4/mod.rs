//! Ordinary MP4 files with H.264 and AAC-LC, read without FFmpeg: the same tags at a fraction of the cost.
//!
//! `boxes` and `samples` read tables in place, `track` says what is ordinary, `reader` gives tags. What is unusual is
//! refused with a reason and left to FFmpeg. Reading blocks: it is done on a thread that paces nothing.

mod boxes;
mod reader;
mod samples;
mod track;

pub use boxes::Refused;
pub use reader::{Ask, Reader};
