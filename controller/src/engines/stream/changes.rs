//! What a caller may say about a channel: read from JSON with every problem named, and applied to its wish.

use crate::engines::distribution::change::{self, MOST_DESTINATIONS, Place, Said};
use crate::engines::distribution::links;
use crate::engines::fields::Fields;
use crate::wishes::destinations::Keyring;
use serde_json::Value;
use state::channel::{FieldProblem, StreamConfig};
use state::destination::Destination;
use state::ids::{ChannelId, Ulid};
use state::playlist::{Item, Playlist};
use state::profile::Profile;
use state::restart::Restart;

/// Most items in one list.
const MOST_ITEMS: usize = 10_000;

const CHANNEL_FORM: &str = "the name of a channel: a-z, 0-9, '-' and '_'";

/// What a caller wants changed. What is `None` stays as it is.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Changes {
    name: Option<String>,
    /// `Some(None)`: all media in storage.
    media: Option<Option<Vec<String>>>,
    looped: Option<bool>,
    profile: Option<Option<Profile>>,
    destinations: Option<Vec<Said>>,
    hls_enabled: Option<bool>,
    hls_public: Option<bool>,
    restart: Option<Restart>,
    /// `Some(None)`: the slate.
    fallback_video: Option<Option<String>>,
}

/// Reads the body of a start: the channel, and what is to be changed.
///
/// # Errors
/// Every problem with its place.
pub fn read(body: Value) -> Result<(ChannelId, Changes), Vec<FieldProblem>> {
    let mut problems = Vec::new();
    let read = read_all(body, &mut problems);
    match read {
        Some(read) if problems.is_empty() => Ok(read),
        _ => Err(problems),
    }
}

/// Reads a body that names nothing but a channel.
///
/// # Errors
/// Every problem with its place.
pub fn read_channel(body: Value) -> Result<ChannelId, Vec<FieldProblem>> {
    let mut problems = Vec::new();
    let channel = Fields::of(body, "", &mut problems).and_then(|mut fields| {
        let channel = fields.get("channel", CHANNEL_FORM);
        fields.finish();
        channel
    });
    if problems.is_empty() { Ok(channel.unwrap_or_else(ChannelId::main)) } else { Err(problems) }
}

fn read_all(body: Value, problems: &mut Vec<FieldProblem>) -> Option<(ChannelId, Changes)> {
    let mut fields = Fields::of(body, "", problems)?;
    let channel = fields.get("channel", CHANNEL_FORM);
    let mut changes = Changes {
        name: fields.name(),
        media: fields.nullable("media", "a list of keys"),
        looped: fields.get("loop", "true or false"),
        fallback_video: read_fallback(&mut fields),
        ..Changes::default()
    };
    if let Some(Some(keys)) = &changes.media {
        check_media(keys, &mut fields);
    }
    changes.profile = match fields.take("profile") {
        None => None,
        Some(Value::Null) => Some(None),
        Some(value) => read_profile(value, &mut fields).map(Some),
    };
    if let Some(value) = fields.take("hls") {
        let place = fields.place("hls");
        if let Some(mut hls) = Fields::of(value, &place, fields.problems()) {
            changes.hls_enabled = hls.get("enabled", "true or false");
            changes.hls_public = hls.get("public", "true or false");
            hls.finish();
        }
    }
    if let Some(value) = fields.take("restart") {
        changes.restart = read_restart(value, &mut fields);
    }
    if let Some(list) = fields.get::<Vec<Value>>("destinations", "a list of destinations") {
        changes.destinations = Some(read_destinations(list, &mut fields));
    }
    fields.finish();
    Some((channel.unwrap_or_else(ChannelId::main), changes))
}

pub(super) fn read_fallback(fields: &mut Fields<'_>) -> Option<Option<String>> {
    let key = fields.nullable::<String>("fallback_video", "the key of a video, or null for the slate");
    if let Some(words) = key.iter().flatten().find_map(|key| state::channel::key_problem(key)) {
        fields.problem("fallback_video", words);
    }
    key
}

fn check_media(keys: &[String], fields: &mut Fields<'_>) {
    if keys.is_empty() || keys.len() > MOST_ITEMS {
        fields.problem("media", format!("must hold 1 to {MOST_ITEMS} keys; null plays all media in storage"));
    }
    for (i, key) in keys.iter().enumerate() {
        if let Some(words) = state::channel::key_problem(key) {
            let place = format!("{}/{i}", fields.place("media"));
            fields.problems().push(FieldProblem::at(place, words));
        }
    }
}

/// A profile: what is not said comes from the default one.
fn read_profile(value: Value, above: &mut Fields<'_>) -> Option<Profile> {
    let place = above.place("profile");
    let mut fields = Fields::of(value, &place, above.problems())?;
    let number = "a whole number";
    let base = Profile::default();
    let profile = Profile {
        width: fields.get("width", number).unwrap_or(base.width),
        height: fields.get("height", number).unwrap_or(base.height),
        fps: fields.get("fps", "a frame rate such as 30, 29.97 or \"30000/1001\"").unwrap_or(base.fps),
        video_kbps: fields.get("video_kbps", number).unwrap_or(base.video_kbps),
        max_video_kbps: fields.get("max_video_kbps", number).unwrap_or(base.max_video_kbps),
        sample_rate: fields.get("sample_rate", number).unwrap_or(base.sample_rate),
        channels: fields.get("channels", number).unwrap_or(base.channels),
        audio_kbps: fields.get("audio_kbps", number).unwrap_or(base.audio_kbps),
        uniform: false,
    };
    fields.finish();
    let wrong = profile.problems().into_iter();
    above.problems().extend(wrong.map(|(at, words)| FieldProblem::at(format!("{place}{at}"), words)));
    Some(profile)
}

/// A policy of restarts; `null` is the usual one, and what is not said comes from it.
fn read_restart(value: Value, above: &mut Fields<'_>) -> Option<Restart> {
    let usual = Restart::default();
    if value.is_null() {
        return Some(usual);
    }
    let place = above.place("restart");
    let mut fields = Fields::of(value, &place, above.problems())?;
    let restart = Restart {
        auto: fields.get("auto", "true or false").unwrap_or(usual.auto),
        max_attempts: fields
            .nullable("max_attempts", "a whole number, or null")
            .unwrap_or(usual.max_attempts),
        delays_s: fields.get("delays_s", "a list of waits in whole seconds").unwrap_or(usual.delays_s),
    };
    fields.finish();
    Some(restart)
}

fn read_destinations(list: Vec<Value>, above: &mut Fields<'_>) -> Vec<Said> {
    if list.len() > MOST_DESTINATIONS {
        above.problem("destinations", format!("must not hold more than {MOST_DESTINATIONS}"));
        return Vec::new();
    }
    let place = above.place("destinations");
    let problems = above.problems();
    let read = list.into_iter().enumerate();
    read.filter_map(|(i, value)| change::read(value, &format!("{place}/{i}"), true, problems)).collect()
}

impl Changes {
    /// Nothing but another fallback video.
    pub(super) fn of_fallback(fallback_video: Option<Option<String>>) -> Self {
        Self { fallback_video, ..Self::default() }
    }

    /// Whether the caller named the media.
    pub fn names_media(&self) -> bool {
        matches!(self.media, Some(Some(_)))
    }

    /// The fallback video that the caller named.
    pub fn fallback_video(&self) -> Option<&str> {
        self.fallback_video.as_ref()?.as_deref()
    }

    /// The wish after the changes, checked as a whole.
    ///
    /// # Errors
    /// Every problem with its place in the body.
    pub fn apply(self, mut wish: StreamConfig, keyring: &Keyring) -> Result<StreamConfig, Vec<FieldProblem>> {
        wish.name = self.name.unwrap_or(wish.name);
        wish.looped = self.looped.unwrap_or(wish.looped);
        wish.profile = self.profile.unwrap_or(wish.profile);
        wish.hls.enabled = self.hls_enabled.unwrap_or(wish.hls.enabled);
        wish.hls.public = self.hls_public.unwrap_or(wish.hls.public);
        wish.restart = self.restart.unwrap_or(wish.restart);
        wish.fallback_video = self.fallback_video.unwrap_or(wish.fallback_video);
        wish.playlist = match self.media {
            None => wish.playlist,
            Some(None) => Playlist::Storage,
            Some(Some(keys)) => playlist(keys, wish.playlist),
        };
        let mut problems = Vec::new();
        if let Some(list) = self.destinations {
            wish.destinations = replaced(list, &wish, keyring, &mut problems);
        }
        links::follow(&mut wish, keyring);
        problems.extend(wish.problems().into_iter().map(in_body));
        if problems.is_empty() { Ok(wish) } else { Err(problems) }
    }
}

/// The same keys keep their items, so that a position in the list survives.
fn playlist(keys: Vec<String>, before: Playlist) -> Playlist {
    if let Playlist::List { items } = &before
        && items.iter().map(|item| &item.key).eq(keys.iter())
    {
        return before;
    }
    let now = state::now();
    Playlist::List { items: keys.into_iter().map(|key| Item { id: Ulid::new(now), key }).collect() }
}

/// A document calls the list `/playlist/items/0/key`, a caller `/media/0`.
fn in_body(problem: FieldProblem) -> FieldProblem {
    match problem.pointer.strip_prefix("/playlist/items") {
        Some(rest) => FieldProblem::at(format!("/media{}", rest.trim_end_matches("/key")), problem.detail),
        None => problem,
    }
}

/// The list that takes the place of the saved one. Second ingests are made when all first ones are known, and stay
/// where they were in the list.
fn replaced(
    list: Vec<Said>,
    wish: &StreamConfig,
    keyring: &Keyring,
    problems: &mut Vec<FieldProblem>,
) -> Vec<Destination> {
    let (seconds, firsts): (Vec<_>, Vec<_>) =
        list.into_iter().enumerate().partition(|(_, said)| said.is_linked());
    let mut placed: Vec<(usize, Destination)> = Vec::new();
    let mut known = Vec::new();
    for (i, said) in firsts.into_iter().chain(seconds) {
        let id = said.id_beside(&[]);
        let old = wish.destinations.iter().find(|old| old.id == id);
        let pointer = format!("/destinations/{i}");
        let place = Place { channel: &wish.id, pointer, keyring, now: state::now() };
        let new = said.whole(id, old, &known, &place, problems);
        known.push(new.clone());
        placed.push((i, new));
    }
    placed.sort_by_key(|(i, _)| *i);
    placed.into_iter().map(|(_, destination)| destination).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pointers(body: Value) -> Vec<String> {
        let mut found: Vec<_> = read(body).unwrap_err().into_iter().map(|p| p.pointer).collect();
        found.sort();
        found
    }

    #[test]
    fn an_empty_body_means_main_as_it_is() {
        assert_eq!(read(json!({})), Ok((ChannelId::main(), Changes::default())));
    }

    #[test]
    fn every_problem_is_found_at_once_and_named_by_its_place() {
        let body = json!({
            "channel": "../x", "media": ["a.mp4", "../b"], "loop": "yes", "colour": 1, "name": 7,
            "profile": {"width": 3, "fps": "fast", "bits": 10},
            "fallback_video": "/etc/x", "hls": {"enabled": 1, "path": "x"}, "restart": {"auto": 1, "max_attempts": -1, "tries": 2},
            "destinations": [
                {"id": "A", "url": "http://h/a", "stream_key": "a b", "color": "x"},
                {"platform": "myspace"},
                5,
            ],
        });
        assert_eq!(
            pointers(body),
            [
                "/channel",
                "/colour",
                "/destinations/0/color",
                "/destinations/0/id",
                "/destinations/0/stream_key",
                "/destinations/0/url",
                "/destinations/1/platform",
                "/destinations/1/url",
                "/destinations/2",
                "/fallback_video",
                "/hls/enabled",
                "/hls/path",
                "/loop",
                "/media/1",
                "/name",
                "/profile/bits",
                "/profile/fps",
                "/profile/width",
                "/restart/auto",
                "/restart/max_attempts",
                "/restart/tries",
            ]
        );
        assert_eq!(pointers(json!([])), [""]);
        assert_eq!(pointers(json!({"a/b~": 1})), ["/a~1b~0"]);
        assert_eq!(pointers(json!({"media": []})), ["/media"]);
    }

    fn any_json() -> impl proptest::strategy::Strategy<Value = Value> {
        use proptest::prelude::*;
        let names = "channel|media|loop|name|profile|width|fps|hls|enabled|destinations|id|url|stream_key|platform|backup_url|linked_to|key_url|x";
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "rtmp://[a-z/:@?]{0,9}|.{0,9}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 40, 6, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map(names, inner, 0..6)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest::proptest! {
        #[test]
        fn any_body_is_taken_or_refused_with_a_place(body in any_json()) {
            if let Err(problems) = read(body) {
                proptest::prop_assert!(!problems.is_empty());
                proptest::prop_assert!(problems.iter().all(|p| p.pointer.is_empty() || p.pointer.starts_with('/')));
            }
        }
    }
}
