//! Starting a broadcast: check everything, save the wish, wake the supervisor. In this order, so that what was
//! answered with "yes" survives a crash of the next moment.

use super::changes::Changes;
use super::media;
use super::status::{Status, status};
use crate::engines::distribution::outputs;
use crate::engines::{House, unknown_channel};
use crate::error::Problem;
use crate::supervisor::Ask;
use crate::supervisor::seen::Sight;
use state::channel::StreamConfig;
use state::ids::{ChannelId, Ulid};
use state::phase::{Phase, Wish};

/// Starts a channel, with changes that are saved.
///
/// # Errors
/// 404 unknown channel; 409 it runs or is stopping; 422 what is wrong with the configuration or the media;
/// 503 no usable FFmpeg, or the controller is ending.
pub async fn start(house: &House, channel: ChannelId, changes: Changes) -> Result<Status, Problem> {
    if house.supervisor.is_leaving() {
        return Err(Problem::unavailable("the controller is ending; ask again when it is back"));
    }
    // A bucket and a program may take their time. The supervisor must not wait for them, and it may need the turn.
    let draft = changed(house, &channel, changes.clone())?;
    media::check(&house.library, &draft, changes.names_media()).await?;
    media::check_fallback(&house.library, changes.fallback_video()).await?;
    check_tools(house).await?;
    let turn = house.wishes.turn().await;
    let mut wish = changed(house, &channel, changes)?;
    switch_on(&mut wish);
    turn.put(wish).await?;
    // Whoever comes next sees the wish; the supervisor may need the turn itself.
    drop(turn);
    house.supervisor.ask(channel.clone(), Ask::Start).await;
    status(house, &channel)
}

/// The wish of a channel that may be started, after the changes.
fn changed(house: &House, channel: &ChannelId, changes: Changes) -> Result<StreamConfig, Problem> {
    let wish = house.wishes.get(channel).ok_or_else(|| unknown_channel(channel))?;
    may_start(&wish, house.supervisor.sight(channel).as_ref())?;
    let wish = changes.apply(wish, &house.keyring).map_err(Problem::invalid)?;
    outputs::check(house, &wish)?;
    Ok(wish)
}

/// | wish \ seen | no worker | error, retrying | a worker |
/// |---|---|---|---|
/// | off | yes | yes | no, it is stopping |
/// | on | no | yes, at once | no, it runs |
fn may_start(wish: &StreamConfig, sight: Option<&Sight>) -> Result<(), Problem> {
    let failed = sight.is_some_and(|sight| matches!(sight.state.phase, Phase::Error | Phase::Retrying));
    let alive = sight.is_some_and(|sight| sight.alive);
    match (wish.wish, failed, alive) {
        (Wish::Off, _, true) => Err(Problem::conflict(
            "stopping",
            format!("channel {} is stopping; start it again when its phase is off", wish.id),
        )),
        (Wish::On, false, _) => {
            Err(Problem::conflict("already-running", format!("channel {} is running already", wish.id)))
        }
        _ => Ok(()),
    }
}

fn switch_on(wish: &mut StreamConfig) {
    let now = state::now();
    if wish.wish == Wish::Off {
        wish.wish_since = Some(now);
    }
    wish.wish = Wish::On;
    wish.session_id.get_or_insert_with(|| Ulid::new(now));
}

async fn check_tools(house: &House) -> Result<(), Problem> {
    let problems = house.briefing.look_again().await.problems;
    if problems.is_empty() { Ok(()) } else { Err(Problem::unavailable(problems.join("; "))) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::supervisor::air::{Air, Is};
    use state::seen::StreamState;

    fn sight(phase: Phase, alive: bool) -> Sight {
        let mut state = StreamState::new(ChannelId::main());
        state.phase = phase;
        let air = Air { is: Is::Off, since: state::now(), because: String::new() };
        Sight { alive, ..Sight::of(state, air) }
    }

    #[test]
    fn every_cell_of_the_table_holds() {
        let cases = [
            (Wish::Off, Phase::Off, false, None),
            (Wish::Off, Phase::Stopping, true, Some("stopping")),
            (Wish::Off, Phase::Live, true, Some("stopping")),
            (Wish::On, Phase::Off, false, Some("already-running")),
            (Wish::On, Phase::Starting, true, Some("already-running")),
            (Wish::On, Phase::Live, true, Some("already-running")),
            (Wish::On, Phase::Stopping, true, Some("already-running")),
            (Wish::On, Phase::Error, false, None),
            (Wish::On, Phase::Retrying, false, None),
        ];
        for (wish, phase, alive, refused) in cases {
            let config = StreamConfig { wish, ..StreamConfig::new(ChannelId::main()) };
            let answer = may_start(&config, Some(&sight(phase, alive)));
            assert_eq!(answer.err().map(|problem| problem.kind), refused, "{wish:?} {phase:?} {alive}");
        }
    }
}
