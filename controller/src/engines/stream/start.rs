//! Starting a broadcast: check everything, save the wish, wake the supervisor. In this order, so that what was
//! answered with "yes" survives a crash of the next moment.

use super::changes::Changes;
use super::status::{Status, status};
use super::{media, unknown};
use crate::engines::House;
use crate::error::Problem;
use crate::supervisor::Ask;
use crate::supervisor::seen::Sight;
use crate::wishes::destinations::{Fingerprint, Keyring};
use state::channel::{FieldProblem, StreamConfig};
use state::ids::{ChannelId, DestinationId, Ulid};
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
    let turn = house.wishes.turn().await;
    let wish = house.wishes.get(&channel).ok_or_else(|| unknown(&channel))?;
    may_start(&wish, house.supervisor.sight(&channel).as_ref())?;
    let named = changes.names_media();
    let mut wish = changes.apply(wish, &house.keyring).map_err(Problem::invalid)?;
    check_outputs(house, &wish)?;
    media::check(&house.library, &wish, named).await?;
    check_tools(house).await?;
    switch_on(&mut wish);
    turn.put(wish).await?;
    // Whoever comes next sees the wish; the supervisor may need the turn itself.
    drop(turn);
    house.supervisor.ask(channel.clone(), Ask::Start).await;
    status(house, &channel)
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

fn check_outputs(house: &House, wish: &StreamConfig) -> Result<(), Problem> {
    let all = house.keyring.of(wish).into_iter().enumerate();
    let enabled: Vec<_> = all.filter(|(_, wanted)| wanted.shown.enabled).collect();
    if enabled.is_empty() && !wish.hls.enabled {
        let words = "holds no enabled destination and HLS is off, so nobody could watch; add a destination, \
                     set YOUTUBE_STREAM_KEY, or switch hls.enabled on";
        return Err(Problem::invalid(vec![FieldProblem::at("/destinations", words)]));
    }
    let closed = enabled.iter().filter_map(|(i, wanted)| {
        let error = house.keyring.spec(&wish.id, wanted).err()?;
        Some(FieldProblem::at(format!("/destinations/{i}/stream_key"), error.to_string()))
    });
    let closed: Vec<_> = closed.collect();
    if !closed.is_empty() {
        return Err(Problem::invalid(closed));
    }
    let others = house.wishes.all();
    let others = others.iter().filter(|other| other.id != wish.id && other.wish == Wish::On);
    not_shared(&house.keyring, wish, others)
}

/// Two senders on one stream key throw each other off, over and over.
fn not_shared<'a>(
    keyring: &Keyring,
    wish: &StreamConfig,
    others: impl Iterator<Item = &'a StreamConfig>,
) -> Result<(), Problem> {
    let own = keyring.fingerprints(wish);
    let place = |id: &DestinationId| wish.destinations.iter().position(|d| d.id == *id).unwrap_or_default();
    for (i, (id, print)) in own.iter().enumerate() {
        if let Some((twin, _)) = own[..i].iter().find(|(_, other)| other == print) {
            let words = format!("goes to the same place with the same key as {twin}");
            let place = format!("/destinations/{}", place(id));
            return Err(Problem::invalid(vec![FieldProblem::at(place, words)]));
        }
    }
    let taken: Vec<(&ChannelId, Vec<(DestinationId, Fingerprint)>)> =
        others.map(|other| (&other.id, keyring.fingerprints(other))).collect();
    for (id, print) in &own {
        for (channel, prints) in &taken {
            if prints.iter().any(|(_, other)| other == print) {
                let words = format!("destination {id} is in use by channel {channel}, with the same key");
                return Err(Problem::conflict("destination-in-use", words));
            }
        }
    }
    Ok(())
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
