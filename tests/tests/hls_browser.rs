//! What a viewer sees: hls.js in a real browser, across the boundaries of files that differ.

use anyhow::{Context, Result};
use e2e::analysis::{Limits, judge_window};
use e2e::recording::Recording;
use e2e::rig::controller::{Controller, Plan, SOON};
use e2e::rig::{browser, wanted};
use e2e::zoo;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Long enough for four boundaries of three-second files.
const WATCHED_S: u32 = 16;

/// Address of the playlist, once it holds so many segments.
fn address_with(controller: &Controller, segments: u64) -> Result<String> {
    let ready = |s: &Value| s["air"]["is"] == "on" && s["hls"]["segments"].as_u64() >= Some(segments);
    let status = controller.wait_until("enough segments", Duration::from_secs(90), ready)?;
    let address = status["hls"]["url"].as_str().context("the status has an HLS address")?;
    let url = if address.starts_with('/') { controller.url(address) } else { address.to_owned() };
    assert!(url.contains("/hls/") && url.ends_with("/index.m3u8"), "{url}");
    Ok(url)
}

#[test]
fn the_segments_hold_every_picture_in_step_with_its_sound() -> Result<()> {
    let plan = Plan::new()?;
    zoo::put_into(&plan.media(), &zoo::sample())?;
    let controller = plan.start()?;
    controller.go_on_air(&wanted::start(&[]))?;
    let url = address_with(&controller, 6)?;
    let folder = tempfile::tempdir()?;
    let recording = Recording::read(&save(&controller, &url, folder.path())?)?;
    let verdict = judge_window(recording, &zoo::sample(), 3, &Limits::default());
    assert!(verdict.problems.is_empty(), "\n{verdict}");
    Ok(())
}

/// Saves the segments of a live playlist, as a playlist that ends.
fn save(controller: &Controller, url: &str, folder: &Path) -> Result<PathBuf> {
    let playlist = String::from_utf8(controller.view(url)?)?;
    let (base, _) = url.rsplit_once('/').context("the address has a folder")?;
    let mut local = String::new();
    for line in playlist.lines() {
        if line.starts_with('#') {
            local += &format!("{line}\n");
            continue;
        }
        let name = line.rsplit('/').next().unwrap_or(line);
        std::fs::write(folder.join(name), controller.view(&format!("{base}/{line}"))?)?;
        local += &format!("{name}\n");
    }
    let path = folder.join("index.m3u8");
    std::fs::write(&path, local + "#EXT-X-ENDLIST\n")?;
    Ok(path)
}

#[test]
fn a_viewer_sees_four_files_without_an_error_and_without_a_black_picture() -> Result<()> {
    let plan = Plan::new()?;
    let other_rate = zoo::playable().into_iter().find(|a| a.clip.fps == 25).context("a clip of 25 fps")?;
    zoo::put_into(&plan.media(), &zoo::sample())?;
    zoo::put_into(&plan.media(), &[other_rate])?;
    let controller = plan.start()?;
    controller.go_on_air(&wanted::start(&[]))?;
    // A player begins three target durations before the end; with that much in the list it need not begin at the
    // very first picture, where every player has to step over the decoding delay.
    let url = address_with(&controller, 5)?;

    let seen = browser::watch(&url, WATCHED_S)?;
    assert_eq!(seen["errors"], Value::Array(Vec::new()), "{seen:#}");
    assert_eq!(seen["black_samples"], 0, "{seen:#}");
    assert!(seen["played_s"].as_f64() >= Some(f64::from(WATCHED_S)), "{seen:#}");
    assert!(seen["samples"].as_u64() >= Some(200), "{seen:#}");
    assert!(seen["items"].as_array().is_some_and(|items| items.len() >= 4), "{seen:#}");
    controller.wait_until("the channel goes on", SOON, |s| s["air"]["is"] == "on")?;
    Ok(())
}
