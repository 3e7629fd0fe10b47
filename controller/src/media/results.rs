//! Which of the files that were prepared are in use: those of the channels that are to be on the air.

use state::ids::Ulid;
use state::prepared;
use state::profile::Profile;
use state::wire::ItemSpec;
use std::collections::HashSet;

/// What a channel uses.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Used {
    /// Items that are played from a result.
    pub items: HashSet<Ulid>,
    /// Results by their names, or by what the names of all results of a file begin with.
    pub names: HashSet<String>,
}

/// What of the results in `held`, by their names, a channel of these items uses. Nobody knows the profile of a channel
/// that is about to start: it may use any result of its files. Pure.
pub(super) fn used(items: &[ItemSpec], profile: Option<&Profile>, held: &HashSet<String>) -> Used {
    let mut used = Used::default();
    if held.is_empty() {
        return used;
    }
    for item in items.iter().filter(|item| !item.content.is_empty()) {
        let Some(profile) = profile else {
            used.names.insert(prepared::name_of_file(&item.key, &item.content));
            continue;
        };
        let name = prepared::name(&item.key, &item.content, profile);
        if held.contains(&name) {
            used.items.insert(item.id.clone());
            used.names.insert(name);
        }
    }
    used
}

#[cfg(test)]
mod tests {
    use super::*;
    use state::wire::MediaAt;

    fn item(key: &str, content: &str) -> ItemSpec {
        let at = MediaAt::Object { size: 1 };
        ItemSpec { id: Ulid::from_text(key), key: key.into(), at, content: content.into() }
    }

    #[test]
    fn a_result_is_in_use_for_its_own_content_and_profile() {
        let items = [item("a", "1"), item("b", "1"), item("c", "")];
        let profile = Profile::default();
        let name = |key: &str, content: &str| prepared::name(key, content, &profile);
        let held = HashSet::from([name("a", "1"), name("b", "2"), name("c", "")]);
        let found = used(&items, Some(&profile), &held);
        assert_eq!((found.items.len(), found.names), (1, HashSet::from([name("a", "1")])));
        let other = Profile { width: 640, ..profile.clone() };
        assert_eq!(used(&items, Some(&other), &held), Used::default());
        let any = used(&items, None, &held);
        assert!(any.items.is_empty() && any.names.contains(&prepared::name_of_file("a", "1")));
        assert_eq!(used(&items, None, &HashSet::new()), Used::default());
    }
}
