//! Starting a worker: whether there is one, which program, with which words, into which log. The only file that
//! starts workers.

use super::process::Process;
use crate::config::Config;
use state::ids::{ChannelId, Ulid};
use state::rotate;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A log above this many bytes is put aside when the next worker starts.
const ROTATE_ABOVE: u64 = 10 * 1024 * 1024;

/// How many logs that were put aside are kept.
const KEPT: u32 = 3;

/// What a worker gets from our environment. None of it is a secret.
const PASSED_ON: [&str; 3] = ["PATH", "SSL_CERT_FILE", "SSL_CERT_DIR"];

/// Where the supervisor is reached, below the state folder.
pub(super) fn socket_path(config: &Config) -> PathBuf {
    config.state_dir.join("run/controller.sock")
}

/// Whether a living worker holds the channel. The lock is free again when this returns; a worker that starts at
/// this very moment tries it more than once.
///
/// # Errors
/// The lock file cannot be opened.
pub(super) fn is_held(config: &Config, channel: &ChannelId) -> io::Result<bool> {
    let path = config.state_dir.join("run").join(format!("{channel}.lock"));
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(named(&path, &error)),
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(error)) => Err(named(&path, &error)),
    }
}

/// A worker that was just started.
pub(super) struct Started {
    /// Leader of its group. It must be waited for; [`Process::ended`] does.
    pub(super) process: Process,
    /// Where its words begin in the log.
    pub(super) log: LogMark,
}

/// Starts the worker of a run, in a process group of its own; with `standby` it waits for the channel's lock.
///
/// # Errors
/// The log cannot be opened or the program cannot be started; the message names the file.
#[allow(clippy::zombie_processes)] // It outlives this program's memory: see `Process::ended`.
pub(super) fn worker(config: &Config, channel: &ChannelId, run: &Ulid, standby: bool) -> io::Result<Started> {
    let (file, log) = open_log(&config.state_dir.join("logs"), channel)?;
    let mut command = Command::new(&config.worker);
    command
        .args(["--channel", channel.as_str(), "--run", run.as_str(), "--socket"])
        .arg(socket_path(config))
        .arg("--log")
        .arg(log_path(config, channel))
        .args(standby.then_some("--standby"))
        .env_clear()
        .envs(PASSED_ON.iter().filter_map(|name| Some((name, std::env::var_os(name)?))))
        .env("LOG_LEVEL", &config.log_level)
        .env("LOG_FORMAT", config.log_format.as_str())
        .current_dir(&config.state_dir)
        .stdin(Stdio::null())
        .stdout(file.try_clone()?)
        .stderr(file)
        .process_group(0);
    let child = command.spawn().map_err(|e| named(&config.worker, &e))?;
    // It has an entry until it is waited for, also when it has ended already.
    let started = Process::started(child.id()).unwrap_or_default();
    Ok(Started { process: Process { pid: child.id(), started }, log })
}

fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// A place in a log: what one run wrote comes after it.
#[derive(Debug, Clone, Default)]
pub(super) struct LogMark {
    path: PathBuf,
    offset: u64,
}

fn log_path(config: &Config, channel: &ChannelId) -> PathBuf {
    config.state_dir.join("logs").join(format!("{channel}.log"))
}

/// Where an adopted run will write its next words.
pub(super) fn end_of_log(config: &Config, channel: &ChannelId) -> LogMark {
    let path = log_path(config, channel);
    let offset = fs::metadata(&path).map_or(0, |meta| meta.len());
    LogMark { path, offset }
}

fn open_log(folder: &Path, channel: &ChannelId) -> io::Result<(File, LogMark)> {
    let path = folder.join(format!("{channel}.log"));
    let named = |error: io::Error| named(&path, &error);
    if fs::metadata(&path).is_ok_and(|meta| meta.len() > ROTATE_ABOVE) {
        rotate::put_aside(&path, KEPT).map_err(named)?;
    }
    let file = OpenOptions::new().append(true).create(true).mode(0o600).open(&path).map_err(named)?;
    let offset = file.metadata()?.len();
    Ok((file, LogMark { path, offset }))
}

impl LogMark {
    /// The last line that was written after this place; at most 500 characters.
    pub(super) fn last_line(&self) -> Option<String> {
        let mut file = File::open(&self.path).ok()?;
        let end = file.metadata().ok()?.len();
        // A shorter file is a fresh one: the worker has put the old one aside.
        let begin = if self.offset > end { 0 } else { self.offset };
        file.seek(SeekFrom::Start(begin.max(end.saturating_sub(8192)))).ok()?;
        let mut bytes = Vec::new();
        file.take(8192).read_to_end(&mut bytes).ok()?;
        let text = String::from_utf8_lossy(&bytes);
        let line = text.lines().rev().map(str::trim).find(|line| !line.is_empty())?;
        Some(message_of(line).chars().filter(|c| !c.is_control()).take(500).collect())
    }
}

/// The words of a JSON log line; any other line as it is.
fn message_of(line: &str) -> String {
    let words = |value: serde_json::Value| {
        let fields = value.get("fields").unwrap_or(&value).clone();
        let message = fields.get("message")?.as_str()?.to_owned();
        Some(match fields.get("error").and_then(serde_json::Value::as_str) {
            Some(error) => format!("{message}: {error}"),
            None => message,
        })
    };
    serde_json::from_str(line).ok().and_then(words).unwrap_or_else(|| line.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_words_are_those_of_this_run() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("main.log");
        fs::write(&path, "an older run\n").unwrap();
        let (mut file, mark) = open_log(folder.path(), &ChannelId::main()).unwrap();
        assert_eq!(mark.last_line(), None);
        io::Write::write_all(&mut file, b"first\nno space left on device\n\n").unwrap();
        assert_eq!(mark.last_line().as_deref(), Some("no space left on device"));
        let json = br#"{"level":"ERROR","fields":{"message":"worker ends","error":"lock is held"}}"#;
        io::Write::write_all(&mut file, json).unwrap();
        assert_eq!(mark.last_line().as_deref(), Some("worker ends: lock is held"));
    }

    #[test]
    fn a_long_log_is_put_aside_and_three_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("main.log");
        for _ in 0..6 {
            File::create(&path).unwrap().set_len(ROTATE_ABOVE + 1).unwrap();
            open_log(folder.path(), &ChannelId::main()).unwrap();
        }
        let mut names: Vec<_> = fs::read_dir(folder.path())
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, ["main.log", "main.log.1", "main.log.2", "main.log.3"]);
    }
}
