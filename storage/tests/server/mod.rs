//! A real S3 server on this machine (s3s-fs): it verifies signatures and expiry. A bucket is a folder below its root.
#![allow(dead_code, reason = "each test program uses a part of it")]

pub(crate) mod canned;
pub(crate) mod front;

use state::secret::Secret;
use state::storage::{Provider, StorageSettings};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use tempfile::TempDir;

pub(crate) const KEY_ID: &str = "test-key-id";
pub(crate) const SECRET: &str = "test-secret-hush";
pub(crate) const BUCKET: &str = "media";

/// Runs until it is dropped.
pub(crate) struct Server {
    child: Child,
    root: TempDir,
    /// Such as `http://127.0.0.1:41234`.
    pub(crate) endpoint: String,
}

impl Server {
    /// With one empty bucket.
    pub(crate) fn start() -> Self {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join(BUCKET)).unwrap();
        let mut child = Command::new(program())
            .args(["--host", "127.0.0.1", "--port", "0", "--access-key", KEY_ID, "--secret-key", SECRET])
            .arg(root.path())
            .env("RUST_LOG", "s3s_fs=info")
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let address = lines.by_ref().map_while(Result::ok).find_map(|line| {
            line.split_once("running at http://").map(|(_, address)| address.trim().to_owned())
        });
        // A pipe that nobody reads would stop the server once it is full.
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
        Self { child, root, endpoint: format!("http://{}", address.unwrap()) }
    }

    /// The folder behind the bucket.
    pub(crate) fn folder(&self) -> PathBuf {
        self.root.path().join(BUCKET)
    }

    /// What the server keeps outside of objects: unfinished uploads and their parts.
    pub(crate) fn leftovers(&self) -> Vec<String> {
        let names = std::fs::read_dir(self.root.path()).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.contains("upload")).collect()
    }

    pub(crate) fn settings(&self) -> StorageSettings {
        settings(&self.endpoint)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Settings for the bucket of a [`Server`], at any address.
pub(crate) fn settings(endpoint: &str) -> StorageSettings {
    StorageSettings {
        provider: Provider::R2,
        bucket: BUCKET.to_owned(),
        endpoint: endpoint.to_owned(),
        region: "auto".to_owned(),
        access_key_id: Secret::new(KEY_ID),
        secret_access_key: Secret::new(SECRET),
        ..StorageSettings::local("")
    }
}

/// Built once, by the script that the other tests use too.
fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/need_s3s.sh");
        let output = Command::new(script).stderr(Stdio::inherit()).output().unwrap();
        assert!(output.status.success(), "scripts/need_s3s.sh failed");
        PathBuf::from(String::from_utf8(output.stdout).unwrap().trim())
    })
}
