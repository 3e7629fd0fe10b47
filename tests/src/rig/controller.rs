//! A controller with its own state, media and HLS folders, and what a user does with it over HTTP.

use super::{process, program};
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::Duration;
use tempfile::TempDir;

/// How long anything may take that is not about media: start, stop, an answer.
pub const SOON: Duration = Duration::from_secs(20);

/// Folders and environment of a controller that is not started yet.
#[derive(Debug)]
pub struct Plan {
    folder: TempDir,
    port: u16,
    environment: Vec<(OsString, OsString)>,
    files: Option<u64>,
}

/// A running controller.
#[derive(Debug)]
pub struct Controller {
    child: Child,
    plan: Plan,
    agent: ureq::Agent,
}

/// An answer of the API.
#[derive(Debug, Clone)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Content-Type, empty where there is none.
    pub kind: String,
    /// The body as it came.
    pub text: String,
}

impl Answer {
    /// The body as JSON; `null` where it is none.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_default()
    }
}

impl Plan {
    /// Empty folders and a free port.
    pub fn new() -> Result<Self> {
        let folder = tempfile::tempdir().context("make a folder for the controller")?;
        for name in ["state", "media", "hls"] {
            std::fs::create_dir(folder.path().join(name)).with_context(|| format!("make {name}"))?;
        }
        Ok(Self { folder, port: program::free_port()?, environment: Vec::new(), files: None })
    }

    /// Adds a variable, or replaces one that the rig sets.
    pub fn with(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.environment.push((name.into(), value.as_ref().into()));
        self
    }

    /// Lets it and its workers have no more open files than this.
    pub fn with_files(self, most: u64) -> Self {
        Self { files: Some(most), ..self }
    }

    /// The folder that everything of this controller is in.
    pub fn root(&self) -> &Path {
        self.folder.path()
    }

    /// Where its media are.
    pub fn media(&self) -> PathBuf {
        self.root().join("media")
    }

    /// Where its state is.
    pub fn state(&self) -> PathBuf {
        self.root().join("state")
    }

    /// What it has said so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.root().join("controller.log")).unwrap_or_default()
    }

    /// Starts it and waits until it answers.
    pub fn start(self) -> Result<Controller> {
        let child = self.spawn()?;
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(SOON))
            .build()
            .new_agent();
        let mut controller = Controller { child, plan: self, agent };
        controller.wait_until_it_answers()?;
        Ok(controller)
    }

    /// Starts it where it cannot run, and gives how it ended; what it said is in [`Plan::log`].
    pub fn start_and_fail(&self) -> Result<ExitStatus> {
        let mut child = self.spawn()?;
        let ended = program::wait_for("the end of a controller that cannot run", SOON, || {
            child.try_wait().context("look after the controller")
        });
        if ended.is_err() {
            program::end(&mut child, SOON);
        }
        ended
    }

    fn spawn(&self) -> Result<Child> {
        let mut log = std::fs::File::options();
        let log = log.append(true).create(true).open(self.root().join("controller.log"));
        let log = log.context("open the log")?;
        let program = program::built("stream-controller")?;
        let mut command =
            Command::new(if self.files.is_some() { OsStr::new("prlimit") } else { program.as_os_str() });
        if let Some(most) = self.files {
            command.arg(format!("--nofile={most}:{most}")).arg(&program);
        }
        program::built("stream-worker")?;
        command.env_clear().envs(std::env::vars_os().filter(|(name, _)| kept(name)));
        command.env("STATE_DIR", self.state()).env("HLS_DIR", self.root().join("hls"));
        // Tests of preparing switch it on; all others want the machine for themselves.
        command.env("PREPARE", "off");
        command.env("STORAGE_LOCAL_DIR", self.media()).env("LOG_LEVEL", "debug");
        command
            .env("CONTROLLER_BIND", format!("127.0.0.1:{}", self.port))
            .envs(self.environment.iter().cloned());
        command.current_dir(self.root()).stdin(Stdio::null());
        let err = log.try_clone().context("share the log")?;
        command.stdout(log).stderr(err).spawn().context("start stream-controller")
    }
}

/// What of the test's own environment a controller sees: nothing that would configure it.
fn kept(name: &OsStr) -> bool {
    ["PATH", "HOME", "LANG", "TMPDIR", "RUST_BACKTRACE"].iter().any(|kept| name == *kept)
}

impl Controller {
    /// Its folders and what it said.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    fn wait_until_it_answers(&mut self) -> Result<()> {
        program::wait_for("the controller's /health", SOON, || {
            if let Some(status) = self.child.try_wait().context("look after the controller")? {
                bail!("the controller ended with {status}:\n{}", self.plan.log());
            }
            let healthy = self.get("/health").is_ok_and(|answer| answer.status == 200);
            Ok(healthy.then_some(()))
        })
    }

    /// Ends it as a crash does; its workers live on.
    pub fn crash(&mut self) -> Result<()> {
        program::signal(&self.child, rustix::process::Signal::KILL);
        self.child.wait().context("wait for the killed controller")?;
        Ok(())
    }

    /// Starts it again after [`Self::crash`], and waits until it answers.
    pub fn come_back(&mut self) -> Result<()> {
        self.child = self.plan.spawn()?;
        self.wait_until_it_answers()
    }

    /// Tells it to become the next version of itself, and waits until that one answers.
    pub fn reload(&mut self) -> Result<()> {
        let programs = || self.plan.log().matches(" listening").count();
        let before = programs();
        program::signal(&self.child, rustix::process::Signal::HUP);
        program::wait_for("the next program", SOON, || Ok((programs() > before).then_some(())))?;
        self.wait_until_it_answers()
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its address.
    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.plan.port)
    }

    /// Its administrator's token.
    pub fn token(&self) -> Result<String> {
        let text =
            std::fs::read_to_string(self.plan.state().join("admin.token")).context("read admin.token")?;
        Ok(text.trim().to_owned())
    }

    /// GET with the token, where there is one yet.
    pub fn get(&self, path: &str) -> Result<Answer> {
        let mut request = self.agent.get(self.url(path));
        if let Ok(token) = self.token() {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        answer(request.call(), path)
    }

    /// What a viewer gets at an absolute address or a path, without a token; it must be there.
    pub fn view(&self, address: &str) -> Result<Vec<u8>> {
        let url = if address.starts_with('/') { self.url(address) } else { address.to_owned() };
        let mut response = self.agent.get(&url).call().with_context(|| format!("view {url}"))?;
        if response.status() != 200 {
            bail!("{url} answered {}", response.status());
        }
        response.body_mut().read_to_vec().with_context(|| format!("view {url}"))
    }

    /// POST of a JSON body with the token.
    pub fn post(&self, path: &str, body: &Value) -> Result<Answer> {
        self.post_text(path, &body.to_string())
    }

    /// POST of any text that claims to be JSON, with the token.
    pub fn post_text(&self, path: &str, body: &str) -> Result<Answer> {
        let bearer = format!("Bearer {}", self.token()?);
        let request = self.agent.post(self.url(path)).header("Authorization", bearer);
        answer(request.header("Content-Type", "application/json").send(body), path)
    }

    /// PATCH of a JSON body with the token.
    pub fn patch(&self, path: &str, body: &Value) -> Result<Answer> {
        let bearer = format!("Bearer {}", self.token()?);
        let request = self.agent.patch(self.url(path)).header("Authorization", bearer);
        answer(request.header("Content-Type", "application/json").send(body.to_string()), path)
    }

    /// DELETE with the token.
    pub fn delete(&self, path: &str) -> Result<Answer> {
        let bearer = format!("Bearer {}", self.token()?);
        answer(self.agent.delete(self.url(path)).header("Authorization", bearer).call(), path)
    }

    /// Runs `streamctl` on it with these arguments and this text on stdin.
    pub fn ctl(&self, arguments: &[&str], stdin: &str) -> Result<Output> {
        let mut command = Command::new(program::built("streamctl")?);
        command.args(arguments).env_clear().env("STATE_DIR", self.plan.state());
        command.env("STORAGE_LOCAL_DIR", self.plan.media());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().context("start streamctl")?;
        let mut pipe = child.stdin.take().context("take its stdin")?;
        // One that reads nothing may have ended already.
        let _ = pipe.write_all(stdin.as_bytes());
        drop(pipe);
        child.wait_with_output().context("wait for streamctl")
    }

    /// `POST /streams/start`, which must succeed.
    pub fn go_on_air(&self, body: &Value) -> Result<Value> {
        self.must("/streams/start", body)
    }

    /// `POST /streams/stop`, which must succeed; waits until the channel is off.
    pub fn go_off_air(&self) -> Result<Value> {
        self.must("/streams/stop", &serde_json::json!({}))?;
        self.wait_until("the channel is off", SOON, |status| status["phase"] == "off")
    }

    fn must(&self, path: &str, body: &Value) -> Result<Value> {
        let answer = self.post(path, body)?;
        if !(200..300).contains(&answer.status) {
            bail!("{path} answered {} {}\n{}", answer.status, answer.text, self.log_tail());
        }
        Ok(answer.json())
    }

    /// `GET /streams/status`.
    pub fn status(&self) -> Result<Value> {
        let answer = self.get("/streams/status")?;
        if answer.status != 200 {
            bail!("/streams/status answered {} {}", answer.status, answer.text);
        }
        Ok(answer.json())
    }

    /// Waits for a status that is as wanted, and gives it.
    pub fn wait_until(&self, what: &str, limit: Duration, wanted: impl Fn(&Value) -> bool) -> Result<Value> {
        let mut last = Value::Null;
        let found = program::wait_for(what, limit, || {
            last = self.status()?;
            Ok(wanted(&last).then(|| last.clone()))
        });
        found.with_context(|| format!("the last status was {last:#}\n{}", self.log_tail()))
    }

    /// The controller, its workers and their children.
    pub fn processes(&self) -> Vec<process::Process> {
        let mut found = process::tree(self.child.id());
        found.extend(process::of_folder(self.plan.root()));
        found.sort_by_key(|p| p.pid);
        found.dedup_by_key(|p| p.pid);
        found
    }

    /// Ends it with SIGTERM and gives what is still running of it: nothing, if all is well.
    pub fn end(&mut self) -> Result<Vec<process::Process>> {
        let known = self.processes();
        let status = program::end(&mut self.child, Duration::from_secs(30));
        status.with_context(|| format!("SIGTERM did not end the controller\n{}", self.log_tail()))?;
        let left = || -> Vec<process::Process> {
            let root = self.plan.root().to_string_lossy().into_owned();
            let ours = |p: &process::Process| known.iter().any(|k| same(k, p)) || p.names(&root);
            process::all().into_iter().filter(ours).collect()
        };
        let gone =
            program::wait_for("the end of its processes", SOON, || Ok(left().is_empty().then_some(())));
        Ok(if gone.is_ok() { Vec::new() } else { left() })
    }

    fn log_tail(&self) -> String {
        let log = self.plan.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }
}

/// The same process, as far as can be told without its start time.
fn same(a: &process::Process, b: &process::Process) -> bool {
    a.pid == b.pid && a.arguments == b.arguments
}

fn answer(result: Result<ureq::http::Response<ureq::Body>, ureq::Error>, path: &str) -> Result<Answer> {
    let mut response = result.with_context(|| format!("ask {path}"))?;
    let kind =
        response.headers().get("content-type").and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
    let text = response.body_mut().read_to_string().with_context(|| format!("read the answer of {path}"))?;
    Ok(Answer { status: response.status().as_u16(), kind, text })
}

impl Drop for Controller {
    fn drop(&mut self) {
        let left = match self.child.try_wait() {
            Ok(Some(_)) => Ok(process::of_folder(self.plan.root())),
            _ => self.end(),
        };
        for orphan in left.iter().flatten() {
            let pid = i32::try_from(orphan.pid).ok().and_then(rustix::process::Pid::from_raw);
            let _ = pid.map(|pid| rustix::process::kill_process(pid, rustix::process::Signal::KILL));
        }
        // A second panic would hide the first.
        if !std::thread::panicking() {
            assert!(left.as_ref().is_ok_and(Vec::is_empty), "left behind: {left:#?}");
        }
    }
}
