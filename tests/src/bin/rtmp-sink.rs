//! `rtmp-sink --listen 127.0.0.1:0 --record DIR`: records every RTMP publish as FLV until SIGTERM or SIGINT.
//!
//! The first line on stdout is the address it listens on; events go to `DIR/events.jsonl`.

use anyhow::{Context, Result, bail};
use e2e::sink::{self, Journal};
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let (address, folder) = arguments(std::env::args().skip(1))?;
    std::fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
    let journal = Journal::open(&folder)?;
    let listener = TcpListener::bind(address).await.with_context(|| format!("listen on {address}"))?;
    let (tell, stop) = watch::channel(false);
    let mut term = signal(SignalKind::terminate()).context("hear SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("hear SIGINT")?;
    let local = listener.local_addr().context("ask for the address")?;
    writeln!(std::io::stdout(), "{local}").context("say the address")?;
    tokio::spawn(async move {
        tokio::select! { _ = term.recv() => {} _ = interrupt.recv() => {} }
        let _ = tell.send(true);
    });
    sink::serve(listener, &folder, journal, stop).await
}

fn arguments(mut given: impl Iterator<Item = String>) -> Result<(SocketAddr, PathBuf)> {
    let (mut address, mut folder) = (SocketAddr::from(([127, 0, 0, 1], 0)), None);
    while let Some(name) = given.next() {
        let value = given.next().with_context(|| format!("{name} needs a value"))?;
        match name.as_str() {
            "--listen" => address = value.parse().with_context(|| format!("read the address {value}"))?,
            "--record" => folder = Some(PathBuf::from(value)),
            _ => bail!("unknown argument {name}; usage: rtmp-sink --listen ADDRESS:PORT --record FOLDER"),
        }
    }
    Ok((address, folder.context("--record FOLDER is missing")?))
}
