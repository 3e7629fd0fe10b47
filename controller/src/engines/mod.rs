//! What the product decides. The engines know wishes, the supervisor and storage; they know nothing of HTTP.

pub mod analytics;
pub mod distribution;
pub(crate) mod fields;
pub mod health;
pub mod stream;

use crate::alerts::Alerts;
use crate::config::Config;
use crate::crowd::Crowd;
use crate::error::Problem;
use crate::media::Media;
use crate::media::library::Library;
use crate::prepare;
use crate::supervisor::Handle;
use crate::supervisor::brief::Briefing;
use crate::wishes::Wishes;
use crate::wishes::destinations::Keyring;
use state::ids::ChannelId;
use std::sync::{Arc, Mutex};
use std::time::Instant;
use tokio::sync::Semaphore;

/// Everything an engine works with.
pub struct House {
    /// What the environment says.
    pub config: Arc<Config>,
    /// What is wanted.
    pub wishes: Arc<Wishes>,
    /// Files that were broken when the controller started, in words.
    pub broken: Vec<String>,
    /// Seals and opens stream keys.
    pub keyring: Arc<Keyring>,
    /// What there is to play.
    pub library: Arc<Library>,
    /// The copies of it on this machine.
    pub media: Media,
    /// What workers are told; knows which FFmpeg there is.
    pub briefing: Arc<Briefing>,
    /// Makes it so, and knows what is seen.
    pub supervisor: Handle,
    /// Prepares files that do not fit.
    pub prepare: prepare::Handle,
    /// Hands out the turns of trying a destination.
    pub trials: tokio::sync::Semaphore,
    /// What is wrong, and who is told.
    pub alerts: Alerts,
    /// Room for connections.
    pub crowd: Crowd,
    /// When the controller started.
    pub started: Instant,
    /// Why the program that should have taken our place could not.
    pub reload_failed: Mutex<Option<String>>,
    /// Exports of logs that may still be begun.
    pub exports: Arc<Semaphore>,
    /// The last look at what is missing.
    pub checkup: health::Checkup,
}

pub(crate) fn unknown_channel(channel: &ChannelId) -> Problem {
    Problem::not_found(format!("there is no channel {channel}"))
}
