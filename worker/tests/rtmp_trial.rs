//! The connection test: what is told of each step to real servers, and what is never told.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test file fails by panicking

mod rtmp_peers;

use rml_rtmp::sessions::ServerSessionEvent as Event;
use rtmp_peers::nginx::Nginx;
use rtmp_peers::server::{Answer, Server};
use serde_json::{Value, json};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

const KEY: &str = "k3y-tried";

async fn run(spec: Value) -> Output {
    let attempt = tokio::task::spawn_blocking(move || {
        let mut child = Command::new(env!("CARGO_BIN_EXE_stream-worker"))
            .arg("--try-destination")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(spec.to_string().as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    });
    attempt.await.unwrap()
}

/// Runs the test; the outcome and whether the exit code agrees are checked for what must always hold.
async fn attempt(url: &str, ca_file: Option<&Path>) -> Value {
    let spec = json!({"id": "one", "name": "One", "platform": "custom", "url": url, "key": KEY,
        "tls_ca_file": ca_file});
    let output = run(spec).await;
    let said = [&output.stdout[..], &output.stderr[..]].concat();
    assert!(!String::from_utf8_lossy(&said).contains("k3y"), "{}", String::from_utf8_lossy(&said));
    let outcome: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(if outcome["ok"] == true { 0 } else { 1 }), "{outcome:#}");
    let steps = outcome["steps"].as_array().unwrap();
    assert!(
        steps.iter().all(|step| step["ms"].is_u64() && step["words"].as_str().is_some_and(|w| w.len() > 10))
    );
    assert_eq!(outcome["ok"] == true, steps.iter().all(|step| step["ok"] == true), "{outcome:#}");
    outcome
}

fn names(outcome: &Value) -> Vec<&str> {
    outcome["steps"].as_array().unwrap().iter().map(|step| step["step"].as_str().unwrap()).collect()
}

/// The step that failed, and its words.
fn failed(outcome: &Value) -> (String, String) {
    let step = outcome["steps"].as_array().unwrap().last().unwrap();
    assert_eq!(step["ok"], false, "{outcome:#}");
    (step["step"].as_str().unwrap().to_owned(), step["words"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn every_step_to_a_real_server_is_told_and_nothing_is_published() {
    let nginx = Nginx::start_with_tls();
    let plain = attempt(&nginx.url("live"), None).await;
    assert_eq!(names(&plain), ["resolve", "connect", "handshake", "rtmp"], "{plain:#}");
    assert_eq!(plain["ok"], true);
    assert_eq!(plain["steps"][1]["address"], format!("127.0.0.1:{}", nginx.rtmp_port));
    let tls = attempt(&nginx.rtmps_url("live"), Some(&nginx.authority())).await;
    assert_eq!(names(&tls), ["resolve", "connect", "tls", "handshake", "rtmp"], "{tls:#}");
    assert_eq!(tls["ok"], true);
    assert!(nginx.recordings().is_empty() && !nginx.log().contains("k3y"), "{}", nginx.log());
}

#[tokio::test]
async fn the_step_that_fails_says_what_to_do() {
    let nginx = Nginx::start_with_tls();
    let (step, words) = failed(&attempt(&nginx.rtmps_url("live"), None).await);
    assert!(step == "tls" && words.contains("not trusted"), "{step}: {words}");
    let (step, words) = failed(&attempt(&nginx.url("nowhere"), None).await);
    assert!(step == "rtmp" && words.contains("application"), "{step}: {words}");
    let (step, words) = failed(&attempt("rtmp://no-such-host.invalid/live", None).await);
    assert!(step == "resolve" && words.contains("no-such-host.invalid"), "{step}: {words}");
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (step, words) = failed(&attempt(&format!("rtmp://{nobody}/live"), None).await);
    assert!(step == "connect" && words.contains("Check"), "{step}: {words}");
    let (step, words) = failed(&attempt("http://h/live", None).await);
    assert!(step == "url" && words.contains("rtmp://"), "{step}: {words}");
}

#[tokio::test]
async fn a_server_that_is_none_or_says_no_is_told_from_one_that_is_silent() {
    let no = Answer::RejectApp("NetConnection.Connect.Rejected", "no k3y-tried here");
    let server = Server::start(&[no, Answer::Babble, Answer::Silence]).await;
    let (step, words) = failed(&attempt(&server.url("live"), None).await);
    assert!(
        step == "rtmp" && words.contains("NetConnection.Connect.Rejected: no *** here"),
        "{step}: {words}"
    );
    let told = server.events();
    let publishes = told.iter().filter(|event| matches!(event, Event::PublishStreamRequested { .. }));
    assert_eq!(publishes.count(), 0, "{told:?}");
    let (step, words) = failed(&attempt(&server.url("live"), None).await);
    assert!(step == "handshake" && words.contains("does not answer in RTMP"), "{step}: {words}");
    let began = std::time::Instant::now();
    let (step, words) = failed(&attempt(&server.url("live"), None).await);
    assert!(step == "handshake" && words.contains("more than 4 s"), "{step}: {words}");
    assert!(began.elapsed().as_secs() < 15);
}

#[tokio::test]
async fn a_spec_that_cannot_be_read_is_not_repeated() {
    let output = run(json!({"id": "one", "key": KEY, "platform": KEY})).await;
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), said.lines().count()), (Some(1), 1), "{said}");
    assert!(said.contains("cannot be understood") && !said.contains(KEY), "{said}");
}
