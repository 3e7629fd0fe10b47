//! Which alerts are open, and who must be told now: one alert for each thing that is wrong, told once when it has
//! lasted, again after hours, and when it is over. Pure: no disk, no network, no clock of its own.

use super::kind::{Kind, Severity};
use crate::supervisor::seen::Now;
use serde::{Deserialize, Serialize};
use state::Timestamp;
use state::ids::{ChannelId, DestinationId, Ulid};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

/// Alerts that are over and still shown.
pub const MOST_RECENT: usize = 200;

/// Most alerts that are open at the same time; more of them tell nobody anything new.
const MOST_OPEN: usize = 300;

/// Nothing is over this soon after a start: the workers have not been heard yet.
const SETTLING: Duration = Duration::from_secs(20);

/// What an alert is about. There is at most one open alert for each.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Subject {
    /// What is wrong.
    pub kind: Kind,
    /// With which channel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel: Option<ChannelId>,
    /// With which of its destinations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination: Option<DestinationId>,
    /// With which item, folder or webhook.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub about: Option<String>,
}

/// Something that is wrong at this moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What it is about.
    pub subject: Subject,
    /// What is wrong and what to do, in one sentence, without secrets.
    pub sentence: String,
}

impl Finding {
    /// Something about this machine or this program.
    pub fn new(kind: Kind, sentence: impl Into<String>) -> Self {
        let subject = Subject { kind, channel: None, destination: None, about: None };
        Self { subject, sentence: sentence.into() }
    }

    /// The same, about a channel.
    pub fn of(mut self, channel: &ChannelId) -> Self {
        self.subject.channel = Some(channel.clone());
        self
    }

    /// The same, about one of its destinations.
    pub fn at(mut self, destination: &DestinationId) -> Self {
        self.subject.destination = Some(destination.clone());
        self
    }

    /// The same, about something with a name.
    pub fn about(mut self, name: impl Into<String>) -> Self {
        self.subject.about = Some(name.into());
        self
    }
}

/// An alert, open or over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alert {
    /// Names it.
    pub id: Ulid,
    /// What it is about.
    #[serde(flatten)]
    pub subject: Subject,
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong and what to do.
    pub sentence: String,
    /// Since when it is so.
    pub since: Timestamp,
    /// When somebody was last told.
    pub told_at: Timestamp,
    /// When it was over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
    /// How long it lasted, s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lasted_s: Option<u64>,
}

/// Why somebody is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// It has begun.
    Opened,
    /// It has lasted for hours.
    Reminder,
    /// It is over.
    Ended,
    /// Nothing is wrong; somebody tries whether alerts arrive.
    Test,
}

/// Something that somebody is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// Why.
    pub what: What,
    /// When it came up.
    pub at: Timestamp,
    /// About what.
    pub alert: Alert,
}

/// What of the book is kept on disk.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Pages {
    /// Alerts that are open, oldest first.
    #[serde(default)]
    pub open: Vec<Alert>,
    /// Alerts that are over, newest first.
    #[serde(default)]
    pub recent: VecDeque<Alert>,
}

/// Times of an open alert by the steady clock: the wall clock may be set while it lasts.
#[derive(Debug, Clone, Copy)]
struct Times {
    began: Instant,
    told: Instant,
    /// Since when it is not found any more.
    gone: Option<Instant>,
}

/// The book of alerts.
pub struct Book {
    pages: Pages,
    pending: BTreeMap<Subject, (Instant, Timestamp)>,
    times: BTreeMap<Ulid, Times>,
    remind_every: Option<Duration>,
    opened_at: Instant,
    changes: u64,
}

impl Book {
    /// Goes on with what is on the disk. `remind_every` is `None` where nobody wants to be reminded.
    pub fn new(pages: Pages, remind_every: Option<Duration>, now: Now) -> Self {
        let ago = |at: Timestamp| {
            let passed = Duration::from_secs(seconds_between(at, now.wall));
            now.mono.checked_sub(passed).unwrap_or(now.mono)
        };
        let times = pages.open.iter().map(|alert| {
            let (began, told) = (ago(alert.since), ago(alert.told_at));
            (alert.id.clone(), Times { began, told, gone: None })
        });
        let times = times.collect();
        Self { pages, pending: BTreeMap::new(), times, remind_every, opened_at: now.mono, changes: 0 }
    }

    /// Counts what should be on the disk soon: alerts that opened, ended, or were told again. Sentences are not worth
    /// a write.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// What is open and what is over.
    pub fn pages(&self) -> &Pages {
        &self.pages
    }

    /// Takes in everything that is wrong now, and gives what somebody must be told.
    pub fn take_in(&mut self, findings: Vec<Finding>, now: Now) -> Vec<Notice> {
        let mut found = BTreeSet::new();
        let mut notices = Vec::new();
        for finding in findings {
            if !found.insert(finding.subject.clone()) {
                continue;
            }
            match self.pages.open.iter().position(|alert| alert.subject == finding.subject) {
                Some(at) => notices.extend(self.still(at, finding.sentence, now)),
                None => notices.extend(self.begin(finding, now)),
            }
        }
        self.pending.retain(|subject, _| found.contains(subject));
        notices.extend(self.close_what_is_gone(&found, now));
        notices
    }

    /// Something is wrong that was not before.
    fn begin(&mut self, finding: Finding, now: Now) -> Option<Notice> {
        let Finding { subject, sentence } = finding;
        let (began, since) = *self.pending.entry(subject.clone()).or_insert((now.mono, now.wall));
        let manner = subject.kind.manner();
        if began + manner.raise_after > now.mono || self.pages.open.len() >= MOST_OPEN {
            return None;
        }
        self.pending.remove(&subject);
        let id = Ulid::new(now.wall);
        let (severity, told_at) = (manner.severity, now.wall);
        let alert = Alert { id, subject, severity, sentence, since, told_at, ended_at: None, lasted_s: None };
        self.times.insert(alert.id.clone(), Times { began, told: now.mono, gone: None });
        self.pages.open.push(alert.clone());
        self.changes += 1;
        Some(Notice { what: What::Opened, at: now.wall, alert })
    }

    /// Something is still wrong. The newest sentence counts.
    fn still(&mut self, at: usize, sentence: String, now: Now) -> Option<Notice> {
        let alert = &mut self.pages.open[at];
        alert.sentence = sentence;
        let times = self.times.get_mut(&alert.id)?;
        times.gone = None;
        let due = self.remind_every.is_some_and(|every| times.told + every <= now.mono);
        if !due || alert.subject.kind.manner().happens {
            return None;
        }
        times.told = now.mono;
        self.changes += 1;
        alert.told_at = now.wall;
        Some(Notice { what: What::Reminder, at: now.wall, alert: alert.clone() })
    }

    fn close_what_is_gone(&mut self, found: &BTreeSet<Subject>, now: Now) -> Vec<Notice> {
        let settled = self.opened_at + SETTLING <= now.mono;
        let (times, mut notices) = (&mut self.times, Vec::new());
        let mut over = Vec::new();
        self.pages.open.retain_mut(|alert| {
            let Some(own) = times.get_mut(&alert.id) else { return false };
            if found.contains(&alert.subject) || !settled {
                return true;
            }
            let manner = alert.subject.kind.manner();
            let gone = *own.gone.get_or_insert(now.mono);
            // What happened once counts from when it was told, so that a restart does not keep it open.
            let clear = if manner.happens { own.told } else { gone } + manner.clear_after;
            if clear > now.mono {
                return true;
            }
            alert.ended_at = Some(now.wall);
            alert.lasted_s = Some(gone.saturating_duration_since(own.began).as_secs());
            times.remove(&alert.id);
            if !manner.happens {
                notices.push(Notice { what: What::Ended, at: now.wall, alert: alert.clone() });
            }
            over.push(alert.clone());
            false
        });
        self.changes += over.len() as u64;
        over.into_iter().for_each(|alert| self.pages.recent.push_front(alert));
        self.pages.recent.truncate(MOST_RECENT);
        notices
    }
}

/// Whole seconds from one time to a later one; 0 when the clock was set back in between.
pub fn seconds_between(from: Timestamp, to: Timestamp) -> u64 {
    u64::try_from(to.as_second() - from.as_second()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Clock(Now);

    impl Clock {
        fn at(&self, second: u64) -> Now {
            let passed = Duration::from_secs(second);
            Now { mono: self.0.mono + passed, wall: self.0.wall.checked_add(passed).unwrap() }
        }
    }

    fn book(clock: &Clock, pages: Pages) -> Book {
        Book::new(pages, Some(Duration::from_secs(3600)), clock.0)
    }

    fn dark() -> Vec<Finding> {
        vec![Finding::new(Kind::Dark, "nothing is on").of(&ChannelId::main())]
    }

    fn told(notices: Vec<Notice>) -> Vec<What> {
        notices.into_iter().map(|notice| notice.what).collect()
    }

    #[test]
    fn it_is_told_once_when_it_has_lasted_and_once_when_it_is_over() {
        let clock = Clock(Now::read());
        let mut book = book(&clock, Pages::default());
        assert_eq!(told(book.take_in(dark(), clock.at(100))), []);
        assert_eq!(told(book.take_in(dark(), clock.at(109))), []);
        assert_eq!(told(book.take_in(dark(), clock.at(110))), [What::Opened]);
        assert_eq!(told(book.take_in(dark(), clock.at(111))), []);
        assert_eq!(told(book.take_in(vec![], clock.at(112))), []);
        // It comes and goes: that is one alert, and no end.
        assert_eq!(told(book.take_in(dark(), clock.at(116))), []);
        assert_eq!(told(book.take_in(vec![], clock.at(160))), []);
        let ended = book.take_in(vec![], clock.at(165));
        assert_eq!((ended[0].what, ended[0].alert.lasted_s), (What::Ended, Some(60)));
        assert_eq!((book.pages().open.len(), book.pages().recent.len()), (0, 1));
    }

    #[test]
    fn what_does_not_last_is_never_told() {
        let clock = Clock(Now::read());
        let mut book = book(&clock, Pages::default());
        for second in 0..60 {
            let findings = if second % 9 == 0 { vec![] } else { dark() };
            assert_eq!(told(book.take_in(findings, clock.at(second))), [], "{second}");
        }
    }

    #[test]
    fn a_restart_tells_nothing_twice_and_takes_back_nothing_too_soon() {
        let clock = Clock(Now::read());
        let mut before = book(&clock, Pages::default());
        before.take_in(dark(), clock.at(0));
        before.take_in(dark(), clock.at(10));
        let text = serde_json::to_string(before.pages()).unwrap();
        let mut after = Book::new(serde_json::from_str(&text).unwrap(), None, clock.at(30));
        // The workers have not been heard yet, so that nothing is found.
        assert_eq!(told(after.take_in(vec![], clock.at(31))), []);
        assert_eq!(told(after.take_in(vec![], clock.at(49))), []);
        assert_eq!(told(after.take_in(dark(), clock.at(60))), []);
        assert_eq!(told(after.take_in(vec![], clock.at(70))), []);
        let ended = after.take_in(vec![], clock.at(75));
        assert_eq!((ended[0].what, ended[0].alert.lasted_s), (What::Ended, Some(70)));
    }

    #[test]
    fn whoever_does_nothing_is_reminded_after_hours() {
        let clock = Clock(Now::read());
        let mut book = book(&clock, Pages::default());
        book.take_in(dark(), clock.at(0));
        book.take_in(dark(), clock.at(10));
        let said: Vec<_> =
            (11..11_000).flat_map(|second| told(book.take_in(dark(), clock.at(second)))).collect();
        assert_eq!(said, [What::Reminder, What::Reminder, What::Reminder]);
    }

    #[test]
    fn a_clock_that_is_set_changes_no_length() {
        let clock = Clock(Now::read());
        let mut book = book(&clock, Pages::default());
        book.take_in(dark(), clock.at(100));
        book.take_in(dark(), clock.at(110));
        let set_back = |second| {
            let Now { mono, wall } = clock.at(second);
            Now { mono, wall: wall.checked_sub(Duration::from_secs(3600)).unwrap() }
        };
        assert_eq!(told(book.take_in(dark(), set_back(111))), []);
        book.take_in(vec![], set_back(130));
        assert_eq!(book.take_in(vec![], set_back(135))[0].alert.lasted_s, Some(30));
    }

    #[test]
    fn what_happens_is_told_once_and_has_no_end_to_tell() {
        let clock = Clock(Now::read());
        let mut book = book(&clock, Pages::default());
        let stepped = || vec![Finding::new(Kind::ClockStepped, "the clock was set")];
        assert_eq!(told(book.take_in(stepped(), clock.at(30))), [What::Opened]);
        assert_eq!(told(book.take_in(stepped(), clock.at(40))), []);
        assert_eq!(told(book.take_in(vec![], clock.at(3629))), []);
        assert_eq!(book.pages().open.len(), 1);
        assert_eq!(told(book.take_in(vec![], clock.at(3630))), []);
        assert_eq!((book.pages().open.len(), book.pages().recent.len()), (0, 1));
    }

    #[test]
    fn the_book_never_grows_without_bound() {
        let clock = Clock(Now::read());
        let mut book = book(&clock, Pages::default());
        let many = |n: usize| (0..n).map(|i| Finding::new(Kind::WorkerFailing, "x").about(i.to_string()));
        let told = book.take_in(many(2 * MOST_OPEN).collect(), clock.at(30)).len();
        assert_eq!((told, book.pages().open.len()), (MOST_OPEN, MOST_OPEN));
        book.take_in(vec![], clock.at(40));
        book.take_in(vec![], clock.at(50));
        assert_eq!((book.pages().open.len(), book.pages().recent.len()), (0, MOST_RECENT));
    }
}
