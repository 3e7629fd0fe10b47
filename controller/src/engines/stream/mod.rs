//! A channel's broadcast: start, stop, status, and what may be changed on the way.

pub mod change;
pub mod changes;
pub mod media;
pub mod slate;
pub mod start;
pub mod status;
pub mod stop;
