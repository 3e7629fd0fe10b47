//! Everything that can be wrong with a destination, all at once, and one that is well: it loses nothing.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test file fails by panicking

mod rtmp_peers;

use bytes::Bytes;
use rtmp_peers::nginx::Nginx;
use rtmp_peers::server::{Answer, Order, Server};
use rtmp_peers::{PATIENCE, clip, spec, start, start_spec, wait_for_state};
use state::wire::{DestinationSeen, DestinationState};
use std::time::{Duration, Instant};
use stream_worker::media::Tag;
use stream_worker::output::rtmp::{Destination, Tuning};
use tokio::net::{TcpListener, TcpSocket};

const BRIEF: Duration = Duration::from_secs(5);

fn hasty() -> Tuning {
    Tuning { write: Duration::from_secs(1), opening: Duration::from_secs(2), ..Tuning::default() }
}

/// A listener whose connections hold little that was not read.
fn narrow() -> TcpListener {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    socket.listen(8).unwrap()
}

fn code(seen: &DestinationSeen) -> &str {
    seen.last_error.as_ref().map_or("", |error| &error.code)
}

/// Sends the clip over and over, as fast as the healthy destination takes it, until `enough`. Returns what was sent.
async fn pour(
    clip: &[Tag],
    sent: &mut Vec<Tag>,
    healthy: &Destination,
    others: &[&Destination],
    enough: impl Fn() -> bool,
) {
    let length = clip.iter().map(|tag| tag.dts).max().unwrap() + 33;
    let began = Instant::now();
    while !enough() {
        let from = sent.last().map_or(0, |tag| (tag.dts / length + 1) * length);
        for part in clip.chunks(16) {
            for tag in part {
                let tag = Tag { dts: tag.dts + from, ..tag.clone() };
                others.iter().for_each(|destination| destination.send(&tag));
                healthy.send(&tag);
                sent.push(tag);
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
            while healthy.seen().queue_ms > 2_000 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        let seen: Vec<_> = others.iter().map(|destination| destination.seen()).collect();
        assert!(began.elapsed() < PATIENCE, "waited in vain: {seen:#?}");
    }
}

fn bodies(tags: &[Tag]) -> Vec<Bytes> {
    clip::from_first_idr(tags).iter().map(|tag| tag.body.clone()).collect()
}

#[tokio::test]
async fn nothing_that_befalls_another_costs_a_frame() {
    let clip = clip::make(2, 320, 180);
    let well = Server::start(&[]).await;
    let frozen = Nginx::start();
    let (reset, half_open, outage) =
        (Server::start(&[]).await, Server::start(&[]).await, Server::start(&[]).await);
    let refuses = Server::start(&[Answer::RejectPublish("NetStream.Publish.Denied", "no")]).await;
    let busy = Server::start(&[Answer::RejectPublish("NetStream.Publish.BadName", "busy"); 1]).await;
    let not_tls = Server::start(&[Answer::Babble, Answer::Babble]).await;
    let slow = Server::start_on(narrow(), &[Answer::Slow]);

    let healthy = start(&well.url("live"), "k3y-well");
    let to_frozen = start_spec(spec(&frozen.url("live"), "k3y-frozen"), None, hasty());
    let to = |server: &Server, key: &str| start(&server.url("live"), key);
    let (to_reset, to_half_open) = (to(&reset, "k3y-reset"), to(&half_open, "k3y-half"));
    let (to_outage, to_slow) = (to(&outage, "k3y-outage"), to(&slow, "k3y-slow"));
    for destination in [&healthy, &to_frozen, &to_reset, &to_half_open, &to_outage, &to_slow] {
        wait_for_state(DestinationState::Sending, destination).await;
    }
    let (to_refuses, to_busy) = (to(&refuses, "k3y-refused"), to(&busy, "k3y-busy"));
    let to_not_tls = start(&not_tls.url("live").replace("rtmp:", "rtmps:"), "k3y-tls");
    let to_nowhere = start("rtmp://no-such-host.invalid/live", "k3y-dns");
    let others = [
        &to_frozen,
        &to_reset,
        &to_half_open,
        &to_outage,
        &to_slow,
        &to_refuses,
        &to_busy,
        &to_not_tls,
        &to_nowhere,
    ];
    let mut sent = Vec::new();
    let told = Instant::now();
    pour(&clip, &mut sent, &healthy, &others, || told.elapsed() > Duration::from_millis(500)).await;

    frozen.freeze();
    reset.orders.send(Order::Reset).unwrap();
    half_open.orders.send(Order::HalfClose).unwrap();
    let port = outage.port;
    outage.end().await;
    pour(&clip, &mut sent, &healthy, &others, || {
        code(&to_frozen.seen()) == "timeout"
            && code(&to_refuses.seen()) == "NetStream.Publish.Denied"
            && code(&to_busy.seen()) == "NetStream.Publish.BadName"
            && code(&to_not_tls.seen()) == "tls"
            && ["resolve", "timeout"].contains(&code(&to_nowhere.seen()))
            && [&to_reset, &to_half_open].iter().all(|to| to.seen().reconnects == 1)
            && to_outage.seen().attempt >= 2
            && to_slow.seen().dropped > 0
    })
    .await;
    let outage = Server::start_on(TcpListener::bind(("127.0.0.1", port)).await.unwrap(), &[]);
    slow.orders.send(Order::Hurry).unwrap();
    pour(&clip, &mut sent, &healthy, &others, || {
        to_outage.seen().reconnects == 1 && to_slow.seen().queue_ms < 100 && outage.heard().len() > 10
    })
    .await;

    let seen = healthy.seen();
    assert_eq!((seen.reconnects, seen.dropped, seen.last_error), (0, 0, None));
    healthy.close(BRIEF).await;
    well.wait_for_goodbyes(1).await;
    assert_eq!(well.keys(), ["k3y-well"]);
    assert!(well.bodies() == bodies(&sent), "the healthy one lost something");

    assert_eq!(outage.heard()[3], ('v', 0), "a new connection begins with an IDR at 0");
    assert_eq!(to_slow.seen().reconnects, 0, "a slow peer keeps its connection");
    to_slow.close(BRIEF).await;
    slow.wait_for_goodbyes(1).await;
    assert_only_whole_gops_are_missing(&slow, &sent);
}

/// What a slow peer got is what was sent but for gaps, and after each gap comes an IDR.
fn assert_only_whole_gops_are_missing(slow: &Server, sent: &[Tag]) {
    let times: Vec<_> = slow.heard().into_iter().filter(|(kind, _)| "va".contains(*kind)).collect();
    let begin = clip::from_first_idr(sent)[0].dts;
    let mut rest = clip::from_first_idr(sent).iter();
    let mut gaps = 0;
    for ((kind, at), body) in times.iter().zip(slow.bodies()) {
        let same = |tag: &Tag| (tag.dts - begin) as u32 == *at && tag.body == body;
        let next = rest.next().unwrap();
        if !same(next) {
            gaps += 1;
            let found = rest.find(|tag| same(tag)).unwrap_or_else(|| panic!("{kind} at {at} was never sent"));
            assert!(found.idr, "after a gap {kind} at {at} is no IDR");
        }
    }
    assert!(gaps > 0 && times.len() < sent.len(), "{gaps} gaps");
}
