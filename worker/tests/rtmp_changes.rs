//! Destinations that are added, removed and changed while others are on the air, ways in that fail, and connections
//! that are renewed: what real servers see of it.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test file fails by panicking

mod rtmp_peers;

use rtmp_peers::nginx::Nginx;
use rtmp_peers::server::{Answer, Order, Server};
use rtmp_peers::{PATIENCE, clip, play, play_until, recording, spec, start_spec, wait_for, wait_for_state};
use state::destination::{Boundary, Platform};
use state::secret::Secret;
use state::wire::{DestinationSpec, DestinationState, WorkerSpec};
use std::sync::Arc;
use std::time::{Duration, Instant};
use stream_worker::media::{Tag, Track};
use stream_worker::output::Outputs;
use stream_worker::output::rtmp::Tuning;

const BRIEF: Duration = Duration::from_secs(5);

fn named(id: &str, server: &Server, key: &str) -> DestinationSpec {
    DestinationSpec { id: id.parse().unwrap(), ..spec(&server.url("live"), key) }
}

fn outputs(list: Vec<DestinationSpec>) -> Outputs {
    let spec = serde_json::json!({"channel": "main", "name": "Main", "run": "R", "epoch": 1, "items": [],
        "ffmpeg": "ffmpeg", "ffprobe": "ffprobe", "cache_dir": "/nowhere"});
    let spec: WorkerSpec = serde_json::from_value(spec).unwrap();
    Outputs::connect(&WorkerSpec { destinations: list, ..spec }, Arc::default())
}

async fn all_sending(outputs: &Outputs) {
    wait_until("all are sending", || {
        let on = [DestinationState::Sending, DestinationState::Live];
        outputs.destinations_seen().iter().all(|seen| on.contains(&seen.state))
    })
    .await;
}

async fn wait_until(what: &str, wanted: impl Fn() -> bool) {
    let began = Instant::now();
    while !wanted() {
        assert!(began.elapsed() < PATIENCE, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Sends at about ten times the pace of the media.
async fn send(outputs: &mut Outputs, tags: &[Tag]) {
    for tags in tags.chunks(8) {
        outputs.send(tags);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Bodies from the first IDR of `tags` on.
fn whole(tags: &[Tag]) -> Vec<bytes::Bytes> {
    clip::from_first_idr(tags).iter().map(|tag| tag.body.clone()).collect()
}

#[tokio::test]
async fn destinations_come_go_and_change_and_the_others_lose_nothing() {
    let clip = clip::make(2, 320, 180);
    let tags = clip::one_after_another(&[&clip; 4]);
    let (kept, gone, moved, rekeyed, elsewhere, added) = (
        Server::start(&[]).await,
        Server::start(&[]).await,
        Server::start(&[]).await,
        Server::start(&[]).await,
        Server::start(&[]).await,
        Server::start(&[]).await,
    );
    let mut outputs = outputs(vec![
        named("kept", &kept, "k3y-kept"),
        named("gone", &gone, "k3y-gone"),
        named("moved", &moved, "k3y-moved"),
        named("rekeyed", &rekeyed, "k3y-old"),
    ]);
    all_sending(&outputs).await;
    let half = tags.len() / 2;
    send(&mut outputs, &tags[..half]).await;
    let renamed = DestinationSpec { name: "Another name".to_owned(), ..named("kept", &kept, "k3y-kept") };
    outputs.update(vec![
        named("added", &added, "k3y-added"),
        named("rekeyed", &rekeyed, "k3y-new"),
        named("moved", &elsewhere, "k3y-moved"),
        renamed,
    ]);
    let ids: Vec<String> = outputs.destinations_seen().iter().map(|seen| seen.id.to_string()).collect();
    assert_eq!(ids, ["added", "rekeyed", "moved", "kept"]);
    let (next, rest) = tags[half..].split_at((tags.len() - half) / 2);
    send(&mut outputs, next).await;
    wait_until("all are where they belong", || {
        elsewhere.keys() == ["k3y-moved"]
            && rekeyed.keys() == ["k3y-old", "k3y-new"]
            && added.keys().len() == 1
    })
    .await;
    all_sending(&outputs).await;
    send(&mut outputs, rest).await;
    outputs.close(BRIEF).await;

    for left in [&kept, &gone, &moved, &elsewhere, &added] {
        left.wait_for_goodbyes(1).await;
    }
    rekeyed.wait_for_goodbyes(2).await;
    assert_eq!(kept.keys(), ["k3y-kept"], "one publication from beginning to end");
    assert!(kept.bodies() == whole(&tags), "the one that stays lost something");
    assert!(rekeyed.bodies() == whole(&tags), "a new key costs no picture");
    assert!([moved.bodies(), elsewhere.bodies()].concat() == whole(&tags), "a new address costs no picture");
    assert!(gone.bodies() == whole(&tags[..half]), "what was waiting was sent before the goodbye");
    assert_eq!(added.heard()[..3].iter().map(|(kind, _)| *kind).collect::<String>(), "mVA");
    assert_eq!(added.heard()[3], ('v', 0), "it begins with an IDR");
}

#[tokio::test]
async fn a_destination_that_waits_is_tried_at_once_when_it_is_corrected() {
    let server = Server::start(&[]).await;
    let mut destination = start_spec(spec("http://wrong/live", "k3y-right"), None, Tuning::default());
    wait_for("the second failure", &destination, |seen| seen.attempt == 2).await;
    destination.update(spec(&server.url("live"), "k3y-right"));
    let seen = wait_for_state(DestinationState::Sending, &destination).await;
    assert_eq!(
        (seen.attempt, seen.next_retry_at),
        (0, None),
        "the failures of the old address are forgotten"
    );
}

#[tokio::test]
async fn a_change_reaches_a_connection_on_which_nothing_is_sent() {
    let server = Server::start(&[]).await;
    let tuning = Tuning { change: Duration::from_millis(200), ..Tuning::default() };
    let mut destination = start_spec(spec(&server.url("live"), "k3y-old"), None, tuning);
    wait_for_state(DestinationState::Sending, &destination).await;
    destination.update(spec(&server.url("live"), "k3y-new"));
    wait_until("the new key", || server.keys() == ["k3y-old", "k3y-new"]).await;
    server.wait_for_goodbyes(1).await;
}

#[tokio::test]
async fn another_way_in_is_used_while_the_first_is_closed() {
    let (first, second) = (Server::start(&[]).await, Server::start(&[]).await);
    let (first_url, port) = (first.url("live?token=s3cret"), first.port);
    first.end().await;
    let wanted =
        DestinationSpec { backup_url: Some(second.url("live?backup=1")), ..spec(&first_url, "k3y-way") };
    let destination = start_spec(wanted, None, Tuning::default());
    let seen = wait_for_state(DestinationState::Sending, &destination).await;
    assert_eq!(seen.way.as_deref(), Some(second.url("live").as_str()), "shown without its query");
    assert_eq!((seen.attempt, seen.last_error.unwrap().code.as_str()), (1, "connect"), "without a wait");

    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    let first = Server::start_on(listener, &[]);
    second.orders.send(Order::Close).unwrap();
    wait_until("it is home again", || first.keys() == ["k3y-way"]).await;
    let seen = wait_for("the first way", &destination, |seen| seen.way == Some(first.url("live"))).await;
    assert!(!format!("{seen:?}").contains("s3cret"), "{seen:?}");
}

#[tokio::test]
async fn tls_is_left_only_for_an_address_that_the_user_gave() {
    let (nginx, clip) = (Nginx::start_with_tls(), clip::make(1, 320, 180));
    let doubted = spec(&nginx.rtmps_url("live"), "k3y-left");
    let allowed = DestinationSpec { backup_url: Some(nginx.url("live")), ..doubted };
    let destination = start_spec(allowed, None, Tuning::default());
    wait_for_state(DestinationState::Sending, &destination).await;
    play(&clip, 5.0, &[&destination]).await;
    let seen = destination.seen();
    assert_eq!((seen.way, seen.last_error.unwrap().code.as_str()), (Some(nginx.url("live")), "tls"));
    destination.close(BRIEF).await;

    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let plain = spec(&format!("rtmp://{closed}/live"), "k3y-into");
    let into = DestinationSpec { backup_url: Some(nginx.rtmps_url("live")), ..plain };
    let destination = start_spec(into, Some(nginx.authority()), Tuning::default());
    wait_for_state(DestinationState::Sending, &destination).await;
    play(&clip, 5.0, &[&destination]).await;
    assert_eq!(destination.seen().way, Some(nginx.rtmps_url("live")));
    destination.close(BRIEF).await;
    assert_eq!(nginx.recordings().len(), 2);
    for file in nginx.recordings() {
        recording::wait_for(&file, rtmp_peers::count(&clip, Track::Video)).await;
    }
}

#[tokio::test]
async fn a_server_that_wants_a_new_connection_gets_one_at_the_next_idr() {
    let (here, there) = (Server::start(&[]).await, Server::start(&[]).await);
    let tags = clip::make(4, 320, 180);
    let destination = start_spec(spec(&here.url("live"), "k3y-sent"), None, Tuning::default());
    wait_for_state(DestinationState::Sending, &destination).await;
    let (before, after) = tags.split_at(tags.len() / 2);
    play(before, 8.0, &[&destination]).await;
    here.orders.send(Order::Ping).unwrap();
    here.orders.send(Order::Invite(Some(there.url("live")))).unwrap();
    play(after, 8.0, &[&destination]).await;
    wait_for("the other place", &destination, |seen| {
        seen.way == Some(there.url("live")) && seen.reconnects == 1
    })
    .await;
    destination.close(BRIEF).await;
    here.wait_for_goodbyes(1).await;
    there.wait_for_goodbyes(1).await;
    assert_eq!((here.keys(), there.keys()), (vec!["k3y-sent".to_owned()], vec!["k3y-sent".to_owned()]));
    assert!([here.bodies(), there.bodies()].concat() == whole(&tags), "nothing is lost on the way");
    assert_eq!(there.heard()[3], ('v', 0), "it begins with an IDR at 0");
}

#[tokio::test]
async fn a_session_is_renewed_where_an_item_begins_and_with_the_new_key() {
    let (server, clip) = (Server::start(&[]).await, clip::make(3, 320, 180));
    let tags = clip::one_after_another(&[&clip; 6]);
    // Asked for from 4 s on, renewed where an item begins from 6 s on, or at 7.5 s wherever it is.
    let session = DestinationSpec {
        max_session_s: Some(8),
        platform: Platform::Facebook,
        ..spec(&server.url("live"), "k3y-one")
    };
    let mut destination = start_spec(session.clone(), None, Tuning::default());
    wait_for_state(DestinationState::Sending, &destination).await;
    let at = |ms: i64| tags.iter().position(|tag| tag.dts >= ms).unwrap();
    play(&tags[..at(5_000)], 2.0, &[&destination]).await;
    let seen = wait_for("a warning", &destination, |seen| !seen.warnings.is_empty()).await;
    assert!(
        seen.warnings[0].contains("ends in 1 min and no other stream key has come"),
        "{:?}",
        seen.warnings
    );
    let news = destination.news();
    assert_eq!(news.len(), 1, "{news:?}");
    assert_eq!((news[0].kind, &news[0].data["destination"]), ("destination.session_ending", &"test".into()));
    assert!((1..=4).contains(&news[0].data["in_s"].as_u64().unwrap()), "{news:?}");

    play(&tags[at(5_000)..at(8_000)], 2.0, &[&destination]).await;
    wait_until("the renewal", || server.keys().len() == 2).await;
    let pictures = server.heard().into_iter().filter(|(kind, _)| *kind == 'v').map(|(_, at)| at);
    let longest = pictures.max().unwrap();
    assert!(
        (5_900..6_400).contains(&longest),
        "an item begins at about 6 s, and it was renewed after {longest} ms"
    );
    let seen = wait_for("a warning", &destination, |seen| !seen.warnings.is_empty()).await;
    assert!(
        seen.warnings[0].contains("renewed with the stream key of the one before"),
        "{:?}",
        seen.warnings
    );

    destination.update(DestinationSpec { key: Secret::new("k3y-two"), ..session });
    play(&tags[at(8_000)..at(12_000)], 2.0, &[&destination]).await;
    wait_until("the new key", || server.keys() == ["k3y-one", "k3y-one", "k3y-two"]).await;
    wait_for("peace", &destination, |seen| seen.warnings.is_empty()).await;
    assert_eq!(destination.seen().dropped, 0);
}

#[tokio::test]
async fn a_server_that_is_slow_to_let_go_costs_no_picture_at_a_planned_reconnect() {
    let (server, clip) = (Server::start(&[Answer::Lingers]).await, clip::make(5, 320, 180));
    let tuning = Tuning { planned_reconnect_ms: 900, renewal_window_ms: 0, ..Tuning::default() };
    let destination = start_spec(spec(&server.url("live"), "k3y-lingers"), None, tuning);
    wait_for_state(DestinationState::Sending, &destination).await;
    play(&clip, 1.0, &[&destination]).await;
    destination.close(BRIEF).await;
    wait_until("every picture", || server.bodies().len() >= whole(&clip).len()).await;
    assert!(server.bodies() == whole(&clip), "what came during the goodbye is lost");
    assert!(server.keys().len() >= 3, "{:?}", server.keys());
}

#[tokio::test]
async fn a_uniform_destination_never_sees_other_parameters_in_a_connection() {
    let (server, small, large) = (Server::start(&[]).await, clip::make(1, 320, 180), clip::make(1, 640, 360));
    let tags = clip::one_after_another(&[&small, &small, &large]);
    let wanted = DestinationSpec { boundary: Boundary::Uniform, ..spec(&server.url("live"), "k3y-same") };
    let destination = start_spec(wanted, None, Tuning::default());
    wait_for_state(DestinationState::Sending, &destination).await;
    play(&tags, 4.0, &[&destination]).await;
    destination.close(BRIEF).await;
    server.wait_for_goodbyes(2).await;
    let headers = |kind| server.heard().iter().filter(|(heard, _)| *heard == kind).count();
    assert_eq!((server.keys().len(), headers('V')), (2, 2), "one header for each connection");
    assert!(server.bodies() == whole(&tags));
}

#[tokio::test]
async fn what_the_platform_will_not_like_is_told_while_it_is_sent() {
    let (server, clip) = (Server::start(&[]).await, clip::make(7, 320, 180));
    let first = clip.iter().position(|tag| tag.idr).unwrap();
    let open = |(at, tag): (usize, &Tag)| Tag { idr: at == first, ..tag.clone() };
    let one_gop: Vec<Tag> = clip.iter().enumerate().map(open).collect();
    let wanted = DestinationSpec { platform: Platform::Youtube, ..spec(&server.url("live"), "k3y-rules") };
    let mut destination = start_spec(wanted.clone(), None, Tuning::default());
    wait_for_state(DestinationState::Sending, &destination).await;
    play(&one_gop, 10.0, &[&destination]).await;
    let seen = wait_for("a warning", &destination, |seen| !seen.warnings.is_empty()).await;
    assert!(seen.warnings[0].contains("s apart and YouTube takes at most 4 s"), "{:?}", seen.warnings);
    destination.update(DestinationSpec { platform: Platform::Custom, ..wanted });
    wait_for("no warning", &destination, |seen| seen.warnings.is_empty()).await;
    assert_eq!(server.keys().len(), 1, "another platform's rules need no other connection");
}

#[tokio::test]
async fn what_the_kernel_and_the_queue_know_is_shown() {
    let (server, clip) = (Server::start(&[]).await, clip::make(2, 320, 180));
    let destination = start_spec(spec(&server.url("live"), "k3y-shown"), None, Tuning::default());
    wait_for_state(DestinationState::Sending, &destination).await;
    play_until(&clip, 1.0, &[&destination], async || {
        wait_for("a round trip", &destination, |seen| seen.rtt_ms.is_some_and(|ms| ms < 5_000)).await;
    })
    .await;
    // Nobody takes what is given in one go before the task turns.
    clip.iter().for_each(|tag| destination.send(&Tag { dts: tag.dts + 60_000, ..tag.clone() }));
    assert!(destination.seen().queue_ms > 500, "{:?}", destination.seen());
    wait_for("an empty queue", &destination, |seen| seen.queue_ms == 0).await;
}
