//! Where a channel is sent: the saved destinations, and the one that the environment implies. The only place
//! that opens sealed keys.

use crate::config::Config;
use ring::hmac;
use state::channel::StreamConfig;
use state::destination::{Destination, Platform};
use state::ids::{ChannelId, DestinationId, fill_random};
use state::phase::Wish;
use state::seal::{MasterKey, SealError};
use state::secret::Secret;
use state::wire::DestinationSpec;
use std::sync::Arc;

/// Turns what is saved into what a worker can use.
pub struct Keyring {
    master: Arc<MasterKey>,
    compare: hmac::Key,
    implied: Option<Implied>,
}

struct Implied {
    url: String,
    key: Secret,
}

/// A destination of a channel, saved or implied.
#[derive(Debug, Clone, PartialEq)]
pub struct Wanted {
    /// What is to be shown of it.
    pub shown: Destination,
    /// Its key comes from the environment.
    pub implied: bool,
}

/// An ingest that two destinations must not share; tells nothing about the key.
#[derive(Clone, PartialEq, Eq)]
pub struct Fingerprint(Vec<u8>);

impl Keyring {
    /// A keyring for this process.
    pub fn new(master: Arc<MasterKey>, config: &Config) -> Self {
        let mut random = [0u8; 32];
        fill_random(&mut random);
        let implied = config.youtube_key.clone().map(|key| Implied { url: config.youtube_url.clone(), key });
        Self { master, compare: hmac::Key::new(hmac::HMAC_SHA256, &random), implied }
    }

    /// What someone must do when the master key was lost; `None` when all is well.
    pub fn lost(&self) -> Option<&'static str> {
        self.master.is_lost().then_some(
            "the master key is lost or broken, so that no stream key can be opened: put master.key back and restart \
             the controller, or enter the stream keys again, with which a new master key is made",
        )
    }

    /// Enabled destinations whose key cannot be opened.
    pub fn closed(&self, config: &StreamConfig) -> Vec<DestinationId> {
        let enabled = self.of(config).into_iter().filter(|wanted| wanted.shown.enabled);
        let closed = enabled.filter(|wanted| self.spec(&config.id, wanted).is_err());
        closed.map(|wanted| wanted.shown.id).collect()
    }

    /// Seals a key for its place.
    ///
    /// # Errors
    /// Those of [`MasterKey::seal`].
    pub fn seal(
        &self,
        channel: &ChannelId,
        destination: &DestinationId,
        key: &Secret,
    ) -> Result<String, SealError> {
        self.master.seal(key, &context(channel, destination))
    }

    /// A saved destination's key; empty where it has none.
    ///
    /// # Errors
    /// [`SealError::CannotOpen`] when the master key has changed.
    pub fn key_of(&self, channel: &ChannelId, destination: &Destination) -> Result<Secret, SealError> {
        match &destination.sealed_key {
            Some(sealed) => self.master.open(sealed, &context(channel, &destination.id)),
            None => Ok(Secret::default()),
        }
    }

    /// Seals the address that hands out a destination's keys.
    ///
    /// # Errors
    /// Those of [`MasterKey::seal`].
    pub fn seal_key_url(
        &self,
        channel: &ChannelId,
        destination: &DestinationId,
        url: &Secret,
    ) -> Result<String, SealError> {
        self.master.seal(url, &key_url_context(channel, destination))
    }

    /// The address that hands out a destination's keys; `None` where it has none.
    ///
    /// # Errors
    /// [`SealError::CannotOpen`] when the master key has changed.
    pub fn key_url_of(
        &self,
        channel: &ChannelId,
        destination: &Destination,
    ) -> Result<Option<Secret>, SealError> {
        let sealed = destination.sealed_key_url.as_deref();
        sealed.map(|sealed| self.master.open(sealed, &key_url_context(channel, &destination.id))).transpose()
    }

    /// All destinations of a channel. `main` has an implied one, `youtube`, when the environment holds its key
    /// and nothing saved has its name or goes to the same place.
    pub fn of(&self, config: &StreamConfig) -> Vec<Wanted> {
        let saved = config.destinations.iter().cloned();
        let mut all: Vec<_> = saved.map(|shown| Wanted { shown, implied: false }).collect();
        if let Some(implied) = self.implied.as_ref().filter(|_| config.id == ChannelId::main())
            && let Ok(id) = "youtube".parse::<DestinationId>()
            && !all.iter().any(|other| other.shown.id == id)
        {
            let print = self.fingerprint(&implied.url, &implied.key);
            let taken = config.destinations.iter().any(|d| {
                d.enabled
                    && self.key_of(&config.id, d).is_ok_and(|key| self.fingerprint(&d.url, &key) == print)
            });
            if !taken {
                all.push(Wanted { shown: youtube(id, implied.url.clone()), implied: true });
            }
        }
        all
    }

    /// What a worker gets of one destination.
    ///
    /// # Errors
    /// [`SealError::CannotOpen`].
    pub fn spec(&self, channel: &ChannelId, wanted: &Wanted) -> Result<DestinationSpec, SealError> {
        let shown = &wanted.shown;
        let key = match &self.implied {
            Some(implied) if wanted.implied => implied.key.clone(),
            _ => self.key_of(channel, shown)?,
        };
        let (name, url) = (shown.name.clone(), shown.url.clone());
        Ok(DestinationSpec {
            boundary: shown.boundary,
            backup_url: shown.backup_url.clone(),
            max_session_s: shown.session_limit_s(),
            ..DestinationSpec::new(shown.id.clone(), name, shown.platform, url, key)
        })
    }

    /// Every ingest that the enabled destinations of a channel occupy, the other ways in included. Those that cannot
    /// be opened occupy none.
    pub fn fingerprints(&self, config: &StreamConfig) -> Vec<(DestinationId, Fingerprint)> {
        let enabled = self.of(config).into_iter().filter(|wanted| wanted.shown.enabled);
        let specs = enabled.filter_map(|wanted| self.spec(&config.id, &wanted).ok());
        let prints = specs.flat_map(|spec| {
            let ways = [Some(&spec.url), spec.backup_url.as_ref()].into_iter().flatten();
            ways.map(|url| (spec.id.clone(), self.fingerprint(url, &spec.key))).collect::<Vec<_>>()
        });
        prints.collect()
    }

    /// Destinations of `config` that send to the same place with the same key as another one before them: in the
    /// channel itself, or in another wanted channel whose name comes first. Each with the channel that has it.
    pub fn taken(&self, config: &StreamConfig, all: &[StreamConfig]) -> Vec<(DestinationId, ChannelId)> {
        let before = all.iter().filter(|other| other.wish == Wish::On && other.id < config.id);
        let mut held: Vec<(Fingerprint, Option<DestinationId>, &ChannelId)> = Vec::new();
        for other in before {
            held.extend(self.fingerprints(other).into_iter().map(|(_, print)| (print, None, &other.id)));
        }
        let mut taken: Vec<(DestinationId, ChannelId)> = Vec::new();
        for (id, print) in self.fingerprints(config) {
            // Its own two ways in may lead to one place.
            match held.iter().find(|(other, own, _)| *other == print && own.as_ref() != Some(&id)) {
                Some(_) if taken.iter().any(|(known, _)| *known == id) => {}
                Some((_, _, by)) => taken.push((id, (*by).clone())),
                None => held.push((print, Some(id), &config.id)),
            }
        }
        taken
    }

    fn fingerprint(&self, url: &str, key: &Secret) -> Fingerprint {
        let text = format!("{}\0{}", ingest(url), key.expose());
        Fingerprint(hmac::sign(&self.compare, text.as_bytes()).as_ref().to_vec())
    }
}

fn context(channel: &ChannelId, destination: &DestinationId) -> String {
    format!("{channel}/{destination}")
}

fn key_url_context(channel: &ChannelId, destination: &DestinationId) -> String {
    format!("{channel}/{destination}/key_url")
}

fn youtube(id: DestinationId, url: String) -> Destination {
    Destination { name: "YouTube".to_owned(), ..Destination::new(id, Platform::Youtube, url) }
}

/// Host and application of an ingest address, the same for every way of writing it: RTMP and RTMPS on their own
/// ports lead to the same place.
fn ingest(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    let (authority, app) = rest.split_once('/').unwrap_or((rest, ""));
    // What follows the last colon of a bare IPv6 address is no port.
    let port = authority.rsplit_once(':').filter(|(host, _)| !host.contains(':') || host.ends_with(']'));
    let (host, port) = match port.and_then(|(host, port)| Some((host, port.parse::<u16>().ok()?))) {
        Some((host, 1935 | 443 | 80)) => (host, String::new()),
        Some((host, port)) => (host, format!(":{port}")),
        None => (authority, String::new()),
    };
    // The dot of the root.
    let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    format!("{host}{port}/{}", app.trim_matches('/'))
}

/// Why `key` cannot be a stream key, in words that do not show it; `None` when it can.
pub fn key_problem(key: &str) -> Option<&'static str> {
    if key.is_empty() || key.len() > 1024 {
        return Some("must be 1 to 1024 characters");
    }
    let odd = key.chars().any(|c| c.is_control() || c.is_whitespace());
    odd.then_some("must not hold spaces or control characters")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keyring(implied: Option<(&str, &str)>) -> Keyring {
        let master = MasterKey::from_hex(&Secret::new("5".repeat(64))).unwrap();
        let compare = hmac::Key::new(hmac::HMAC_SHA256, &[7; 32]);
        let implied = implied.map(|(url, key)| Implied { url: url.to_owned(), key: Secret::new(key) });
        Keyring { master: Arc::new(master), compare, implied }
    }

    fn saved(ring: &Keyring, id: &str, url: &str, key: &str) -> Destination {
        let id: DestinationId = id.parse().unwrap();
        let sealed_key = Some(ring.seal(&ChannelId::main(), &id, &Secret::new(key)).unwrap());
        Destination { sealed_key, platform: Platform::Custom, ..youtube(id, url.to_owned()) }
    }

    #[test]
    fn the_same_ingest_is_recognised_however_it_is_written() {
        for same in
            ["rtmp://Host/app", "rtmps://host:443/app/", "rtmp://host.:01935/app?x=1", "rtmp://HOST./app"]
        {
            assert_eq!(ingest(same), "host/app", "{same}");
        }
        assert_ne!(ingest("rtmp://host:19350/app"), ingest("rtmp://host/app"));
        assert_eq!(ingest("rtmp://[2001:DB8::1]:1935/app"), "[2001:db8::1]/app");
    }

    #[test]
    fn main_goes_to_youtube_when_the_environment_says_so() {
        let ring = keyring(Some(("rtmps://y/live2", "k3y")));
        let mut config = StreamConfig::new(ChannelId::main());
        let all = ring.of(&config);
        assert_eq!(all[0].shown.id.as_str(), "youtube");
        assert_eq!(ring.spec(&config.id, &all[0]).unwrap().key.expose(), "k3y");
        config.destinations = vec![saved(&ring, "own", "rtmp://y/live2", "k3y")];
        assert_eq!(ring.of(&config).len(), 1, "the saved one goes to the same place");
        config.id = "other".parse().unwrap();
        config.destinations.clear();
        assert!(ring.of(&config).is_empty());
    }

    #[test]
    fn a_key_opens_only_in_its_own_place() {
        let ring = keyring(None);
        let destination = saved(&ring, "a", "rtmp://h/app", "s3cret");
        assert_eq!(ring.key_of(&ChannelId::main(), &destination).unwrap().expose(), "s3cret");
        assert!(ring.key_of(&"other".parse().unwrap(), &destination).is_err());
    }

    #[test]
    fn the_first_by_name_keeps_an_ingest_that_two_want() {
        let ring = keyring(None);
        let channel = |id: &str, wish| {
            let id: ChannelId = id.parse().unwrap();
            let name: DestinationId = "d".parse().unwrap();
            let sealed_key = Some(ring.seal(&id, &name, &Secret::new("s3cret")).unwrap());
            let destination = Destination { sealed_key, ..youtube(name, "rtmp://h/app".to_owned()) };
            StreamConfig { wish, destinations: vec![destination], ..StreamConfig::new(id) }
        };
        let all = [channel("a", Wish::Off), channel("b", Wish::On), channel("c", Wish::On)];
        let taken = |n: usize| ring.taken(&all[n], &all).len();
        assert_eq!((taken(0), taken(1), taken(2)), (0, 0, 1));
        let mut twice = all[1].clone();
        let second: DestinationId = "e".parse().unwrap();
        let sealed_key = Some(ring.seal(&twice.id, &second, &Secret::new("s3cret")).unwrap());
        twice
            .destinations
            .push(Destination { sealed_key, ..youtube(second.clone(), "rtmps://h/app".to_owned()) });
        assert_eq!(ring.taken(&twice, &all), [(second, twice.id.clone())]);
    }
}
