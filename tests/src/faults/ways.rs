//! Other ways in to a destination: a second address, another protocol, another machine behind the same name.

use super::scene::{PATIENCE, Pair, changed_over_ms};
use super::{Fault, Measured, Scale};
use crate::rig::controller::Plan;
use crate::rig::nginx::Nginx;
use crate::rig::program;
use crate::rig::sink::Sink;
use crate::rig::wanted::destination;
use crate::rig::wire::{Weather, Wire};
use crate::zoo;
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use tempfile::TempDir;

const GROUP: &str = "destination";

pub(super) const FAULTS: &[Fault] = &[
    Fault::new(
        GROUP,
        "another-way-in",
        "the backup address while the first is down, and back; the other loses no frame",
        backup,
    )
    .in_short(),
    Fault::new(
        GROUP,
        "another-address",
        "the other address of the same name; the other destination loses no frame",
        other_address,
    ),
    Fault::new(
        GROUP,
        "rtmp-else-rtmps",
        "RTMPS where RTMP does not answer; the other destination loses no frame",
        into_tls,
    ),
    Fault::new(
        GROUP,
        "rtmps-else-rtmp",
        "RTMP, if allowed, where TLS fails; the other destination loses no frame",
        out_of_tls,
    ),
];

fn with_backup(url: &str, backup: &str) -> Value {
    let mut hit = destination("hit", url, "b");
    hit["backup_url"] = json!(backup);
    hit
}

fn backup(scale: &Scale) -> Result<Measured> {
    let (first, second) = (Sink::start()?, Sink::start()?);
    let (near, far) = (Wire::start(first.address())?, Wire::start(second.address())?);
    let pair = Pair::on_air(with_backup(&near.url(), &far.url()))?;
    pair.hit_is_live(PATIENCE)?;
    near.turn(Weather::Down);
    let over = changed_over_ms(&first, &second, 1)?;
    pair.hit_is_live(PATIENCE)?;
    std::thread::sleep(scale.seconds(5.0));
    near.turn(Weather::Fair);
    far.turn(Weather::Down);
    let back = changed_over_ms(&second, &first, 2)?;
    pair.hit_is_live(PATIENCE)?;
    pair.spared_is_untouched(format!("{over} ms to the other way, {back} ms back"))
}

/// A worker that finds two machines behind one name; the rest of the system does not know it.
fn two_behind_one_name(plan: Plan, folder: &TempDir) -> Result<Plan> {
    let hosts = folder.path().join("hosts");
    let names = "127.0.0.1 localhost\n127.0.0.1 two.test\n127.0.0.2 two.test\n";
    fs::write(&hosts, names).context("write the hosts")?;
    let worker = folder.path().join("worker");
    let program = program::built("stream-worker")?;
    let mount = format!("mount --bind {} /etc/hosts", hosts.display());
    let script = format!(
        "#!/bin/sh\nexec unshare --map-root-user --mount sh -c '{mount} && exec {} \"$@\"' worker \"$@\"\n",
        program.display()
    );
    fs::write(&worker, script).context("write the worker's script")?;
    fs::set_permissions(&worker, Permissions::from_mode(0o755)).context("make it a program")?;
    Ok(plan.with("WORKER_PATH", &worker))
}

fn other_address(_: &Scale) -> Result<Measured> {
    let folder = tempfile::tempdir().context("make a folder")?;
    let mut sinks = vec![Sink::start()?];
    let port = sinks[0].address().split(':').nth(1).context("a port")?.to_owned();
    sinks.push(Sink::start_at(&format!("127.0.0.2:{port}"))?);
    let plan = two_behind_one_name(Plan::new()?, &folder)?;
    let hit = destination("hit", &format!("rtmp://two.test:{port}/live"), "b");
    let pair = Pair::arranged(plan, &zoo::sample(), &[hit])?;
    pair.hit_is_live(PATIENCE)?;
    let taken = if sinks[0].count("publish")? > 0 { 0 } else { 1 };
    sinks[taken].end();
    let over = changed_over_ms(&sinks[taken], &sinks[1 - taken], 1)?;
    pair.hit_is_live(PATIENCE)?;
    pair.spared_is_untouched(format!("{over} ms to the other machine"))
}

fn into_tls(_: &Scale) -> Result<Measured> {
    let tls = Nginx::start()?;
    let nobody = format!("rtmp://127.0.0.1:{}/live", program::free_port()?);
    let plan = Plan::new()?.with("TLS_CA_FILE", tls.ca_file());
    let pair = Pair::arranged(plan, &zoo::sample(), &[with_backup(&nobody, &tls.tls_url())])?;
    pair.hit_is_live(PATIENCE)?;
    let way = pair.seen()?["way"].to_string();
    ensure!(way.contains("rtmps"), "the way is {way}");
    pair.spared_is_untouched("on the air over TLS")
}

fn out_of_tls(_: &Scale) -> Result<Measured> {
    let (tls, sink) = (Nginx::start()?, Sink::start()?);
    let pair = Pair::on_air(with_backup(&tls.tls_url(), &sink.url()))?;
    pair.hit_is_live(PATIENCE)?;
    ensure!(tls.publishes() == 0, "it was published in spite of the certificate");
    ensure!(sink.count("publish")? == 1, "nothing was published over RTMP");
    pair.spared_is_untouched("on the air over RTMP, as the backup address says")
}
