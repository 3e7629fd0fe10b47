//! hls.js in a headless Chromium: what a viewer sees.

use anyhow::{Context, Result};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use crate::media::run;

/// Plays `url` for `seconds` of media and gives what was seen (see `tests/browser/play.mjs`).
pub fn watch(url: &str, seconds: u32) -> Result<Value> {
    let folder = folder();
    install(&folder)?;
    // The script has a deadline of its own; this one is for a browser that hangs.
    let limit = (seconds * 2 + 60).to_string();
    let mut command = Command::new("timeout");
    command.args([&limit, "node", "play.mjs", "--url", url, "--seconds", &seconds.to_string()]);
    let text = run(command.current_dir(&folder)).context("play in Chromium")?;
    serde_json::from_slice(&text).context("read what the browser saw")
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("browser")
}

/// Installs exactly what the lock file names, once.
fn install(folder: &Path) -> Result<()> {
    static INSTALLING: Mutex<()> = Mutex::new(());
    let _one = INSTALLING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let fresh = |path: PathBuf| path.metadata().and_then(|m| m.modified()).ok();
    let installed = fresh(folder.join("node_modules/.package-lock.json"));
    if installed.is_some() && installed >= fresh(folder.join("package-lock.json")) {
        return Ok(());
    }
    let mut command = Command::new("npm");
    run(command.args(["ci", "--no-audit", "--no-fund"]).current_dir(folder))
        .context("install the browser rig")?;
    Ok(())
}
