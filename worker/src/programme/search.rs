//! The search for the channel's profile, where nobody has said one.

use crate::source::open::Opener;
use crate::source::probe::MediaInfo;
use crate::source::recipe;
use state::ids::Ulid;
use state::profile::Profile;
use state::wire::ItemSpec;
use std::collections::HashMap;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// Items that are looked at to find the channel's profile.
const PROFILE_SEARCH: usize = 20;
/// Nothing is on the air before there is a profile, not even the slate, which takes its time as well.
const LONGEST_SEARCH: Duration = Duration::from_secs(5);

/// What the search for a profile found: the profile, and what is known of the files it looked at.
#[derive(Debug)]
pub struct Found {
    /// The channel's profile for this run.
    pub profile: Profile,
    /// No file has said what it is, so that the first one that does has a word in it.
    pub provisional: bool,
    /// Files that were probed on the way.
    pub known: HashMap<Ulid, MediaInfo>,
}

/// Finds the profile: the given one, else that of the first item whose picture could be copied, else the default.
pub async fn find_profile(opener: Opener, items: Vec<ItemSpec>, explicit: Option<Profile>) -> Found {
    let mut known = HashMap::new();
    if let Some(profile) = explicit {
        return Found { profile, provisional: false, known };
    }
    let until = Instant::now() + LONGEST_SEARCH;
    for item in items.iter().take(PROFILE_SEARCH) {
        let Ok(probed) = timeout_at(until, opener.probe(item)).await else { break };
        let Ok(info) = probed else { continue };
        let profile = recipe::profile_of(&info);
        known.insert(item.id.clone(), info);
        if let Some(profile) = profile {
            return Found { profile, provisional: false, known };
        }
    }
    Found { profile: Profile::default(), provisional: known.is_empty(), known }
}

/// The profile that a provisional one becomes by the first file that says what it is: its picture is copied where it
/// can be. The sound stays as it is, because the timeline counts its frames from the beginning.
pub(super) fn settled(provisional: &Profile, info: &MediaInfo) -> Profile {
    // Where every picture must have the same parameter sets, the slate has settled them.
    let found = recipe::profile_of(info).filter(|_| !provisional.uniform);
    let with_its_picture = |found: Profile| Profile {
        sample_rate: provisional.sample_rate,
        channels: provisional.channels,
        audio_kbps: provisional.audio_kbps,
        ..found
    };
    found.map_or_else(|| provisional.clone(), with_its_picture)
}
