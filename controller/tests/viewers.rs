//! HLS as viewers and their caches see it.

#![allow(clippy::unwrap_used)] // A test that cannot go on has to fail.

mod house;

use house::House;
use serde_json::{Value, json};
use std::fs;

/// A controller with a playlist and a segment of channel `main`; the address of its folder.
fn with_segments() -> (House, String) {
    let house = House::with_worker("play");
    let public_id = house.status()["public_id"].as_str().unwrap().to_owned();
    let folder = house.state("hls").join(&public_id);
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("index.m3u8"), "#EXTM3U\n").unwrap();
    fs::write(folder.join("e1-00001.ts"), (0..=255u8).collect::<Vec<_>>()).unwrap();
    fs::write(folder.join("secret.txt"), "not for viewers").unwrap();
    (house, format!("/hls/{public_id}"))
}

#[test]
fn playlists_are_fresh_and_segments_are_for_ever() {
    let (house, at) = with_segments();
    let playlist = house.request("GET", &format!("{at}/index.m3u8"), &[("Origin", "https://x.example")], b"");
    assert_eq!((playlist.status, playlist.body.as_slice()), (200, &b"#EXTM3U\n"[..]));
    assert_eq!(playlist.header("content-type"), Some("application/vnd.apple.mpegurl"));
    assert_eq!(playlist.header("cache-control"), Some("no-cache"));
    assert_eq!(playlist.header("access-control-allow-origin"), Some("*"));
    let tag = playlist.header("etag").unwrap();
    for known in [tag, "*", &format!("\"x\", W/{tag}")] {
        let same = house.request("GET", &format!("{at}/index.m3u8"), &[("If-None-Match", known)], b"");
        assert_eq!((same.status, same.header("etag"), same.body.len()), (304, Some(tag), 0));
    }
    fs::write(house.state("hls").join(&at[5..]).join("index.m3u8"), "#EXTM3U\n#1\n").unwrap();
    let changed = house.request("GET", &format!("{at}/index.m3u8"), &[("If-None-Match", tag)], b"");
    assert_eq!((changed.status, changed.body.len()), (200, 11));

    let segment = house.request("GET", &format!("{at}/e1-00001.ts"), &[], b"");
    assert_eq!((segment.status, segment.body.len()), (200, 256));
    assert_eq!(segment.header("content-type"), Some("video/mp2t"));
    assert_eq!(segment.header("cache-control"), Some("public, max-age=31536000, immutable"));
    assert_eq!(segment.header("accept-ranges"), Some("bytes"));
    assert_eq!(segment.header("access-control-allow-origin"), Some("*"));
    let head = house.request("HEAD", &format!("{at}/e1-00001.ts"), &[], b"");
    assert_eq!((head.status, head.header("content-length"), head.body.len()), (200, Some("256"), 0));
    let asked = [("Origin", "https://x.example"), ("Access-Control-Request-Method", "GET")];
    assert_eq!(house.request("OPTIONS", &format!("{at}/e1-00001.ts"), &asked, b"").status, 200);
}

#[test]
fn parts_of_segments_can_be_asked_for() {
    let (house, at) = with_segments();
    let part = |range: &str| house.request("GET", &format!("{at}/e1-00001.ts"), &[("Range", range)], b"");
    let middle = part("bytes=10-19");
    assert_eq!((middle.status, middle.body.as_slice()), (206, &(10..20).collect::<Vec<u8>>()[..]));
    assert_eq!(middle.header("content-range"), Some("bytes 10-19/256"));
    assert_eq!(part("bytes=-6").body, (250..=255).collect::<Vec<u8>>());
    let outside = part("bytes=256-");
    outside.problem(416);
    assert_eq!(outside.header("content-range"), Some("bytes */256"));
    assert_eq!(part("lines=1-2").status, 200);
}

#[test]
fn nothing_but_playlists_and_segments_is_served() {
    let (house, at) = with_segments();
    let elsewhere = "/hls/0123456789abcdefABCDEF";
    for path in [
        format!("{at}/missing.ts"),
        format!("{at}/missing.m3u8"),
        format!("{at}/secret.txt"),
        format!("{at}/..%2f..%2fadmin.token"),
        format!("{at}/..%2findex.m3u8"),
        format!("{at}/%00.ts"),
        format!("{elsewhere}/index.m3u8"),
        "/hls/..%2fchannels/main.m3u8".to_owned(),
        "/hls/../admin.token".to_owned(),
    ] {
        let answer = house.request("GET", &path, &[], b"");
        answer.problem(404);
        if path.starts_with(&at) {
            assert_eq!(answer.header("cache-control"), Some("max-age=1"), "{path}");
        }
    }
    house.request("POST", &format!("{at}/index.m3u8"), &[], b"").problem(405);
}

#[test]
fn a_private_channel_is_for_holders_of_the_token() {
    let (house, at) = with_segments();
    let answer = house.post("/streams/start", json!({"hls": {"public": false}}));
    assert_eq!((answer.status, &answer.json()["hls"]["public"]), (202, &Value::Bool(false)));
    for name in ["index.m3u8", "e1-00001.ts"] {
        let path = format!("{at}/{name}");
        house.request("GET", &path, &[], b"").problem(401);
        assert_eq!(house.get(&path).status, 200);
    }
}
