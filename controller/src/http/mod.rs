//! The only room that knows axum: routes, extractors, headers. A handler takes the request apart, makes one call
//! into an engine, and answers.

mod alerts;
mod auth;
mod channel_truth;
mod channels;
mod destinations;
mod extract;
mod frame;
mod health;
mod hls;
mod media_cache;
mod media_prepare;
mod respond;
pub mod router;
pub mod segments;
pub mod serve;
mod streams_start;
mod streams_status;
mod streams_stop;

use crate::engines::House;
use crate::machine::AdminToken;
use segments::Segments;
use std::sync::Arc;

/// What every handler may use.
pub struct Desk {
    /// What the engines work with.
    pub house: Arc<House>,
    /// Opens everything.
    pub token: AdminToken,
    /// Recent HLS segments.
    pub segments: Segments,
}

/// Shared by all requests.
pub type Shared = Arc<Desk>;
