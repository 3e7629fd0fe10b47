//! What is prepared of a bucket's media: asked for on the command line, copied on the air, kept in the bucket once, and
//! found there by other hosts.

use anyhow::{Context, Result};
use e2e::media::Clip;
use e2e::rig::controller::{Controller, Plan, SOON};
use e2e::rig::front::Front;
use e2e::rig::program::{self, wait_for};
use e2e::rig::s3::{self, S3};
use e2e::rig::sink::Sink;
use e2e::rig::wanted::{destination, is_live, plays, start};
use e2e::zoo::{self, Animal, HEVC};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

const LONG: Duration = Duration::from_secs(60);
const FOREIGN: &str = "2-hevc.mp4";

fn fill(s3: &S3) -> Result<()> {
    let foreign = Clip { video: HEVC, size: (960, 540), ..Clip::plain(FOREIGN, 52).lasting(4.0) };
    zoo::put_into(&s3.bucket(), &[Animal::new(Clip::plain("1-fits.mp4", 51)), Animal::new(foreign)])
}

/// A host of the bucket behind this address, which keeps what it prepares there.
fn host(url: &str) -> Result<Plan> {
    let plan = Plan::new()?.with("STORAGE_PROVIDER", "s3").with("STORAGE_BUCKET", s3::BUCKET);
    let plan = plan.with("STORAGE_ENDPOINT", url).with("STORAGE_ACCESS_KEY_ID", s3::KEY_ID);
    let plan =
        plan.with("STORAGE_SECRET_ACCESS_KEY", s3::SECRET).with("STORAGE_PREPARED_PREFIX", "prepared/");
    Ok(plan.with("PREPARE", "on").with("PREPARE_PART_SECONDS", "2").with("PREPARE_LOUDNESS_LUFS", "-20"))
}

fn streamctl(controller: &Controller, url: &str, arguments: &[&str]) -> Result<Output> {
    let mut command = Command::new(program::built("streamctl")?);
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.env("STATE_DIR", controller.plan().state()).args(arguments);
    command.env("STORAGE_PROVIDER", "s3").env("STORAGE_BUCKET", s3::BUCKET).env("STORAGE_ENDPOINT", url);
    command.env("STORAGE_ACCESS_KEY_ID", s3::KEY_ID).env("STORAGE_SECRET_ACCESS_KEY", s3::SECRET);
    command.env("STORAGE_PREPARED_PREFIX", "prepared/").output().context("run streamctl")
}

fn jobs(controller: &Controller) -> Result<BTreeMap<String, Value>> {
    let list = controller.get("/api/media/prepare")?.json();
    let jobs = list["jobs"].as_array().cloned().unwrap_or_default();
    Ok(jobs.into_iter().map(|job| (job["key"].as_str().unwrap_or_default().to_owned(), job)).collect())
}

/// Files of a folder by their names.
fn files(folder: &Path) -> Result<BTreeMap<String, Vec<u8>>> {
    let entries = std::fs::read_dir(folder).with_context(|| folder.display().to_string())?.flatten();
    let files = entries.filter(|entry| entry.path().is_file());
    files.map(|e| Ok((e.file_name().to_string_lossy().into_owned(), std::fs::read(e.path())?))).collect()
}

fn certificate(folder: &Path) -> Result<Value> {
    let all = files(folder)?;
    let paper = all.iter().find(|(name, _)| name.ends_with(".json")).context("no certificate")?;
    Ok(serde_json::from_slice(paper.1)?)
}

#[test]
fn what_one_host_prepares_is_copied_and_others_find_it_in_the_bucket() -> Result<()> {
    let (s3, sink) = (S3::start()?, Sink::start()?);
    fill(&s3)?;
    let original = std::fs::read(s3.bucket().join(FOREIGN))?;
    let first = host(&s3.url())?.start()?;
    first.go_on_air(&start(&[destination("one", &sink.url(), "key-of-one")]))?;
    first.wait_until("media are acknowledged", SOON, |s| is_live(s, "one"))?;

    let said = streamctl(&first, &s3.url(), &["media", "prepare", "--all", "--wait"])?;
    let (out, err) = (String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr));
    assert!(said.status.success(), "{out}{err}");
    let line = |key: &str| out.lines().find(|line| line.starts_with(key)).unwrap_or_default();
    assert!(line("1-fits.mp4").contains("fits") && line(FOREIGN).contains("ready"), "{out}{err}");
    assert!(jobs(&first)?[FOREIGN]["reason"].as_str().is_some_and(|r| r.contains("hevc")), "{out}");
    let prepared = |s: &Value| plays(s, FOREIGN) && s["item"]["video"] == "copy";
    let status = first.wait_until("what was prepared is copied", LONG, prepared)?;
    assert_eq!(status["item"]["source"], "file", "{status:#}");

    let kept = files(&s3.bucket().join("prepared"))?;
    assert_eq!(kept.len(), 2, "{:?}", kept.keys());
    let listed = streamctl(&first, &s3.url(), &["media", "list"])?;
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert!(listed.lines().count() == 2 && !listed.contains("prepared/"), "{listed}");
    assert!(std::fs::read(s3.bucket().join(FOREIGN))? == original, "the original was touched");
    let made = certificate(&s3.bucket().join("prepared"))?;
    let loudness = made["loudness"]["output_lufs"].as_f64();
    assert!(loudness.is_some_and(|lufs| (lufs + 20.0).abs() <= 0.5), "{made:#}");
    first.go_off_air()?;
    found_by_another(&s3, &made, &kept)
}

/// A host that has nothing takes the result over as it is, and sends nothing.
fn found_by_another(s3: &S3, made: &Value, kept: &BTreeMap<String, Vec<u8>>) -> Result<()> {
    let front = Front::start(s3.address())?;
    let second = host(&front.url())?.start()?;
    second.go_on_air(&json!({"profile": made["profile"]}))?;
    let body = json!({"keys": [FOREIGN]});
    let answer = second.post("/api/media/prepare", &body)?;
    assert_eq!(answer.status, 202, "{}", answer.text);
    wait_for("the result of the other host", LONG, || {
        let jobs = jobs(&second)?;
        assert!(jobs[FOREIGN]["state"] != "failed", "{jobs:#?}");
        Ok((jobs[FOREIGN]["state"] == "ready").then_some(()))
    })?;
    let here = files(&second.plan().state().join("cache/prepared"))?;
    assert!(here == *kept, "{:?} {:?}", here.keys(), kept.keys());
    let status =
        second.wait_until("it is copied", LONG, |s| plays(s, FOREIGN) && s["item"]["video"] == "copy")?;
    assert_eq!(status["item"]["audio"], "copy", "{status:#}");
    assert!(files(&s3.bucket().join("prepared"))? == *kept, "it was sent again");
    Ok(())
}

#[test]
fn a_bucket_that_goes_away_holds_a_preparation_up_and_does_not_end_it() -> Result<()> {
    let mut s3 = S3::start()?;
    fill(&s3)?;
    let controller = host(&s3.url())?.start()?;
    let profile = json!({"width": 640, "height": 360, "fps": 30, "video_kbps": 800});
    controller.go_on_air(&json!({"profile": profile, "media": ["1-fits.mp4"]}))?;
    controller.wait_until("it is on", SOON, |s| s["air"]["is"] == "on")?;
    s3.go_away();
    assert_eq!(controller.post("/api/media/prepare", &json!({"keys": [FOREIGN]}))?.status, 202);
    let waits = wait_for("the job to be put off", LONG, || {
        let job = jobs(&controller)?.remove(FOREIGN).unwrap_or_default();
        Ok((job["state"] == "waiting" && job["error"].is_string()).then_some(job))
    })?;
    assert!(waits["error"].as_str().is_some_and(|words| !words.contains("X-Amz")), "{waits:#}");
    s3.come_back()?;
    assert_eq!(controller.post("/api/media/prepare", &json!({"keys": [FOREIGN]}))?.status, 202);
    wait_for("the job to be done", LONG, || {
        Ok((jobs(&controller)?[FOREIGN]["state"] == "ready").then_some(()))
    })?;
    assert_eq!(files(&s3.bucket().join("prepared"))?.len(), 2);
    Ok(())
}
