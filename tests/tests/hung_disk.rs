//! A disk that hangs under a worker that is on the air: pipes that nobody writes into stand where files are read, and
//! whoever opens one waits for ever.

use anyhow::{Context, Result};
use e2e::media::{Audio, Clip, EVEN};
use e2e::recording::Recording;
use e2e::rig::program;
use e2e::rig::s3::{self, S3};
use e2e::rig::sink::Sink;
use e2e::rig::worker::{self, Worker};
use e2e::runs::runs;
use e2e::zoo::{self, Animal};
use ring::digest;
use serde_json::{Value, json};
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(20);
const WHOLE: Duration = Duration::from_secs(120);
const PREPARED: &str = "10-prepared.mp4";
const COPIED: &str = "11-copied.mp4";
const STUCK: &str = "12-stuck.mp4";
const BREAK: &str = "50-break.mp4";
const FILM: &str = "10-film.mkv";
const BUCKET: &str = "media";

/// Names in the cache begin with a hash of what they are about.
fn hash(parts: &[&str]) -> String {
    let digest = digest::digest(&digest::SHA256, parts.join("\0").as_bytes());
    digest.as_ref().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

fn pipe_at(path: &Path) -> Result<()> {
    std::fs::create_dir_all(path.parent().context("it is in a folder")?)?;
    let _ = std::fs::remove_file(path);
    anyhow::ensure!(Command::new("mkfifo").arg(path).status()?.success(), "no pipe at {}", path.display());
    Ok(())
}

struct Scene {
    s3: S3,
    items: Vec<Animal>,
    folder: tempfile::TempDir,
}

impl Scene {
    fn set() -> Result<Self> {
        let even = |file, item| {
            let clip = Clip::plain(file, item).lasting(10.0);
            Animal::new(Clip { video: EVEN, container: &["-movflags", "+faststart"], ..clip })
        };
        let items = vec![even(PREPARED, 10), even(COPIED, 11)];
        let (s3, folder) = (S3::start()?, tempfile::tempdir()?);
        zoo::put_into(&s3.bucket(), &items)?;
        Clip { size: (640, 360), ..Clip::plain(BREAK, 50).lasting(2.0) }.put_into(folder.path())?;
        Ok(Self { s3, items, folder })
    }

    fn cache(&self) -> PathBuf {
        self.folder.path().join("cache")
    }

    fn play(&self, items: &Value, sink: &Sink) -> Result<Worker> {
        Worker::start(json!({
            "profile": {"width": 640, "height": 360, "fps": "30", "video_kbps": 1500},
            "items": items, "loop": false, "cache_dir": self.cache(),
            "fallback": {"id": "break", "key": BREAK, "at": {"path": self.folder.path().join(BREAK)}},
            "destinations": [worker::destination(&sink.url())],
            "storage": s3::settings(&self.s3.url(), 3600),
        }))
    }

    /// The profile's part of a name in the cache, from the fallback video that a worker has made there.
    fn made_for(&self, items: &Value) -> Result<(PathBuf, String)> {
        let sink = Sink::start()?;
        let mut worker = self.play(items, &sink)?;
        program::wait_for("the fallback video", WHOLE, || {
            Ok((worker.heartbeat()["protected"] == true).then_some(()))
        })
        .with_context(|| worker.tail())?;
        worker.end();
        let entries = std::fs::read_dir(self.cache().join("fallback"))?.flatten().map(|entry| entry.path());
        let label = entries.into_iter().find(|path| path.extension().is_some_and(|e| e == "json"));
        let label = label.context("the fallback video has a label")?;
        let name = label.file_stem().context("it has a name")?.to_string_lossy().into_owned();
        let (_, profile) = name.split_once('-').context("its name has parts")?;
        Ok((label.clone(), profile.to_owned()))
    }
}

#[test]
fn whatever_hangs_is_read_otherwise_or_left_out_and_nobody_sees_it() -> Result<()> {
    let scene = Scene::set()?;
    let mut items = worker::objects(&scene.s3.bucket(), &scene.items)?;
    let list = items.as_array_mut().context("items are a list")?;
    list.iter_mut().for_each(|item| item["content"] = "one".into());
    let (label, profile) = scene.made_for(&json!([list[1]]))?;
    let stuck = scene.folder.path().join(STUCK);
    list.insert(1, json!({"id": "stuck", "key": STUCK, "at": {"path": stuck}}));
    let certificate = format!("{}-{profile}.json", hash(&[PREPARED, "one"]));
    let copy = format!("{}.json", hash(&[BUCKET, COPIED, "one"]));
    for path in [
        label,
        stuck,
        scene.cache().join("prepared").join(certificate),
        scene.cache().join("media").join(copy),
    ] {
        pipe_at(&path)?;
    }
    let mut sink = Sink::start()?;
    let mut worker = scene.play(&items, &sink)?;
    worker.wait_for_end(WHOLE)?;
    sink.wait_for("close", 1, SOON)?;
    sink.end();
    let context = || worker.tail();
    let recording = Recording::read(&sink.recording(1))?;
    assert_eq!(recording.decode_errors, Vec::<String>::new(), "{}", context());
    let seen: Vec<_> = runs(&recording).iter().map(|run| (run.item, run.pictures.len())).collect();
    assert_eq!(seen.iter().filter(|run| **run == (10, 300)).count(), 1, "{seen:?}\n{}", context());
    assert_eq!(seen.last(), Some(&(11, 300)), "{seen:?}\n{}", context());
    assert_eq!(sink.count("publish")?, 1, "the connection was not kept\n{}", context());
    let late = sink.latest_picture_ms()?;
    assert!(late <= 600, "{late} ms without a picture\n{}", context());
    assert_eq!(worker.reason(STUCK).as_deref(), Some("is empty (0 bytes)"), "{}", context());
    for (what, key) in
        [("what was prepared cannot be looked for", PREPARED), ("its copy cannot be looked for", COPIED)]
    {
        let log = worker.log();
        let said = log.lines().any(|line| line.contains(what) && line.contains(key));
        assert!(said, "nothing is said of {key}\n{}", context());
    }
    let why = worker.reason(BREAK).unwrap_or_default();
    assert!(why.contains("the disk does not answer"), "{why:?}\n{}", context());
    println!("pictures at most {late} ms apart by the clock");
    Ok(())
}

/// ffprobe, which hangs over every file for as long as the mark is there.
fn hanging_probe(folder: &Path) -> Result<(PathBuf, PathBuf)> {
    let (program, mark) = (folder.join("ffprobe"), folder.join("hung"));
    let hangs = format!("[ -e '{}' ] && kill -STOP $$", mark.display());
    let script =
        format!("#!/bin/sh\ncase \"$*\" in *-version*) ;; *) {hangs} ;; esac\nexec ffprobe \"$@\"\n");
    std::fs::write(&program, script)?;
    std::fs::set_permissions(&program, Permissions::from_mode(0o755))?;
    std::fs::write(&mark, b"")?;
    Ok((program, mark))
}

#[test]
fn where_every_probe_hangs_at_the_start_the_slate_comes_and_the_media_keep_their_own_size() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (ffprobe, mark) = hanging_probe(folder.path())?;
    let sound = Audio { rate: 44_100, channels: 1, span: 0.0..3.0, marker: None };
    let film = Clip::plain(FILM, 10).sounding(Some(sound)).put_into(folder.path())?;
    let mut sink = Sink::start()?;
    let mut worker = Worker::start(json!({
        "items": [{"id": "film", "key": FILM, "at": {"path": film}}], "ffprobe": ffprobe,
        "destinations": [worker::destination(&sink.url())],
    }))?;
    // The probe of a file has 10 s, and a whole search had 30.
    program::wait_for("the slate", SOON, || Ok((worker.heartbeat()["playing"] == "fallback").then_some(())))
        .with_context(|| worker.tail())?;
    assert_eq!(worker.heartbeat()["profile"]["width"], 1280);
    std::fs::remove_file(mark)?;
    program::wait_for("two rounds of the film", WHOLE, || {
        Ok((worker.events("item.started").len() > 1).then_some(()))
    })
    .with_context(|| worker.tail())?;
    let beat = worker.heartbeat();
    let shape = ["width", "height", "sample_rate", "channels"].map(|field| beat["profile"][field].clone());
    assert_eq!(shape, [640, 360, 48_000, 2], "the sound is that of the slate\n{}", worker.tail());
    assert_eq!((&beat["item"]["video"], &beat["item"]["audio"]), (&json!("copy"), &json!("transcode")));
    worker.end();
    sink.wait_for("close", 1, SOON)?;
    sink.end();
    let recording = Recording::read(&sink.recording(1))?;
    assert_eq!(recording.decode_errors, Vec::<String>::new(), "{}", worker.tail());
    assert_eq!(sink.count("publish")?, 1, "the connection was not kept\n{}", worker.tail());
    Ok(())
}
