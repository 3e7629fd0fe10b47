//! The RTMP output against a real nginx-rtmp: what it records, what it refuses, and what happens when it dies.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test file fails by panicking

mod rtmp_peers;

use rtmp_peers::{clip, count, nginx::Nginx, play, play_until, recording};
use rtmp_peers::{start, start_at, start_tuned, wait_for, wait_for_error, wait_for_state};
use state::wire::DestinationState;
use std::cell::Cell;
use std::time::{Duration, Instant};
use stream_worker::media::{Tag, Track};
use stream_worker::output::rtmp::Tuning;

const BRIEF: Duration = Duration::from_secs(5);

fn clip_start(clip: &[Tag]) -> i64 {
    clip.iter().find(|tag| tag.idr).map_or(0, |tag| tag.dts)
}

#[tokio::test]
async fn a_clip_arrives_whole_and_in_order() {
    let (nginx, clip) = (Nginx::start(), clip::make(4, 320, 180));
    let destination = start(&nginx.url("live"), "k3y-whole");
    wait_for_state(DestinationState::Sending, &destination).await;
    play(&clip, 2.0, &[&destination]).await;
    let seen = wait_for_state(DestinationState::Live, &destination).await;
    assert!(
        seen.bitrate_kbps > 0
            && seen.accepted_bytes > 0
            && seen.accepted_at.is_some()
            && seen.last_error.is_none(),
        "{seen:?}"
    );
    assert_eq!((seen.dropped, seen.reconnects), (0, 0));
    destination.close(BRIEF).await;

    let files = nginx.recordings();
    assert_eq!(files.len(), 1, "one publication");
    recording::assert_begins_with_headers_and_key_frame(&files[0]);
    let recorded = recording::wait_for(&files[0], count(&clip, Track::Video)).await;
    recorded.assert_times_increase();
    assert_eq!(recorded.video.len(), count(&clip, Track::Video));
    let heard = clip.iter().filter(|tag| tag.track == Track::Audio && tag.dts >= clip_start(&clip)).count();
    assert_eq!(recorded.audio.len(), heard, "all sound but what came before the first picture");
    assert_eq!((recorded.video[0], recorded.begins_with_key), (0, true));
    assert_eq!(recording::decode_errors(&files[0]), "");
    assert!(nginx.log().contains("deleteStream"), "no goodbye: {}", nginx.log());
}

#[tokio::test]
async fn an_unknown_application_is_refused_with_words() {
    let nginx = Nginx::start();
    let destination = start(&nginx.url("nowhere"), "k3y-lost");
    let (code, words) = wait_for_error(&destination).await;
    assert_eq!(code, "closed");
    assert!(words.contains("application or stream key") && !words.contains("k3y"), "{words}");
}

#[tokio::test]
async fn a_busy_key_is_named_and_freed_by_a_goodbye() {
    let (nginx, clip) = (Nginx::start(), clip::make(2, 320, 180));
    let first = start(&nginx.url("live"), "k3y-busy");
    wait_for_state(DestinationState::Sending, &first).await;
    let second = start(&nginx.url("live"), "k3y-busy");
    let (code, words) = wait_for_error(&second).await;
    assert_eq!(code, "NetStream.Publish.BadName");
    assert!(words.contains("in use") && !words.contains("k3y"), "{words}");
    second.close(BRIEF).await;

    play(&clip, 10.0, &[&first]).await;
    first.close(BRIEF).await;
    let third = start(&nginx.url("live"), "k3y-busy");
    wait_for_state(DestinationState::Sending, &third).await;
    assert_eq!(third.seen().last_error, None, "the goodbye freed the key");
}

#[tokio::test]
async fn rtmps_is_accepted_with_the_right_authority_and_refused_without() {
    let (nginx, clip) = (Nginx::start_with_tls(), clip::make(2, 320, 180));
    let url = nginx.rtmps_url("live");
    let trusting = start_tuned(&url, "k3y-tls", Some(nginx.authority()), Tuning::default());
    let doubting = start(&url, "k3y-doubt");
    wait_for_state(DestinationState::Sending, &trusting).await;
    play(&clip, 4.0, &[&trusting, &doubting]).await;
    wait_for_state(DestinationState::Live, &trusting).await;
    trusting.close(BRIEF).await;

    let (code, words) = wait_for_error(&doubting).await;
    assert_eq!(code, "tls");
    assert!(words.contains("localhost") && words.contains("not trusted"), "{words}");
    let files = nginx.recordings();
    assert_eq!(files.len(), 1, "only the verified connection published");
    let recorded = recording::wait_for(&files[0], count(&clip, Track::Video)).await;
    recorded.assert_times_increase();
    assert_eq!(recording::decode_errors(&files[0]), "");
}

#[tokio::test]
async fn a_certificate_for_another_name_is_refused() {
    let nginx = Nginx::start_with_tls();
    let url = nginx.rtmps_url("live").replace("localhost", "127.0.0.1");
    let destination = start_tuned(&url, "k3y-name", Some(nginx.authority()), Tuning::default());
    let (code, words) = wait_for_error(&destination).await;
    assert_eq!(code, "tls");
    assert!(words.contains("NotValidForName"), "{words}");
}

#[tokio::test]
async fn a_server_that_dies_gets_a_fresh_beginning_when_it_returns() {
    let (mut nginx, clip) = (Nginx::start(), clip::make(2, 320, 180));
    let destination = start(&nginx.url("live"), "k3y-phoenix");
    play_until(&clip, 1.0, &[&destination], async || {
        wait_for_state(DestinationState::Live, &destination).await;
    })
    .await;
    nginx.kill();
    let (code, _) = wait_for_error(&destination).await;
    assert!(["closed", "connect"].contains(&code.as_str()), "{code}");
    nginx.run();
    play_until(&clip, 1.0, &[&destination], async || {
        wait_for("a new publication", &destination, |seen| {
            seen.reconnects == 1 && seen.state == DestinationState::Live
        })
        .await;
    })
    .await;
    destination.close(BRIEF).await;

    let files = nginx.recordings();
    assert_eq!(files.len(), 2);
    recording::assert_begins_with_headers_and_key_frame(&files[1]);
    let recorded = recording::wait_for(&files[1], 2).await;
    recorded.assert_times_increase();
    assert_eq!((recorded.video[0], recorded.begins_with_key), (0, true));
    assert_eq!(recording::decode_errors(&files[1]), "");
}

#[tokio::test]
async fn a_frozen_peer_that_takes_nothing_holds_up_nobody() {
    let write = Duration::from_secs(2);
    let words = freeze(Tuning { write, ..Tuning::default() }).await;
    assert!(words.contains("take data"), "{words}");
}

#[tokio::test]
async fn a_frozen_peer_that_acknowledges_nothing_holds_up_nobody() {
    let (write, stalled) = (Duration::from_secs(60), Duration::from_secs(2));
    let words = freeze(Tuning { write, stalled, ..Tuning::default() }).await;
    assert!(words.contains("acknowledge anything"), "{words}");
}

/// Freezes one of two peers and pours media into both, until the frozen one is given up. Returns why it was.
async fn freeze(tuning: Tuning) -> String {
    let (frozen, healthy, clip) = (Nginx::start(), Nginx::start(), clip::make(4, 640, 360));
    let stuck = start_tuned(&frozen.url("live"), "k3y-frozen", None, tuning);
    let free = start(&healthy.url("live"), "k3y-free");
    wait_for_state(DestinationState::Sending, &stuck).await;
    wait_for_state(DestinationState::Sending, &free).await;
    frozen.freeze();

    let longest_send = Cell::new(Duration::ZERO);
    let sends = async {
        for round in 0.. {
            for tag in &clip {
                let tag = Tag { dts: tag.dts + round * 4100, ..tag.clone() };
                let began = Instant::now();
                stuck.send(&tag);
                longest_send.set(longest_send.get().max(began.elapsed()));
                free.send(&tag);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let seen = tokio::select! {
        () = sends => unreachable!(),
        seen = wait_for("the end of patience", &stuck, |seen| seen.last_error.is_some()) => seen,
    };
    let error = seen.last_error.unwrap();
    assert_eq!(error.code, "timeout");
    assert!(longest_send.get() < Duration::from_secs(1), "{longest_send:?}");
    let healthy_seen = wait_for_state(DestinationState::Live, &free).await;
    assert_eq!((healthy_seen.reconnects, healthy_seen.last_error), (0, None));
    free.close(BRIEF).await;
    stuck.close(Duration::from_millis(200)).await;
    let recorded = recording::read(&healthy.recordings()[0]);
    assert!(recorded.begins_with_key && recorded.video.len() > 100);
    recorded.assert_times_increase();
    error.words
}

#[tokio::test]
async fn timestamps_grow_past_every_edge_without_a_stumble() {
    let (nginx, clip) = (Nginx::start(), clip::make_large(3));
    for (edge, key) in [(1u32 << 24, "k3y-24"), (1 << 31, "k3y-31"), (0, "k3y-32")] {
        let destination = start_at(&nginx.url("live"), key, edge.wrapping_sub(1500));
        wait_for_state(DestinationState::Sending, &destination).await;
        play(&clip, 6.0, &[&destination]).await;
        destination.close(BRIEF).await;
        let file = nginx.recordings().pop().unwrap();
        let recorded = recording::wait_for(&file, count(&clip, Track::Video)).await;
        recorded.assert_times_increase();
        let (first, last) = (recorded.video[0], recorded.video[recorded.video.len() - 1]);
        assert!((2800..3100).contains(&(last - first)), "{key}: {first} to {last}");
        assert_eq!(recording::decode_errors(&file), "", "{key}");
    }
}

#[tokio::test]
async fn an_old_connection_is_renewed_at_an_idr_and_nothing_is_lost() {
    let (nginx, clip) = (Nginx::start(), clip::make(4, 320, 180));
    let tuning = Tuning { planned_reconnect_ms: 1900, renewal_window_ms: 0, ..Tuning::default() };
    let destination = start_tuned(&nginx.url("live"), "k3y-old", None, tuning);
    wait_for_state(DestinationState::Sending, &destination).await;
    play(&clip, 1.0, &[&destination]).await;
    let seen = wait_for("a new connection", &destination, |seen| seen.reconnects == 1).await;
    assert_eq!(seen.dropped, 0);
    destination.close(BRIEF).await;
    let files = nginx.recordings();
    assert_eq!(files.len(), 2);
    let pictures: usize = files.iter().map(|file| recording::read(file).video.len()).sum();
    assert_eq!(pictures, count(&clip, Track::Video));
    recording::assert_begins_with_headers_and_key_frame(&files[1]);
}

#[tokio::test]
async fn new_parameters_go_into_the_same_connection_with_new_headers() {
    let (nginx, small, large) = (Nginx::start(), clip::make(1, 320, 180), clip::make(1, 640, 360));
    let destination = start(&nginx.url("live"), "k3y-sizes");
    wait_for_state(DestinationState::Sending, &destination).await;
    let later = |tag: &Tag| Tag { dts: tag.dts + 1100, ..tag.clone() };
    let both: Vec<_> = small.iter().cloned().chain(large.iter().map(later)).collect();
    play(&both, 2.0, &[&destination]).await;
    destination.close(BRIEF).await;
    let files = nginx.recordings();
    assert_eq!(files.len(), 1);
    let recorded = recording::wait_for(&files[0], count(&both, Track::Video)).await;
    recorded.assert_times_increase();
    assert_eq!(recording::sizes(&files[0]), ["320,180", "640,360"]);
    assert_eq!(recording::decode_errors(&files[0]), "");
}
