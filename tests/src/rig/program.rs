//! Where programs are and how they are ended.

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

/// The workspace's target folder, found from the running test program.
pub fn target_dir() -> Result<PathBuf> {
    let profile = profile_dir()?;
    Ok(profile.parent().context("the profile folder has a parent")?.to_owned())
}

/// `target/debug` or `target/release`, wherever the running program was built to.
fn profile_dir() -> Result<PathBuf> {
    let here = std::env::current_exe().context("find the running program")?;
    let folder = here.parent().context("the program is in a folder")?;
    let deps = folder.ends_with("deps") || folder.ends_with("examples");
    Ok(if deps { folder.parent().context("deps has a parent")?.to_owned() } else { folder.to_owned() })
}

/// One of the workspace's programs, of the same profile as the running test.
pub fn built(name: &str) -> Result<PathBuf> {
    let path = profile_dir()?.join(name);
    if !path.is_file() {
        bail!("{} is missing: run cargo build --workspace first", path.display());
    }
    Ok(path)
}

/// A port of the loopback that was free a moment ago.
pub fn free_port() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("bind a free port")?;
    Ok(listener.local_addr().context("ask for the port")?.port())
}

/// Asks until `probe` gives something, at most for `limit`; `what` says what was waited for.
pub fn wait_for<T>(what: &str, limit: Duration, mut probe: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(found) = probe().with_context(|| format!("wait for {what}"))? {
            return Ok(found);
        }
        if Instant::now() > deadline {
            bail!("{what} did not come within {limit:?}");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Sends a signal to a child that has not been waited for.
pub fn signal(child: &Child, signal: Signal) {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    // It may have ended already; then there is nobody to tell.
    let _ = pid.map(|pid| kill_process(pid, signal));
}

/// Asks a child to end and waits; after `grace` it is killed and the answer is `None`.
pub fn end(child: &mut Child, grace: Duration) -> Option<ExitStatus> {
    signal(child, Signal::TERM);
    let deadline = Instant::now() + grace;
    while Instant::now() < deadline {
        if let Ok(Some(status)) = child.try_wait() {
            return Some(status);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let _ = child.kill();
    let _ = child.wait();
    None
}
