//! Where a channel is sent.

use crate::Timestamp;
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
    /// When a key was last given for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keyed_at: Option<Timestamp>,
    /// The platform's second way in, same form as `url`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup_url: Option<String>,
    /// The destination whose second ingest this is: both run at the same time with the same key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub linked_to: Option<DestinationId>,
    /// What it may see at a change of parameters.
    #[serde(default)]
    pub boundary: Boundary,
    /// Longest session, seconds, [`SHORTEST_SESSION_S`] to [`LONGEST_SESSION_S`]; `None` is the platform's own limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_session_s: Option<u64>,
    /// The address that is asked for the next key before a session ends, sealed: it may hold a secret itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealed_key_url: Option<String>,
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

/// Shortest session that may be asked for, seconds.
pub const SHORTEST_SESSION_S: u64 = 10;

/// Longest session that may be asked for, seconds: 23 days. After 24.8 days the clocks of many ingests wrap.
pub const LONGEST_SESSION_S: u64 = 23 * 86_400;

impl Destination {
    /// An enabled one with one way in, without a key, and nothing special.
    pub fn new(id: DestinationId, platform: Platform, url: impl Into<String>) -> Self {
        Self {
            name: id.to_string(),
            id,
            platform,
            url: url.into(),
            sealed_key: None,
            keyed_at: None,
            backup_url: None,
            linked_to: None,
            boundary: Boundary::default(),
            max_session_s: None,
            sealed_key_url: None,
            enabled: true,
            other: Map::new(),
        }
    }

    /// Longest session, seconds: its own setting or its platform's limit; `None` where there is none.
    pub fn session_limit_s(&self) -> Option<u64> {
        self.max_session_s.or(self.platform.session_limit_s())
    }
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

impl Platform {
    /// After how many seconds the platform ends a broadcast: Twitch after 48 h, Facebook after 8 h.
    pub fn session_limit_s(self) -> Option<u64> {
        match self {
            Platform::Twitch => Some(48 * 3600),
            Platform::Facebook => Some(8 * 3600),
            Platform::Youtube | Platform::Custom => None,
        }
    }
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
