//! Two ingests of one broadcast: the second one follows the first in its key and in whether it is wanted, so that
//! a platform never gets one half of what belongs together.

use crate::wishes::destinations::Keyring;
use state::channel::StreamConfig;
use state::destination::{Destination, Platform};
use state::ids::DestinationId;

/// YouTube's ingests: each first one with its second one.
const YOUTUBE: [(&str, &str); 2] = [
    ("a.rtmps.youtube.com", "rtmps://b.rtmps.youtube.com:443/live2?backup=1"),
    ("a.rtmp.youtube.com", "rtmp://b.rtmp.youtube.com/live2?backup=1"),
];

/// The platform's own second ingest beside `first`; `None` where it is not known.
pub(super) fn second_ingest(first: &Destination) -> Option<&'static str> {
    let rest = first.url.split_once("://").map_or("", |(_, rest)| rest);
    let host = rest.split(['/', ':']).next().unwrap_or_default();
    let known = YOUTUBE.iter().find(|(own, _)| host.eq_ignore_ascii_case(own));
    known.filter(|_| first.platform == Platform::Youtube).map(|(_, second)| *second)
}

/// Those that follow `first`.
pub(super) fn followers<'a>(
    wish: &'a StreamConfig,
    first: &'a DestinationId,
) -> impl Iterator<Item = &'a Destination> {
    wish.destinations.iter().filter(move |other| other.linked_to.as_ref() == Some(first))
}

/// Makes every second ingest what its first one is. A key is sealed anew for its own place, and only when it differs,
/// so that nothing changes where nothing was changed.
pub(crate) fn follow(wish: &mut StreamConfig, keyring: &Keyring) {
    let firsts = wish.destinations.clone();
    for second in &mut wish.destinations {
        let Some(first) = firsts.iter().find(|first| Some(&first.id) == second.linked_to.as_ref()) else {
            continue;
        };
        second.enabled = first.enabled;
        let Ok(key) = keyring.key_of(&wish.id, first) else { continue };
        let same =
            second.sealed_key.is_some() && keyring.key_of(&wish.id, second).is_ok_and(|own| own == key);
        if !same {
            // One whose key has just been opened has its master key, so that nothing is in the way.
            if let Ok(sealed) = keyring.seal(&wish.id, &second.id, &key) {
                second.sealed_key = Some(sealed);
            }
        }
    }
}
