//! Which FFmpeg there is. Asked once at start-up, and again only while the answer was "none".

use crate::config::Config;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::process::Command;

/// The programs that workers will run.
#[derive(Debug, Clone)]
pub struct Tools {
    /// Absolute where it was found.
    pub ffmpeg: PathBuf,
    /// Absolute where it was found.
    pub ffprobe: PathBuf,
    /// Why they cannot be used, in words; empty when they can.
    pub problems: Vec<String>,
}

/// Finds both programs and asks them for their version.
pub async fn look(config: &Config) -> Tools {
    let search = std::env::var_os("PATH").unwrap_or_default();
    let ffmpeg = find(&config.ffmpeg, &search);
    let ffprobe = find(&config.ffprobe, &search);
    let (a, b) = tokio::join!(
        problem("FFmpeg", "FFMPEG_PATH", &config.ffmpeg, ffmpeg.as_deref()),
        problem("ffprobe", "FFPROBE_PATH", &config.ffprobe, ffprobe.as_deref())
    );
    Tools {
        ffmpeg: ffmpeg.unwrap_or_else(|| PathBuf::from(&config.ffmpeg)),
        ffprobe: ffprobe.unwrap_or_else(|| PathBuf::from(&config.ffprobe)),
        problems: a.into_iter().chain(b).collect(),
    }
}

/// The file behind a program's name, looked up once so that children need no search path.
fn find(name: &str, search: &std::ffi::OsStr) -> Option<PathBuf> {
    if name.contains('/') {
        return std::fs::canonicalize(name).ok();
    }
    std::env::split_paths(search).map(|folder| folder.join(name)).find(|path| path.is_file())
}

async fn problem(title: &str, variable: &str, name: &str, path: Option<&Path>) -> Option<String> {
    let advice = format!("install FFmpeg 5.1 or newer, or set {variable}");
    let Some(path) = path else { return Some(format!("{title} was not found as {name:?}; {advice}")) };
    let asked = Command::new(path)
        .arg("-version")
        .env_clear()
        .stdin(std::process::Stdio::null())
        .kill_on_drop(true)
        .output();
    match tokio::time::timeout(Duration::from_secs(10), asked).await {
        Ok(Ok(answer)) if answer.status.success() => too_old(&String::from_utf8_lossy(&answer.stdout))
            .map(|v| format!("{title} {v} is too old; {advice}")),
        Ok(Ok(answer)) => {
            Some(format!("{title} at {} does not work ({}); {advice}", path.display(), answer.status))
        }
        Ok(Err(error)) => Some(format!("{title} at {} cannot be started: {error}; {advice}", path.display())),
        Err(_) => Some(format!("{title} at {} does not answer; {advice}", path.display())),
    }
}

/// The version in the first line, when it is below 5.1. Builds without a number (`N-109000-g…`) pass: they are
/// made from a development tree and carry no order.
fn too_old(answer: &str) -> Option<String> {
    let version = answer.split_whitespace().nth(2)?;
    let digits = version.strip_prefix('n').unwrap_or(version);
    let mut parts = digits.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    let major = parts.next()?.ok()?;
    let minor = parts.next().and_then(Result::ok).unwrap_or(0);
    ((major, minor) < (5, 1)).then(|| version.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_below_5_1_are_too_old() {
        let line = |v: &str| format!("ffmpeg version {v} Copyright (c) 2000-2022 the FFmpeg developers");
        for old in ["4.4.2-0ubuntu0.22.04.1", "5.0", "n4.4", "3.4.11"] {
            assert_eq!(too_old(&line(old)).as_deref(), Some(old));
        }
        for good in ["5.1.9-0+deb12u1", "5.1", "n7.1.1", "8.0", "N-109000-gdeadbeef", "10.0"] {
            assert_eq!(too_old(&line(good)), None, "{good}");
        }
    }

    #[test]
    fn a_program_is_found_on_the_search_path_or_by_its_own() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ffmpeg"), "").unwrap();
        assert_eq!(find("ffmpeg", folder.path().as_os_str()), Some(folder.path().join("ffmpeg")));
        assert_eq!(find("ffprobe", folder.path().as_os_str()), None);
        assert_eq!(find("/nonexistent/ffmpeg", folder.path().as_os_str()), None);
    }
}
