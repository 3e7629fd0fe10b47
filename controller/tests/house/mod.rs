//! What the tests of the controller stand on: the real program on a free port in a folder of its own, a small
//! HTTP client, and a peer that speaks as a worker does.

#![allow(dead_code, unreachable_pub)] // Each test file uses its own part of this.
#![allow(clippy::unwrap_used)] // A test that cannot go on has to fail.

pub mod peer;

use serde_json::{Value, json};
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Long enough for a slow and noisy machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A controller and everything around it.
pub struct House {
    pub folder: TempDir,
    child: Option<Child>,
    address: Option<SocketAddr>,
    variables: Vec<(String, String)>,
    program: PathBuf,
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|e| panic!("{e}: {:?}", String::from_utf8_lossy(&self.body)))
    }

    /// Asserts that it is a complete problem, and gives its body.
    #[track_caller]
    pub fn problem(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", String::from_utf8_lossy(&self.body));
        assert_eq!(self.header("content-type"), Some("application/problem+json"));
        let body = self.json();
        assert_eq!(body["status"], status);
        for member in ["type", "title", "detail", "request_id"] {
            assert!(body[member].as_str().is_some_and(|text| !text.is_empty()), "{member} in {body}");
        }
        assert_eq!(self.header("x-request-id"), body["request_id"].as_str());
        body
    }
}

impl House {
    /// A folder with two media files, a stand-in for FFmpeg and a worker that behaves as told; not yet started.
    pub fn furnished(behaviour: &str) -> Self {
        let house = Self {
            folder: TempDir::new().unwrap(),
            child: None,
            address: None,
            variables: Vec::new(),
            program: env!("CARGO_BIN_EXE_stream-controller").into(),
        };
        fs::create_dir(house.path("media")).unwrap();
        for name in ["a.mp4", "b.mp4"] {
            fs::write(house.path("media").join(name), b"media").unwrap();
        }
        house.program("ffmpeg", "echo 'ffmpeg version 5.1.9-0+deb12u1 Copyright (c) 2000-2025'");
        house.program("ffprobe", "echo 'ffprobe version 5.1.9-0+deb12u1 Copyright (c) 2007-2025'");
        house.behave(behaviour);
        house
    }

    /// The same, started.
    pub fn with_worker(behaviour: &str) -> Self {
        let mut house = Self::furnished(behaviour);
        house.start();
        house
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn state(&self, name: &str) -> PathBuf {
        self.path("state").join(name)
    }

    /// Sets a variable for the controllers that are started from now on.
    pub fn set(&mut self, name: &str, value: &str) -> &mut Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Starts another copy of the controller from now on: the one at this place in the folder.
    pub fn program_is(&mut self, name: &str) -> &mut Self {
        self.program = self.path(name);
        self
    }

    /// Writes a small program.
    pub fn program(&self, name: &str, script: &str) {
        let path = self.path(name);
        let fresh = self.path(&format!("{name}.new"));
        fs::write(&fresh, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&fresh, fs::Permissions::from_mode(0o755)).unwrap();
        fs::rename(fresh, path).unwrap();
    }

    /// How workers that are started from now on behave; see [`peer`].
    pub fn behave(&self, behaviour: &str) {
        let me = std::env::current_exe().unwrap();
        let seen = self.path("worker-was-given");
        self.program(
            "worker",
            &format!(
                "{{ echo \"argv: $*\"; env; }} >> '{}'\nPEER='{behaviour}' PEER_ARGS=\"$*\" exec '{}' --exact house::peer::worker --nocapture",
                seen.display(),
                me.display()
            ),
        );
    }

    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("STATE_DIR", self.path("state"))
            .env("STORAGE_LOCAL_DIR", self.path("media"))
            .env("CONTROLLER_BIND", "127.0.0.1:0")
            .env("FFMPEG_PATH", self.path("ffmpeg"))
            .env("FFPROBE_PATH", self.path("ffprobe"))
            .env("WORKER_PATH", self.path("worker"))
            .envs(self.variables.iter().map(|(k, v)| (k, v)))
            .stdin(Stdio::null())
            .current_dir(self.folder.path());
        command
    }

    /// Starts the controller and waits until it answers.
    pub fn start(&mut self) -> &mut Self {
        let log = fs::OpenOptions::new().create(true).append(true).open(self.path("controller.log")).unwrap();
        let _ = fs::remove_file(self.state("run/controller.address"));
        let child = self.command().stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        self.child = Some(child);
        let address = wait_for("the controller's address", || {
            fs::read_to_string(self.state("run/controller.address")).ok()?.trim().parse().ok()
        });
        self.address = Some(address);
        wait_for("an answer", || TcpStream::connect(address).ok());
        self
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.path("controller.log")).unwrap_or_default()
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    pub fn signal(&self, name: &str) {
        signal(self.pid(), name);
    }

    /// Waits for the controller's end; its exit code, `None` for a signal.
    pub fn ended(&mut self) -> Option<i32> {
        let mut child = self.child.take().unwrap();
        wait_for("the controller's end", || child.try_wait().unwrap()).code()
    }

    /// The exit code and the words of a controller that does not start.
    pub fn refuses_to_start(&self) -> (Option<i32>, String) {
        let output = self.command().output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    }

    pub fn token(&self) -> String {
        fs::read_to_string(self.state("admin.token")).unwrap().trim().to_owned()
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address.unwrap()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Sends these bytes and reads the answer to the end.
    pub fn raw(&self, request: &[u8]) -> Answer {
        let mut stream = self.connect();
        // Some requests are refused before their end.
        let _ = stream.write_all(request);
        read_answer(&mut stream, request.starts_with(b"HEAD "))
    }

    pub fn request(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n");
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if !body.is_empty() {
            head.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        head.push_str("\r\n");
        self.raw(&[head.as_bytes(), body].concat())
    }

    /// With the token.
    pub fn get(&self, path: &str) -> Answer {
        self.request("GET", path, &[("Authorization", &format!("Bearer {}", self.token()))], b"")
    }

    /// With the token and a JSON body.
    pub fn post(&self, path: &str, body: Value) -> Answer {
        self.with_body("POST", path, body)
    }

    fn with_body(&self, method: &str, path: &str, body: Value) -> Answer {
        let token = format!("Bearer {}", self.token());
        let headers = [("Authorization", token.as_str()), ("Content-Type", "application/json")];
        self.request(method, path, &headers, body.to_string().as_bytes())
    }

    /// With the token and a JSON body.
    pub fn patch(&self, path: &str, body: Value) -> Answer {
        self.with_body("PATCH", path, body)
    }

    /// With the token.
    pub fn delete(&self, path: &str) -> Answer {
        self.request("DELETE", path, &[("Authorization", &format!("Bearer {}", self.token()))], b"")
    }

    /// Every list of destinations that the worker was told after its spec.
    pub fn told_destinations(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.state(peer::TOLD_DESTINATIONS)).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    pub fn start_channel(&self) -> Answer {
        self.post("/streams/start", json!({}))
    }

    pub fn stop_channel(&self) -> Answer {
        self.post("/streams/stop", json!({}))
    }

    pub fn status(&self) -> Value {
        let answer = self.get("/streams/status");
        assert_eq!(answer.status, 200);
        answer.json()
    }

    /// Waits for a status that fits.
    #[track_caller]
    pub fn wait_until(&self, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            last = self.status();
            if fits(&last) {
                return last;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("no status with {what}; the last one: {last:#}\n{}", self.log());
    }

    #[track_caller]
    pub fn wait_for_phase(&self, phase: &str) -> Value {
        self.wait_until(phase, |status| status["phase"] == phase)
    }

    pub fn document(&self, name: &str) -> Value {
        let text = fs::read_to_string(self.state("channels/main").join(name)).unwrap();
        serde_json::from_str(&text).unwrap()
    }
}

impl Drop for House {
    fn drop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        signal(child.id(), "TERM");
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            if child.try_wait().is_ok_and(|status| status.is_some()) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = child.kill();
        let _ = child.wait();
    }
}

pub fn signal(pid: u32, name: &str) {
    Command::new("kill").args([format!("-{name}"), pid.to_string()]).status().unwrap();
}

/// Whether a process lives and is no zombie.
pub fn is_alive(pid: u64) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

#[track_caller]
pub fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end {
        if let Some(found) = look() {
            return found;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("waited in vain for {what}");
}

fn read_answer(stream: &mut TcpStream, head_only: bool) -> Answer {
    let mut bytes = Vec::new();
    let mut chunk = [0u8; 65536];
    loop {
        if let Some(answer) = parse_answer(&bytes, head_only) {
            return answer;
        }
        match stream.read(&mut chunk) {
            Ok(0) => panic!("the connection ended after {:?}", String::from_utf8_lossy(&bytes)),
            Ok(n) => bytes.extend_from_slice(&chunk[..n]),
            Err(error) => panic!("{error} after {:?}", String::from_utf8_lossy(&bytes)),
        }
    }
}

fn parse_answer(bytes: &[u8], head_only: bool) -> Option<Answer> {
    let end = bytes.windows(4).position(|w| w == b"\r\n\r\n")?;
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let mut lines = head.lines();
    let status: u16 = lines.next()?.split(' ').nth(1)?.parse().unwrap();
    let headers: Vec<(String, String)> = lines
        .map(|line| line.split_once(": ").unwrap_or((line.trim_end_matches(':'), "")))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    if status == 100 {
        return parse_answer(&bytes[end + 4..], head_only);
    }
    let length = headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let length: usize = length.map_or(0, |(_, value)| value.parse().unwrap());
    let mut body = bytes[end + 4..].to_vec();
    let in_pieces = headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("transfer-encoding"));
    if in_pieces && !head_only {
        body = joined(&body)?;
    }
    let whole = head_only || status == 304 || body.len() >= length;
    whole.then_some(Answer { status, headers, body })
}

/// A body that came in pieces (RFC 9112 section 7.1), when it is complete.
fn joined(body: &[u8]) -> Option<Vec<u8>> {
    let (mut rest, mut whole) = (body, Vec::new());
    loop {
        let end = rest.windows(2).position(|w| w == b"\r\n")?;
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..end]).unwrap(), 16).unwrap();
        if size == 0 {
            return Some(whole);
        }
        whole.extend_from_slice(rest.get(end + 2..end + 2 + size)?);
        rest = rest.get(end + 2 + size + 2..)?;
    }
}

/// Every file below a folder.
pub fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}
