//! Recognising and ending processes. A pid counts only with its start time, and a zombie is not alive.

use rustix::process::{Pid, PidfdFlags, Signal};
use std::os::fd::OwnedFd;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// The kernel's start time of a living process, in clock ticks since boot; `None` when there is none.
pub(super) fn start_time(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    parse_stat(&stat)
}

/// Fields 3 (state) and 22 (start time) of `/proc/<pid>/stat`; the name before them may hold anything.
fn parse_stat(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X" | "x") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

/// Whether this very process is alive.
pub(super) fn is_alive(pid: u32, started: u64) -> bool {
    start_time(pid) == Some(started)
}

/// Asks a process group to end.
pub(super) fn terminate(group: u32) {
    signal(group, Signal::TERM);
}

/// Ends a process group without asking.
pub(super) fn kill(group: u32) {
    signal(group, Signal::KILL);
}

fn signal(group: u32, signal: Signal) {
    let Some(pid) = i32::try_from(group).ok().filter(|&pid| pid > 1).and_then(Pid::from_raw) else { return };
    // It may have gone by itself in the meantime, which is what was wanted.
    let _ = rustix::process::kill_process_group(pid, signal);
}

/// Waits for the end of a process that is not our child. Returns at once when it is gone already.
///
/// # Errors
/// The kernel has no pidfd, or too many files are open.
pub(super) async fn ended(pid: u32, started: u64) -> std::io::Result<()> {
    let Some(raw) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return Ok(()) };
    let fd: OwnedFd = match rustix::process::pidfd_open(raw, PidfdFlags::empty()) {
        Ok(fd) => fd,
        Err(rustix::io::Errno::SRCH) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    // The descriptor holds the pid from here on, so that this answer stays true.
    if !is_alive(pid, started) {
        return Ok(());
    }
    watched(fd)?.readable().await.map(|_| ())
}

#[allow(unsafe_code)]
fn watched(fd: OwnedFd) -> std::io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` names the same open descriptor until it is dropped, and `AsyncFd` owns it.
    let watched = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) };
    Ok(watched?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_full_of_brackets_does_not_mislead() {
        let line = |state| {
            format!("42 (a ) b) (c) {state} 1 42 42 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 987654 9 9")
        };
        assert_eq!(parse_stat(&line("S")), Some(987_654));
        assert_eq!(parse_stat(&line("Z")), None);
        assert_eq!(parse_stat(""), None);
        assert!(start_time(std::process::id()).is_some());
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_no_reason_to_panic(text in ".{0,80}|[0-9]{1,3} \\(x\\) [RSZ]( [0-9]{1,9}){0,30}") {
            let _ = parse_stat(&text);
        }
    }
}
