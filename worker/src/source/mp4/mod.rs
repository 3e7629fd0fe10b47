//! Ordinary MP4 files with H.264 and AAC-LC, read without FFmpeg: the same tags at a fraction of the cost.
//!
//! `place` is where the bytes are, `top`, `boxes` and `samples` read tables in place, `track` says what is ordinary,
//! `reader` gives tags; `look` (with `describe`, `parameter_sets` and `first`) says what ffprobe would say. What is
//! unusual is refused with a reason and left to FFmpeg. Reading a file blocks: it is done on a thread that paces nothing. Of
//! an object only what is in hand is read, and what is missing is named.

mod boxes;
mod describe;
mod first;
mod look;
mod object;
mod parameter_sets;
mod place;
mod reader;
mod samples;
mod top;
mod track;

pub use boxes::Refused;
pub use look::look;
pub use object::{ObjectReader, Parts};
pub use reader::{Ask, Reader};
