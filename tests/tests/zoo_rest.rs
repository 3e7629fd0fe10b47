//! The rest of the content zoo, played into a receiver that nobody here wrote, decoded and measured item by item, and
//! held against the tables in docs/content.md.

use anyhow::{Context, Result, bail};
use e2e::analysis::{Limits, Row, judge};
use e2e::rare;
use e2e::recording::Recording;
use e2e::rig::controller::{Controller, Plan, SOON};
use e2e::rig::nginx::Nginx;
use e2e::rig::wanted::{destination, is_live, start};
use e2e::zoo::{self, Animal};
use serde_json::Value;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

/// More than twice the length of all clips.
const LONG: Duration = Duration::from_secs(150);
/// Longest time between two IDR pictures that platforms take, with the rounding of times, ms.
const IDR_MS: f64 = 4_050.0;
const CONTENT: &str = include_str!("../../docs/content.md");

#[test]
fn pictures_of_every_make_are_seen_as_they_are_meant() -> Result<()> {
    let played = Played::of(&rare::pictures(), &rare::profile())?;
    played.compare_with_docs(&rare::pictures())?;
    let played = Played::of(&rare::fast(), &rare::fast_profile())?;
    played.compare_with_docs(&rare::fast())
}

#[test]
fn sounds_and_containers_of_every_make_are_heard_and_garbage_is_skipped() -> Result<()> {
    let played = Played::of(&rare::containers(), &rare::profile())?;
    for name in rare::GARBAGE {
        let reason = played.failed.get(name).with_context(|| format!("{name} was not named as failed"))?;
        assert!(!reason.is_empty());
    }
    played.compare_with_docs(&rare::containers())
}

/// What was said and seen of each file.
struct Played {
    items: BTreeMap<String, Value>,
    failed: BTreeMap<String, String>,
    rows: Vec<Row>,
}

impl Played {
    /// Plays the files once, and garbage among them, and judges the recording.
    fn of(animals: &[Animal], profile: &Value) -> Result<Self> {
        let nginx = Nginx::start()?;
        let plan = Plan::new()?;
        zoo::put_into(&plan.media(), animals)?;
        rare::put_garbage_into(&plan.media())?;
        let controller = plan.start()?;
        let mut body = start(&[destination("one", &nginx.url(), "zoo")]);
        body["loop"] = false.into();
        body["profile"] = profile.clone();
        controller.go_on_air(&body)?;
        let (items, failed) = watch(&controller)?;
        assert_eq!(nginx.publishes(), 1);
        let recordings = nginx.recordings()?;
        let recording = Recording::read(recordings.first().context("nginx recorded nothing")?)?;
        let limits = Limits { audio_step_ms: 24.5, ..Limits::default() };
        let verdict = judge(&recording, animals, &limits);
        assert!(verdict.problems.is_empty(), "\n{verdict}\n{failed:#?}");
        assert!(verdict.idr_distance_ms <= IDR_MS, "IDR pictures are {} ms apart", verdict.idr_distance_ms);
        Ok(Played { items, failed, rows: verdict.rows })
    }

    /// The docs promise what was said and seen, and a bound for the sound that holds.
    fn compare_with_docs(&self, animals: &[Animal]) -> Result<()> {
        let wrong: Vec<String> = animals.iter().filter_map(|animal| self.against_docs(animal)).collect();
        if !wrong.is_empty() {
            bail!("docs/content.md must say:\n{}", wrong.join("\n"));
        }
        Ok(())
    }

    /// The line that the docs should have, where they have another.
    fn against_docs(&self, animal: &Animal) -> Option<String> {
        let (file, name) = (animal.clip.file, rare::name(animal.clip.file));
        let said =
            |field: &str| self.items.get(file).and_then(|i| i[field].as_str()).unwrap_or("?").to_owned();
        let offsets = self.rows.iter().filter(|row| row.name == file).flat_map(|row| &row.offsets);
        let worst = offsets.fold(0.0, |worst, offset| offset.abs().max(worst));
        let line = documented(name).unwrap_or_default();
        let bound =
            line.get(4).and_then(|cell| cell.strip_prefix("± ")?.strip_suffix(" ms")?.parse::<f64>().ok());
        let bound =
            bound.filter(|bound| worst <= *bound && *bound <= 40.0).unwrap_or((worst / 10.0).ceil() * 10.0);
        let sync = format!("± {bound:.0} ms");
        let reason = without_bitrate(&said("reason"));
        let cells = [name.to_owned(), said("video"), said("audio"), reason, sync, rare::seen(animal)];
        (line != cells).then(|| format!("| {} |", cells.join(" | ")))
    }
}

/// Follows the broadcast to its end: what was on the air, and what failed and why.
fn watch(controller: &Controller) -> Result<(BTreeMap<String, Value>, BTreeMap<String, String>)> {
    let (items, failed) = (RefCell::new(BTreeMap::new()), RefCell::new(BTreeMap::new()));
    controller.wait_until("media are acknowledged", SOON, |s| is_live(s, "one"))?;
    controller.wait_until("everything has been played", LONG, |status| {
        if let Some(key) = status["item"]["key"].as_str() {
            items.borrow_mut().insert(key.to_owned(), status["item"].clone());
        }
        for failure in status["failed_items"].as_array().into_iter().flatten() {
            let of = |field: &str| failure[field].as_str().unwrap_or_default().to_owned();
            failed.borrow_mut().insert(of("key"), of("reason"));
        }
        status["phase"] == "off"
    })?;
    Ok((items.into_inner(), failed.into_inner()))
}

/// A reason without the file's own bitrate, which is another with every encoder.
fn without_bitrate(reason: &str) -> String {
    let Some((before, after)) = reason.split_once(" kbit/s") else { return reason.to_owned() };
    format!("{}… kbit/s{after}", before.trim_end_matches(|c: char| c.is_ascii_digit()))
}

/// The cells of a file's line in the docs.
fn documented(name: &str) -> Option<Vec<&'static str>> {
    let cells = |line: &'static str| -> Vec<&'static str> {
        line.trim_matches('|').split(" | ").map(str::trim).collect()
    };
    CONTENT
        .lines()
        .filter(|line| line.starts_with("| "))
        .map(cells)
        .find(|cells| cells.first() == Some(&name))
}

#[test]
fn the_docs_name_no_file_that_is_not_played() {
    let played = [rare::pictures(), rare::containers(), rare::fast()].concat();
    let named = CONTENT.lines().skip_while(|l| !l.starts_with("| file | picture | sound |")).skip(2);
    for line in named.take_while(|l| l.starts_with("| ")) {
        let name = line.trim_matches('|').split(" | ").next().unwrap_or_default().trim();
        assert!(played.iter().any(|a| rare::name(a.clip.file) == name), "{name} is in docs/content.md only");
    }
}
