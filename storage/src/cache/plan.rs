//! What to fetch next, and what to give up for it. Pure functions over names and sizes.
//!
//! What is wanted is in the order in which it will be played. The first few, the *near* ones, must be here before they
//! are due: they are fetched at any price but that of each other. The rest is fetched where there is room. So a
//! loop that fits is fetched once and stays; of a longer one a part stays, and the rest comes by again each round.

use super::Held;
use std::collections::{HashMap, HashSet};

/// An object that will be played.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Want {
    /// Its name in the cache.
    pub name: String,
    /// Bytes.
    pub size: u64,
}

/// What is wanted, and within what.
#[derive(Debug, Clone, Copy)]
pub struct Plan<'a> {
    /// In the order of need.
    pub wants: &'a [Want],
    /// How many of the first must be here in time.
    pub near: usize,
    /// Most bytes that may be held.
    pub budget: u64,
}

impl Plan<'_> {
    /// The near ones that fit into the budget together, the first ones first.
    fn pinned(&self) -> HashSet<&str> {
        let mut room = self.budget;
        let mut pinned = HashSet::new();
        for want in &self.wants[..self.near.min(self.wants.len())] {
            if want.size <= room && pinned.insert(want.name.as_str()) {
                room -= want.size;
            }
        }
        pinned
    }
}

/// Which of the wants to fetch now: its place. The near ones come first; of the others nothing is fetched that does
/// not fit beside what is held and wanted.
pub fn next(held: &[Held], plan: &Plan<'_>) -> Option<usize> {
    let here: HashMap<&str, &Held> = held.iter().map(|held| (held.name.as_str(), held)).collect();
    let missing = |want: &Want| here.get(want.name.as_str()).is_none_or(|held| !held.whole);
    let pinned = plan.pinned();
    let urgent = |want: &Want| pinned.contains(want.name.as_str()) && missing(want);
    if let Some(at) = plan.wants.iter().position(urgent) {
        return Some(at);
    }
    let wanted: HashSet<&str> = plan.wants.iter().map(|want| want.name.as_str()).collect();
    let used: u64 =
        held.iter().filter(|held| wanted.contains(held.name.as_str())).map(|held| held.bytes).sum();
    let fits = |want: &Want| {
        let begun = here.get(want.name.as_str()).map_or(0, |held| held.bytes);
        used - begun.min(used) + want.size <= plan.budget
    };
    plan.wants.iter().position(|want| missing(want) && fits(want))
}

/// What to remove so that at least `bytes` become free, or as much as may be: first what nobody wants, least
/// recently used first; then what is wanted last. Never a near one that fits, and never `fetching`.
pub fn victims<'a>(held: &'a [Held], plan: &Plan<'_>, fetching: &str, bytes: u64) -> Vec<&'a Held> {
    let pinned = plan.pinned();
    let mut place: HashMap<&str, usize> = HashMap::new();
    for (at, want) in plan.wants.iter().enumerate() {
        place.entry(want.name.as_str()).or_insert(at);
    }
    let turn = |held: &Held| place.get(held.name.as_str()).copied().unwrap_or(usize::MAX);
    let may_go = |held: &&Held| held.name != fetching && !pinned.contains(held.name.as_str());
    let mut order: Vec<&Held> = held.iter().filter(may_go).collect();
    order.sort_by(|a, b| turn(b).cmp(&turn(a)).then(a.used.cmp(&b.used)).then(a.name.cmp(&b.name)));
    let mut freed = 0;
    order.retain(|held| {
        let needed = freed < bytes;
        freed += if needed { held.bytes } else { 0 };
        needed
    });
    order
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::{Duration, SystemTime};

    fn wants(list: &[(&str, u64)]) -> Vec<Want> {
        list.iter().map(|(name, size)| Want { name: (*name).to_owned(), size: *size }).collect()
    }

    fn held(name: &str, bytes: u64, used_s: u64) -> Held {
        let used = SystemTime::UNIX_EPOCH + Duration::from_secs(used_s);
        Held { name: name.to_owned(), bytes, used, whole: true, prepared: false }
    }

    fn plan(wants: &[Want], near: usize, budget: u64) -> Plan<'_> {
        Plan { wants, near, budget }
    }

    fn names(victims: Vec<&Held>) -> String {
        victims.into_iter().map(|held| held.name.as_str()).collect()
    }

    #[test]
    fn the_next_one_is_fetched_first_and_a_loop_that_fits_comes_whole() {
        let wants = wants(&[("a", 4), ("b", 4), ("c", 4), ("a", 4)]);
        assert_eq!(next(&[], &plan(&wants, 2, 12)), Some(0));
        assert_eq!(next(&[held("a", 4, 0)], &plan(&wants, 2, 12)), Some(1));
        let half = Held { whole: false, ..held("c", 2, 0) };
        assert_eq!(next(&[held("a", 4, 0), held("b", 4, 0), half], &plan(&wants, 2, 12)), Some(2));
        assert_eq!(next(&[held("a", 4, 0), held("b", 4, 0), held("c", 4, 0)], &plan(&wants, 2, 12)), None);
        assert_eq!(next(&[], &plan(&wants, 2, 0)), None, "the cache is off");
    }

    #[test]
    fn what_is_not_near_waits_until_there_is_room() {
        let wants = wants(&[("a", 4), ("b", 9), ("c", 4), ("d", 2)]);
        let here = [held("a", 4, 0), held("x", 9, 0)];
        assert_eq!(next(&here, &plan(&wants, 1, 10)), Some(2), "b does not fit, and x is in nobody's way");
        assert_eq!(next(&[held("a", 4, 0), held("c", 4, 0)], &plan(&wants, 1, 10)), Some(3));
        assert_eq!(next(&here, &plan(&wants, 2, 10)), Some(2), "b is near and does not fit beside a");
        assert_eq!(next(&here, &plan(&wants, 2, 13)), Some(1), "b is near and fits");
    }

    #[test]
    fn the_least_recently_used_goes_first_and_what_is_wanted_goes_last() {
        let wants = wants(&[("a", 4), ("b", 4), ("c", 4)]);
        let here = [held("a", 4, 1), held("b", 4, 2), held("c", 4, 3), held("x", 4, 9), held("y", 4, 5)];
        assert_eq!(names(victims(&here, &plan(&wants, 1, 4), "", 1)), "y");
        assert_eq!(names(victims(&here, &plan(&wants, 1, 4), "", 5)), "yx");
        assert_eq!(names(victims(&here, &plan(&wants, 1, 4), "", 9)), "yxc");
        assert_eq!(names(victims(&here, &plan(&wants, 1, 4), "", 99)), "yxcb", "a is near");
        assert_eq!(names(victims(&here, &plan(&wants, 1, 4), "b", 99)), "yxc", "b is being fetched");
        assert_eq!(names(victims(&here, &plan(&wants, 1, 4), "", 0)), "");
    }

    proptest! {
        /// A channel that walks round any loop with any budget: what it is about to play is always here when it
        /// fits at all, the budget is never passed, and a loop that fits is fetched once.
        #[test]
        fn near_ones_are_here_in_time_within_the_budget(
            sizes in prop::collection::vec(1u64..20, 1..12),
            budget in 0u64..120,
            near in 1usize..4,
        ) {
            let items: Vec<Want> =
                sizes.iter().enumerate().map(|(i, size)| Want { name: format!("i{i}"), size: *size }).collect();
            let mut here: Vec<Held> = Vec::new();
            let mut fetches = 0;
            for step in 0..items.len() * 4 {
                let order: Vec<Want> =
                    items.iter().cycle().skip(step % items.len()).take(items.len()).cloned().collect();
                while let Some(at) = next(&here, &plan(&order, near, budget)) {
                    let want = &order[at];
                    let used: u64 = here.iter().map(|held| held.bytes).sum();
                    let over = (used + want.size).saturating_sub(budget);
                    let gone: Vec<String> =
                        victims(&here, &plan(&order, near, budget), &want.name, over).iter().map(|h| h.name.clone()).collect();
                    here.retain(|held| !gone.contains(&held.name));
                    here.push(held(&want.name, want.size, step as u64));
                    fetches += 1;
                    prop_assert!(fetches <= items.len() * (step + 2), "it goes round in circles");
                }
                let used: u64 = here.iter().map(|held| held.bytes).sum();
                prop_assert!(used <= budget);
                if order[0].size <= budget {
                    prop_assert!(here.iter().any(|held| held.name == order[0].name));
                }
            }
            if sizes.iter().sum::<u64>() <= budget {
                prop_assert_eq!(fetches, items.len());
            }
        }
    }
}
