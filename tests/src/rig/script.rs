//! Scripts and programs that say something and end.

use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The project's folder.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// How a script ended and everything it said.
#[derive(Debug)]
pub struct Said {
    /// Its exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// What it printed, errors last.
    pub text: String,
}

/// Runs it to its end, without anything to read.
pub fn said(command: &mut Command) -> Result<Said> {
    let output = command.stdin(Stdio::null()).output().context("run a script")?;
    let text = [output.stdout, output.stderr].concat();
    Ok(Said { code: output.status.code(), text: String::from_utf8_lossy(&text).into_owned() })
}
