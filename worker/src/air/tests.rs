//! The air's promises, with feeds that tests fill by hand.

mod orders;

use super::*;
use crate::circuit::Failure;
use crate::fallback::Made;
use crate::media::{Shape, Track, TrackConfig};
use crate::playlist::Playlist;
use crate::programme::Found;
use crate::source::admission::Admission;
use crate::source::buffer::{Buffer, End, SourceTag, TIME_SHIFT_MS};
use crate::source::child::Tools;
use crate::source::flv::{Kind, RawTag};
use crate::source::known::Known;
use crate::source::open::{Opened, Opener};
use crate::source::probe::MediaInfo;
use crate::source::recipe::Recipe;
use crate::source::slate::Slate;
use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use state::ids::Ulid;
use state::wire::{ItemSpec, Making, MediaAt};
use std::collections::HashMap;
use std::path::Path;
use tokio::sync::mpsc;

const STEP: i64 = 20;
const FRAME_MS: i64 = 40;
/// Pictures of a GOP.
const GOP: i64 = 50;

fn shape() -> Shape {
    Shape::Video { width: 16, height: 16, fps: 1000.0 / FRAME_MS as f64, kbps: 0 }
}

fn raw(kind: Kind, at: i64, body: &[u8]) -> RawTag {
    RawTag { kind, at_ms: at + TIME_SHIFT_MS, body: BytesMut::from(body), next_idr: None }
}

fn empty() -> Buffer {
    let mut buffer = Buffer::new(shape(), false);
    buffer.push(raw(Kind::Video, 0, &[0x17, 0, 0, 0, 0, 1, 100, 0, 31, 0xFF]));
    buffer
}

/// Pictures of an item; it can be seen in the body which.
fn fill(buffer: &mut Buffer, pictures: std::ops::Range<i64>) {
    for n in pictures {
        let (kind, nal) = if n % GOP == 0 { (0x17, 0x65) } else { (0x27, 0x41) };
        let [high, low] = (n as u16).to_be_bytes();
        buffer.push(raw(Kind::Video, n * FRAME_MS, &[kind, 1, 0, 0, 0, 0, 0, 0, 4, nal, high, low, 0xFF]));
    }
}

fn number(tag: &Tag) -> i64 {
    i64::from(u16::from_be_bytes([tag.body[10], tag.body[11]]))
}

fn item(key: &str) -> ItemSpec {
    let at = MediaAt::Path("/nowhere".into());
    ItemSpec { id: Ulid::from_text(key), key: key.into(), at, content: String::new() }
}

fn opened(key: &str, feed: Feed) -> Opened {
    let info = MediaInfo { duration_ms: None, video: None, audio: None, indexed: true };
    let recipe = Recipe { video: Making::Copy, audio: Making::Silent, reason: String::new() };
    Opened { item: item(key), feed, info, recipe, from_ms: 0, source: "file", prepared: false }
}

fn slate() -> Slate {
    let config = Arc::new(TrackConfig { header: Bytes::from_static(b"slate"), shape: shape() });
    let picture = |n: i64| SourceTag {
        dts: n * FRAME_MS,
        cts: 0,
        idr: n == 0,
        next_idr: None,
        body: BytesMut::from(&[0x17, 1, 0, 0, 0][..]),
        config: Some(Arc::clone(&config)),
    };
    Slate::of_pictures((0..GOP).map(picture).collect(), (GOP * FRAME_MS) as f64, shape())
}

struct Scene {
    air: Air,
    programme: Programme,
    now: i64,
    out: Vec<Tag>,
    happened: Vec<Happened>,
}

impl Scene {
    fn set(slate_there: bool) -> Self {
        let tools = Tools { ffmpeg: "/nowhere".into(), ffprobe: "/nowhere".into() };
        let admission = Admission::new(Path::new("/nowhere"), false);
        let alive = mpsc::channel(1).0;
        let cache_dir = "/nowhere".into();
        let opener = Opener {
            tools,
            alive: alive.clone(),
            objects: None,
            cache_dir,
            name: String::new(),
            known: Known::default(),
            admission,
            aside: false,
        };
        let found = Found { profile: Profile::default(), provisional: false, known: HashMap::new() };
        let playlist = Playlist::new(vec![item("a"), item("b")], 0, true, None);
        let programme = Programme::new(playlist, opener, found, 0, mpsc::channel(1).0);
        let mut fallback = Fallback::new(None, Instant::now());
        if slate_there {
            fallback.made(Made::Slate(Ok(slate())), &alive, Instant::now());
        }
        let air = Air::new(&Profile::default(), fallback, false);
        Self { air, programme, now: 0, out: Vec::new(), happened: Vec::new() }
    }

    /// Makes an item ready that has so many pictures in hand. More can be put into what is returned.
    fn ready(&mut self, key: &str, pictures: i64) -> Feed {
        let mut buffer = empty();
        fill(&mut buffer, 0..pictures);
        let feed = Feed::of_buffer(buffer);
        let twin = feed.twin();
        self.programme.put_ready(opened(key, feed));
        twin
    }

    fn play(&mut self, ms: i64) -> Moment {
        let until = self.now + ms;
        let mut moment = Moment::Due(self.now);
        while self.now < until {
            self.now += STEP;
            moment = self.air.moment(self.now, &mut self.programme, &mut self.out);
            self.happened.extend(self.air.happened());
        }
        moment
    }

    fn of_item(&self, tag: &Tag) -> bool {
        tag.config.header != b"slate"[..]
    }

    /// Numbers of the pictures of items, in the order in which they were sent.
    fn numbers(&self) -> Vec<i64> {
        let video = self.out.iter().filter(|t| t.track == Track::Video && self.of_item(t));
        video.map(number).collect()
    }

    /// Pictures follow each other without a hole, and each is sent in time.
    fn assert_unbroken(&self) {
        let times: Vec<i64> = self.out.iter().filter(|t| t.track == Track::Video).map(|t| t.dts).collect();
        assert!(times.windows(2).all(|w| w[1] > w[0] && w[1] - w[0] <= FRAME_MS + 100), "{times:?}");
        assert!(
            self.now - times.last().unwrap() <= FRAME_MS + 100,
            "nothing since {:?} at {}",
            times.last(),
            self.now
        );
    }

    fn falls(&self) -> usize {
        self.happened.iter().filter(|h| matches!(h, Happened::Fallback { .. })).count()
    }
}

#[test]
fn a_dry_item_gives_way_at_once_and_goes_on_at_its_next_idr() {
    let mut scene = Scene::set(true);
    let feed = scene.ready("a", 60);
    scene.play(4_000);
    assert_eq!(scene.air.playing(), (Playing::Fallback, Some("the item has stalled".into())));
    let stood = scene.air.cursor().unwrap();
    assert!((2_000..=2_400).contains(&stood.offset_ms), "{stood:?}");
    // Up to an IDR picture and not quite a second more: not enough.
    fill(&mut feed.buffer(), 60..120);
    scene.play(1_000);
    assert_eq!(scene.air.cursor().unwrap(), stood, "a paused item keeps its place");
    fill(&mut feed.buffer(), 120..250);
    scene.play(1_000);
    assert_eq!(scene.air.playing().0, Playing::Programme);
    let numbers = scene.numbers();
    let before = numbers.iter().position(|n| *n == 100).unwrap();
    assert!(numbers.is_sorted() && numbers[before - 1] < 60, "{numbers:?}");
    let back = |h: &Happened| matches!(h, Happened::Started(item, _, true) if item.position_ms == 4_000);
    assert!(scene.happened.iter().any(back), "{:?}", scene.happened);
    scene.assert_unbroken();
}

#[test]
fn a_stalled_item_is_left_within_two_seconds_for_one_that_is_ready() {
    let mut scene = Scene::set(true);
    let _a = scene.ready("a", 60);
    let _b = scene.ready("b", 200);
    scene.play(6_000);
    let started = scene.happened.iter().find_map(|h| match h {
        Happened::Started(item, at, _) if item.key == "b" => Some(*at),
        _ => None,
    });
    // Eight pictures are kept back to know where the stream may be left.
    let dry = 52 * FRAME_MS;
    assert!(started.is_some_and(|at| (dry..=dry + 2_000).contains(&at)), "{started:?}");
    // What is said to be on the air is on the air.
    assert!(scene.numbers().iter().filter(|n| **n < 52).count() > 52 + 20, "{:?}", scene.numbers());
    let why = Some("stalled, no picture came in time".to_owned());
    let left = |h: &Happened| matches!(h, Happened::Ended(left) if left.key == "a" && left.why == why);
    assert!(scene.happened.iter().any(left), "{:?}", scene.happened);
    scene.assert_unbroken();
}

#[test]
fn an_item_that_the_bucket_interrupted_goes_before_the_next_one() {
    for (noticed_by_the_next, comes_back) in [(true, true), (true, false), (false, true), (false, false)] {
        let mut scene = Scene::set(true);
        let feed = scene.ready("a", 60);
        scene.play(3_000);
        if noticed_by_the_next {
            scene.programme.left(&item("b"), Some(Failure::Away));
        }
        feed.buffer().away = !noticed_by_the_next;
        scene.play(20_000);
        feed.buffer().away = false;
        // The bucket is back, and the next item happens to be ready first.
        let mut buffer = empty();
        fill(&mut buffer, 0..200);
        scene.programme.put_ready(Opened { source: "bucket", ..opened("b", Feed::of_buffer(buffer)) });
        scene.programme.bucket_answers();
        scene.play(3_000);
        if comes_back {
            fill(&mut feed.buffer(), 60..200);
        }
        scene.play(3_000);
        assert_eq!(scene.air.item_seen().unwrap().key, if comes_back { "a" } else { "b" });
        scene.assert_unbroken();
    }
}

#[test]
fn a_start_that_is_late_begins_with_the_fallback() {
    let scene = Scene::set(true);
    assert!(!scene.air.can_begin(&scene.programme, false));
    assert!(scene.air.can_begin(&scene.programme, true));
}

#[test]
fn without_any_fallback_the_connection_hears_silence_and_the_item_goes_on() {
    let mut scene = Scene::set(false);
    let feed = scene.ready("a", 60);
    scene.play(5_000);
    let last = scene.out.last().map(|t| (t.track, t.dts)).unwrap();
    assert!(last.0 == Track::Audio && last.1 > 4_900, "{last:?}");
    assert_eq!(
        scene.air.playing(),
        (Playing::Nothing, Some(STARVED.into())),
        "a picture that stands is no show"
    );
    fill(&mut feed.buffer(), 60..200);
    scene.play(1_000);
    assert!(scene.numbers().len() > 70);
    assert_eq!((scene.falls(), scene.air.playing().0), (0, Playing::Programme));
}

#[test]
fn without_any_fallback_a_stalled_item_is_left_as_soon() {
    let mut scene = Scene::set(false);
    let _a = scene.ready("a", 60);
    scene.play(3_000);
    assert!(scene.air.needs_next());
    let _b = scene.ready("b", 200);
    scene.play(1_500);
    assert_eq!(scene.air.item_seen().unwrap().key, "b");
    let left =
        |h: &Happened| matches!(h, Happened::Ended(left) if left.key == "a" && left.how == Exit::Stalled);
    assert!(scene.happened.iter().any(left), "{:?}", scene.happened);
    assert_eq!(scene.air.playing().0, Playing::Programme);
}

#[test]
fn what_broke_off_is_left_with_its_reason_and_not_waited_for() {
    let mut scene = Scene::set(true);
    let feed = scene.ready("a", 60);
    let _b = scene.ready("b", 200);
    scene.play(2_000);
    feed.buffer().end = Some(End::Broken("HTTP error 403 Forbidden".into()));
    scene.play(2_000);
    assert_eq!(scene.air.item_seen().unwrap().key, "b");
    let why = "ended with an error: HTTP error 403 Forbidden";
    assert!(
        scene.happened.iter().any(|h| matches!(h, Happened::Ended(left) if left.why.as_deref() == Some(why)))
    );
    assert_eq!(scene.falls(), 0);
    scene.assert_unbroken();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// An item that trickles in, whatever the pattern: pictures never stop, times only grow, and the fallback does
    /// not come and go all the time.
    #[test]
    fn no_trickle_makes_the_air_flap(pieces in prop::collection::vec((1i64..3_000, 0i64..90), 30..80)) {
        let mut scene = Scene::set(true);
        let feed = scene.ready("a", 60);
        let mut read = 60;
        let mut changes = Vec::new();
        for (pause, pictures) in pieces {
            let before = scene.falls();
            scene.play(pause);
            if scene.falls() > before {
                changes.push(scene.now);
            }
            let mut buffer = feed.buffer();
            if !buffer.is_full() {
                fill(&mut buffer, read..read + pictures);
                read += pictures;
            }
        }
        scene.assert_unbroken();
        // What is read ahead of a file is six seconds, so that no more can be asked for.
        for window in changes.windows(7) {
            prop_assert!(window[6] - window[0] >= 30_000, "{changes:?}");
        }
    }
}
