//! A wall clock that a test sets, for a controller and its workers: libfaketime, which reads the offset from a file.
//! The clock that only counts stays as it is.

use super::controller::Plan;
use super::program;
use anyhow::{Context, Result};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use tempfile::TempDir;

/// Where Debian and Ubuntu put the library.
const FOLDERS: [&str; 2] = ["/usr/lib/x86_64-linux-gnu/faketime", "/usr/lib/aarch64-linux-gnu/faketime"];

/// A clock.
#[derive(Debug)]
pub struct Clock {
    folder: TempDir,
}

impl Clock {
    /// One that is right.
    pub fn new() -> Result<Self> {
        let clock = Self { folder: tempfile::tempdir().context("make a folder for the clock")? };
        clock.set(0)?;
        Ok(clock)
    }

    /// Sets it so many seconds ahead of what is right.
    pub fn set(&self, seconds: i64) -> Result<()> {
        let (file, next) = (self.folder.path().join("clock"), self.folder.path().join("next"));
        fs::write(&next, format!("{seconds:+}s\n")).context("write the clock")?;
        fs::rename(next, file).context("set the clock")
    }

    /// A plan whose controller and workers believe this clock; FFmpeg does not.
    pub fn given_to(&self, plan: Plan) -> Result<Plan> {
        let library = FOLDERS.iter().map(|folder| format!("{folder}/libfaketimeMT.so.1"));
        let library = library.into_iter().find(|path| Path::new(path).exists());
        let library = library.context("libfaketime is missing: apt-get install libfaketime")?;
        let file = self.folder.path().join("clock").display().to_string();
        let settings = [
            ("LD_PRELOAD", library.as_str()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
            ("FAKETIME_CACHE_DURATION", "1"),
            ("FAKETIME_TIMESTAMP_FILE", file.as_str()),
        ];
        // The controller passes none of this on, so that the worker gets it from a script in between.
        let words: Vec<_> = settings.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let worker = self.folder.path().join("worker");
        let program = program::built("stream-worker")?;
        let script = format!("#!/bin/sh\nexec env {} {} \"$@\"\n", words.join(" "), program.display());
        fs::write(&worker, script).context("write the worker's script")?;
        fs::set_permissions(&worker, Permissions::from_mode(0o755)).context("make it a program")?;
        let plan = plan.with("WORKER_PATH", &worker);
        Ok(settings.iter().fold(plan, |plan, (name, value)| plan.with(name, value)))
    }
}
