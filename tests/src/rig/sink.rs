//! The loopback sink as a program of a test.

use super::program;
use crate::sink::{Arrival, read_arrivals};
use anyhow::{Context, Result};
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;

/// A running `rtmp-sink`.
#[derive(Debug)]
pub struct Sink {
    child: Child,
    address: String,
    folder: TempDir,
}

impl Sink {
    /// Starts it on a free port.
    pub fn start() -> Result<Self> {
        Self::start_at("127.0.0.1:0")
    }

    /// Starts it where the test wants it, for example where another one was.
    pub fn start_at(address: &str) -> Result<Self> {
        let folder = tempfile::tempdir().context("make a folder for the sink")?;
        let mut command = Command::new(program::built("rtmp-sink")?);
        command.args(["--listen", address, "--record"]).arg(folder.path());
        let mut child = command.stdout(Stdio::piped()).spawn().context("start rtmp-sink")?;
        let mut line = String::new();
        let stdout = child.stdout.take().context("take the sink's stdout")?;
        BufReader::new(stdout).read_line(&mut line).context("read the sink's address")?;
        Ok(Self { child, address: line.trim().to_owned(), folder })
    }

    /// Host and port.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Address of its application, without a key.
    pub fn url(&self) -> String {
        format!("rtmp://{}/live", self.address)
    }

    /// Everything that has happened so far.
    pub fn events(&self) -> Result<Vec<Value>> {
        let text =
            std::fs::read_to_string(self.folder.path().join("events.jsonl")).context("read the events")?;
        // The last line may be half written.
        Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
    }

    /// How often something has happened: `publish`, `first_idr`, `refused`, `close`.
    pub fn count(&self, event: &str) -> Result<usize> {
        Ok(self.events()?.iter().filter(|e| e["event"] == event).count())
    }

    /// Waits until it has happened so often.
    pub fn wait_for(&self, event: &str, count: usize, limit: Duration) -> Result<()> {
        let what = format!("{count} × {event} at the sink");
        program::wait_for(&what, limit, || Ok((self.count(event)? >= count).then_some(())))
    }

    /// The longest wait for a picture inside of one publish, ms.
    pub fn latest_picture_ms(&self) -> Result<u64> {
        let mut latest = 0;
        for publish in 1..=self.count("publish")? {
            let came: Vec<u64> =
                self.arrivals(publish)?.iter().filter(|a| a.video).map(|a| a.at_ms).collect();
            let waits = came.windows(2).map(|pair| pair[1].saturating_sub(pair[0]));
            latest = waits.fold(latest, u64::max);
        }
        Ok(latest)
    }

    /// The recording of a publish, counted from 1.
    pub fn recording(&self, publish: usize) -> PathBuf {
        self.folder.path().join(format!("publish-{publish}.flv"))
    }

    /// When each tag of a publish has arrived; complete after its end.
    pub fn arrivals(&self, publish: usize) -> Result<Vec<Arrival>> {
        read_arrivals(&self.folder.path().join(format!("publish-{publish}.arrivals")))
    }

    /// Stops listening and closes its files, which stay until the rig is dropped.
    pub fn end(&mut self) {
        program::end(&mut self.child, Duration::from_secs(10));
    }

    /// Freezes or wakes it, as a peer that hangs.
    pub fn freeze(&self, frozen: bool) {
        use rustix::process::Signal;
        program::signal(&self.child, if frozen { Signal::STOP } else { Signal::CONT });
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.freeze(false);
        self.end();
    }
}
