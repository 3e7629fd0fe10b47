//! What channels show to be needed: items that are transcoded live, and items that were passed over because they
//! wait to be prepared.

use super::list::Wanted;
use crate::supervisor::Handle as Supervisor;
use crate::supervisor::brief::Briefing;
use crate::wishes::Wishes;
use state::ids::ChannelId;
use state::prepared::WAITS;
use state::profile::Profile;
use state::wire::{Heartbeat, Making};

/// Everything that channels on the air need right now. Lists the storage.
pub(super) async fn wanted(wishes: &Wishes, supervisor: &Supervisor, briefing: &Briefing) -> Vec<Wanted> {
    let seen: Vec<(ChannelId, Profile, Vec<String>)> = wishes
        .all()
        .into_iter()
        .filter_map(|wish| {
            let beat = supervisor.sight(&wish.id)?.beat?;
            let keys = keys(&beat);
            (!keys.is_empty()).then_some((wish.id, beat.profile.clone()?, keys))
        })
        .collect();
    if seen.is_empty() {
        return Vec::new();
    }
    let keys: Vec<String> = seen.iter().flat_map(|(_, _, keys)| keys.clone()).collect();
    let mut items = briefing.items_by_key(&keys, false).await.into_iter();
    let mut found = Vec::new();
    for (channel, profile, keys) in seen {
        for item in items.by_ref().take(keys.len()).flatten() {
            let (channel, profile) = (channel.clone(), profile.clone());
            found.push(Wanted { item, channel, profile, loudness: false, asked: false });
        }
    }
    found
}

/// Keys of items that do not fit, as a heartbeat tells. Silence is made from nothing and needs no preparation.
fn keys(beat: &Heartbeat) -> Vec<String> {
    let on_air = beat.item.iter().filter(|i| i.video == Making::Transcode || i.audio == Making::Transcode);
    let passed_over = beat.failed_items.iter().filter(|failure| failure.reason == WAITS);
    let mut keys: Vec<String> =
        on_air.map(|item| item.key.clone()).chain(passed_over.map(|failure| failure.key.clone())).collect();
    keys.sort();
    keys.dedup();
    keys
}
