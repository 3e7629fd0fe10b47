//! What people ask for: files by their keys, or everything that a channel plays; and the list as they see it.

use super::list::{Entry, State, Wanted};
use crate::engines::House;
use crate::error::Problem;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use state::Timestamp;
use state::channel::{FieldProblem, StreamConfig};
use state::destination::{Boundary, Destination};
use state::ids::ChannelId;
use state::prepared::Stage;
use state::profile::Profile;

/// Keys in one request at most.
const MOST_KEYS: usize = 10_000;

/// A request.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ask {
    #[serde(default)]
    keys: Vec<String>,
    #[serde(default)]
    all: bool,
    #[serde(default)]
    channel: Option<ChannelId>,
    #[serde(default)]
    loudness: bool,
}

/// A file on the list, as people see it.
#[derive(Debug, Serialize)]
pub struct Shown {
    key: String,
    channel: ChannelId,
    /// The profile's fingerprint.
    profile: String,
    state: State,
    progress: f64,
    stage: Option<Stage>,
    reason: Option<String>,
    error: Option<String>,
    loudness: bool,
    asked_at: Timestamp,
    ended_at: Option<Timestamp>,
}

impl From<Entry> for Shown {
    fn from(entry: Entry) -> Self {
        Self {
            key: entry.item.key,
            channel: entry.channel,
            profile: entry.profile.fingerprint(),
            state: entry.state,
            progress: (entry.progress * 1000.0).round() / 1000.0,
            stage: entry.stage,
            reason: entry.reason,
            error: entry.error,
            loudness: entry.loudness,
            asked_at: entry.asked_at,
            ended_at: entry.ended_at,
        }
    }
}

/// Everything on the list.
pub fn all(house: &House) -> Vec<Shown> {
    house.prepare.all().into_iter().map(Shown::from).collect()
}

/// Puts files on the list.
///
/// # Errors
/// 404 unknown channel; 409 nobody knows the channel's profile yet; 422 what is wrong with the request;
/// 503 preparing is off, or the list is full.
pub async fn ask(house: &House, body: Value) -> Result<Vec<Shown>, Problem> {
    let ask = read(body).map_err(Problem::invalid)?;
    if !house.config.prepares {
        return Err(Problem::unavailable("preparing is off; set PREPARE=on and restart the controller"));
    }
    let channel = ask.channel.clone().unwrap_or_else(ChannelId::main);
    let unknown = || Problem::not_found(format!("there is no channel {channel}"));
    let wish = house.wishes.get(&channel).ok_or_else(unknown)?;
    let profile = profile_of(house, &wish)?;
    let items = items(house, wish, &ask).await.map_err(Problem::invalid)?;
    let wanted = items.into_iter().map(|item| {
        let (channel, profile) = (channel.clone(), profile.clone());
        Wanted { item, channel, profile, loudness: ask.loudness, asked: true }
    });
    let entries = house.prepare.want(wanted.collect()).await.map_err(|error| Problem::internal(&error))?;
    let full = || Problem::unavailable("the list of files to prepare is full; ask again when some are done");
    entries.into_iter().map(|entry| entry.map(Shown::from).ok_or_else(full)).collect()
}

fn read(body: Value) -> Result<Ask, Vec<FieldProblem>> {
    let ask: Ask = serde_json::from_value(body)
        .map_err(|error| vec![FieldProblem::at("", format!("cannot be understood: {error}"))])?;
    let problem = match (ask.keys.len(), ask.all) {
        (0, false) => Some("must name a file, or set \"all\": true"),
        (1.., true) => Some("must be empty with \"all\": true"),
        (n, _) if n > MOST_KEYS => Some("must not hold more than 10000 keys"),
        _ => None,
    };
    problem.map_or(Ok(ask), |words| Err(vec![FieldProblem::at("/keys", words)]))
}

/// The profile that the channel has in writing, or else in its present run.
fn profile_of(house: &House, wish: &StreamConfig) -> Result<Profile, Problem> {
    let seen = || house.supervisor.sight(&wish.id)?.beat?.profile.clone();
    let wants = |d: &Destination| d.enabled && d.boundary == Boundary::Uniform;
    let uniform = wish.destinations.iter().any(wants);
    let profile = wish.profile.clone().or_else(seen).map(|profile| Profile { uniform, ..profile });
    profile.ok_or_else(|| {
        Problem::conflict(
            "no-profile",
            format!(
                "channel {} has no profile before its first file is opened; start it, or give it one",
                wish.id
            ),
        )
    })
}

async fn items(
    house: &House,
    wish: StreamConfig,
    ask: &Ask,
) -> Result<Vec<state::wire::ItemSpec>, Vec<FieldProblem>> {
    if ask.all {
        return Ok(house.briefing.items(&wish).await);
    }
    let found = house.briefing.items_by_key(&ask.keys, true).await;
    let missing = found.iter().enumerate().filter(|(_, item)| item.is_none());
    let missing: Vec<_> = missing
        .map(|(n, _)| FieldProblem::at(format!("/keys/{n}"), "is not among the media in storage"))
        .collect();
    if missing.is_empty() { Ok(found.into_iter().flatten().collect()) } else { Err(missing) }
}
