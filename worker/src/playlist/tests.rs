//! A playlist's promises: what is tried when, and what is not used up.

use super::*;
use state::ids::Ulid;
use state::wire::MediaAt;

fn items(keys: &str) -> Vec<ItemSpec> {
    let item = |c: char| ItemSpec {
        id: Ulid::from_text(&c.to_string()),
        key: c.into(),
        at: MediaAt::Path("/m".into()),
        content: String::new(),
    };
    keys.chars().map(item).collect()
}

fn key(step: Step) -> String {
    match step {
        Step::Open(item, _) => item.key,
        Step::AllFailed => "!".into(),
        Step::Finished => ".".into(),
    }
}

fn walk(playlist: &mut Playlist, steps: usize) -> String {
    (0..steps).map(|_| key(playlist.step(Instant::now()))).collect()
}

/// Walks while the named items are broken; `when_broken` says where that shows.
fn walk_with(playlist: &mut Playlist, broken: &str, steps: usize, now: Instant) -> String {
    let mut walked = String::new();
    for _ in 0..steps {
        match playlist.step(now) {
            Step::Open(item, _) if broken.contains(&item.key) => {
                walked += &item.key.to_uppercase();
                playlist.cannot_open(&item, Failure::Item, now);
            }
            Step::Open(item, _) => {
                walked += &item.key;
                playlist.opened();
                playlist.circuits().worked(&item);
            }
            step => {
                walked += &key(step);
                playlist.retry();
            }
        }
    }
    walked
}

#[test]
fn a_loop_goes_round_and_a_list_ends() {
    assert_eq!(walk(&mut Playlist::new(items("abc"), 0, true, None), 7), "abcabca");
    assert_eq!(walk(&mut Playlist::new(items("abc"), 0, false, None), 5), "abc..");
}

#[test]
fn it_goes_on_at_the_cursor_and_with_the_new_list_at_the_next_round() {
    let cursor = Cursor { item: Ulid::from_text("b"), key: "b".into(), offset_ms: 0 };
    let mut playlist = Playlist::new(items("abc"), 0, true, Some(&cursor));
    assert_eq!(walk(&mut playlist, 2), "bc");
    assert!(playlist.runs_out());
    assert!(playlist.offer(1, items("xy")));
    assert!(!playlist.offer(1, items("zz")), "the same generation again is ignored");
    assert_eq!(playlist.peek().unwrap().key, "x");
    assert_eq!(walk(&mut playlist, 3), "xyx");
}

#[test]
fn a_round_without_success_stops_until_it_is_retried() {
    let mut playlist = Playlist::new(items("ab"), 0, true, None);
    for name in ["a", "b"] {
        playlist.step(Instant::now());
        playlist.cannot_open(&items(name)[0], Failure::Item, Instant::now());
    }
    assert_eq!(walk(&mut playlist, 1), "!");
    playlist.retry();
    assert_eq!(walk(&mut playlist, 1), "a");
    assert_eq!(Playlist::new(Vec::new(), 0, true, None).step(Instant::now()), Step::AllFailed);
}

#[test]
fn a_broken_item_is_tried_after_growing_distances_and_success_ends_that() {
    let mut playlist = Playlist::new(items("abc"), 0, true, None);
    let now = Instant::now();
    // Rounds:         1    2    -   4    -   -   -   8
    assert_eq!(walk_with(&mut playlist, "b", 20, now), "aBcaBcacaBcacacacaBc");
    // Passed over in seven rounds, then it works, then it fails afresh.
    assert_eq!(walk_with(&mut playlist, "", 17, now), "acacacacacacacabc");
    assert_eq!(walk_with(&mut playlist, "b", 8, now), "aBcaBcac");
}

#[test]
fn the_same_key_with_another_content_begins_afresh() {
    let mut playlist = Playlist::new(items("ab"), 0, true, None);
    let now = Instant::now();
    assert_eq!(walk_with(&mut playlist, "b", 5, now), "aBaBa");
    let mut mended = items("ab");
    mended[1].content = "new".into();
    playlist.offer(1, mended);
    assert_eq!(walk_with(&mut playlist, "", 4, now), "abab", "the present round is walked to its end");
}

#[test]
fn where_none_has_its_turn_the_least_bad_is_tried() {
    let mut playlist = Playlist::new(items("ab"), 0, true, None);
    let now = Instant::now();
    assert_eq!(walk_with(&mut playlist, "ab", 6, now), "AB!AB!");
    // Both are to be passed over now. One of them is tried, and then the other.
    assert_eq!(walk_with(&mut playlist, "ab", 4, now), "A!BA");
    // What broke them all is over: nothing is passed over for it.
    walk_with(&mut playlist, "ab", 40, now);
    let walked = walk_with(&mut playlist, "", 6, now);
    assert!(walked.ends_with("abab") || walked.ends_with("baba"), "{walked}");
}

#[test]
fn what_missed_the_bucket_has_its_turn_as_soon_as_the_bucket_answers() {
    let mut playlist = Playlist::new(items("abc"), 0, true, None);
    let now = Instant::now();
    let gone = |playlist: &mut Playlist, expected: &str| {
        let Step::Open(item, _) = playlist.step(now) else { panic!("{expected}") };
        assert_eq!(item.key, expected);
        playlist.cannot_open(&item, Failure::Away, now);
    };
    // Only "a" is on this machine.
    for _ in 0..5 {
        assert_eq!(key(playlist.step(now)), "a");
        playlist.opened();
        if playlist.circuits().is_away() {
            continue;
        }
        gone(&mut playlist, "b");
        gone(&mut playlist, "c");
    }
    playlist.circuits().bucket_answers();
    assert_eq!(walk(&mut playlist, 3), "bca");
}

/// One step of a list that is played once; `None` when it went another way.
fn tries(playlist: &mut Playlist, expected: &str, why: Failure) -> Option<u32> {
    let now = Instant::now();
    let Step::Open(item, _) = playlist.step(now) else { return None };
    (item.key == expected).then(|| playlist.cannot_open(&item, why, now))?
}

#[test]
fn a_list_that_is_played_once_waits_for_the_bucket_and_goes_on_in_order() {
    let mut playlist = Playlist::new(items("abc"), 0, false, None);
    assert_eq!(walk_with(&mut playlist, "", 1, Instant::now()), "a");
    for n in 1..100 {
        assert_eq!(tries(&mut playlist, "b", Failure::Away), Some(n));
        assert_eq!(playlist.peek().unwrap().key, "b");
    }
    assert_eq!(walk_with(&mut playlist, "", 3, Instant::now()), "bc.");
}

#[test]
fn a_list_that_is_played_once_leaves_out_what_is_missing_or_alone_out_of_reach() {
    let mut playlist = Playlist::new(items("abc"), 0, false, None);
    assert_eq!(tries(&mut playlist, "a", Failure::Item), None);
    assert_eq!(tries(&mut playlist, "b", Failure::Alone), Some(1));
    assert_eq!(tries(&mut playlist, "b", Failure::Away), Some(2), "then the bucket was away");
    assert_eq!(tries(&mut playlist, "b", Failure::Alone), Some(3));
    assert_eq!(tries(&mut playlist, "b", Failure::Alone), Some(4));
    assert_eq!(tries(&mut playlist, "b", Failure::Alone), None);
    assert_eq!(walk_with(&mut playlist, "", 2, Instant::now()), "c.");
}

#[test]
fn while_the_bucket_is_away_it_is_asked_now_and_then() {
    let mut playlist = Playlist::new(items("ab"), 0, true, None);
    let now = Instant::now();
    playlist.cannot_open(&items("b")[0], Failure::Away, now);
    playlist.opened();
    assert_eq!(walk_with(&mut playlist, "", 3, now), "aaa");
    let later = now + std::time::Duration::from_secs(11);
    playlist.opened();
    assert_eq!(key(playlist.step(later)), "b");
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(256))]

    /// Whatever fails whenever: something is tried at each step or all have failed, an item that works is reached
    /// within the largest distance, and nothing goes on for ever.
    #[test]
    fn an_item_that_works_is_always_reached(
        count in 1usize..6, good in 0usize..6, fails in proptest::collection::vec(0u8..64, 0..400),
    ) {
        let now = Instant::now();
        let keys: String = "abcdef".chars().take(count).collect();
        let good = keys.chars().nth(good % count).unwrap().to_string();
        let mut playlist = Playlist::new(items(&keys), 0, true, None);
        for pattern in fails {
            let broken: String = keys.chars().enumerate().filter(|(n, _)| pattern >> n & 1 == 1).map(|(_, c)| c).collect();
            walk_with(&mut playlist, &broken, 1, now);
        }
        let walked = walk_with(&mut playlist, &keys.replace(&good, ""), 40 * count, now);
        proptest::prop_assert!(walked.contains(&good), "{walked}");
    }
}
