//! Which key a destination gets. One rule above all: a key goes nowhere but to an address that it was given for.

use super::change::Place;
use super::links;
use state::destination::Destination;
use state::secret::Secret;

/// What was said that bears on the key.
pub(super) struct Asked<'a> {
    /// `None`: nothing; `Some(None)`: none.
    pub(super) key: Option<&'a Option<Secret>>,
    pub(super) enabled: Option<bool>,
    /// The destination as it is saved.
    pub(super) old: Option<&'a Destination>,
    /// Those that it may be linked to.
    pub(super) others: &'a [Destination],
}

/// The field that is wrong, and what is.
type Wrong = (&'static str, String);

/// The key of `new`, sealed for its place.
pub(super) fn sealed_for(new: &Destination, asked: &Asked<'_>, place: &Place<'_>) -> Result<String, Wrong> {
    let first = asked.others.iter().find(|other| Some(&other.id) == new.linked_to.as_ref());
    match first {
        Some(first) => of_the_first(first, new, asked, place),
        None => its_own(new, asked, place),
    }
}

fn its_own(new: &Destination, asked: &Asked<'_>, place: &Place<'_>) -> Result<String, Wrong> {
    let saved = asked.old.and_then(|old| old.sealed_key.as_ref().map(|sealed| (old, sealed)));
    match (asked.key, saved) {
        (Some(Some(key)), _) => seal(new, key, place),
        (None, Some((old, sealed))) if goes_nowhere_new(old, new) => Ok(sealed.clone()),
        (None, Some(_)) => {
            Err(needed("the address is new, and a key goes nowhere but to the address that it was given for"))
        }
        _ => Err(needed("the platform shows it beside its address")),
    }
}

fn of_the_first(
    first: &Destination,
    new: &Destination,
    asked: &Asked<'_>,
    place: &Place<'_>,
) -> Result<String, Wrong> {
    let id = &first.id;
    if asked.enabled.is_some_and(|enabled| enabled != first.enabled) {
        return Err(("enabled", format!("is that of {id}, which this one is linked to; change it there")));
    }
    let key = place.keyring.key_of(place.channel, first);
    let key = key.map_err(|error| ("linked_to", format!("cannot be {id}: {error}")))?;
    let known = asked.old.is_some_and(|old| old.linked_to == new.linked_to && goes_nowhere_new(old, new));
    let platforms_own = new.backup_url.is_none() && links::second_ingest(first) == Some(new.url.as_str());
    match asked.key {
        Some(Some(given)) if *given == key => {}
        Some(_) => {
            let words = format!("must be the key of {id}: both ingests use one; change it there");
            return Err(("stream_key", words));
        }
        None if known || platforms_own => {}
        None => return Err(needed("the key of the first ingest, because this address did not have it yet")),
    }
    seal(new, &key, place)
}

fn seal(new: &Destination, key: &Secret, place: &Place<'_>) -> Result<String, Wrong> {
    let sealed = place.keyring.seal(place.channel, &new.id, key);
    sealed.map_err(|error| ("stream_key", format!("cannot be kept: {error}")))
}

fn goes_nowhere_new(old: &Destination, new: &Destination) -> bool {
    old.url == new.url && (new.backup_url.is_none() || new.backup_url == old.backup_url)
}

fn needed(why: &str) -> Wrong {
    ("stream_key", format!("is needed: {why}"))
}
