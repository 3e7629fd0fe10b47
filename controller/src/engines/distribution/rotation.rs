//! The next key before a session ends: a worker says that it is near, the address that hands out keys is asked, and
//! what it gives is saved and told like any other change.

use super::{Expected, change};
use crate::engines::House;
use crate::outbound::post::{Policy, post};
use crate::supervisor::marks;
use crate::wishes::destinations::key_problem;
use serde::{Deserialize, Serialize};
use serde_json::json;
use state::Timestamp;
use state::channel::ingest_url_problem;
use state::destination::Destination;
use state::ids::{ChannelId, DestinationId, Ulid};
use state::phase::Wish;
use state::secret::Secret;
use state::wire::Event;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast::error::RecvError;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// The kind of the worker's event.
const KIND: &str = "destination.session_ending";

/// Waits after the first failures; the last one repeats until the session ends.
const PAUSES: [Duration; 4] =
    [Duration::from_secs(2), Duration::from_secs(5), Duration::from_secs(15), Duration::from_secs(60)];

/// Longest time that one ending is worked on.
const LONGEST: Duration = Duration::from_secs(3600);

/// A session that nears its end.
#[derive(Debug, Clone)]
struct Ending {
    channel: ChannelId,
    destination: DestinationId,
    until: Instant,
}

/// The worker's words.
#[derive(Deserialize)]
struct Words {
    destination: DestinationId,
    in_s: u64,
}

/// What the address that hands out keys is asked.
#[derive(Serialize)]
struct Question<'a> {
    r#type: &'a str,
    channel: &'a ChannelId,
    destination: &'a DestinationId,
    name: &'a str,
    platform: state::destination::Platform,
    ends_in_s: u64,
}

/// What it answers.
#[derive(Deserialize)]
struct Answer {
    stream_key: Secret,
    #[serde(default)]
    url: Option<String>,
}

type Place = (ChannelId, DestinationId);

/// Sessions that are worked on.
struct Rotations {
    house: Arc<House>,
    /// The event that each place was last worked on for.
    known: HashMap<Place, (Ulid, u64)>,
    busy: Vec<Place>,
    under_way: JoinSet<Place>,
}

/// Listens to the workers for as long as the controller lives.
pub async fn run(house: Arc<House>) {
    let mut events = house.supervisor.events();
    let (known, busy, under_way) = (HashMap::new(), Vec::new(), JoinSet::new());
    let mut rotations = Rotations { house, known, busy, under_way };
    rotations.take_up().await;
    loop {
        tokio::select! {
            heard = events.recv() => match heard {
                Ok((channel, event)) => rotations.hear(channel, &event),
                // What was missed is in the journal.
                Err(RecvError::Lagged(_)) => rotations.take_up().await,
                Err(RecvError::Closed) => return,
            },
            Some(done) = rotations.under_way.join_next() => match done {
                Ok(place) => rotations.busy.retain(|other| *other != place),
                Err(error) => tracing::error!(%error, "the search for a key ended badly"),
            },
        }
    }
}

impl Rotations {
    /// What the controller before this one heard, and did not live to finish.
    async fn take_up(&mut self) {
        let wishes = self.house.wishes.all().into_iter().filter(|wish| wish.wish == Wish::On);
        let wanted: Vec<ChannelId> = wishes.map(|wish| wish.id).collect();
        for channel in wanted {
            let folder = self.house.config.channel_dir(&channel);
            match crate::off_thread(move || marks::recent(&folder)).await {
                Ok(events) => events.iter().for_each(|event| self.hear(channel.clone(), event)),
                Err(error) => tracing::warn!(channel.id = %channel, %error, "the events cannot be read"),
            }
        }
    }

    fn hear(&mut self, channel: ChannelId, event: &Event) {
        let Some(ending) = ending(&self.house, channel, event, state::now()) else { return };
        let place = (ending.channel.clone(), ending.destination.clone());
        // An event is said again until it is kept.
        let known = self.known.get(&place).is_some_and(|(run, seq)| *run == event.run && *seq >= event.seq);
        if !known && !self.busy.contains(&place) {
            self.known.insert(place.clone(), (event.run.clone(), event.seq));
            self.busy.push(place);
            self.under_way.spawn(rotate(self.house.clone(), ending));
        }
    }
}

/// What an event says about a session that has still some time, and no newer key. Of two ingests that are linked, the
/// first one has the key.
fn ending(house: &House, channel: ChannelId, event: &Event, now: Timestamp) -> Option<Ending> {
    if event.kind != KIND {
        return None;
    }
    let words: Words = serde_json::from_value(event.data.clone()).ok()?;
    let wish = house.wishes.get(&channel)?;
    let find = |id: &DestinationId| wish.destinations.iter().find(|saved| saved.id == *id);
    let said = find(&words.destination)?;
    let first = said.linked_to.as_ref().map_or(Some(said), find)?;
    if first.keyed_at.is_some_and(|at| at > event.at_wall) {
        return None;
    }
    let age = u64::try_from(now.as_second() - event.at_wall.as_second()).unwrap_or(0);
    let left = Duration::from_secs(words.in_s).min(LONGEST).checked_sub(Duration::from_secs(age))?;
    Some(Ending { channel, destination: first.id.clone(), until: Instant::now() + left })
}

/// Asks until there is a key or the session is over.
async fn rotate(house: Arc<House>, ending: Ending) -> Place {
    let Ending { channel, destination: id, until, .. } = &ending;
    let mut failures = 0;
    loop {
        match next_key(&house, &ending).await {
            Ok(true) => {
                tracing::info!(channel.id = %channel, destination.id = %id, "the next key is in its place");
                break;
            }
            Ok(false) => break,
            Err(why) => {
                let pause = PAUSES[PAUSES.len().min(failures + 1) - 1];
                if Instant::now() + pause >= *until {
                    tracing::error!(channel.id = %channel, destination.id = %id, error_type = "no_next_key", why,
                        "the session ends and there is no next key");
                    break;
                }
                tracing::warn!(channel.id = %channel, destination.id = %id, why, "the next key was not given; asking again");
                tokio::time::sleep(pause).await;
                failures += 1;
            }
        }
    }
    (ending.channel, ending.destination)
}

/// Whether there is a next key now; `false` where nobody gives one.
async fn next_key(house: &House, ending: &Ending) -> Result<bool, String> {
    let Ending { channel, destination: id, until, .. } = ending;
    let Some(wish) = house.wishes.get(channel) else { return Ok(false) };
    let Some(saved) = wish.destinations.iter().find(|saved| saved.id == *id) else { return Ok(false) };
    let url = house.keyring.key_url_of(channel, saved).map_err(|error| format!("key_url: {error}"))?;
    let Some(url) = url else { return Ok(false) };
    let answer = ask(house, channel, saved, &url, *until).await?;
    if house.keyring.key_of(channel, saved).is_ok_and(|key| key == answer.stream_key) {
        return Err("the key that was given is the one in use".to_owned());
    }
    let mut body = json!({ "stream_key": answer.stream_key.expose() });
    if let Some(url) = answer.url {
        body["url"] = url.into();
    }
    change(house, channel, id, &Expected::Any, body).await.map_err(|problem| problem.detail)?;
    Ok(true)
}

async fn ask(
    house: &House,
    channel: &ChannelId,
    saved: &Destination,
    url: &Secret,
    until: Instant,
) -> Result<Answer, String> {
    let question = Question {
        r#type: KIND,
        channel,
        destination: &saved.id,
        name: &saved.name,
        platform: saved.platform,
        ends_in_s: until.saturating_duration_since(Instant::now()).as_secs(),
    };
    let question = serde_json::to_vec(&question).map_err(|error| error.to_string())?;
    let config = &house.config;
    let policy = Policy { private: config.key_url_private, ca_file: config.tls_ca_file.clone() };
    understand(&post(url, question, &policy).await?)
}

fn understand(body: &[u8]) -> Result<Answer, String> {
    let form = "the answer must be {\"stream_key\": \"…\", \"url\": \"rtmps://…\" (or none)}";
    // The error of the reader may show what it read.
    let answer: Answer = serde_json::from_slice(body).map_err(|_| form.to_owned())?;
    if let Some(words) = key_problem(answer.stream_key.expose()) {
        return Err(format!("{form}; the key {words}"));
    }
    match answer.url.as_deref().and_then(ingest_url_problem) {
        Some(words) => Err(format!("{form}; the url {words}")),
        None => Ok(answer),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_key_that_can_be_used_is_taken() {
        let good = understand(br#"{"stream_key":"k3y","url":"rtmps://h/a","expires":1}"#)
            .unwrap_or_else(|e| panic!("{e}"));
        assert_eq!((good.stream_key.expose(), good.url.as_deref()), ("k3y", Some("rtmps://h/a")));
        for bad in [
            &b""[..],
            b"[]",
            b"{}",
            br#"{"stream_key":7}"#,
            br#"{"stream_key":""}"#,
            br#"{"stream_key":"s3cret with spaces"}"#,
            br#"{"stream_key":"s3cret","url":"http://h/a"}"#,
            b"\xff",
        ] {
            let words = understand(bad).err().unwrap_or_else(|| panic!("{bad:?}"));
            assert!(!words.contains("s3cret"), "{words}");
        }
    }
}
