//! One channel: sources in, one endless timeline out.

pub mod media;
pub mod output;
