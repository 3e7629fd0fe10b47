//! Adding, changing and removing destinations, on the air or not: checked as a whole, saved, and only then told to the
//! worker. What was answered with "yes" survives a crash of the next moment.

use super::change::{self, MOST_DESTINATIONS, Place};
use super::links;
use super::outputs;
use super::shown::{self, DestinationShown};
use crate::engines::{House, unknown_channel};
use crate::error::Problem;
use crate::supervisor::Ask;
use crate::wishes::Turn;
use serde_json::Value;
use state::channel::{FieldProblem, StreamConfig};
use state::destination::Destination;
use state::ids::{ChannelId, DestinationId};
use state::phase::Wish;

/// Which version of a destination a caller wants to change (RFC 9110 section 13.1.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expected {
    /// Whatever there is.
    Any,
    /// One of these tags.
    Tags(Vec<String>),
}

/// All destinations of a channel, the implied one included.
///
/// # Errors
/// 404 unknown channel.
pub fn all(house: &House, channel: &ChannelId) -> Result<Vec<DestinationShown>, Problem> {
    let wish = house.wishes.get(channel).ok_or_else(|| unknown_channel(channel))?;
    let sight = house.supervisor.sight(channel);
    Ok(shown::all(&wish, &house.keyring, sight.as_ref()))
}

/// One destination.
///
/// # Errors
/// 404 unknown channel or destination.
pub fn one(house: &House, channel: &ChannelId, id: &DestinationId) -> Result<DestinationShown, Problem> {
    all(house, channel)?.into_iter().find(|shown| shown.id() == id).ok_or_else(|| unknown(channel, id))
}

/// Adds a destination.
///
/// # Errors
/// 404 unknown channel; 409 the id is taken, or another channel uses the same key there; 422 what is wrong.
pub async fn add(house: &House, channel: &ChannelId, body: Value) -> Result<DestinationShown, Problem> {
    let mut problems = Vec::new();
    let said = change::read(body, "", true, &mut problems).filter(|_| problems.is_empty());
    let said = said.ok_or_else(|| Problem::invalid(std::mem::take(&mut problems)))?;
    let (turn, mut wish) = take(house, channel).await?;
    if wish.destinations.len() >= MOST_DESTINATIONS {
        let words = format!("channel {channel} has {MOST_DESTINATIONS} destinations, and that is the most");
        return Err(Problem::conflict("too-many-destinations", words));
    }
    let id = said.id_beside(&wish.destinations);
    if wish.destinations.iter().any(|other| other.id == id) {
        let words = format!("channel {channel} has a destination {id} already; change it with PATCH");
        return Err(Problem::conflict("destination-exists", words));
    }
    let place = here(house, channel);
    let new = said.whole(id.clone(), None, &wish.destinations, &place, &mut problems);
    wish.destinations.push(new);
    save(house, turn, wish, &id, problems).await?;
    tracing::info!(channel.id = %channel, destination.id = %id, "destination added");
    one(house, channel, &id)
}

/// Changes what the body names of a destination, and of those that are linked to it what they share.
///
/// # Errors
/// 404 unknown channel or destination; 409 it comes from the environment, another channel uses the same key there, or
/// nobody could watch any more; 412 it is not as expected; 422 what is wrong.
pub async fn change(
    house: &House,
    channel: &ChannelId,
    id: &DestinationId,
    expected: &Expected,
    body: Value,
) -> Result<DestinationShown, Problem> {
    let mut problems = Vec::new();
    let said = change::read(body, "", false, &mut problems).filter(|_| problems.is_empty());
    let said = said.ok_or_else(|| Problem::invalid(std::mem::take(&mut problems)))?;
    let (turn, mut wish) = take(house, channel).await?;
    let at = saved(house, &wish, id, expected)?;
    let place = here(house, channel);
    let others: Vec<Destination> =
        wish.destinations.iter().filter(|other| other.id != *id).cloned().collect();
    let new = said.over(&wish.destinations[at], &others, &place, &mut problems);
    if new == wish.destinations[at] && problems.is_empty() {
        return one(house, channel, id);
    }
    wish.destinations[at] = new;
    save(house, turn, wish, id, problems).await?;
    tracing::info!(channel.id = %channel, destination.id = %id, "destination changed");
    one(house, channel, id)
}

/// Removes a destination, and those that are linked to it.
///
/// # Errors
/// 404 unknown channel or destination; 409 it comes from the environment, or nobody could watch any more; 412 it is
/// not as expected.
pub async fn remove(
    house: &House,
    channel: &ChannelId,
    id: &DestinationId,
    expected: &Expected,
) -> Result<(), Problem> {
    let (turn, mut wish) = take(house, channel).await?;
    saved(house, &wish, id, expected)?;
    wish.destinations.retain(|other| other.id != *id && other.linked_to.as_ref() != Some(id));
    save(house, turn, wish, id, Vec::new()).await?;
    tracing::info!(channel.id = %channel, destination.id = %id, "destination removed");
    Ok(())
}

/// A body that is one destination.
fn here<'a>(house: &'a House, channel: &'a ChannelId) -> Place<'a> {
    Place { channel, pointer: String::new(), keyring: &house.keyring, now: state::now() }
}

async fn take<'a>(house: &'a House, channel: &ChannelId) -> Result<(Turn<'a>, StreamConfig), Problem> {
    if house.supervisor.is_leaving() {
        return Err(Problem::unavailable("the controller is ending; ask again when it is back"));
    }
    let turn = house.wishes.turn().await;
    let wish = house.wishes.get(channel).ok_or_else(|| unknown_channel(channel))?;
    Ok((turn, wish))
}

/// Where the destination is in the list, if it is there and as expected.
fn saved(
    house: &House,
    wish: &StreamConfig,
    id: &DestinationId,
    expected: &Expected,
) -> Result<usize, Problem> {
    let Some(at) = wish.destinations.iter().position(|other| other.id == *id) else {
        let implied = house.keyring.of(wish).iter().any(|wanted| wanted.implied && wanted.shown.id == *id);
        return Err(if implied { from_environment(&wish.id, id) } else { unknown(&wish.id, id) });
    };
    let tag = shown::tag(&wish.destinations[at]);
    match expected {
        Expected::Tags(tags) if !tags.contains(&tag) => {
            let words = format!("destination {id} has changed since it was read; read it again");
            Err(Problem::new(412, words))
        }
        _ => Ok(at),
    }
}

/// The last steps of every change: what is linked follows, everything is checked, saved, and made so.
async fn save(
    house: &House,
    turn: Turn<'_>,
    mut wish: StreamConfig,
    id: &DestinationId,
    mut problems: Vec<FieldProblem>,
) -> Result<(), Problem> {
    let at = wish.destinations.iter().position(|other| other.id == *id);
    links::follow(&mut wish, &house.keyring);
    for problem in wish.problems().into_iter().map(|problem| in_body(problem, at)) {
        if problems.iter().all(|known| known.pointer != problem.pointer) {
            problems.push(problem);
        }
    }
    if !problems.is_empty() {
        return Err(Problem::invalid(problems));
    }
    let fits = match wish.wish {
        Wish::On => outputs::check(house, &wish),
        Wish::Off => outputs::not_twice(&house.keyring, &wish),
    };
    fits.map_err(|problem| told_of_one(problem, at))?;
    let channel = wish.id.clone();
    turn.put(wish).await?;
    // Whoever comes next sees the wish; the supervisor may need the turn itself.
    drop(turn);
    house.supervisor.ask(channel, Ask::Look).await;
    Ok(())
}

/// A document calls it `/destinations/3/url`, the caller `/url`.
fn in_body(problem: FieldProblem, at: Option<usize>) -> FieldProblem {
    let own = at.map(|at| format!("/destinations/{at}"));
    let own = own.and_then(|own| problem.pointer.strip_prefix(&own).map(str::to_owned));
    match own {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => FieldProblem::at(rest, problem.detail),
        _ => problem,
    }
}

/// What stands against the channel as a whole is a conflict for whoever changes one destination of it.
fn told_of_one(problem: Problem, at: Option<usize>) -> Problem {
    if problem.status != 422 {
        return problem;
    }
    let errors: Vec<_> = problem.errors.into_iter().map(|error| in_body(error, at)).collect();
    match errors.iter().find(|error| error.pointer.starts_with("/destinations")) {
        Some(error) => Problem::conflict("conflict", format!("{} {}", error.pointer, error.detail)),
        None => Problem::invalid(errors),
    }
}

pub(super) fn unknown(channel: &ChannelId, id: &DestinationId) -> Problem {
    Problem::not_found(format!("channel {channel} has no destination {id}"))
}

fn from_environment(channel: &ChannelId, id: &DestinationId) -> Problem {
    let words = format!(
        "destination {id} comes from YOUTUBE_STREAM_KEY: change it there and restart the controller, or POST a \
         destination with the id {id} to /api/channels/{channel}/destinations, which takes its place"
    );
    Problem::conflict("from-environment", words)
}
