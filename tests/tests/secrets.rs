//! A stream key is looked for wherever somebody could see it: processes, logs, answers, files.

use anyhow::Result;
use e2e::rig::controller::{Controller, Plan, SOON};
use e2e::rig::process::Process;
use e2e::rig::sink::Sink;
use e2e::rig::wanted::{destination, is_live, plays, start};
use e2e::zoo;
use serde_json::json;
use std::path::{Path, PathBuf};

const KEY: &str = "k3y-Qz81-never-to-be-seen-7731";

#[test]
fn a_key_from_the_api_is_nowhere_to_be_seen() -> Result<()> {
    let sink = Sink::start()?;
    let controller = controller(Plan::new()?)?;
    let mut answers =
        vec![controller.post("/streams/start", &start(&[destination("one", &sink.url(), KEY)]))?];
    assert!(answers[0].status < 300, "{}", answers[0].text);
    watch_a_round(&controller, "one", |p| p.names(KEY))?;
    // Answers that repeat what was asked, and those that refuse it.
    for path in [
        "/streams/status",
        "/api/channels/main/destinations",
        "/api/channels/main/destinations/one",
        "/health",
    ] {
        answers.push(controller.get(path)?);
    }
    let wrong = json!({"destinations": [{"id": "x", "name": "x", "platform": "custom", "url": "http://h/a",
        "stream_key": KEY}]});
    for body in [start(&[destination("one", &sink.url(), KEY)]), wrong, json!({"stream_key": KEY})] {
        answers.push(controller.post("/streams/start", &body)?);
    }
    controller.go_off_air()?;
    answers.push(controller.get("/streams/status")?);
    for answer in answers {
        assert!(!answer.text.contains(KEY), "an answer shows the key: {} {}", answer.status, answer.text);
    }
    assert_no_file_holds(controller.plan().root(), KEY);
    Ok(())
}

#[test]
fn a_key_from_the_environment_is_not_handed_on() -> Result<()> {
    let sink = Sink::start()?;
    let plan = Plan::new()?.with("YOUTUBE_STREAM_KEY", KEY).with("YOUTUBE_RTMP_URL", sink.url());
    let controller = controller(plan)?;
    controller.go_on_air(&json!({}))?;
    let own = controller.pid();
    // The controller's own environment is where its owner put the key.
    watch_a_round(&controller, "youtube", |p| p.arguments.contains(KEY) || p.pid != own && p.names(KEY))?;
    assert!(!controller.status()?.to_string().contains(KEY));
    controller.go_off_air()?;
    assert_no_file_holds(controller.plan().root(), KEY);
    Ok(())
}

fn controller(plan: Plan) -> Result<Controller> {
    zoo::put_into(&plan.media(), &zoo::sample())?;
    plan.start()
}

/// Looks at every process again and again while two more files are opened; at least a worker and a source must
/// have been seen, or nothing was looked at.
fn watch_a_round(controller: &Controller, destination: &str, shows: impl Fn(&Process) -> bool) -> Result<()> {
    let token = controller.token()?;
    let most = std::cell::Cell::new(0);
    let look = || {
        let processes = controller.processes();
        most.set(most.get().max(processes.len()));
        for process in processes {
            assert!(!shows(&process), "the key is seen in {process:#?}");
            assert!(!process.names(&token), "the administrator's token is seen in {process:#?}");
        }
    };
    controller.wait_until("media are acknowledged", SOON, |s| {
        look();
        is_live(s, destination)
    })?;
    for file in ["02-b-frames.mp4", "03-audio-ends-early.mp4"] {
        controller.wait_until(&format!("{file} is on the air"), SOON, |s| {
            look();
            plays(s, file)
        })?;
    }
    assert!(most.get() >= 3, "only {} processes were seen", most.get());
    Ok(())
}

/// Every file below `folder`: state, logs, HLS, cache, what the controller said.
fn assert_no_file_holds(folder: &Path, secret: &str) {
    let files = files(folder);
    assert!(files.iter().any(|f| f.ends_with("stream_config.json")), "{files:?}");
    for file in files {
        let bytes = std::fs::read(&file).unwrap_or_default();
        let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
        assert!(!found, "the key is in {}", file.display());
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let entries = entries.flatten().map(|e| e.path());
    entries
        .flat_map(|path| match path.symlink_metadata() {
            Ok(meta) if meta.is_dir() => files(&path),
            Ok(meta) if meta.is_file() => vec![path],
            _ => Vec::new(),
        })
        .collect()
}
