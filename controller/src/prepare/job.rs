//! One job: a process of its own group, told what to do on stdin, heard on stdout, always waited for.

use crate::config::Config;
use state::prepared::{Job, Said};
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::Notify;
use tokio::time::timeout;

/// A job that says nothing for this long is ended. It speaks every second while FFmpeg works.
const SILENCE: Duration = Duration::from_secs(900);
/// A job that was told to end has this long.
const GRACE: Duration = Duration::from_secs(5);
/// What is kept of a job's messages, bytes.
const KEPT: usize = 4096;
/// What a job gets from our environment. None of it is a secret.
const PASSED_ON: [&str; 3] = ["PATH", "SSL_CERT_FILE", "SSL_CERT_DIR"];

/// What became of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The result is there; why it was needed.
    Ready(String),
    /// Nothing is to be done; why.
    Fits(String),
    /// The file cannot be prepared; why.
    Failed(String),
    /// The process died, which says nothing about the file.
    Died(String),
    /// The file must wait: the bucket is away, or there is no room.
    Later(String),
    /// The controller ends.
    Left,
}

/// Runs a job to its end, or until `leave`.
pub(super) async fn run(config: &Config, job: &Job, mut hear: impl FnMut(&Said), leave: &Notify) -> Outcome {
    let mut child = match spawn(config) {
        Ok(child) => child,
        Err(error) => return Outcome::Died(format!("{}: {error}", config.worker.display())),
    };
    let (Some(mut stdin), Some(stdout), Some(stderr)) =
        (child.stdin.take(), child.stdout.take(), child.stderr.take())
    else {
        return Outcome::Died("the job has no pipes".to_owned());
    };
    let mut words = tokio::spawn(tail(stderr));
    let told = async {
        let mut line = serde_json::to_vec(job)?;
        line.push(b'\n');
        stdin.write_all(&line).await
    };
    if !matches!(timeout(GRACE, told).await, Ok(Ok(()))) {
        tracing::warn!("the job could not be told what to do");
    }
    let last = tokio::select! {
        last = listen(stdout, &mut hear) => last,
        () = leave.notified() => {
            end(&mut child).await;
            return Outcome::Left;
        }
    };
    let status = match timeout(GRACE, child.wait()).await {
        Ok(status) => status.ok(),
        Err(_) => {
            end(&mut child).await;
            None
        }
    };
    let said = timeout(GRACE, &mut words).await.ok().and_then(Result::ok).unwrap_or_default();
    // Whoever else holds its end open is not waited for.
    words.abort();
    judge(status, last, &said)
}

fn spawn(config: &Config) -> std::io::Result<Child> {
    Command::new(&config.worker)
        .arg("--prepare")
        .env_clear()
        .envs(PASSED_ON.iter().filter_map(|name| Some((name, std::env::var_os(name)?))))
        .env("LOG_LEVEL", "warn")
        .current_dir(&config.state_dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
}

/// Hears the job out; its last word is the result.
async fn listen(stdout: impl AsyncRead + Unpin, hear: &mut impl FnMut(&Said)) -> Option<Said> {
    let mut lines = BufReader::new(stdout.take(1 << 30)).lines();
    let mut last = None;
    while let Ok(Ok(Some(line))) = timeout(SILENCE, lines.next_line()).await {
        if let Ok(said) = serde_json::from_str::<Said>(&line) {
            hear(&said);
            last = Some(said);
        }
    }
    last
}

async fn tail(mut from: impl AsyncRead + Unpin) -> String {
    let (mut kept, mut chunk) = (Vec::new(), [0u8; 1024]);
    while let Ok(read @ 1..) = from.read(&mut chunk).await {
        kept.extend_from_slice(&chunk[..read]);
        let surplus = kept.len().saturating_sub(KEPT);
        kept.drain(..surplus);
    }
    String::from_utf8_lossy(&kept).into_owned()
}

/// Ends the job's whole group: FFmpeg is in it.
async fn end(child: &mut Child) {
    let group = child.id().and_then(|id| i32::try_from(id).ok()).and_then(rustix::process::Pid::from_raw);
    let signal = |signal| group.map(|group| rustix::process::kill_process_group(group, signal));
    signal(rustix::process::Signal::TERM);
    if timeout(GRACE, child.wait()).await.is_err() {
        signal(rustix::process::Signal::KILL);
        let _ = timeout(GRACE, child.wait()).await;
    }
}

/// Exit code 1 says that the file cannot be prepared and 5 that the bucket is away; every other bad end says nothing
/// about the file.
fn judge(status: Option<ExitStatus>, last: Option<Said>, words: &str) -> Outcome {
    let line = words.lines().rev().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    let line = line.strip_prefix("stream-worker: ").unwrap_or(line);
    let line: String = line.chars().filter(|c| !c.is_control()).take(300).collect();
    let with = |what: String| if line.is_empty() { what } else { format!("{what}: {line}") };
    match status {
        Some(status) if status.success() => match last {
            Some(Said::Ready { reason, .. }) => Outcome::Ready(reason),
            Some(Said::Fits { reason }) => Outcome::Fits(reason),
            _ => Outcome::Died("the job ended without a result".to_owned()),
        },
        Some(status) if status.code() == Some(1) => Outcome::Failed(line),
        Some(status) if status.code() == Some(5) => Outcome::Later(line),
        Some(status) => Outcome::Died(match status.signal() {
            Some(signal) => format!("the job was ended by signal {signal}"),
            None => with(format!("the job ended with code {}", status.code().unwrap_or_default())),
        }),
        None => Outcome::Died("the job did not end".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_exit_code_1_blames_the_file_and_5_the_bucket() {
        let status = |raw| Some(ExitStatus::from_raw(raw));
        let ready = || Some(Said::Ready { name: "n".into(), reason: "was HEVC".into() });
        assert_eq!(judge(status(0), ready(), ""), Outcome::Ready("was HEVC".into()));
        assert!(matches!(judge(status(0), None, ""), Outcome::Died(_)));
        let said = "WARN something\nstream-worker: breaks off after 3.8 s of 9.0 s\n\n";
        assert_eq!(
            judge(status(1 << 8), ready(), said),
            Outcome::Failed("breaks off after 3.8 s of 9.0 s".into())
        );
        assert_eq!(judge(status(5 << 8), None, "stream-worker: x\n"), Outcome::Later("x".into()));
        assert!(matches!(judge(status(3 << 8), None, said), Outcome::Died(_)));
        assert!(matches!(judge(status(9), None, said), Outcome::Died(_)));
        assert!(matches!(judge(None, ready(), said), Outcome::Died(_)));
    }
}
