//! What was on the air, entry by entry, made from the events of the journal. Pure: events go in, entries come out.

use super::events::Kept;
use serde::Serialize;
use serde_json::Value;
use state::Timestamp;
use state::ids::Ulid;
use state::wire::{Event, ItemSeen, Making};

/// One thing that was on the air, or an item that should have been and was not.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Entry {
    /// When its first picture left.
    pub started_at: Timestamp,
    /// What it was.
    pub kind: Kind,
    /// Key of the media; none for the slate.
    pub key: Option<String>,
    /// The playlist entry.
    pub id: Option<Ulid>,
    /// When its first picture was shown, ms of channel time since the run began; none when it never was.
    pub media_ms: Option<i64>,
    /// How long it was on the air, ms.
    pub duration_ms: Option<i64>,
    /// First ms of the item that was shown.
    pub in_ms: Option<u64>,
    /// Ms of the item at which the last picture ends.
    pub out_ms: Option<u64>,
    /// How it came to its end.
    pub ended: Ended,
    /// Why, in words.
    pub reason: Option<String>,
    /// Whether its end is known to the frame; else it is that of the last heartbeat, up to a second early.
    pub exact: bool,
    /// It had been on the air before and came back after the fallback.
    pub resumed: bool,
    /// How the picture was made.
    pub video: Option<Making>,
    /// How the sound was made.
    pub audio: Option<Making>,
    /// Why it was made so.
    pub decision: Option<String>,
    /// Where the bytes came from.
    pub source: Option<String>,
    /// In which run.
    pub run: Ulid,
    /// In which broadcast.
    pub session: Option<Ulid>,
}

/// What was on the air.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// An item of the playlist.
    Item,
    /// The fallback or the slate.
    Fallback,
}

/// How an entry came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    /// Played to its end; the fallback: the programme was back.
    Played,
    /// Its media ended before its end.
    Early,
    /// Its media did not come in time.
    Stalled,
    /// Somebody wanted the next one.
    Skipped,
    /// Somebody wanted it off the air.
    Ordered,
    /// It could not be opened and was never on the air.
    Failed,
    /// The worker ended.
    RunEnded,
    /// It has not ended.
    OnAir,
}

impl Ended {
    /// What the worker says; a newer one may say more.
    fn read(word: &Value) -> Option<Self> {
        match word.as_str()? {
            "played" => Some(Self::Played),
            "early" => Some(Self::Early),
            "stalled" => Some(Self::Stalled),
            "skipped" => Some(Self::Skipped),
            "ordered" => Some(Self::Ordered),
            _ => None,
        }
    }
}

/// Turns events into entries.
#[derive(Debug, Default)]
pub struct AsRun {
    open: Option<Entry>,
    /// Of a run that another one has followed; its last words may come late.
    leaving: Option<Entry>,
}

impl AsRun {
    /// Takes an event, in the order of the journal; entries that it ends go to `out`.
    pub fn take(&mut self, kept: &Kept, out: &mut Vec<Entry>) {
        let Event { run, at_media_ms: at, kind, data, .. } = &kept.event;
        let begins = matches!(kind.as_str(), "item.started" | "item.resumed" | "fallback.started");
        if begins && let Some(open) = self.open.take_if(|open| open.run != *run) {
            out.extend(self.leaving.replace(open).map(cut_off));
        }
        if self.leaving.as_ref().is_some_and(|leaving| leaving.run == *run) {
            if !begins {
                return self.last_words(kept, out);
            }
            out.extend(self.leaving.take().map(cut_off));
        }
        match kind.as_str() {
            "item.started" | "item.resumed" => {
                out.extend(self.close(*at));
                self.open = item(kept, kind == "item.resumed");
            }
            "item.ended" => {
                let ours = |open: &mut Entry| is_of(open, run, data);
                if let Some(open) = self.open.take_if(ours) {
                    out.push(left(open, *at, data));
                }
            }
            "fallback.started" => {
                let item = self.open.take_if(|open| open.kind == Kind::Item);
                out.extend(item.map(|open| {
                    let told = left(open, *at, &data["left"]);
                    Entry { reason: told.reason.clone().or(text(&data["reason"])), ..told }
                }));
                out.extend(self.close(*at));
                self.open = Some(Entry { key: text(&data["key"]), ..entry(kept, Kind::Fallback) });
            }
            "item.failed" => out.push(failed(kept)),
            "run.ended" => {
                let open = self.open.take_if(|open| open.run == *run);
                out.extend(open.map(|open| run_over(open, *at, data)));
            }
            _ => {}
        }
    }

    /// What a run says that another one has followed already.
    fn last_words(&mut self, kept: &Kept, out: &mut Vec<Entry>) {
        let Event { run, at_media_ms: at, kind, data, .. } = &kept.event;
        match kind.as_str() {
            "item.ended" => {
                let ended = self.leaving.take_if(|leaving| is_of(leaving, run, data));
                out.extend(ended.map(|leaving| left(leaving, *at, data)));
            }
            "run.ended" => out.extend(self.leaving.take().map(|leaving| run_over(leaving, *at, data))),
            "item.failed" => out.push(failed(kept)),
            _ => {}
        }
    }

    /// What has not ended; `living` is the run that plays now.
    pub fn rest(self, living: Option<&Ulid>) -> impl Iterator<Item = Entry> {
        let lives = self.open.as_ref().is_some_and(|open| living == Some(&open.run));
        let on_air = move |open| if lives { Entry { exact: false, ..open } } else { cut_off(open) };
        self.leaving.map(cut_off).into_iter().chain(self.open.map(on_air))
    }

    /// When the first of the open entries began.
    pub fn open_since(&self) -> Option<Timestamp> {
        self.leaving.iter().chain(&self.open).map(|open| open.started_at).min()
    }

    /// What follows begins at `at`, ms of channel time.
    fn close(&mut self, at: i64) -> Option<Entry> {
        let open = self.open.take()?;
        let duration_ms = open.media_ms.map(|from| (at - from).max(0));
        Some(Entry { duration_ms, ended: Ended::Played, ..open })
    }
}

/// Whether these words are about this item.
fn is_of(open: &Entry, run: &Ulid, data: &Value) -> bool {
    open.kind == Kind::Item && open.run == *run && open.id == id_of(data)
}

/// Nobody has told its end.
fn cut_off(open: Entry) -> Entry {
    Entry { ended: Ended::RunEnded, exact: false, ..open }
}

/// Where it stood when its worker ended, by the last heartbeat.
fn run_over(open: Entry, at: i64, data: &Value) -> Entry {
    let asked = data["as_asked"] == true;
    let at = Some(at).filter(|at| *at > 0);
    let position = data["position_ms"].as_u64();
    Entry {
        duration_ms: at.zip(open.media_ms).map(|(at, from)| (at - from).max(0)),
        out_ms: position.filter(|_| open.kind == Kind::Item),
        ended: if asked { Ended::Ordered } else { Ended::RunEnded },
        reason: text(&data["reason"]).filter(|_| !asked).or(open.reason.clone()),
        exact: false,
        ..open
    }
}

/// An item that is not on the air any more, by the worker's own words.
fn left(open: Entry, at: i64, words: &Value) -> Entry {
    Entry {
        duration_ms: open.media_ms.map(|from| (at - from).max(0)),
        out_ms: words["position_ms"].as_u64(),
        ended: Ended::read(&words["how"]).unwrap_or(Ended::Played),
        reason: text(&words["reason"]),
        ..open
    }
}

fn entry(kept: &Kept, kind: Kind) -> Entry {
    let event = &kept.event;
    Entry {
        started_at: event.at_wall,
        kind,
        key: None,
        id: None,
        media_ms: Some(event.at_media_ms),
        duration_ms: None,
        in_ms: None,
        out_ms: None,
        ended: Ended::OnAir,
        reason: text(&event.data["reason"]),
        exact: true,
        resumed: false,
        video: None,
        audio: None,
        decision: None,
        source: None,
        run: event.run.clone(),
        session: kept.session.clone(),
    }
}

fn item(kept: &Kept, resumed: bool) -> Option<Entry> {
    let data = &kept.event.data;
    let entry = Entry { reason: None, resumed, ..entry(kept, Kind::Item) };
    let Ok(seen) = serde_json::from_value::<ItemSeen>(data.clone()) else {
        // Earlier versions said the key and nothing more.
        return Some(Entry { key: text(&data["key"]), ..entry });
    };
    Some(Entry {
        key: Some(seen.key),
        id: Some(seen.id),
        in_ms: Some(seen.position_ms),
        video: Some(seen.video),
        audio: Some(seen.audio),
        decision: Some(seen.reason),
        source: Some(seen.source),
        ..entry
    })
}

fn failed(kept: &Kept) -> Entry {
    let data = &kept.event.data;
    let (key, id) = (text(&data["key"]), id_of(data));
    let (media_ms, duration_ms) = (None, Some(0));
    Entry { key, id, media_ms, duration_ms, ended: Ended::Failed, ..entry(kept, Kind::Item) }
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

fn id_of(data: &Value) -> Option<Ulid> {
    data["id"].as_str().map(Ulid::from_text)
}

#[cfg(test)]
#[path = "as_run_rules.rs"]
mod rules;
