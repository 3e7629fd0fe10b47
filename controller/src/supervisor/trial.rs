//! A process that tries the way to an ingest and publishes nothing: told on stdin, heard on stdout, ended by a
//! deadline, always waited for.

use crate::config::Config;
use serde::{Deserialize, Serialize};
use state::wire::DestinationSpec;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};
use tokio::time::timeout;

/// How long a trial may take. Its own steps end within 20 s.
const DEADLINE: Duration = Duration::from_secs(25);

/// Longest answer, bytes.
const LONGEST: u64 = 64 * 1024;

/// What a trial gets from our environment. None of it is a secret.
const PASSED_ON: [&str; 3] = ["PATH", "SSL_CERT_FILE", "SSL_CERT_DIR"];

/// How far the way to an ingest leads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trial {
    /// Every step was done.
    pub ok: bool,
    /// One after the other; the last one may have failed.
    pub steps: Vec<Step>,
}

/// One step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// `resolve`, `connect`, `tls`, `handshake`, `rtmp`; `url` where the address cannot be used.
    pub step: String,
    /// It was done.
    pub ok: bool,
    /// How long it took.
    pub ms: u64,
    /// What came of it, and what to do.
    #[serde(default)]
    pub words: String,
    /// Which address was called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
}

/// The question as it goes to stdin.
#[derive(Serialize)]
struct Question<'a> {
    #[serde(flatten)]
    spec: &'a DestinationSpec,
    tls_ca_file: Option<&'a Path>,
}

/// Tries a destination.
///
/// # Errors
/// Why there is no result, in words.
pub async fn run(config: &Config, spec: &DestinationSpec) -> Result<Trial, String> {
    let question = Question { spec, tls_ca_file: config.tls_ca_file.as_deref() };
    let question = serde_json::to_vec(&question).map_err(|error| error.to_string())?;
    let mut child = spawn(config).map_err(|error| format!("{}: {error}", config.worker.display()))?;
    let heard = timeout(DEADLINE, converse(&mut child, &question)).await;
    // Whatever it said, it is ended and waited for; one that has ended already does not mind.
    let _ = child.kill().await;
    let heard = heard.map_err(|_| format!("the trial did not end within {} s", DEADLINE.as_secs()))?;
    let answer = heard.map_err(|error| format!("the trial broke off: {error}"))?;
    serde_json::from_slice(&answer).map_err(|_| "the trial ended without a result".to_owned())
}

async fn converse(child: &mut Child, question: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut answer = Vec::new();
    if let Some(mut stdin) = child.stdin.take() {
        // One that ends before it has read everything says why on stdout, or not at all.
        let _ = stdin.write_all(question).await;
    }
    if let Some(stdout) = child.stdout.take() {
        stdout.take(LONGEST).read_to_end(&mut answer).await?;
    }
    Ok(answer)
}

fn spawn(config: &Config) -> std::io::Result<Child> {
    Command::new(&config.worker)
        .arg("--try-destination")
        .env_clear()
        .envs(PASSED_ON.iter().filter_map(|name| Some((name, std::env::var_os(name)?))))
        .env("LOG_LEVEL", "error")
        .current_dir(&config.state_dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
}
