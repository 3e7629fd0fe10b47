//! What does not fit is prepared once, whole and in step, and copied from then on.

use anyhow::{Context, Result, bail};
use e2e::analysis::{Limits, Verdict, judge, judge_loop};
use e2e::media::{Audio, Clip, NO_B, Then, WITH_B, run};
use e2e::recording::Recording;
use e2e::rig::controller::{Controller, Plan, SOON};
use e2e::rig::program::{self, wait_for};
use e2e::rig::sink::Sink;
use e2e::rig::wanted::{destination, is_live, plays, start};
use e2e::zoo::{Animal, HEVC};
use serde_json::{Value, json};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;
use tempfile::TempDir;

const LONG: Duration = Duration::from_secs(50);

/// HEVC of another size, with 5.1 sound.
fn foreign() -> Clip {
    let container = &["-ac", "6", "-c:a", "ac3"];
    Clip { video: HEVC, size: (960, 540), container, ..Clip::plain("foreign.mkv", 41).lasting(5.0) }
}

/// A folder of originals and one of results, and the profile 640 × 360 at 30 pictures per second.
struct Kitchen {
    folder: TempDir,
}

impl Kitchen {
    fn new() -> Result<Self> {
        Ok(Self { folder: tempfile::tempdir().context("make a folder")? })
    }

    fn put(&self, clip: &Clip) -> Result<PathBuf> {
        clip.put_into(self.folder.path())
    }

    fn job(&self, original: &Path) -> Value {
        json!({
            "item": {"id": "01", "key": original.file_name().and_then(|n| n.to_str()), "content": "1",
                "at": {"path": original}},
            "profile": {"width": 640, "height": 360, "fps": 30, "video_kbps": 800},
            "cache_dir": self.folder.path().join("cache"), "part_s": 2,
            "ffmpeg": which("ffmpeg"), "ffprobe": which("ffprobe"),
        })
    }

    fn spawn(&self, job: &Value) -> Result<Child> {
        let mut command = Command::new(program::built("stream-worker")?);
        command.arg("--prepare").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().context("start stream-worker --prepare")?;
        let mut stdin = child.stdin.take().context("take its stdin")?;
        writeln!(stdin, "{job}").context("tell it the job")?;
        Ok(child)
    }

    /// Runs a job that must succeed; gives everything that it said.
    fn prepare(&self, job: &Value) -> Result<Vec<Value>> {
        let output = self.run(job)?;
        if !output.status.success() {
            bail!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr));
        }
        Ok(said(&output))
    }

    fn run(&self, job: &Value) -> Result<Output> {
        self.spawn(job)?.wait_with_output().context("wait for the job")
    }

    fn result(&self, said: &[Value]) -> Result<(PathBuf, Value)> {
        let name = said.last().and_then(|last| last["name"].as_str()).context("no result was named")?;
        let prepared = self.folder.path().join("cache/prepared");
        let certificate = std::fs::read(prepared.join(format!("{name}.json"))).context("read it")?;
        Ok((prepared.join(format!("{name}.mp4")), serde_json::from_slice(&certificate)?))
    }

    /// Parts that are finished.
    fn parts(&self) -> usize {
        let work = self.folder.path().join("cache/prepared/.work");
        let folders = std::fs::read_dir(work).into_iter().flatten().flatten();
        let files = folders.filter_map(|folder| std::fs::read_dir(folder.path()).ok()).flatten().flatten();
        let names = files.filter_map(|file| file.file_name().into_string().ok());
        names.filter(|name| name.starts_with("picture-") && name.ends_with(".mp4")).count()
    }
}

fn which(name: &str) -> String {
    let found = run(Command::new("sh").args(["-c", &format!("command -v {name}")])).unwrap_or_default();
    String::from_utf8_lossy(&found).trim().to_owned()
}

fn said(output: &Output) -> Vec<Value> {
    String::from_utf8_lossy(&output.stdout).lines().filter_map(|l| serde_json::from_str(l).ok()).collect()
}

/// The hash of a video's parameter sets, as FFmpeg finds them in the file.
fn parameters(media: &Path) -> Result<String> {
    let mut command = Command::new("ffprobe");
    command.args(["-v", "error", "-select_streams", "v:0", "-show_data_hash", "sha256"]);
    command.args(["-show_entries", "stream=extradata_hash", "-of", "csv=p=0"]).arg(media);
    Ok(String::from_utf8_lossy(&run(&mut command)?).trim().to_owned())
}

/// Integrated loudness in LUFS and true peak in dBTP, as FFmpeg measures them on the file.
fn loudness(media: &Path) -> Result<(f64, f64)> {
    let mut command = Command::new("ffmpeg");
    command.args(["-hide_banner", "-nostdin", "-nostats", "-i"]).arg(media);
    let output = command.args(["-af", "ebur128=peak=true", "-vn", "-f", "null", "-"]).output()?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let summary = text.rsplit_once("Summary:").context("no summary")?.1.to_owned();
    let figure = |name: &str| {
        let line = summary.lines().find_map(|line| line.trim().strip_prefix(name)).context("no figure")?;
        line.split_whitespace().next().context("no number")?.parse::<f64>().context("not a number")
    };
    Ok((figure("I:")?, figure("Peak:")?))
}

fn judged(media: &Path, clip: &Clip) -> Result<Verdict> {
    let limits = Limits { sync_ms: 25.0, audio_step_ms: 24.5, ..Limits::default() };
    Ok(judge(&Recording::read(media)?, &[Animal::new(clip.clone())], &limits))
}

#[test]
fn every_picture_is_there_and_the_parameters_are_those_of_every_other_result() -> Result<()> {
    let kitchen = Kitchen::new()?;
    let clip = foreign();
    let original = kitchen.put(&clip)?;
    let before = std::fs::read(&original)?;
    let (media, certificate) = kitchen.result(&kitchen.prepare(&kitchen.job(&original))?)?;
    let verdict = judged(&media, &clip)?;
    assert!(verdict.problems.is_empty(), "\n{verdict}");
    assert_eq!(certificate["frames"], 150, "{certificate:#}");
    assert_eq!(certificate["idr"]["at_ms"], json!([0, 2000, 4000]), "{certificate:#}");
    assert!(certificate["av_end_skew_ms"].as_f64().is_some_and(|ms| ms.abs() <= 34.0), "{certificate:#}");
    let (lufs, peak) = loudness(&media)?;
    assert!((lufs + 14.0).abs() <= 0.5 && peak <= -1.0, "{lufs} LUFS, {peak} dBTP, {certificate:#}");
    assert!(std::fs::read(&original)? == before, "the original was touched");

    let mpeg2 = &["-c:v", "mpeg2video", "-b:v", "3M", "-g", "15", "-bf", "0"];
    // Its picture begins after its sound, and it has no index: the first picture is held from the item's zero.
    let sound = Audio { rate: 48_000, channels: 2, span: 0.0..5.52, marker: None };
    let late = Clip { video_start: 0.52, ..Clip::plain("other.ts", 42).lasting(5.0).sounding(Some(sound)) };
    let other = Clip { video: mpeg2, size: (720, 576), fps: 25, ..late };
    let original = kitchen.put(&other)?;
    let (second, paper) = kitchen.result(&kitchen.prepare(&kitchen.job(&original))?)?;
    assert_eq!(certificate["parameters"], paper["parameters"]);
    assert_eq!(parameters(&media)?, parameters(&second)?);
    let verdict = judged(&second, &other)?;
    let row = verdict.rows.first().context("nothing was shown")?;
    assert_eq!((row.seen.clone(), row.lost), (0..124, 0), "\n{verdict}");
    assert!(
        verdict.worst_offset_ms() < 30.0 && row.offsets.len() == Animal::new(other.clone()).beeps(),
        "\n{verdict}"
    );
    Ok(())
}

#[test]
fn a_picture_that_fits_is_copied_and_only_its_sound_is_made() -> Result<()> {
    let kitchen = Kitchen::new()?;
    let mono = Audio { rate: 44_100, channels: 1, span: 0.0..3.0, marker: None };
    let clip = Clip { video: WITH_B, ..Clip::plain("mono.mp4", 43).sounding(Some(mono)) };
    let original = kitchen.put(&clip)?;
    let (media, certificate) = kitchen.result(&kitchen.prepare(&kitchen.job(&original))?)?;
    assert_eq!((&certificate["video"], &certificate["audio"]), (&json!("copy"), &json!("transcode")));
    assert_eq!(parameters(&media)?, parameters(&original)?);
    let verdict = judged(&media, &clip)?;
    assert!(verdict.problems.is_empty(), "\n{verdict}");

    let fits = kitchen.put(&Clip { video: NO_B, ..Clip::plain("fits.mp4", 44) })?;
    let answer = kitchen.prepare(&kitchen.job(&fits))?;
    assert_eq!(answer.last().context("said nothing")?["type"], "fits");
    let mut job = kitchen.job(&fits);
    job["even_if_it_fits"] = true.into();
    let (media, _) = kitchen.result(&kitchen.prepare(&job)?)?;
    let (lufs, _) = loudness(&media)?;
    assert!((lufs + 14.0).abs() <= 0.5, "{lufs} LUFS");
    Ok(())
}

#[test]
fn a_job_that_was_killed_goes_on_where_it_was() -> Result<()> {
    let kitchen = Kitchen::new()?;
    let clip = Clip { file: "long.mkv", ..foreign().lasting(8.0) };
    let original = kitchen.put(&clip)?;
    let job = kitchen.job(&original);
    let mut child = kitchen.spawn(&job)?;
    wait_for("two finished parts", LONG, || Ok((kitchen.parts() >= 2).then_some(())))?;
    child.kill().context("kill the job")?;
    child.wait().context("wait for it")?;
    let done = kitchen.parts() as u64;
    let said = kitchen.prepare(&job)?;
    let pictures = said.iter().filter(|line| line["stage"] == "picture");
    let earliest = pictures.filter_map(|line| line["done_ms"].as_u64()).min();
    assert!(earliest.is_none_or(|ms| ms >= done * 2000), "{done} parts were there, yet: {said:#?}");
    let (media, certificate) = kitchen.result(&said)?;
    assert_eq!(certificate["frames"], 240, "{certificate:#}");
    let verdict = judged(&media, &clip)?;
    assert!(verdict.problems.is_empty(), "\n{verdict}");
    assert_eq!(kitchen.parts(), 0, "parts are left");
    Ok(())
}

#[test]
fn what_is_broken_is_refused_with_its_reason() -> Result<()> {
    let kitchen = Kitchen::new()?;
    let text = kitchen.folder.path().join("text.mp4");
    std::fs::write(&text, "This is a shopping list, not a film.\n".repeat(200))?;
    let container = &["-movflags", "+faststart"];
    let cut = Clip { video: HEVC, container, then: Then::CutAt { part: 0.5 }, ..Clip::plain("cut.mp4", 45) };
    let cut = kitchen.put(&cut.lasting(5.0))?;
    for (file, reason) in [(text, "Invalid data"), (cut, "breaks off after")] {
        let output = kitchen.run(&kitchen.job(&file))?;
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{words}");
        assert!(words.contains(reason), "{reason:?} is not in {words:?}");
    }
    let results = std::fs::read_dir(kitchen.folder.path().join("cache/prepared"))?.flatten();
    let left: Vec<_> = results.map(|e| e.file_name()).filter(|name| name != ".work").collect();
    assert!(left.is_empty(), "{left:?}");
    Ok(())
}

fn jobs(controller: &Controller) -> Result<Vec<Value>> {
    let list = controller.get("/api/media/prepare")?.json();
    Ok(list["jobs"].as_array().cloned().unwrap_or_default())
}

#[test]
fn what_a_channel_transcodes_is_copied_in_a_later_round() -> Result<()> {
    let sink = Sink::start()?;
    let plan = Plan::new()?.with("PREPARE", "on").with("PREPARE_PART_SECONDS", "2");
    let first = Clip::plain("1-fits.mp4", 46);
    let second = Clip { video: HEVC, size: (960, 540), ..Clip::plain("2-hevc.mp4", 47).lasting(5.0) };
    let animals = [Animal::new(first), Animal::new(second)];
    e2e::zoo::put_into(&plan.media(), &animals)?;
    let controller = plan.start()?;
    refusals(&controller)?;
    controller.go_on_air(&start(&[destination("one", &sink.url(), "key-of-one")]))?;
    controller.wait_until("media are acknowledged", SOON, |s| is_live(s, "one"))?;
    wait_for("the file to be prepared", LONG, || {
        let all = jobs(&controller)?;
        assert!(all.iter().all(|job| job["state"] != "failed"), "{all:#?}");
        Ok(all.iter().any(|job| job["key"] == "2-hevc.mp4" && job["state"] == "ready").then_some(()))
    })?;
    let prepared = |s: &Value| plays(s, "2-hevc.mp4") && s["item"]["video"] == "copy";
    let status = controller.wait_until("the file is copied", LONG, prepared)?;
    let reason = status["item"]["reason"].as_str().unwrap_or_default();
    assert!(reason.starts_with("prepared: video is hevc"), "{status:#}");
    assert_eq!(status["item"]["audio"], "copy", "{status:#}");
    controller.wait_until("the next round", LONG, |s| plays(s, "1-fits.mp4"))?;
    // A machine that has no time for a live transcode passes the file over until it is prepared.
    let passed_over = status["failed_items"].to_string().contains("waits to be prepared");
    controller.go_off_air()?;
    let mut verdict = judge_loop(Recording::read(&sink.recording(1))?, &animals, 3, &Limits::default());
    verdict.problems.retain(|p| !(passed_over && p.starts_with("items on the air were")));
    assert!(verdict.problems.is_empty(), "\n{verdict}");
    same_parameters_as_the_slate(&controller)
}

#[test]
fn what_is_prepared_is_held_to_the_budget_and_what_is_removed_is_made_again() -> Result<()> {
    // The least that counts: the first result fills it.
    let plan = Plan::new()?.with("PREPARE", "on").with("CACHE_BYTES", "1");
    let hevc = |file| Clip { video: HEVC, size: (320, 180), ..Clip::plain(file, 48).lasting(2.0) };
    e2e::zoo::put_into(&plan.media(), &[Animal::new(hevc("1.mp4")), Animal::new(hevc("2.mp4"))])?;
    let controller = plan.start()?;
    let profile = json!({"width": 320, "height": 180, "fps": 30, "video_kbps": 500});
    controller.go_on_air(&json!({"profile": profile, "media": ["1.mp4"]}))?;
    let state_of = |key: &str| -> Result<Option<Value>> {
        Ok(jobs(&controller)?.into_iter().find(|job| job["key"] == key))
    };
    let ready = |key: &str| Ok(state_of(key)?.filter(|job| job["state"] == "ready").map(drop));
    wait_for("the file on the air to be prepared", LONG, || ready("1.mp4"))?;
    assert_eq!(controller.post("/api/media/prepare", &json!({"keys": ["2.mp4"]}))?.status, 202);
    let waits = wait_for("the other one to be put off", LONG, || {
        Ok(state_of("2.mp4")?.filter(|job| job["error"].is_string() && job["state"] == "waiting"))
    })?;
    assert!(waits["error"].as_str().is_some_and(|why| why.contains("CACHE_BYTES")), "{waits:#}");
    let cache = wait_for("it to be counted", LONG, || {
        let cache = controller.get("/api/media/cache")?.json();
        Ok((cache["prepared_files"] == 1).then_some(cache))
    })?;
    assert_eq!((&cache["enabled"], &cache["used"]), (&json!(false), &cache["prepared_bytes"]), "{cache:#}");

    let folder = controller.plan().state().join("cache/prepared");
    let results = || -> Result<Vec<PathBuf>> {
        let all = std::fs::read_dir(&folder)?.flatten().map(|entry| entry.path());
        Ok(all.filter(|path| path.is_file()).collect())
    };
    assert_eq!(results()?.len(), 2, "what is on the air was removed");
    results()?.iter().try_for_each(std::fs::remove_file)?;
    wait_for("it to be made again", LONG, || Ok((results()?.len() == 2).then_some(())))?;
    Ok(())
}

fn refusals(controller: &Controller) -> Result<()> {
    for (body, status, words) in [
        (json!({}), 422, "must name a file"),
        (json!({"keys": ["2-hevc.mp4"], "all": true}), 422, "must be empty"),
        (json!({"keys": ["2-hevc.mp4"], "speed": 2}), 422, "speed"),
        (json!({"keys": ["2-hevc.mp4"]}), 409, "has no profile"),
        (json!({"all": true, "channel": "nobody"}), 404, "nobody"),
    ] {
        let answer = controller.post("/api/media/prepare", &body)?;
        assert!(
            answer.status == status && answer.text.contains(words),
            "{body}: {} {}",
            answer.status,
            answer.text
        );
    }
    assert_eq!(jobs(controller)?, Vec::<Value>::new());
    Ok(())
}

fn same_parameters_as_the_slate(controller: &Controller) -> Result<()> {
    let cache = controller.plan().state().join("cache");
    let find = |folder: &Path, start: &str, end: &str| -> Result<PathBuf> {
        let files = std::fs::read_dir(folder)?.flatten().map(|e| e.path());
        let named = |p: &PathBuf| {
            p.file_name().and_then(|n| n.to_str()).is_some_and(|n| n.starts_with(start) && n.ends_with(end))
        };
        files.into_iter().find(named).with_context(|| format!("no {start}…{end} in {}", folder.display()))
    };
    let slate = find(&cache, "slate-", ".flv")?;
    let result = find(&cache.join("prepared"), "", ".mp4")?;
    assert_eq!(parameters(&slate)?, parameters(&result)?);
    Ok(())
}
