//! The wish: a channel's configuration as it is kept in `channels/<id>/stream_config.json`.

use crate::destination::{Destination, LONGEST_SESSION_S, SHORTEST_SESSION_S};
use crate::ids::{ChannelId, ClientId, PublicId, Ulid};
use crate::phase::Wish;
use crate::playlist::Playlist;
use crate::profile::Profile;
use crate::restart::Restart;
use crate::{Timestamp, mask};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Everything that is wanted of a channel.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StreamConfig {
    /// Shape of this document; [`Self::VERSION`].
    pub version: u32,
    /// Counts the changes of this document.
    pub revision: u64,
    /// Which channel.
    pub id: ChannelId,
    /// Whose channel.
    #[serde(default = "ClientId::default_client")]
    pub client: ClientId,
    /// What people call it.
    pub name: String,
    /// Its name in public URLs.
    pub public_id: PublicId,
    /// Whether it shall be on the air.
    #[serde(default)]
    pub wish: Wish,
    /// Since when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wish_since: Option<Timestamp>,
    /// The broadcast: made at a start, kept over crashes and restarts, ended by a stop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_id: Option<Ulid>,
    /// What it plays.
    #[serde(default)]
    pub playlist: Playlist,
    /// Whether it starts over at the end of the playlist.
    #[serde(default = "yes", rename = "loop")]
    pub looped: bool,
    /// Its picture and sound; `None` takes that of the first playable item.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<Profile>,
    /// Where it is sent.
    #[serde(default)]
    pub destinations: Vec<Destination>,
    /// Its own HLS.
    #[serde(default)]
    pub hls: HlsSettings,
    /// What is done when its worker fails.
    #[serde(default)]
    pub restart: Restart,
    /// Key of the video that is shown when there is nothing else; without one, a slate is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback_video: Option<String>,
    /// The fallback shall be on the air, whatever there is to play.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub slate_on: bool,
    /// Fields that a newer version wrote; kept so that a rollback loses nothing.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// Whether and how a channel is served over HLS.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HlsSettings {
    /// Whether segments are made at all.
    pub enabled: bool,
    /// Whether anybody may watch without a token.
    pub public: bool,
}

impl Default for HlsSettings {
    fn default() -> Self {
        Self { enabled: true, public: true }
    }
}

fn yes() -> bool {
    true
}

/// One thing that is wrong with a document: where (JSON pointer) and what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FieldProblem {
    /// JSON pointer (RFC 6901), for example `/destinations/0/url`.
    pub pointer: String,
    /// What is wrong and what is expected, in words.
    pub detail: String,
}

impl FieldProblem {
    /// A problem at `pointer`.
    pub fn at(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), detail: detail.into() }
    }
}

impl StreamConfig {
    /// The newest shape that this program writes.
    pub const VERSION: u32 = 1;

    /// A channel that nobody configured: all media in storage, looped, HLS on and public, no destination.
    pub fn new(id: ChannelId) -> Self {
        Self {
            version: Self::VERSION,
            revision: 0,
            name: id.to_string(),
            id,
            client: ClientId::default_client(),
            public_id: PublicId::random(),
            wish: Wish::Off,
            wish_since: None,
            session_id: None,
            playlist: Playlist::Storage,
            looped: true,
            profile: None,
            destinations: Vec::new(),
            hls: HlsSettings::default(),
            restart: Restart::default(),
            fallback_video: None,
            slate_on: false,
            other: Map::new(),
        }
    }

    /// Everything that is wrong with it; empty when it can be used.
    pub fn problems(&self) -> Vec<FieldProblem> {
        let mut found = Vec::new();
        if PublicId::parse(self.public_id.as_str()).is_none() {
            found.push(FieldProblem::at("/public_id", "must be 22 letters or digits"));
        }
        if self.name.trim().is_empty() || self.name.chars().count() > 100 {
            found.push(FieldProblem::at("/name", "must be 1 to 100 characters"));
        }
        if let Some(profile) = &self.profile {
            found.extend(
                profile
                    .problems()
                    .into_iter()
                    .map(|(p, text)| FieldProblem::at(format!("/profile{p}"), text)),
            );
        }
        if let Some(text) = self.fallback_video.as_deref().and_then(key_problem) {
            found.push(FieldProblem::at("/fallback_video", text));
        }
        let restart = self.restart.problems().into_iter();
        found.extend(restart.map(|(p, text)| FieldProblem::at(format!("/restart{p}"), text)));
        if let Playlist::List { items } = &self.playlist {
            if items.is_empty() {
                found.push(FieldProblem::at("/playlist/items", "must hold at least one item"));
            }
            for (i, item) in items.iter().enumerate() {
                if let Some(text) = key_problem(&item.key) {
                    found.push(FieldProblem::at(format!("/playlist/items/{i}/key"), text));
                }
            }
        }
        for (i, destination) in self.destinations.iter().enumerate() {
            found.extend(destination_problems(destination, i));
            found.extend(link_problem(destination, &self.destinations, i));
            if self.destinations[..i].iter().any(|earlier| earlier.id == destination.id) {
                found
                    .push(FieldProblem::at(format!("/destinations/{i}/id"), "is used twice in this channel"));
            }
        }
        found
    }
}

fn destination_problems(destination: &Destination, index: usize) -> Vec<FieldProblem> {
    let at = |field: &str| format!("/destinations/{index}/{field}");
    let mut found = Vec::new();
    if let Some(text) = ingest_url_problem(&destination.url) {
        found.push(FieldProblem::at(at("url"), text));
    }
    if let Some(text) = destination.backup_url.as_deref().and_then(ingest_url_problem) {
        found.push(FieldProblem::at(at("backup_url"), text));
    }
    if destination.name.chars().count() > 100 {
        found.push(FieldProblem::at(at("name"), "must not be longer than 100 characters"));
    }
    if destination.linked_to.is_some() && destination.sealed_key_url.is_some() {
        let words = "must be given to the first ingest: the key of both comes from there";
        found.push(FieldProblem::at(at("key_url"), words));
    }
    if destination.max_session_s.is_some_and(|s| !(SHORTEST_SESSION_S..=LONGEST_SESSION_S).contains(&s)) {
        let words = format!("must be {SHORTEST_SESSION_S} to {LONGEST_SESSION_S} seconds, or null");
        found.push(FieldProblem::at(at("max_session_s"), words));
    }
    found
}

/// A second ingest follows a first one, and nothing follows a second one.
fn link_problem(destination: &Destination, all: &[Destination], index: usize) -> Option<FieldProblem> {
    let first = destination.linked_to.as_ref()?;
    let words = match all.iter().find(|other| other.id == *first) {
        Some(other) if other.id == destination.id => "must name another destination".to_owned(),
        Some(other) if other.linked_to.is_some() => {
            format!("must not name {first}, which is linked to another one itself")
        }
        Some(_) => return None,
        None => format!("must name a saved destination of this channel; there is no {first}"),
    };
    Some(FieldProblem::at(format!("/destinations/{index}/linked_to"), words))
}

/// Why `url` cannot be an ingest address; `None` when it can.
pub fn ingest_url_problem(url: &str) -> Option<String> {
    let form = "must look like rtmps://host[:port]/app";
    let Some((scheme, rest)) = url.split_once("://") else { return Some(form.to_owned()) };
    if !matches!(scheme, "rtmp" | "rtmps") {
        return Some(format!("{form}; the scheme {scheme:?} is not supported"));
    }
    if url.len() > 2048 || url.chars().any(|c| c.is_control() || c.is_whitespace() || c == '\\' || c == '#') {
        return Some(format!("{form}, without spaces, control characters, '\\' or '#'"));
    }
    let (authority, app) = rest.split_once('/').unwrap_or((rest, ""));
    if authority.contains('@') {
        return Some("must not hold a user name or password".to_owned());
    }
    let bare = authority.trim_start_matches('[');
    let port_ok = match authority.rsplit_once(':') {
        Some((_, port)) if !port.ends_with(']') && !port.contains(']') => {
            port.parse::<u16>().is_ok_and(|p| p > 0)
        }
        _ => true,
    };
    if bare.is_empty() || authority.starts_with(':') || !port_ok {
        return Some(format!("{form}; {:?} is not a host with an optional port", mask::url(url)));
    }
    if app.trim_matches('/').is_empty() {
        return Some(format!("{form}; the application name after the host is missing"));
    }
    None
}

/// Why `key` cannot name a media file; `None` when it can.
pub fn key_problem(key: &str) -> Option<String> {
    if key.is_empty() || key.len() > 1024 {
        return Some("must be 1 to 1024 bytes".to_owned());
    }
    if key.starts_with('/') || key.split('/').any(|part| part.is_empty() || part == "." || part == "..") {
        return Some("must be a path inside the storage, without '.', '..' or empty parts".to_owned());
    }
    key.chars().any(char::is_control).then(|| "must not hold control characters".to_owned())
}

crate::document!(StreamConfig, "stream_config.json", version Self::VERSION, problems Self::problems);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::destination::Platform;

    #[test]
    fn ingest_urls_are_checked_with_a_reason() {
        for good in [
            "rtmp://a.rtmp.youtube.com/live2",
            "rtmps://h:443/live2?backup=1",
            "rtmp://[::1]:1935/live",
            "rtmp://[::1]/a/b",
        ] {
            assert_eq!(ingest_url_problem(good), None, "{good}");
        }
        for bad in [
            "",
            "http://h/a",
            "rtmp://",
            "rtmp://h",
            "rtmp://h/",
            "rtmp://u:p@h/a",
            "rtmp://h:0/a",
            "rtmp://h:x/a",
            "rtmp://h/a b",
            "rtmp:///a",
        ] {
            assert!(ingest_url_problem(bad).is_some(), "{bad}");
        }
    }

    #[test]
    fn a_second_ingest_follows_a_first_one_only() {
        let mut config = StreamConfig::new(ChannelId::main());
        let of = |id: &str, first: Option<&str>| Destination {
            linked_to: first.map(|id| id.parse().unwrap()),
            ..Destination::new(id.parse().unwrap(), Platform::Custom, "rtmp://h/app")
        };
        config.destinations = vec![of("a", None), of("b", Some("a"))];
        assert!(config.problems().is_empty());
        config.destinations.extend([of("c", Some("b")), of("d", Some("d")), of("e", Some("x"))]);
        config.destinations[0].max_session_s = Some(5);
        config.destinations[1].sealed_key_url = Some("v1.x".into());
        let pointers: Vec<_> = config.problems().into_iter().map(|p| p.pointer).collect();
        assert_eq!(
            pointers,
            [
                "/destinations/0/max_session_s",
                "/destinations/1/key_url",
                "/destinations/2/linked_to",
                "/destinations/3/linked_to",
                "/destinations/4/linked_to"
            ]
        );
    }

    #[test]
    fn keys_stay_inside_the_storage() {
        assert_eq!(key_problem("shows/Folge 1.mp4"), None);
        for bad in ["", "/etc/passwd", "../x", "a/../../x", "a//b", "a/./b", "a\nb"] {
            assert!(key_problem(bad).is_some(), "{bad:?}");
        }
    }

    #[test]
    fn every_problem_of_a_channel_is_named_with_its_place() {
        let mut config = StreamConfig::new(ChannelId::main());
        assert!(config.problems().is_empty());
        config.name = " ".into();
        config.playlist = Playlist::List { items: Vec::new() };
        config.profile = Some(Profile { width: 3, ..Profile::default() });
        config.fallback_video = Some("../x".into());
        let pointers: Vec<_> = config.problems().into_iter().map(|p| p.pointer).collect();
        assert_eq!(pointers, ["/name", "/profile/width", "/fallback_video", "/playlist/items"]);
    }
}
