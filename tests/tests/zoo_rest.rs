//! The rest of the content zoo, played into a receiver that nobody here wrote, decoded, measured, and held against
//! the table in docs/content.md.

use anyhow::{Context, Result};
use e2e::analysis::{Limits, Verdict, judge};
use e2e::rare;
use e2e::recording::Recording;
use e2e::rig::controller::{Controller, Plan, SOON};
use e2e::rig::nginx::Nginx;
use e2e::rig::wanted::{destination, is_live, start};
use e2e::zoo::{self, Animal};
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;

/// More than twice the length of all clips.
const LONG: Duration = Duration::from_secs(150);

/// Plays a folder once and gives what was recorded, and what the status said of each item.
fn play(
    animals: &[Animal],
    profile: Value,
    garbage: bool,
) -> Result<(Verdict, BTreeMap<String, Value>, Controller)> {
    let nginx = Nginx::start()?;
    let plan = Plan::new()?;
    zoo::put_into(&plan.media(), animals)?;
    if garbage {
        rare::put_garbage_into(&plan.media())?;
    }
    let controller = plan.start()?;
    let mut body = start(&[destination("one", &nginx.url(), "zoo")]);
    body["loop"] = false.into();
    body["profile"] = profile;
    controller.go_on_air(&body)?;
    controller.wait_until("media are acknowledged", SOON, |s| is_live(s, "one"))?;
    let told = std::cell::RefCell::new(BTreeMap::new());
    controller.wait_until("everything has been played", LONG, |s| {
        if let Some(key) = s["item"]["key"].as_str() {
            told.borrow_mut().insert(key.to_owned(), s["item"].clone());
        }
        s["phase"] == "off"
    })?;
    assert_eq!(nginx.publishes(), 1);
    let recordings = nginx.recordings()?;
    let recording = Recording::read(recordings.first().context("nginx recorded nothing")?)?;
    let limits = Limits { audio_step_ms: 24.5, ..Limits::default() };
    Ok((judge(&recording, animals, &limits), told.into_inner(), controller))
}

#[test]
fn pictures() -> Result<()> {
    let (verdict, told, _controller) = play(&rare::pictures(), rare::profile(), false)?;
    for (k, v) in &told {
        println!("{k} {} {} {}", v["video"], v["audio"], v["reason"]);
    }
    println!("{verdict} idr {}", verdict.idr_distance_ms);
    assert!(verdict.problems.is_empty(), "\n{verdict}");
    Ok(())
}

#[test]
fn containers() -> Result<()> {
    let (verdict, told, controller) = play(&rare::containers(), rare::profile(), true)?;
    for (k, v) in &told {
        println!("{k} {} {} {}", v["video"], v["audio"], v["reason"]);
    }
    println!("{verdict} idr {}", verdict.idr_distance_ms);
    println!("{}", controller.status()?["failed_items"]);
    assert!(verdict.problems.is_empty(), "\n{verdict}");
    Ok(())
}

#[test]
fn fast() -> Result<()> {
    let (verdict, told, _controller) = play(&rare::fast(), rare::fast_profile(), false)?;
    for (k, v) in &told {
        println!("{k} {} {} {}", v["video"], v["audio"], v["reason"]);
    }
    println!("{verdict} idr {}", verdict.idr_distance_ms);
    assert!(verdict.problems.is_empty(), "\n{verdict}");
    Ok(())
}
