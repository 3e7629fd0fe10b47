//! The rigs themselves, with a bare FFmpeg as the publisher: what they record is what was sent.

use anyhow::Result;
use e2e::analysis::{Limits, judge};
use e2e::media::{Clip, WITH_B, ffmpeg};
use e2e::recording::Recording;
use e2e::rig::nginx::Nginx;
use e2e::rig::program;
use e2e::rig::sink::Sink;
use e2e::zoo::Animal;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(20);

fn clip() -> Clip {
    Clip { video: WITH_B, ..Clip::plain("rig.mp4", 50) }
}

fn publish(url: &str, options: &[&str]) -> Result<Child> {
    let mut command = ffmpeg();
    command.args(["-re", "-i"]).arg(clip().make()?).args(["-c", "copy", "-f", "flv"]).args(options).arg(url);
    Ok(command.stderr(Stdio::piped()).spawn()?)
}

fn assert_clean(path: &Path) -> Result<()> {
    let verdict = judge(&Recording::read(path)?, &[Animal::new(clip())], &Limits::default());
    assert!(verdict.problems.is_empty(), "{}\n{verdict}", path.display());
    Ok(())
}

#[test]
fn the_sink_records_a_publish_and_writes_down_its_life() -> Result<()> {
    let mut sink = Sink::start()?;
    assert!(publish(&format!("{}/key", sink.url()), &[])?.wait()?.success());
    sink.wait_for("close", 1, SOON)?;
    let events: Vec<String> =
        sink.events()?.iter().filter_map(|e| e["event"].as_str().map(str::to_owned)).collect();
    assert_eq!(events, ["publish", "first_idr", "close"]);
    assert_eq!(sink.events()?[2]["reason"], "unpublish");
    sink.end();
    assert_clean(&sink.recording(1))
}

#[test]
fn the_sink_refuses_a_key_that_is_in_use_and_closes_its_files_when_it_ends() -> Result<()> {
    let mut sink = Sink::start()?;
    let url = format!("{}/key", sink.url());
    let mut first = publish(&url, &[])?;
    sink.wait_for("first_idr", 1, SOON)?;
    let second = publish(&url, &[])?.wait_with_output()?;
    assert!(!second.status.success());
    let words = String::from_utf8_lossy(&second.stderr);
    assert!(words.contains("Already publishing"), "{words}");
    assert_eq!(sink.count("refused")?, 1);
    sink.end();
    let events = sink.events()?;
    let close = events.iter().find(|e| e["event"] == "close").expect("the recording was closed");
    assert_eq!((&close["reason"], &close["on_disk"]), (&"sink stopped".into(), &true.into()));
    first.wait()?;
    Ok(())
}

#[test]
fn nginx_records_over_plain_rtmp_and_over_tls() -> Result<()> {
    let nginx = Nginx::start()?;
    let ca = nginx.ca_file().to_string_lossy().into_owned();
    assert!(publish(&format!("{}/plain", nginx.url()), &[])?.wait()?.success());
    let trusted = ["-tls_verify", "1", "-ca_file", &ca];
    assert!(publish(&format!("{}/tls", nginx.tls_url()), &trusted)?.wait()?.success());
    assert!(!publish(&format!("{}/tls", nginx.tls_url()), &["-tls_verify", "1"])?.wait()?.success());
    assert_eq!(nginx.publishes(), 2);
    program::wait_for("both recordings", SOON, || Ok((nginx.recordings()?.len() == 2).then_some(())))?;
    nginx.recordings()?.iter().try_for_each(|path| assert_clean(path))
}
