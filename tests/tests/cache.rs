//! A channel that plays out of a bucket: its files are fetched once, and it plays on while the bucket is away.

use anyhow::{Context, Result};
use e2e::analysis::{Limits, judge_loop};
use e2e::recording::Recording;
use e2e::rig::controller::{Controller, Plan, SOON};
use e2e::rig::front::{Answered, Front};
use e2e::rig::program::wait_for;
use e2e::rig::s3::{self, S3};
use e2e::rig::sink::Sink;
use e2e::rig::wanted::{destination, is_live, plays, start};
use e2e::zoo;
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const ROUND: Duration = Duration::from_secs(40);
/// How long the bucket is away at least.
const OUTAGE: Duration = Duration::from_secs(60);
const FILES: [&str; 3] = ["01-no-b-frames.mp4", "02-b-frames.mp4", "03-audio-ends-early.mp4"];

/// A bucket with three short files, and a front that counts what is asked of it.
struct Bucket {
    s3: S3,
    front: Front,
    bytes: u64,
}

impl Bucket {
    fn fill() -> Result<Self> {
        let s3 = S3::start()?;
        zoo::put_into(&s3.bucket(), &zoo::sample())?;
        let length = |file: &&str| Ok(std::fs::metadata(s3.bucket().join(file))?.len());
        let bytes = FILES.iter().map(length).sum::<Result<u64>>()?;
        let front = Front::start(s3.address())?;
        Ok(Self { s3, front, bytes })
    }

    fn plan(&self) -> Result<Plan> {
        let plan = Plan::new()?.with("STORAGE_PROVIDER", "s3").with("STORAGE_BUCKET", s3::BUCKET);
        let plan = plan.with("STORAGE_ENDPOINT", self.front.url()).with("STORAGE_REGION", "us-east-1");
        Ok(plan.with("STORAGE_ACCESS_KEY_ID", s3::KEY_ID).with("STORAGE_SECRET_ACCESS_KEY", s3::SECRET))
    }

    /// How often bytes of this file were asked for.
    fn reads(&self, file: &str) -> usize {
        let given = |a: &&Answered| a.request.reads(file) && matches!(a.status, 200 | 206);
        self.front.answered().iter().filter(given).count()
    }

    fn all_reads(&self) -> Vec<usize> {
        FILES.iter().map(|file| self.reads(file)).collect()
    }
}

/// ffprobe, and a mark for each look at a file: children may not write into files, but they may make them.
struct Probes(tempfile::TempDir);

impl Probes {
    fn new() -> Result<Self> {
        let probes = Self(tempfile::tempdir()?);
        let script = "#!/bin/sh\ncase \"$*\" in *show_entries*) : >\"$0.$$\" ;; esac\nexec ffprobe \"$@\"\n";
        std::fs::write(probes.program(), script)?;
        std::fs::set_permissions(probes.program(), std::fs::Permissions::from_mode(0o755))?;
        Ok(probes)
    }

    fn program(&self) -> PathBuf {
        self.0.path().join("ffprobe")
    }

    fn count(&self) -> usize {
        std::fs::read_dir(self.0.path()).into_iter().flatten().count() - 1
    }
}

fn cache(controller: &Controller) -> Result<Value> {
    let answer = controller.get("/api/media/cache")?;
    anyhow::ensure!(answer.status == 200, "{} {}", answer.status, answer.text);
    Ok(answer.json())
}

fn wait_for_copies(controller: &Controller) -> Result<Value> {
    wait_for("copies of all files", ROUND, || {
        let cache = cache(controller)?;
        Ok((cache["files"] == FILES.len() && cache["fetching"].is_null()).then_some(cache))
    })
}

/// Waits until every file has been on the air from this source, in order.
fn play_round(controller: &Controller, source: &str) -> Result<()> {
    for file in FILES {
        let what = format!("{file} is on the air from the {source}");
        let status =
            controller.wait_until(&what, ROUND, |s| plays(s, file) && s["item"]["source"] == source)?;
        assert_eq!(status["air"]["is"], "on", "{status:#}");
    }
    Ok(())
}

fn health(controller: &Controller) -> Result<String> {
    Ok(controller.get("/health")?.json()["problems"].to_string())
}

#[test]
fn a_loop_is_fetched_once_and_plays_on_through_an_outage() -> Result<()> {
    let mut bucket = Bucket::fill()?;
    let sink = Sink::start()?;
    let probes = Probes::new()?;
    let controller = bucket.plan()?.with("FFPROBE_PATH", probes.program()).start()?;
    controller.go_on_air(&start(&[destination("one", &sink.url(), "key-of-one")]))?;
    controller.wait_until("media are acknowledged", SOON, |s| is_live(s, "one"))?;
    let kept = wait_for_copies(&controller)?;
    assert_eq!(kept["fetched_bytes"], bucket.bytes, "{kept:#}");
    assert_eq!(kept["used"], bucket.bytes, "{kept:#}");
    play_round(&controller, "cache")?;
    let reads = bucket.all_reads();

    bucket.s3.go_away();
    let gone = Instant::now();
    play_round(&controller, "cache")?;
    wait_for("the outage in /health", SOON, || {
        Ok(health(&controller)?.contains("the last listing with 3 files is used").then_some(()))
    })?;
    starts_during_the_outage(&bucket, &controller)?;
    while gone.elapsed() < OUTAGE {
        play_round(&controller, "cache")?;
    }
    bucket.s3.come_back()?;
    wait_for("a healthy controller", ROUND, || Ok((health(&controller)? == "[]").then_some(())))?;
    play_round(&controller, "cache")?;

    let status = controller.go_off_air()?;
    let kept = cache(&controller)?;
    println!("library {} bytes, reads of media before the outage {reads:?}, {kept}", bucket.bytes);
    assert_eq!((&kept["fetched_bytes"], bucket.all_reads()), (&json!(bucket.bytes), reads), "{kept:#}");
    assert!(kept["hits"].as_u64() > kept["misses"].as_u64(), "{kept:#}");
    assert!(kept["spared_bytes"].as_u64() > Some(3 * bucket.bytes), "{kept:#}");
    assert_eq!(status["cache"]["hits"], kept["hits"], "one channel had all of them: {status:#}");
    assert_eq!(probes.count(), 0, "ordinary files were given to ffprobe");
    assert_eq!((sink.count("publish")?, controller.plan().log().contains(s3::SECRET)), (1, false));
    let limits = Limits { extra_gap_ms: 20.0, audio_step_ms: 24.5, ..Limits::default() };
    let verdict = judge_loop(Recording::read(&sink.recording(1))?, &zoo::sample(), 12, &limits);
    assert!(verdict.problems.is_empty(), "\n{verdict}");
    Ok(())
}

/// A controller that is started during the outage plays what an earlier one has left, and one that knows nothing
/// says why it cannot.
fn starts_during_the_outage(bucket: &Bucket, earlier: &Controller) -> Result<()> {
    let ignorant = bucket.plan()?.start()?;
    let answer = ignorant.post("/streams/start", &json!({}))?;
    assert_eq!((answer.status, answer.kind.as_str()), (503, "application/problem+json"), "{}", answer.text);
    let knowing = bucket.plan()?;
    let (from, to) = (earlier.plan().state(), knowing.state());
    std::fs::copy(from.join("library.json"), to.join("library.json")).context("hand on the listing")?;
    copy_folder(&from.join("cache/media"), &to.join("cache/media"))?;
    let knowing = knowing.start()?;
    knowing.go_on_air(&json!({}))?;
    knowing.wait_until("it is on", ROUND, |s| s["air"]["is"] == "on")?;
    play_round(&knowing, "cache")
}

fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        std::fs::copy(entry.path(), to.join(entry.file_name())).context("hand on a copy")?;
    }
    Ok(())
}

#[test]
fn without_a_cache_every_round_comes_over_links() -> Result<()> {
    let bucket = Bucket::fill()?;
    let controller = bucket.plan()?.with("CACHE_BYTES", "0").start()?;
    controller.go_on_air(&json!({}))?;
    controller.wait_until("it is on", ROUND, |s| s["air"]["is"] == "on")?;
    play_round(&controller, "bucket")?;
    let first = bucket.all_reads();
    play_round(&controller, "bucket")?;
    let second = bucket.all_reads();
    assert!(first.iter().zip(&second).all(|(a, b)| a < b), "{first:?} {second:?}");
    let cache = cache(&controller)?;
    assert_eq!(
        (&cache["enabled"], &cache["fetched_bytes"], &cache["hits"]),
        (&json!(false), &json!(0), &json!(0))
    );
    assert!(cache["misses"].as_u64() >= Some(5), "{cache:#}");
    Ok(())
}

#[test]
fn what_is_wrong_with_the_bucket_is_said_at_the_start() -> Result<()> {
    let bucket = Bucket::fill()?;
    let refused = bucket.plan()?.with("STORAGE_SECRET_ACCESS_KEY", "another-one-never-seen").start()?;
    let answer = refused.post("/streams/start", &json!({}))?;
    assert_eq!(answer.status, 422, "{}", answer.text);
    assert_eq!(answer.json()["errors"][0]["pointer"], "/media", "{}", answer.text);
    assert!(
        !answer.text.contains("another-one-never-seen")
            && !refused.plan().log().contains("another-one-never")
    );
    let missing = bucket.plan()?.with("STORAGE_BUCKET", "no-such-bucket").start()?;
    assert_eq!(missing.post("/streams/start", &json!({}))?.status, 422);
    let controller = bucket.plan()?.start()?;
    let body = json!({"media": [FILES[1], "missing.mp4", ".hidden.mp4"]});
    let answer = controller.post("/streams/start", &body)?;
    let pointers: Vec<_> =
        answer.json()["errors"].as_array().into_iter().flatten().map(|e| e["pointer"].clone()).collect();
    assert_eq!(
        (answer.status, pointers),
        (422, vec![json!("/media/1"), json!("/media/2")]),
        "{}",
        answer.text
    );
    controller.go_on_air(&json!({"media": [FILES[1]]}))?;
    controller.wait_until("the named file is on the air", SOON, |s| plays(s, FILES[1]))?;
    let unauthorized = controller.view("/api/media/cache");
    assert!(unauthorized.is_err(), "the cache is not for everybody");
    Ok(())
}
