//! What happens when somebody orders the fallback onto the air, and off again.

use super::*;

#[test]
fn a_paused_file_is_read_on_to_its_next_idr_however_little_of_it_is_in_hand() {
    let mut scene = Scene::set(true);
    let mut buffer = empty().in_order();
    buffer.ends_at(Some(60_000));
    let (feed, mut read) = (Feed::of_buffer(buffer), 0);
    let twin = feed.twin();
    for (held, ms) in [(false, 500), (true, 2_000), (false, 1_000)] {
        scene.air.hold(held);
        for _ in 0..ms / STEP {
            while !twin.buffer().is_full() {
                fill(&mut twin.buffer(), read..read + 1);
                read += 1;
            }
            if scene.now == 0 {
                scene.programme.put_ready(opened("a", feed.twin()));
            }
            scene.play(STEP);
        }
    }
    assert_eq!(scene.air.playing().0, Playing::Programme);
    let numbers = scene.numbers();
    let left = numbers.windows(2).find(|pair| pair[1] != pair[0] + 1).unwrap();
    assert!(left[0] < GOP / 2 && left[1] == GOP, "{numbers:?}");
    scene.assert_unbroken();
}

#[test]
fn an_order_holds_the_programme_where_it_is() {
    let mut scene = Scene::set(true);
    let _feed = scene.ready("a", 140);
    scene.play(1_000);
    scene.air.hold(true);
    scene.play(200);
    assert_eq!(scene.air.playing(), (Playing::Fallback, Some(BY_ORDER.into())));
    let stood = scene.air.cursor().unwrap().offset_ms;
    let _b = scene.ready("b", 140);
    scene.play(30_000);
    assert_eq!((scene.air.playing().0, scene.air.cursor().unwrap().offset_ms), (Playing::Fallback, stood));
    scene.air.hold(false);
    scene.play(200);
    assert_eq!(scene.air.playing().0, Playing::Programme);
    assert_eq!(scene.air.item_seen().unwrap().key, "a");
    assert!(scene.numbers().is_sorted() && scene.numbers().contains(&50), "at its next IDR picture");
    scene.assert_unbroken();
}

#[test]
fn an_order_in_the_last_gop_of_an_item_is_not_held_against_it() {
    let mut scene = Scene::set(true);
    let feed = scene.ready("a", 70);
    feed.buffer().end = Some(End::Complete);
    scene.play(2_400);
    scene.air.hold(true);
    scene.play(1_000);
    let _b = scene.ready("b", 140);
    scene.air.hold(false);
    scene.play(1_000);
    let left = scene.happened.iter().find_map(|h| match h {
        Happened::Ended(left) => Some((left.key.as_str(), left.how, left.why.clone())),
        _ => None,
    });
    assert_eq!(left, Some(("a", Exit::Ordered, None)));
    assert_eq!(scene.air.item_seen().unwrap().key, "b");
    scene.assert_unbroken();
}

#[test]
fn a_skip_under_an_order_takes_effect_when_it_ends() {
    let mut scene = Scene::set(true);
    let _a = scene.ready("a", 140);
    scene.play(1_000);
    scene.air.hold(true);
    scene.play(1_000);
    scene.air.skip();
    let _b = scene.ready("b", 140);
    scene.play(1_000);
    assert_eq!(scene.air.playing().0, Playing::Fallback);
    scene.air.hold(false);
    scene.play(1_000);
    assert_eq!(scene.air.item_seen().unwrap().key, "b");
}

#[test]
fn an_order_before_the_start_shows_nothing_of_the_programme() {
    let mut scene = Scene::set(true);
    scene.air.hold(true);
    let _a = scene.ready("a", 140);
    assert!(scene.air.can_begin(&scene.programme, false));
    scene.play(3_000);
    assert_eq!(scene.numbers(), Vec::<i64>::new());
    scene.assert_unbroken();
    let mut bare = Scene::set(false);
    bare.air.hold(true);
    let _a = bare.ready("a", 140);
    assert!(!bare.air.can_begin(&bare.programme, true), "and there is nothing to show yet");
}
