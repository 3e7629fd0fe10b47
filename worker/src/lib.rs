//! One channel: sources in, one endless timeline out.

pub mod air;
pub mod airtime;
pub mod circuit;
pub mod fallback;
pub mod flow;
pub mod link;
pub mod lock;
pub mod log;
pub mod media;
pub mod memory;
pub mod output;
pub mod pace;
pub mod played;
pub mod playlist;
pub mod prepare;
pub mod programme;
pub mod report;
pub mod retry;
pub mod roll_call;
pub mod session;
pub mod source;
pub mod splice;
pub mod stall;
pub mod takeover;
