//! Whether a channel's outputs can work together: somebody can watch, every key opens, and no two senders use one
//! stream key.

use crate::engines::House;
use crate::error::Problem;
use crate::wishes::destinations::{Fingerprint, Keyring};
use state::channel::{FieldProblem, StreamConfig};
use state::destination::Destination;
use state::ids::{ChannelId, DestinationId};
use state::phase::Wish;

/// All that must be true of a channel that is on the air or shall be.
///
/// # Errors
/// 422 with a pointer into the channel's configuration; 409 another channel uses the same ingest.
pub fn check(house: &House, wish: &StreamConfig) -> Result<(), Problem> {
    let all = house.keyring.of(wish).into_iter().enumerate();
    let enabled: Vec<_> = all.filter(|(_, wanted)| wanted.shown.enabled).collect();
    if enabled.is_empty() && !wish.hls.enabled {
        let words = "holds no enabled destination and HLS is off, so nobody could watch; add a destination, \
                     set YOUTUBE_STREAM_KEY, or switch hls.enabled on";
        return Err(Problem::invalid(vec![FieldProblem::at("/destinations", words)]));
    }
    let saved = house.wishes.get(&wish.id).filter(|saved| saved.wish == Wish::On);
    let closed = enabled.iter().filter(|(_, wanted)| !goes_on(saved.as_ref(), &wanted.shown));
    let closed = closed.filter_map(|(i, wanted)| {
        let error = house.keyring.spec(&wish.id, wanted).err()?;
        Some(FieldProblem::at(format!("/destinations/{i}/stream_key"), error.to_string()))
    });
    let closed: Vec<_> = closed.collect();
    if !closed.is_empty() {
        return Err(Problem::invalid(closed));
    }
    not_twice(&house.keyring, wish)?;
    not_taken(&house.keyring, wish, &house.wishes.all())
}

/// Whether a destination of a channel on the air has the sealed key that it had. Where that cannot be opened its worker
/// sends there all the same, and no other change has to wait for it.
fn goes_on(saved: Option<&StreamConfig>, shown: &Destination) -> bool {
    let mut before = saved.into_iter().flat_map(|saved| &saved.destinations);
    before.any(|old| old.id == shown.id && old.enabled && old.sealed_key == shown.sealed_key)
}

/// Two senders on one stream key throw each other off, over and over.
///
/// # Errors
/// 422 at the later one of the two.
pub fn not_twice(keyring: &Keyring, wish: &StreamConfig) -> Result<(), Problem> {
    let own = keyring.fingerprints(wish);
    let place = |id: &DestinationId| wish.destinations.iter().position(|d| d.id == *id).unwrap_or_default();
    for (i, (id, print)) in own.iter().enumerate() {
        if let Some((twin, _)) = own[..i].iter().find(|(other, used)| other != id && used == print) {
            let words = format!("goes to the same place with the same key as {twin}");
            let place = format!("/destinations/{}", place(id));
            return Err(Problem::invalid(vec![FieldProblem::at(place, words)]));
        }
    }
    Ok(())
}

fn not_taken(keyring: &Keyring, wish: &StreamConfig, all: &[StreamConfig]) -> Result<(), Problem> {
    let own = keyring.fingerprints(wish);
    let others = all.iter().filter(|other| other.id != wish.id && other.wish == Wish::On);
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
