//! What a caller may say about a destination: read from JSON with every problem named, and laid over what is saved.
//! The body of a start, a new destination and a change of one share this reader.

use super::keys::{self, Asked};
use super::links;
use crate::config::YOUTUBE_URL;
use crate::engines::fields::Fields;
use crate::outbound::address;
use crate::wishes::destinations::{Keyring, key_problem};
use serde_json::{Map, Value};
use state::Timestamp;
use state::channel::{FieldProblem, ingest_url_problem};
use state::destination::{Boundary, Destination, Platform};
use state::ids::{ChannelId, DestinationId};
use state::secret::Secret;

/// Most destinations of one channel.
pub const MOST_DESTINATIONS: usize = 50;

/// What was said. What is `None` was left out; `Some(None)` is null.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Said {
    id: Option<DestinationId>,
    name: Option<String>,
    platform: Option<Platform>,
    url: Option<String>,
    key: Option<Option<Secret>>,
    backup_url: Option<Option<String>>,
    linked_to: Option<Option<DestinationId>>,
    boundary: Option<Boundary>,
    max_session_s: Option<Option<u64>>,
    key_url: Option<Option<Secret>>,
    enabled: Option<bool>,
}

/// Where a destination is being written, and what with.
pub struct Place<'a> {
    /// Its channel.
    pub channel: &'a ChannelId,
    /// JSON pointer of the destination in the body.
    pub pointer: String,
    /// Seals its key.
    pub keyring: &'a Keyring,
    /// When.
    pub now: Timestamp,
}

/// Reads one destination at `pointer`.
///
/// `whole` says that nothing is saved yet that could fill what was left out.
pub fn read(value: Value, pointer: &str, whole: bool, problems: &mut Vec<FieldProblem>) -> Option<Said> {
    let mut fields = Fields::of(value, pointer, problems)?;
    let key = fields.nullable::<Secret>("stream_key", "text");
    if let Some(words) = key.iter().flatten().find_map(|key| key_problem(key.expose())) {
        fields.problem("stream_key", words);
    }
    let key_url = fields.nullable::<Secret>("key_url", "text");
    if let Some(words) = key_url.iter().flatten().find_map(|url| address::form_problem(url.expose())) {
        fields.problem("key_url", words);
    }
    let said = Said {
        id: fields.get("id", "a name of a-z, 0-9, '-' and '_'"),
        name: fields.name(),
        platform: fields.get("platform", "youtube, facebook, twitch or custom"),
        url: fields.get("url", "text"),
        key,
        backup_url: fields.nullable("backup_url", "text"),
        linked_to: fields.nullable("linked_to", "the id of another destination"),
        boundary: fields.get("boundary", "continuous, uniform or reconnect"),
        max_session_s: fields.nullable("max_session_s", "a whole number of seconds, or null"),
        key_url,
        enabled: fields.get("enabled", "true or false"),
    };
    let said = said.without_pasted_key();
    let has_default = said.platform == Some(Platform::Youtube) || said.linked_to.is_some();
    match &said.url {
        None if whole && !has_default => fields.problem("url", "is needed: rtmps://host[:port]/app"),
        Some(url) => url_problem(url).into_iter().for_each(|words| fields.problem("url", words)),
        None => {}
    }
    let backup = said.backup_url.iter().flatten().find_map(|url| url_problem(url));
    backup.into_iter().for_each(|words| fields.problem("backup_url", words));
    fields.finish();
    Some(said)
}

/// Names of hosts that are not written in ASCII are not resolved here.
fn url_problem(url: &str) -> Option<String> {
    let host = url.split_once("://").and_then(|(_, rest)| rest.split(['/', '?']).next());
    let foreign = host.filter(|host| !host.is_ascii());
    let words = |_| "must name its host in ASCII, as resolvers want it: xn--… for other letters".to_owned();
    ingest_url_problem(url).or(foreign.map(words))
}

impl Said {
    /// People paste `rtmp://host/app/key`. Its last part is a secret and must not stay in an address that is shown.
    fn without_pasted_key(mut self) -> Self {
        if let Some(url) = self.url.take() {
            let (url, key) = split_key(url, self.key.take());
            (self.url, self.key) = (Some(url), key);
        }
        if let Some(Some(key)) = &self.key {
            let backup = self.backup_url.iter_mut().flatten();
            self.url.iter_mut().chain(backup).for_each(|url| cut_off(url, key));
        }
        self
    }

    /// Whether it is to follow another one.
    pub fn is_linked(&self) -> bool {
        self.linked_to.iter().flatten().next().is_some()
    }

    /// The id that was given, or one that says what it is and is not among `taken`.
    pub fn id_beside(&self, taken: &[Destination]) -> DestinationId {
        if let Some(id) = &self.id {
            return id.clone();
        }
        let first = self.linked_to.iter().flatten().next();
        let stem = first.map_or_else(
            || platform_name(self.platform.unwrap_or(Platform::Custom)).to_owned(),
            |first| format!("{first}-backup"),
        );
        let numbered = (2..).map(|n| format!("{stem}-{n}"));
        let mut free = std::iter::once(stem.clone())
            .chain(numbered.take(MOST_DESTINATIONS + 1))
            .filter_map(|name| DestinationId::try_from(name).ok())
            .filter(|id| taken.iter().all(|other| other.id != *id));
        free.next().unwrap_or_else(|| unreachable!("fifty names leave one of fifty-two free"))
    }

    /// A destination that is named for the first time, or by a whole list: what was left out has its default. The
    /// saved one of the same id, `old`, keeps its name, its key and the address that gives its next key. `others`
    /// are those that it may be linked to.
    pub fn whole(
        self,
        id: DestinationId,
        old: Option<&Destination>,
        others: &[Destination],
        place: &Place<'_>,
        problems: &mut Vec<FieldProblem>,
    ) -> Destination {
        let first = self.linked_to.as_ref().and_then(|id| others.iter().find(|o| Some(&o.id) == id.as_ref()));
        let platform = self.platform.or(first.map(|first| first.platform)).unwrap_or(Platform::Custom);
        let url = match first {
            Some(first) => links::second_ingest(first),
            None if platform == Platform::Youtube => Some(YOUTUBE_URL),
            None => None,
        };
        if first.is_some() && url.is_none() && self.url.is_none() {
            let words = "is needed: the address of the platform's second ingest";
            problems.push(FieldProblem::at(format!("{}/url", place.pointer), words));
        }
        let fresh = Destination {
            name: old.map_or_else(|| id.to_string(), |old| old.name.clone()),
            other: old.map_or_else(Map::new, |old| old.other.clone()),
            sealed_key_url: old.and_then(|old| old.sealed_key_url.clone()),
            keyed_at: old.and_then(|old| old.keyed_at),
            ..Destination::new(id, platform, url.unwrap_or_default())
        };
        self.lay_over(fresh, old, others, place, problems)
    }

    /// A change of a saved destination: what was left out stays as it is.
    pub fn over(
        self,
        old: &Destination,
        others: &[Destination],
        place: &Place<'_>,
        problems: &mut Vec<FieldProblem>,
    ) -> Destination {
        if self.id.as_ref().is_some_and(|id| *id != old.id) {
            let pointer = format!("{}/id", place.pointer);
            problems.push(FieldProblem::at(pointer, "cannot be changed; add another destination instead"));
        }
        self.lay_over(old.clone(), Some(old), others, place, problems)
    }

    fn lay_over(
        self,
        mut new: Destination,
        old: Option<&Destination>,
        others: &[Destination],
        place: &Place<'_>,
        problems: &mut Vec<FieldProblem>,
    ) -> Destination {
        put(&mut new.name, self.name);
        put(&mut new.platform, self.platform);
        put(&mut new.url, self.url);
        put(&mut new.backup_url, self.backup_url);
        put(&mut new.linked_to, self.linked_to);
        put(&mut new.boundary, self.boundary);
        put(&mut new.max_session_s, self.max_session_s);
        put(&mut new.enabled, self.enabled);
        if matches!(self.key, Some(Some(_))) {
            new.keyed_at = Some(place.now);
        }
        if let Some(url) = self.key_url {
            let seal = |url| place.keyring.seal_key_url(place.channel, &new.id, &url);
            match url.map(seal).transpose() {
                Ok(sealed) => new.sealed_key_url = sealed,
                Err(error) => {
                    let pointer = format!("{}/key_url", place.pointer);
                    problems.push(FieldProblem::at(pointer, format!("cannot be kept: {error}")));
                }
            }
        }
        let asked = Asked { key: self.key.as_ref(), enabled: self.enabled, old, others };
        match keys::sealed_for(&new, &asked, place) {
            Ok(sealed) => new.sealed_key = Some(sealed),
            Err((field, words)) => {
                new.sealed_key = None;
                problems.push(FieldProblem::at(format!("{}/{field}", place.pointer), words));
            }
        }
        new
    }
}

fn put<T>(field: &mut T, said: Option<T>) {
    if let Some(said) = said {
        *field = said;
    }
}

fn split_key(url: String, key: Option<Option<Secret>>) -> (String, Option<Option<Secret>>) {
    let path_from = url.find("://").and_then(|at| url[at + 3..].find('/').map(|slash| at + 3 + slash + 1));
    match (key, path_from) {
        (None, Some(from)) if !url.contains('?') => {
            match url[from..].trim_end_matches('/').rsplit_once('/') {
                Some((app, last)) if !app.is_empty() && key_problem(last).is_none() => {
                    (format!("{}{app}", &url[..from]), Some(Some(Secret::new(last))))
                }
                _ => (url, None),
            }
        }
        (key, _) => (url, key),
    }
}

/// Takes `key` off the end of an address. One that has nothing before it but the host is the application's name.
fn cut_off(url: &mut String, key: &Secret) {
    if let Some(app) = url.trim_end_matches('/').strip_suffix(key.expose())
        && app.ends_with('/')
        && ingest_url_problem(app).is_none()
    {
        *url = app.trim_end_matches('/').to_owned();
    }
}

fn platform_name(platform: Platform) -> &'static str {
    match platform {
        Platform::Youtube => "youtube",
        Platform::Facebook => "facebook",
        Platform::Twitch => "twitch",
        Platform::Custom => "custom",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_at_the_end_of_an_address_is_taken_out_of_it() {
        let cases = [
            ("rtmp://h/app/s3cret", "rtmp://h/app", Some("s3cret")),
            ("rtmp://h/a/b/s3cret/", "rtmp://h/a/b", Some("s3cret")),
            ("rtmp://h/app", "rtmp://h/app", None),
            ("rtmp://h/app/", "rtmp://h/app/", None),
            ("nonsense", "nonsense", None),
        ];
        for (given, url, key) in cases {
            let (left, taken) = split_key(given.to_owned(), None);
            let taken = taken.flatten();
            assert_eq!((left.as_str(), taken.as_ref().map(Secret::expose)), (url, key));
        }
    }

    #[test]
    fn a_key_that_is_given_beside_its_address_does_not_stay_in_it() {
        let mut problems = Vec::new();
        for (given, left) in [
            ("rtmp://a/app/s3cret", "rtmp://a/app"),
            ("rtmp://a/app?x=1/s3cret/", "rtmp://a/app?x=1"),
            ("rtmp://a/s3cret", "rtmp://a/s3cret"),
            ("rtmp://a/app/nots3cret", "rtmp://a/app/nots3cret"),
        ] {
            let body = serde_json::json!({"url": given, "stream_key": "s3cret"});
            let said = read(body, "", true, &mut problems).unwrap();
            assert_eq!(said.url.as_deref(), Some(left));
            assert_eq!(said.key.flatten().unwrap().expose(), "s3cret");
        }
        assert_eq!(problems, []);
    }

    #[test]
    fn a_key_at_the_end_of_the_other_way_in_is_taken_out_as_well() {
        let mut problems = Vec::new();
        for backup in ["rtmp://b/app/s3cret", "rtmp://b/app?backup=1/s3cret/"] {
            let body = serde_json::json!({"url": "rtmp://a/app/s3cret", "backup_url": backup});
            let said = read(body, "", true, &mut problems).unwrap();
            let left = said.backup_url.unwrap().unwrap();
            assert!(!left.contains("s3cret") && backup.starts_with(&left), "{left}");
        }
        assert_eq!(problems, []);
    }

    #[test]
    fn an_id_is_found_that_nobody_has() {
        let said = Said { platform: Some(Platform::Twitch), ..Said::default() };
        let mut taken = Vec::new();
        for expected in ["twitch", "twitch-2", "twitch-3"] {
            let id = said.id_beside(&taken);
            assert_eq!(id.as_str(), expected);
            taken.push(Destination::new(id, Platform::Twitch, "rtmp://h/app"));
        }
        let said = Said { linked_to: Some(Some("twitch".parse().unwrap())), ..Said::default() };
        assert_eq!(said.id_beside(&taken).as_str(), "twitch-backup");
    }
}
