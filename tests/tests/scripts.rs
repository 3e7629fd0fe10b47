//! The operator's scripts, tried as an operator does: on a machine without systemd, into a folder of one's own, and
//! with what is wrong. What they do under systemd is shown by `scripts/test_systemd.sh`.

use anyhow::{Context, Result, ensure};
use e2e::rig::controller::SOON;
use e2e::rig::process;
use e2e::rig::program::{self, wait_for};
use e2e::rig::script::{Said, root, said};
use e2e::zoo;
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// An operator's folders, and the scripts that act on them without systemd.
struct Place {
    folder: TempDir,
    port: u16,
}

impl Place {
    fn new() -> Result<Self> {
        let folder = tempfile::tempdir().context("make a folder")?;
        std::fs::create_dir(folder.path().join("media")).context("make the media folder")?;
        let place = Self { folder, port: program::free_port()? };
        let settings = [
            format!("STATE_DIR={}", place.state().display()),
            format!("STORAGE_LOCAL_DIR=\"{}\"", place.media().display()),
            format!("CONTROLLER_BIND=127.0.0.1:{}", place.port),
            "# YOUTUBE_STREAM_KEY=no".to_owned(),
        ];
        std::fs::write(place.settings(), settings.join("\n")).context("write the settings")?;
        std::fs::set_permissions(place.settings(), std::fs::Permissions::from_mode(0o600))?;
        Ok(place)
    }

    fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    fn media(&self) -> PathBuf {
        self.folder.path().join("media")
    }

    fn settings(&self) -> PathBuf {
        self.folder.path().join("settings")
    }

    fn script(&self, name: &str, arguments: &[&str]) -> Result<Command> {
        let controller = program::built("stream-controller")?;
        program::built("stream-worker")?;
        let mut command = Command::new(root().join("scripts").join(name));
        command.args(arguments).env("ENV_FILE", self.settings());
        command.env("BIN_DIR", controller.parent().context("the program is in a folder")?);
        // Nothing that configures the tester's own controller reaches this one.
        let kept = ["PATH", "HOME", "ENV_FILE", "BIN_DIR"];
        for (name, _) in std::env::vars_os().filter(|(name, _)| !kept.iter().any(|kept| name == kept)) {
            command.env_remove(name);
        }
        Ok(command)
    }

    /// Runs a script that must succeed.
    fn run(&self, name: &str, arguments: &[&str]) -> Result<String> {
        let said = said(&mut self.script(name, arguments)?)?;
        ensure!(said.code == Some(0), "{name} ended with {:?}:\n{}", said.code, said.text);
        Ok(said.text)
    }

    fn health(&self) -> Result<Said> {
        said(&mut self.script("health.sh", &[])?)
    }

    /// Waits until health.sh ends with this code.
    fn wait_for_health(&self, code: i32) -> Result<String> {
        let mut last = String::new();
        let found = wait_for(&format!("health.sh to say {code}"), SOON * 2, || {
            let said = self.health()?;
            last.clone_from(&said.text);
            Ok((said.code == Some(code)).then_some(said.text))
        });
        found.with_context(|| format!("it last said: {last}"))
    }

    fn status(&self) -> Result<Value> {
        let text = self.run("check_status.sh", &["--json"])?;
        Ok(serde_json::from_str::<Value>(&text).context("read the status")?[0].clone())
    }

    fn post(&self, path: &str, body: &Value) -> Result<()> {
        let token = std::fs::read_to_string(self.state().join("admin.token")).context("read the token")?;
        let bearer = format!("Bearer {}", token.trim());
        let url = format!("http://127.0.0.1:{}{path}", self.port);
        let answer = ureq::post(&url).header("Authorization", bearer).send_json(body);
        answer.map(drop).with_context(|| format!("POST {path}"))
    }

    fn controller_pid(&self) -> Result<i32> {
        let text =
            std::fs::read_to_string(self.state().join("run/controller.pid")).context("read the pid")?;
        text.split_whitespace().next().context("a pid")?.parse().context("a pid")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = self.run("stop.sh", &["--process"]);
        for left in process::of_folder(self.folder.path()) {
            kill(left.pid as i32);
        }
    }
}

fn kill(pid: i32) {
    use rustix::process::{Pid, Signal, kill_process};
    let _ = Pid::from_raw(pid).map(|pid| kill_process(pid, Signal::KILL));
}

fn mode(path: &Path) -> Result<u32> {
    let shown = || path.display().to_string();
    Ok(std::fs::metadata(path).with_context(shown)?.permissions().mode() & 0o777)
}

#[test]
fn every_script_explains_itself_and_refuses_what_it_does_not_know() -> Result<()> {
    let mut seen = 0;
    for entry in std::fs::read_dir(root().join("scripts")).context("list the scripts")? {
        let path = entry?.path();
        let text = std::fs::read_to_string(&path)?;
        let name = path.file_name().and_then(|n| n.to_str()).context("a name")?.to_owned();
        if !text.contains("usage: scripts/") {
            continue;
        }
        seen += 1;
        assert_eq!(mode(&path)?, 0o755, "{name}");
        let help = said(Command::new(&path).arg("--help"))?;
        assert_eq!(help.code, Some(0), "{name}: {}", help.text);
        assert!(help.text.starts_with(&format!("usage: scripts/{name}")), "{name}: {}", help.text);
        let refused = said(Command::new(&path).arg("--nonsense"))?;
        assert!(refused.code.is_some_and(|code| code != 0), "{name} took --nonsense: {}", refused.text);
    }
    assert!(seen >= 14, "only {seen} scripts");
    Ok(())
}

#[test]
fn start_restart_and_stop_keep_one_controller_and_its_channel() -> Result<()> {
    let place = Place::new()?;
    zoo::put_into(&place.media(), &zoo::sample())?;
    assert_eq!(place.health()?.code, Some(3), "nothing runs yet");
    assert_eq!(said(&mut place.script("check_status.sh", &[])?)?.code, Some(3));
    assert!(place.run("stop.sh", &["--process"])?.contains("not running"));
    place.run("start.sh", &["--process"])?;
    assert!(place.run("start.sh", &["--process"])?.contains("already running"));
    assert!(place.wait_for_health(0)?.contains("0 of 0 wanted channels"));
    place.post("/streams/start", &json!({}))?;
    place.wait_for_health(0)?;
    wait_for("the channel on the air", SOON, || Ok((place.status()?["air"]["is"] == "on").then_some(())))?;
    let table = place.run("check_status.sh", &["main"])?;
    let row = table.lines().find(|line| line.starts_with("main")).context("a row for main")?;
    assert!(row.contains(" on ") && row.contains(" live "), "{table}");
    let unknown = said(&mut place.script("check_status.sh", &["nobody"])?)?;
    assert_eq!(unknown.code, Some(1), "{}", unknown.text);

    let (controller, worker) = (place.controller_pid()?, place.status()?["run"]["pid"].clone());
    place.run("restart.sh", &["--process"])?;
    assert_eq!(place.controller_pid()?, controller, "the same process");
    let back = |what: &str| {
        wait_for(what, SOON, || Ok((place.status()?["air"]["is"] == "on").then_some(place.status()?)))
    };
    assert_eq!(back("the channel after a restart")?["run"]["pid"], worker, "the same worker");

    kill(controller);
    assert!(place.wait_for_health(3)?.starts_with("unreachable"));
    place.run("start.sh", &["--process"])?;
    assert_eq!(back("the channel after a kill")?["run"]["pid"], worker, "the worker was adopted");

    place.run("restart.sh", &["--full", "--process"])?;
    assert_ne!(back("the channel after a full restart")?["run"]["pid"], worker);
    place.run("stop.sh", &["--process"])?;
    let left = process::of_folder(place.folder.path());
    assert!(left.is_empty(), "left behind: {left:#?}");
    Ok(())
}

#[test]
fn a_pid_that_belongs_to_somebody_else_is_no_controller() -> Result<()> {
    let place = Place::new()?;
    std::fs::create_dir_all(place.state().join("run"))?;
    std::fs::write(place.state().join("run/controller.pid"), format!("{} 1\n", std::process::id()))?;
    assert!(place.run("stop.sh", &["--process"])?.contains("not running"));
    place.run("start.sh", &["--process"])?;
    assert_ne!(place.controller_pid()?, std::process::id() as i32);
    Ok(())
}

#[test]
fn health_tells_degraded_from_down() -> Result<()> {
    let place = Place::new()?;
    place.run("start.sh", &["--process"])?;
    assert!(place.wait_for_health(1)?.starts_with("degraded"), "there are no media");
    zoo::put_into(&place.media(), &zoo::sample()[..1])?;
    let nowhere = format!("rtmp://127.0.0.1:{}/live", program::free_port()?);
    let destination =
        json!({"id": "x", "name": "x", "platform": "custom", "url": nowhere, "stream_key": "k-secret"});
    place.post("/streams/start", &json!({"destinations": [destination], "hls": {"enabled": false}}))?;
    let line = place.wait_for_health(2)?;
    assert!(line.starts_with("down: 0 of 1 wanted channels") && !line.contains("k-secret"), "{line}");
    Ok(())
}

#[test]
fn a_controller_that_cannot_start_is_told_with_its_own_words() -> Result<()> {
    let place = Place::new()?;
    let said = said(place.script("start.sh", &["--process"])?.env("LOG_FORMAT", "xml"))?;
    assert_eq!(said.code, Some(1), "{}", said.text);
    assert!(said.text.contains("LOG_FORMAT"), "{}", said.text);
    Ok(())
}

#[test]
fn the_field_test_refuses_to_begin_without_a_destination() -> Result<()> {
    let place = Place::new()?;
    zoo::put_into(&place.media(), &zoo::sample()[..1])?;
    place.run("start.sh", &["--process"])?;
    let said = said(&mut place.script("field_test.sh", &["--process"])?)?;
    assert_eq!(said.code, Some(1), "{}", said.text);
    assert!(said.text.contains("YOUTUBE_STREAM_KEY"), "{}", said.text);
    assert_eq!(place.status()?["wish"], "off");
    Ok(())
}

#[test]
fn doctor_names_what_is_wrong_and_what_to_do() -> Result<()> {
    let place = Place::new()?;
    zoo::put_into(&place.media(), &zoo::sample()[..1])?;
    let well = said(&mut place.script("doctor.sh", &["--offline", "--process"])?)?;
    assert_eq!(well.code, Some(0), "{}", well.text);
    assert!(well.text.contains("libx264 and aac encode"), "{}", well.text);

    std::fs::create_dir_all(place.state())?;
    std::fs::set_permissions(place.state(), std::fs::Permissions::from_mode(0o755))?;
    std::fs::set_permissions(place.settings(), std::fs::Permissions::from_mode(0o644))?;
    let mut ill = place.script("doctor.sh", &["--offline", "--process"])?;
    let ill = said(ill.env("FFMPEG_PATH", "/nowhere/ffmpeg").env("STORAGE_PROVIDER", "r2"))?;
    assert_eq!(ill.code, Some(1), "{}", ill.text);
    for advice in ["set FFMPEG_PATH", "chmod 700", "chmod 600", "STORAGE_BUCKET is not set"] {
        assert!(ill.text.contains(advice), "no word of {advice}:\n{}", ill.text);
    }
    Ok(())
}
