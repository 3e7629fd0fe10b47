//! s3s-fs: an S3 server that nobody here wrote. It checks signatures and their expiry as AWS does, and keeps its
//! objects as files of a folder, so that a test can look at them and change them.

use super::controller::Plan;
use super::program;
use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;

/// Who may read.
pub const KEY_ID: &str = "AKIDk3yIdOfTheTests77";
/// With this; to be seen nowhere.
pub const SECRET: &str = "s3cr3t-Qz81-never-to-be-seen-4417";
/// The only bucket.
pub const BUCKET: &str = "media";

/// A running S3 server with an empty bucket.
#[derive(Debug)]
pub struct S3 {
    child: Child,
    folder: TempDir,
    port: u16,
}

impl S3 {
    /// Starts it on a free port.
    pub fn start() -> Result<Self> {
        let folder = tempfile::tempdir().context("make a folder for S3")?;
        std::fs::create_dir_all(folder.path().join("objects").join(BUCKET)).context("make the bucket")?;
        let port = program::free_port()?;
        let child = run(folder.path(), port)?;
        let rig = Self { child, folder, port };
        rig.wait()?;
        Ok(rig)
    }

    /// Ends it, as an outage does; its objects stay.
    pub fn go_away(&mut self) {
        program::end(&mut self.child, Duration::from_secs(10));
    }

    /// Starts it again where it was.
    pub fn come_back(&mut self) -> Result<()> {
        self.child = run(self.folder.path(), self.port)?;
        self.wait()
    }

    /// A plan whose media are in its bucket.
    pub fn given_to(&self, plan: Plan) -> Plan {
        let plan = plan.with("STORAGE_PROVIDER", "s3").with("STORAGE_BUCKET", BUCKET);
        let plan = plan.with("STORAGE_ENDPOINT", self.url()).with("STORAGE_REGION", "us-east-1");
        plan.with("STORAGE_ACCESS_KEY_ID", KEY_ID).with("STORAGE_SECRET_ACCESS_KEY", SECRET)
    }

    fn wait(&self) -> Result<()> {
        program::wait_for("s3s-fs", Duration::from_secs(20), || {
            Ok(std::net::TcpStream::connect(self.address()).is_ok().then_some(()))
        })
    }

    /// Host and port.
    pub fn address(&self) -> (&'static str, u16) {
        ("127.0.0.1", self.port)
    }

    /// Its address.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The folder that is the bucket: files are objects, their paths are keys.
    pub fn bucket(&self) -> PathBuf {
        self.folder.path().join("objects").join(BUCKET)
    }
}

impl Drop for S3 {
    fn drop(&mut self) {
        self.go_away();
    }
}

fn run(folder: &Path, port: u16) -> Result<Child> {
    let log = File::create(folder.join("s3.log")).context("make the log of S3")?;
    let mut command = Command::new(server()?);
    command.args(["--host", "127.0.0.1", "--port", &port.to_string()]);
    command.args(["--access-key", KEY_ID, "--secret-key", SECRET]).arg(folder.join("objects"));
    command.stdin(Stdio::null()).stdout(log.try_clone().context("share the log")?).stderr(log);
    command.spawn().context("start s3s-fs")
}

/// Where `scripts/need_s3s.sh` puts it, else on the path.
fn server() -> Result<PathBuf> {
    let own = program::target_dir()?.join("tools/bin/s3s-fs");
    if own.is_file() {
        return Ok(own);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|folder| folder.join("s3s-fs")).find(|file| file.is_file());
    let Some(found) = found else { bail!("s3s-fs is missing: run scripts/need_s3s.sh first") };
    Ok(found)
}

/// Settings of a worker for the bucket behind this address.
pub fn settings(endpoint: &str, link_ttl_s: u64) -> Value {
    json!({"provider": "s3", "local_dir": "", "bucket": BUCKET, "endpoint": endpoint, "region": "us-east-1",
        "access_key_id": KEY_ID, "secret_access_key": SECRET, "link_ttl_s": link_ttl_s})
}
