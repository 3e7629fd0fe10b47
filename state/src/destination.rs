//! Where a channel is sent.

use crate::ids::DestinationId;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A destination as it is kept in a channel's configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Destination {
    /// Names it within its channel.
    pub id: DestinationId,
    /// What people call it.
    pub name: String,
    /// Whose rules apply.
    pub platform: Platform,
    /// `rtmp://` or `rtmps://` host[:port]/app, without the stream key.
    pub url: String,
    /// The stream key, sealed ([`crate::seal`]); absent where the URL is enough.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealed_key: Option<String>,
    /// The platform's second way in, same form as `url`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup_url: Option<String>,
    /// What it may see at a change of parameters.
    #[serde(default)]
    pub boundary: Boundary,
    /// Whether it is wanted.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// Fields that a newer version wrote; kept so that a rollback loses nothing.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

fn yes() -> bool {
    true
}

/// Whose ingest it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Platform {
    /// YouTube Live.
    Youtube,
    /// Facebook Live.
    Facebook,
    /// Twitch.
    Twitch,
    /// Any other RTMP(S) ingest.
    Custom,
}

/// How a destination lives through an item whose parameters differ from the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum Boundary {
    /// New sequence headers in the same connection.
    #[default]
    Continuous,
    /// Only identical parameter sets are sent; everything else is conformed before.
    Uniform,
    /// A planned reconnect at the boundary.
    Reconnect,
}
