//! The RTMP output against a second implementation, which shows each message: what is told and when, and what
//! becomes of every kind of refusal.
#![allow(clippy::unwrap_used, clippy::expect_used)] // a test file fails by panicking

mod rtmp_peers;

use rml_rtmp::sessions::ServerSessionEvent as Event;
use rtmp_peers::server::{Answer, Order, Server};
use rtmp_peers::{
    clip, play, play_until, spec, start, start_at, start_tuned, wait_for, wait_for_error, wait_for_state,
};
use state::destination::Boundary;
use state::wire::{DestinationSeen, DestinationState};
use std::sync::Arc;
use std::time::Duration;
use stream_worker::media::{Tag, Track};
use stream_worker::output::rtmp::{Destination, Tuning};

const BRIEF: Duration = Duration::from_secs(5);

fn hasty() -> Tuning {
    Tuning { opening: Duration::from_millis(300), ..Tuning::default() }
}

/// Seconds from the newest failure to the next try.
fn wait_of(seen: &DestinationSeen) -> f64 {
    let failed_at = seen.last_error.as_ref().unwrap().at;
    (seen.next_retry_at.unwrap().as_millisecond() - failed_at.as_millisecond()) as f64 / 1000.0
}

#[tokio::test]
async fn metadata_and_headers_come_first_and_every_byte_arrives() {
    let (server, clip) = (Server::start(&[]).await, clip::make(2, 320, 180));
    let destination = start(&server.url("live2?backup=1"), "k3y-told");
    wait_for_state(DestinationState::Sending, &destination).await;
    play(&clip, 10.0, &[&destination]).await;
    destination.close(BRIEF).await;
    let app = |event: &Event| match event {
        Event::PublishStreamFinished { app_name, stream_key } => Some((app_name.clone(), stream_key.clone())),
        _ => None,
    };
    let (app, key) = server.wait_for("deleteStream", app).await;
    assert_eq!((app.as_str(), key.as_str()), ("live2?backup=1", "k3y-told"));

    let first: String = server.heard().iter().take(4).map(|(kind, _)| *kind).collect();
    assert_eq!((first.as_str(), server.heard()[3]), ("mVAv", ('v', 0)));
    let sent: Vec<_> = clip::from_first_idr(&clip).iter().map(|tag| tag.body.clone()).collect();
    assert!(server.bodies() == sent, "a body was lost, changed or out of order");
    let told = |event: &Event| match event {
        Event::StreamMetadataChanged { metadata, .. } => Some(metadata.clone()),
        _ => None,
    };
    let told = server.wait_for("metadata", told).await;
    assert_eq!((told.video_width, told.video_height, told.video_codec_id), (Some(320), Some(180), Some(7)));
    assert_eq!(
        (told.audio_sample_rate, told.audio_is_stereo, told.audio_codec_id),
        (Some(48_000), Some(true), Some(10))
    );
}

#[tokio::test]
async fn timestamps_keep_all_their_bits_and_wrap_after_the_last() {
    let clip = clip::make_large(2);
    let clip = clip::from_first_idr(&clip);
    for edge in [1u32 << 24, 1 << 31, 0] {
        let server = Server::start(&[]).await;
        let first = edge.wrapping_sub(1000);
        let destination = start_at(&server.url("live"), "k3y-edge", first);
        wait_for_state(DestinationState::Sending, &destination).await;
        play(clip, 20.0, &[&destination]).await;
        destination.close(BRIEF).await;
        server.wait_for("deleteStream", |_| (server.finished() == 1).then_some(())).await;
        let times = server.heard().into_iter().filter(|(kind, _)| "va".contains(*kind)).map(|(_, time)| time);
        let expected = clip.iter().map(|tag| first.wrapping_add((tag.dts - clip[0].dts) as u32));
        assert!(times.eq(expected), "at {edge}");
        assert!(server.bodies().iter().eq(clip.iter().map(|tag| &tag.body)), "at {edge}");
    }
}

#[tokio::test]
async fn pings_and_windows_are_answered_while_media_flows() {
    let (server, clip) = (Server::start(&[]).await, clip::make(2, 320, 180));
    let destination = start(&server.url("live"), "k3y-ping");
    wait_for_state(DestinationState::Sending, &destination).await;
    server.orders.send(Order::Ping).unwrap();
    play_until(&clip, 4.0, &[&destination], async || {
        let pong = |event: &Event| matches!(event, Event::PingResponseReceived { .. }).then_some(());
        server.wait_for("a pong", pong).await;
        let window = |event: &Event| matches!(event, Event::AcknowledgementReceived { .. }).then_some(());
        server.wait_for("an acknowledgement", window).await;
    })
    .await;
    assert_eq!(destination.seen().last_error, None);
}

#[tokio::test]
async fn live_fades_when_nothing_more_is_acknowledged_and_comes_back() {
    let (server, clip) = (Server::start(&[]).await, clip::make(2, 320, 180));
    let tuning = Tuning { fading: Duration::from_secs(1), ..Tuning::default() };
    let destination = start_tuned(&server.url("live"), "k3y-fading", None, tuning);
    wait_for_state(DestinationState::Sending, &destination).await;
    play(&clip, 20.0, &[&destination]).await;
    wait_for_state(DestinationState::Live, &destination).await;
    wait_for_state(DestinationState::Sending, &destination).await;
    let later: Vec<Tag> = clip.iter().map(|tag| Tag { dts: tag.dts + 2100, ..tag.clone() }).collect();
    play(&later, 20.0, &[&destination]).await;
    let seen = wait_for_state(DestinationState::Live, &destination).await;
    assert_eq!((seen.reconnects, seen.last_error), (0, None), "it is still the same connection");
}

#[tokio::test]
async fn a_rejected_application_is_tried_once_more_and_then_rarely() {
    let no = Answer::RejectApp("NetConnection.Connect.Rejected", "no such application");
    let server = Server::start(&[no.clone(), no]).await;
    let destination = start(&server.url("nowhere"), "k3y-rejected");
    let seen = wait_for("the second failure", &destination, |seen| seen.attempt == 2).await;
    let error = seen.last_error.as_ref().unwrap();
    assert_eq!(
        (seen.state, error.code.as_str()),
        (DestinationState::Waiting, "NetConnection.Connect.Rejected")
    );
    assert!(error.words.contains("no such application"), "{}", error.words);
    assert!((26.0..34.0).contains(&wait_of(&seen)), "{seen:?}");
}

#[tokio::test]
async fn a_denied_key_is_explained_without_showing_it() {
    let words = "stream k3y-denied is not known; token t0ken-x";
    let server = Server::start(&[Answer::RejectPublish("NetStream.Publish.Denied", words)]).await;
    let destination = start(&server.url("live?t=t0ken-x"), "k3y-denied?a=b");
    let (code, words) = wait_for_error(&destination).await;
    assert_eq!(code, "NetStream.Publish.Denied");
    assert!(words.contains("stream *** is not known") && words.contains("Check the stream key"), "{words}");
    assert!(!words.contains("k3y-denied"), "{words}");
}

#[tokio::test]
async fn a_key_that_our_own_shadow_holds_is_asked_for_soon_again() {
    let busy = Answer::RejectPublish("NetStream.Publish.BadName", "Already publishing");
    let server = Server::start(&[Answer::Accept, busy]).await;
    let destination = start(&server.url("live"), "k3y-shadow");
    wait_for_state(DestinationState::Sending, &destination).await;
    server.orders.send(Order::Close).unwrap();
    let seen = wait_for("a busy key", &destination, |seen| {
        seen.last_error.as_ref().is_some_and(|error| error.code.ends_with("BadName"))
    })
    .await;
    assert!((2.5..3.5).contains(&wait_of(&seen)), "{seen:?}");
    let seen = wait_for("a new publication", &destination, |seen| seen.reconnects == 1).await;
    assert!(matches!(seen.state, DestinationState::Sending | DestinationState::Live), "{seen:?}");
}

#[tokio::test]
async fn an_error_in_the_middle_of_the_stream_is_shown() {
    let (server, clip) = (Server::start(&[]).await, clip::make(2, 320, 180));
    let destination = start(&server.url("live"), "k3y-middle");
    wait_for_state(DestinationState::Sending, &destination).await;
    play(&clip, 20.0, &[&destination]).await;
    server.orders.send(Order::Fail("NetStream.Publish.Failed", "k3y-middle has had its time")).unwrap();
    let (code, words) = wait_for_error(&destination).await;
    assert_eq!(code, "NetStream.Publish.Failed");
    assert!(words.contains("*** has had its time"), "{words}");
}

#[tokio::test]
async fn each_way_of_not_getting_there_has_its_name() {
    let server = Server::start(&[Answer::Babble, Answer::Babble, Answer::Silence]).await;
    let babble = start(&server.url("live"), "k3y-babble");
    assert_eq!(wait_for_error(&babble).await.0, "handshake");
    wait_for("the second failure", &babble, |seen| seen.attempt == 2).await;
    babble.close(BRIEF).await;

    let silent = start_tuned(&server.url("live"), "k3y-silent", None, hasty());
    assert_eq!(wait_for_error(&silent).await.0, "timeout");
    let rtmps = server.url("live").replace("rtmp:", "rtmps:");
    let silent_tls = start_tuned(&rtmps, "k3y-silent", None, hasty());
    assert_eq!(wait_for_error(&silent_tls).await.0, "timeout");

    let nobody = start(&format!("rtmp://127.0.0.1:{}/live", free_port()), "k3y-nobody");
    let (code, words) = wait_for_error(&nobody).await;
    assert!(code == "connect" && words.contains("127.0.0.1"), "{code}: {words}");
    let nameless = start("rtmp://no-such-host.invalid/live", "k3y-nameless");
    let (code, words) = wait_for_error(&nameless).await;
    assert!(
        ["resolve", "timeout"].contains(&code.as_str()) && words.contains("no-such-host.invalid"),
        "{words}"
    );
    let (code, words) = wait_for_error(&start("http://h/live", "k3y-scheme")).await;
    assert!(code == "url" && words.contains("rtmp://"), "{code}: {words}");
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[tokio::test]
async fn a_tls_address_of_a_plain_server_is_refused_as_tls() {
    let server = Server::start(&[Answer::Babble, Answer::Babble]).await;
    let destination = start(&server.url("live").replace("rtmp:", "rtmps:"), "k3y-plain");
    let (code, words) = wait_for_error(&destination).await;
    assert!(code == "tls" && words.contains("does not speak TLS"), "{code}: {words}");
}

#[tokio::test]
async fn where_wanted_new_parameters_get_a_new_connection() {
    let (server, small, large) = (Server::start(&[]).await, clip::make(1, 320, 180), clip::make(1, 640, 360));
    let wanted = state::wire::DestinationSpec {
        boundary: Boundary::Reconnect,
        ..spec(&server.url("live"), "k3y-new")
    };
    let destination = Destination::start(wanted, None, Arc::default());
    wait_for_state(DestinationState::Sending, &destination).await;
    let later = large.iter().map(|tag| Tag { dts: tag.dts + 1100, ..tag.clone() });
    let both: Vec<Tag> = small.iter().cloned().chain(later).collect();
    play(&both, 4.0, &[&destination]).await;
    wait_for("a second publication", &destination, |seen| seen.reconnects == 1).await;
    destination.close(BRIEF).await;
    let second_end = |_: &Event| (server.finished() == 2).then_some(());
    server.wait_for("the second deleteStream", second_end).await;
    let count = |kind| server.heard().iter().filter(|(heard, _)| *heard == kind).count();
    assert_eq!((count('V'), count('m')), (2, 2));
    let pictures = both.iter().filter(|tag| tag.track == Track::Video).count();
    assert_eq!(count('v'), pictures, "no picture is lost at the boundary");
    assert_eq!(server.heard().iter().filter(|heard| **heard == ('v', 0)).count(), 2, "each begins at 0");
}
