//! RTMPS through a TLS front with a certificate of a private authority: taken when trusted, else refused.

use anyhow::{Context, Result};
use e2e::analysis::{Limits, judge_loop};
use e2e::recording::Recording;
use e2e::rig::controller::{Plan, SOON};
use e2e::rig::nginx::Nginx;
use e2e::rig::wanted::{destination, is_live, plays, seen, start};
use e2e::zoo;

#[test]
fn a_certificate_of_a_trusted_authority_is_taken() -> Result<()> {
    let nginx = Nginx::start()?;
    let plan = Plan::new()?.with("TLS_CA_FILE", nginx.ca_file());
    zoo::put_into(&plan.media(), &zoo::sample())?;
    let controller = plan.start()?;
    controller.go_on_air(&start(&[destination("one", &nginx.tls_url(), "tls-key")]))?;
    controller.wait_until("media are acknowledged", SOON, |s| is_live(s, "one"))?;
    for file in ["02-b-frames.mp4", "03-audio-ends-early.mp4", "01-no-b-frames.mp4"] {
        controller.wait_until(&format!("{file} is on the air"), SOON, |s| plays(s, file))?;
    }
    controller.go_off_air()?;
    let recordings = nginx.recordings()?;
    let recording = Recording::read(recordings.first().context("nginx recorded nothing")?)?;
    let verdict = judge_loop(recording, &zoo::sample(), 2, &Limits::default());
    assert!(verdict.problems.is_empty(), "\n{verdict}");
    Ok(())
}

#[test]
fn a_certificate_of_an_unknown_authority_is_refused_with_its_reason() -> Result<()> {
    let nginx = Nginx::start()?;
    let plan = Plan::new()?;
    zoo::put_into(&plan.media(), &zoo::sample()[..1])?;
    let controller = plan.start()?;
    controller.go_on_air(&start(&[destination("one", &nginx.tls_url(), "tls-key")]))?;
    let status =
        controller.wait_until("the refusal", SOON, |s| seen(s, "one")["last_error"]["code"] == "tls")?;
    assert_eq!(status["air"]["is"], "dark", "{status:#}");
    assert_eq!(nginx.publishes(), 0);
    Ok(())
}
