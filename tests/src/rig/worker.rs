//! A worker that is started by hand with a spec of the test's own; what it would tell a controller is in its log.

use super::program;
use crate::zoo::Animal;
use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;

/// A running worker.
#[derive(Debug)]
pub struct Worker {
    child: Child,
    folder: TempDir,
}

impl Worker {
    /// Starts it. The spec says items, destinations and storage; the rest is added.
    pub fn start(spec: Value) -> Result<Self> {
        let folder = tempfile::tempdir().context("make a folder for the worker")?;
        let mut whole = json!({"channel": "main", "name": "Main", "run": "01TESTRUN", "epoch": 1,
            "ffmpeg": on_path("ffmpeg")?, "ffprobe": on_path("ffprobe")?,
            "cache_dir": folder.path().join("cache")});
        if let (Some(whole), Value::Object(spec)) = (whole.as_object_mut(), spec) {
            whole.extend(spec);
        }
        let path = folder.path().join("spec.json");
        let mut file = File::options().create_new(true).write(true).mode(0o600).open(&path)?;
        file.write_all(whole.to_string().as_bytes()).context("write the spec")?;
        let log = File::create(folder.path().join("worker.log")).context("make the worker's log")?;
        let mut command = Command::new(program::built("stream-worker")?);
        command.arg("--spec").arg(path).env("LOG_LEVEL", "debug").env_remove("LOG_FORMAT");
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .context("start a worker")?;
        Ok(Self { child, folder })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has said so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("worker.log")).unwrap_or_default()
    }

    /// Where it keeps what can be made again.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn told(&self, kind: &str) -> Vec<Value> {
        let log = self.log();
        let messages = log.lines().filter_map(|line| line.split_once("would tell the controller "));
        let messages = messages.filter_map(|(_, text)| serde_json::from_str::<Value>(text).ok());
        messages.filter(|message| message["type"] == kind).collect()
    }

    /// Events of a kind, such as `item.ended`: their data.
    pub fn events(&self, kind: &str) -> Vec<Value> {
        self.told("event").into_iter().filter(|e| e["kind"] == kind).map(|e| e["data"].clone()).collect()
    }

    /// The newest heartbeat.
    pub fn heartbeat(&self) -> Value {
        self.told("heartbeat").pop().unwrap_or_default()
    }

    /// Why an item was left before its end or could not be played, the newest time; `None` while there is no reason.
    pub fn reason(&self, key: &str) -> Option<String> {
        let events = ["item.ended", "item.failed"].map(|kind| self.events(kind)).concat();
        events.iter().rev().filter(|e| e["key"] == key).find_map(|e| e["reason"].as_str().map(str::to_owned))
    }

    /// Waits until so many events of a kind were told.
    pub fn wait_for(&mut self, kind: &str, count: usize, limit: Duration) -> Result<()> {
        let what = format!("{count} × {kind} of the worker");
        let found = program::wait_for(&what, limit, || {
            if self.events(kind).len() >= count {
                return Ok(Some(()));
            }
            match self.child.try_wait().context("look after the worker")? {
                Some(status) => bail!("the worker ended with {status}"),
                None => Ok(None),
            }
        });
        found.with_context(|| self.tail())
    }

    /// Waits until it has played everything.
    pub fn wait_for_end(&mut self, limit: Duration) -> Result<()> {
        let ended = program::wait_for("the end of the playlist", limit, || {
            self.child.try_wait().context("look after the worker")
        });
        let status = ended.with_context(|| self.tail())?;
        if status.success() { Ok(()) } else { bail!("the worker ended with {status}\n{}", self.tail()) }
    }

    /// Ends it.
    pub fn end(&mut self) {
        program::end(&mut self.child, Duration::from_secs(20));
    }

    /// The end of its log, without its heartbeats.
    pub fn tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().filter(|line| !line.contains(r#""type":"heartbeat""#)).collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            self.end();
        }
    }
}

/// Playlist entries for objects of these names.
pub fn objects(folder: &Path, animals: &[Animal]) -> Result<Value> {
    let mut items = Vec::new();
    for (n, animal) in animals.iter().enumerate() {
        let path = folder.join(animal.clip.file);
        let size = path.metadata().with_context(|| format!("look at {}", path.display()))?.len();
        items.push(
            json!({"id": format!("item-{n}"), "key": animal.clip.file, "at": {"object": {"size": size}}}),
        );
    }
    Ok(items.into())
}

/// A destination of a worker.
pub fn destination(url: &str) -> Value {
    json!({"id": "one", "name": "One", "platform": "custom", "url": url, "key": "k"})
}

fn on_path(name: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file());
    found.with_context(|| format!("{name} is not on the path"))
}
