//! The ways in to a destination, and which one is taken next. Pure; `now` is passed in.
//!
//! | what happened | the way taken next |
//! |---|---|
//! | a stable publication was closed, and the first way is in use | the same, at once |
//! | a stable publication broke on another way | the first, at once |
//! | anything else failed | the next, at once; after a round through all, as `retry` says |
//! | a planned reconnect | the first again, if another was used for long enough |
//!
//! A way that is in use and works is never left for a better one in between.

use super::dial::Addresses;
use super::protocol::url::{BadUrl, Target};
use state::wire::DestinationSpec;
use std::time::{Duration, Instant};

/// Another way is used at least this long before the first is tried again.
const AWAY: Duration = Duration::from_secs(600);
/// It is twice as long after every return that failed, up to this.
const LONGEST_AWAY: Duration = Duration::from_secs(86_400);
/// A server may send us on this often until a publication is stable.
const MOST_GUESTS: u32 = 4;

/// One way in.
#[derive(Debug)]
pub(super) struct Way {
    pub(super) target: Target,
    pub(super) addresses: Addresses,
}

impl Way {
    fn to(target: Target) -> Self {
        Self { target, addresses: Addresses::default() }
    }
}

/// What broke.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Broke {
    /// There was no publication, or only a short one.
    Early,
    /// The server closed a publication that had been stable.
    Closed,
    /// A publication that had been stable stood still.
    Stalled,
}

/// All ways in, the user's first choice first.
#[derive(Debug)]
pub(super) struct Ways {
    list: Vec<Way>,
    at: usize,
    /// Where the server itself has sent us.
    guest: Option<Way>,
    guests: u32,
    /// Failures since the last stable publication, and how often all ways were gone through.
    tried: usize,
    rounds: u32,
    /// Since when another way than the first is in use.
    away_since: Option<Instant>,
    away: Duration,
    coming_home: bool,
}

impl Ways {
    /// The ways that a destination allows.
    ///
    /// # Errors
    /// When its first address cannot be used. A second one that cannot be used is left out.
    pub(super) fn of(spec: &DestinationSpec) -> Result<Self, BadUrl> {
        let list = targets(spec)?.into_iter().map(Way::to).collect();
        let (away, away_since) = (AWAY, None);
        Ok(Self {
            list,
            at: 0,
            guest: None,
            guests: 0,
            tried: 0,
            rounds: 0,
            away_since,
            away,
            coming_home: false,
        })
    }

    /// The way that is to be taken.
    pub(super) fn present(&mut self) -> &mut Way {
        match &mut self.guest {
            Some(guest) => guest,
            None => &mut self.list[self.at],
        }
    }

    /// A publication was accepted.
    pub(super) fn published(&mut self, now: Instant) {
        if self.at != 0 {
            self.away_since.get_or_insert(now);
        }
    }

    /// The publication is stable: everything before is forgiven.
    pub(super) fn stable(&mut self) {
        (self.tried, self.rounds, self.guests) = (0, 0, 0);
        if self.at == 0 {
            (self.away, self.away_since, self.coming_home) = (AWAY, None, false);
        }
    }

    /// Something failed. The next way is chosen; `Some` says that all were tried so many times, and that it is time
    /// to wait.
    pub(super) fn failed(&mut self, broke: Broke) -> Option<u32> {
        if std::mem::take(&mut self.coming_home) {
            self.away = (self.away * 2).min(LONGEST_AWAY);
        }
        if self.guest.take().is_some() {
            return None;
        }
        let others = self.list.len() > 1;
        if broke != Broke::Early && others && (self.at != 0 || broke == Broke::Closed) {
            (self.at, self.away_since) = (0, None);
            return None;
        }
        self.at = (self.at + 1) % self.list.len();
        self.tried += 1;
        if !self.tried.is_multiple_of(self.list.len()) {
            return None;
        }
        self.rounds = self.rounds.saturating_add(1);
        Some(self.rounds)
    }

    /// A planned reconnect is due.
    pub(super) fn renewed(&mut self, now: Instant) {
        self.guest = None;
        if self.away_since.is_some_and(|since| now.duration_since(since) >= self.away) {
            (self.at, self.away_since, self.coming_home) = (0, None, true);
        }
    }

    /// The server asks us to come again, elsewhere perhaps. False when it does so all the time.
    pub(super) fn follow(&mut self, target: Option<Target>) -> bool {
        self.guests += 1;
        let follows = self.guests <= MOST_GUESTS;
        // Whoever is not followed must not be a guest either: the way home is what failed, and that is waited for.
        self.guest = target.filter(|t| follows && *t != self.list[self.at].target).map(Way::to);
        follows
    }
}

/// Where the user's words lead: the address, the other address, and both in TLS where the platform is known to offer
/// it. Nothing leaves TLS unless the user wrote an address without it.
fn targets(spec: &DestinationSpec) -> Result<Vec<Target>, BadUrl> {
    let first = Target::parse(&spec.url, &spec.key)?;
    let second = spec.backup_url.as_deref().and_then(|url| Target::parse(url, &spec.key).ok());
    let plain: Vec<Target> = [Some(first), second].into_iter().flatten().collect();
    let secured: Vec<Target> = plain.iter().filter_map(secured).collect();
    let mut all: Vec<Target> = Vec::new();
    for target in plain.into_iter().chain(secured) {
        if !all.contains(&target) {
            all.push(target);
        }
    }
    Ok(all)
}

/// The same ingest in TLS on port 443, which firewalls let through. Only for names that are known to be the same
/// platform's: a key goes nowhere else.
fn secured(target: &Target) -> Option<Target> {
    let ingest = target.host.strip_suffix(".rtmp.youtube.com").filter(|_| !target.tls)?;
    let host = format!("{ingest}.rtmps.youtube.com");
    Some(Target { tls: true, host, port: 443, ..target.clone() })
}

/// Whether a connection to `target` serves the new words as well as the old ones, so that it need not be broken.
pub(super) fn stays(old: &DestinationSpec, new: &DestinationSpec, target: &Target) -> bool {
    let same = (&old.url, &old.key, old.first_timestamp_ms) == (&new.url, &new.key, new.first_timestamp_ms);
    let still = || targets(new).is_ok_and(|targets| targets.contains(target));
    same && (old.backup_url == new.backup_url || still())
}

#[cfg(test)]
mod tests {
    use super::*;
    use state::destination::Platform;
    use state::secret::Secret;

    fn spec(url: &str, backup: Option<&str>) -> DestinationSpec {
        let id = "test".parse().unwrap();
        let mut spec = DestinationSpec::new(id, "T", Platform::Custom, url, Secret::new("k"));
        spec.backup_url = backup.map(str::to_owned);
        spec
    }

    fn ways(url: &str, backup: Option<&str>) -> Ways {
        Ways::of(&spec(url, backup)).unwrap()
    }

    fn list(ways: &Ways) -> Vec<String> {
        ways.list.iter().map(|way| way.target.tc_url()).collect()
    }

    fn host(ways: &mut Ways) -> String {
        ways.present().target.host.clone()
    }

    #[test]
    fn tls_is_added_where_the_platform_is_known_and_never_left() {
        let known = ways("rtmp://a.rtmp.youtube.com/live2", Some("rtmp://b.rtmp.youtube.com/live2?backup=1"));
        let expected = [
            "rtmp://a.rtmp.youtube.com/live2",
            "rtmp://b.rtmp.youtube.com/live2?backup=1",
            "rtmps://a.rtmps.youtube.com/live2",
            "rtmps://b.rtmps.youtube.com/live2?backup=1",
        ];
        assert_eq!(list(&known), expected);
        for only in ["rtmps://a.rtmps.youtube.com/live2", "rtmp://rtmp.youtube.com.evil.example/live2"] {
            assert_eq!(list(&ways(only, None)), [only]);
        }
        let both = ways("rtmps://h/live", Some("rtmp://h/live"));
        assert_eq!(list(&both), ["rtmps://h/live", "rtmp://h/live"], "the user's own words");
        assert_eq!(list(&ways("rtmp://h/live", Some("http://h/live"))), ["rtmp://h/live"]);
        assert!(Ways::of(&spec("http://h/live", Some("rtmp://h/live"))).is_err());
    }

    #[test]
    fn with_one_way_every_failure_is_a_round() {
        let mut one = ways("rtmp://a/live", None);
        assert_eq!([Broke::Early; 3].map(|broke| one.failed(broke)), [Some(1), Some(2), Some(3)]);
        one.stable();
        assert_eq!(one.failed(Broke::Closed), Some(1));
    }

    #[test]
    fn the_next_way_is_tried_at_once_and_a_wait_comes_after_all() {
        let mut two = ways("rtmp://a/live", Some("rtmp://b/live"));
        assert_eq!((two.failed(Broke::Early), host(&mut two).as_str()), (None, "b"));
        assert_eq!((two.failed(Broke::Early), host(&mut two).as_str()), (Some(1), "a"));
        assert_eq!((two.failed(Broke::Early), two.failed(Broke::Early)), (None, Some(2)));
    }

    #[test]
    fn a_stable_publication_that_is_closed_is_resumed_where_it_was() {
        let mut two = ways("rtmp://a/live", Some("rtmp://b/live"));
        two.stable();
        assert_eq!((two.failed(Broke::Closed), host(&mut two).as_str()), (None, "a"));
        assert_eq!((two.failed(Broke::Early), host(&mut two).as_str()), (None, "b"));
        two.stable();
        assert_eq!(
            (two.failed(Broke::Closed), host(&mut two).as_str()),
            (None, "a"),
            "home when the other fails"
        );
        two.stable();
        assert_eq!(
            (two.failed(Broke::Stalled), host(&mut two).as_str()),
            (None, "b"),
            "a frozen server is left"
        );
    }

    #[test]
    fn it_comes_home_at_a_planned_reconnect_and_ever_later_where_that_fails() {
        let now = Instant::now();
        let mut two = ways("rtmp://a/live", Some("rtmp://b/live"));
        let mut away = AWAY;
        let mut at = now;
        two.failed(Broke::Early);
        for _ in 0..3 {
            two.published(at);
            two.stable();
            two.renewed(at + away - Duration::from_secs(1));
            assert_eq!(host(&mut two), "b", "not so soon");
            at += away;
            two.renewed(at);
            assert_eq!(host(&mut two), "a");
            assert_eq!((two.failed(Broke::Early), host(&mut two).as_str()), (None, "b"));
            away *= 2;
        }
    }

    #[test]
    fn a_server_may_send_us_on_but_not_in_circles() {
        let mut one = ways("rtmp://a/live", None);
        let other = Target::parse("rtmp://c/live", &Secret::new("k")).unwrap();
        assert!(one.follow(Some(other.clone())));
        assert_eq!(host(&mut one), "c");
        assert_eq!((one.failed(Broke::Early), host(&mut one).as_str()), (None, "a"));
        assert!((0..3).all(|_| one.follow(Some(other.clone()))) && !one.follow(Some(other.clone())));
        assert_eq!((one.failed(Broke::Early), host(&mut one).as_str()), (Some(1), "a"), "it waits");
        assert!(!one.follow(Some(other.clone())));
        assert_eq!(one.failed(Broke::Early), Some(2), "ever longer, until one is stable");
        one.stable();
        assert!(one.follow(None));
        assert_eq!(host(&mut one), "a");
    }

    #[test]
    fn a_connection_survives_a_change_that_does_not_concern_it() {
        let old = spec("rtmp://a/live", Some("rtmp://b/live"));
        let at = |url| Target::parse(url, &Secret::new("k")).unwrap();
        let (first, second) = (at("rtmp://a/live"), at("rtmp://b/live"));
        let renamed = DestinationSpec { name: "New".to_owned(), ..old.clone() };
        assert!(stays(&old, &renamed, &first) && stays(&old, &renamed, &second));
        let alone = spec("rtmp://a/live", None);
        assert!(stays(&old, &alone, &first) && !stays(&old, &alone, &second));
        let rekeyed = DestinationSpec { key: Secret::new("other"), ..old.clone() };
        assert!(!stays(&old, &rekeyed, &first));
        assert!(!stays(&old, &spec("rtmp://c/live", Some("rtmp://b/live")), &first));
    }
}
