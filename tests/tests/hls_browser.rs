//! What a viewer sees: hls.js in a real browser, across the boundaries of files that differ.

use anyhow::{Context, Result};
use e2e::rig::controller::{Plan, SOON};
use e2e::rig::{browser, wanted};
use e2e::zoo;
use serde_json::Value;
use std::time::Duration;

/// Long enough for four boundaries of three-second files.
const WATCHED_S: u32 = 16;

#[test]
fn a_viewer_sees_four_files_without_an_error_and_without_a_black_picture() -> Result<()> {
    let plan = Plan::new()?;
    let other_rate = zoo::playable().into_iter().find(|a| a.clip.fps == 25).context("a clip of 25 fps")?;
    zoo::put_into(&plan.media(), &zoo::sample())?;
    zoo::put_into(&plan.media(), &[other_rate])?;
    let controller = plan.start()?;
    controller.go_on_air(&wanted::start(&[]))?;
    let ready = |s: &Value| s["air"]["is"] == "on" && s["hls"]["segments"].as_u64() >= Some(3);
    let status = controller.wait_until("three segments", Duration::from_secs(60), ready)?;
    let address = status["hls"]["url"].as_str().context("the status has an HLS address")?;
    let url = if address.starts_with('/') { controller.url(address) } else { address.to_owned() };
    assert!(url.contains("/hls/") && url.ends_with("/index.m3u8"), "{url}");

    let seen = browser::watch(&url, WATCHED_S)?;
    assert_eq!(seen["errors"], Value::Array(Vec::new()), "{seen:#}");
    assert_eq!(seen["black_samples"], 0, "{seen:#}");
    assert!(seen["played_s"].as_f64() >= Some(f64::from(WATCHED_S)), "{seen:#}");
    assert!(seen["samples"].as_u64() >= Some(40), "{seen:#}");
    assert!(seen["items"].as_array().is_some_and(|items| items.len() >= 4), "{seen:#}");
    controller.wait_until("the channel goes on", SOON, |s| s["air"]["is"] == "on")?;
    Ok(())
}
