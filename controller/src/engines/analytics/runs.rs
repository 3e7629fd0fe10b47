//! The history of a channel's runs, newest first.

use crate::engines::House;
use crate::engines::unknown_channel;
use crate::error::Problem;
use crate::records::runs;
use serde::Serialize;
use state::Timestamp;
use state::ids::{ChannelId, Ulid};
use state::runs::{RunKept, Runs};
use state::seen::Began;

/// Runs that are told unless somebody asks for more or fewer.
const USUAL: usize = 50;

/// A page of the history.
#[derive(Debug, Serialize)]
pub struct Page {
    runs: Vec<Shown>,
    /// Ask for the runs before this one for the next page; null on the last one.
    next_before: Option<Ulid>,
}

/// One run.
#[derive(Debug, Serialize)]
struct Shown {
    id: Ulid,
    session_id: Option<Ulid>,
    epoch: u64,
    pid: u32,
    /// Why it was begun.
    began: Option<Began>,
    started_at: Timestamp,
    /// Null while it lives, and where nobody saw its end.
    ended_at: Option<Timestamp>,
    exit_code: Option<i32>,
    /// How it ended; null while it lives.
    words: Option<String>,
}

/// The newest runs that began before the run named `before`.
///
/// # Errors
/// 404 unknown channel; 400 a limit out of 1 to 1,000, or a `before` that is no id.
pub async fn runs(
    house: &House,
    channel: &ChannelId,
    limit: Option<usize>,
    before: Option<String>,
) -> Result<Page, Problem> {
    house.wishes.is_known(channel).then_some(()).ok_or_else(|| unknown_channel(channel))?;
    let limit = limit.unwrap_or(USUAL);
    if !(1..=Runs::MOST).contains(&limit) {
        return Err(Problem::new(400, "the query cannot be used: limit must be 1 to 1000"));
    }
    let wrong = || Problem::new(400, "the query cannot be used: before must be the id of a run");
    let before = before.map(|before| Ulid::parse(&before).ok_or_else(wrong)).transpose()?;
    let folder = house.config.channel_dir(channel);
    let found =
        crate::off_thread(move || runs::list(&folder, limit + 1, before.as_ref().map(Ulid::as_str))).await;
    let mut found = found.map_err(|error| Problem::internal(&error))?;
    let more = found.len() > limit;
    found.truncate(limit);
    let next_before = found.last().filter(|_| more).map(|kept| kept.run.id.clone());
    Ok(Page { runs: found.into_iter().map(shown).collect(), next_before })
}

fn shown(kept: RunKept) -> Shown {
    let RunKept { run, epoch, session } = kept;
    Shown {
        id: run.id,
        session_id: session,
        epoch,
        pid: run.pid,
        began: run.began,
        started_at: run.started_at,
        ended_at: run.ended_at,
        exit_code: run.exit_code,
        words: run.exit_words,
    }
}
