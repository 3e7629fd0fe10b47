//! Recognising, ending and outliving processes. A pid counts only with its start time, a zombie is not alive, and
//! an end is learned in one way, whoever the parent is.

use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions};
use std::os::fd::OwnedFd;
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// How often a process is looked at where the kernel cannot tell of its end.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// One process and no other that may have its pid later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Process {
    /// Its id, and that of the group that it leads.
    pub pid: u32,
    /// The kernel's start time in clock ticks since boot.
    pub started: u64,
}

/// What `/proc/<pid>/stat` says.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    dead: bool,
    started: u64,
}

impl Process {
    /// The living process with this id.
    pub(super) fn of(pid: u32) -> Option<Self> {
        let stat = stat(pid)?;
        (!stat.dead).then_some(Self { pid, started: stat.started })
    }

    /// The start time of a process that lives or has not been waited for.
    pub(super) fn started(pid: u32) -> Option<u64> {
        Some(stat(pid)?.started)
    }

    /// Whether it lives.
    pub(super) fn is_alive(self) -> bool {
        Self::of(self.pid) == Some(self)
    }

    /// Whether it lives or has ended without having been waited for.
    pub(super) fn is_known(self) -> bool {
        stat(self.pid).is_some_and(|stat| stat.started == self.started)
    }

    /// Asks its group to end.
    pub(super) fn terminate(self) {
        self.signal(Signal::TERM);
    }

    /// Ends its group without asking.
    pub(super) fn kill(self) {
        self.signal(Signal::KILL);
    }

    fn signal(self, signal: Signal) {
        let Some(pid) = raw(self.pid).filter(|_| self.is_known()) else { return };
        // It may have gone by itself in the meantime, which is what was wanted.
        let _ = rustix::process::kill_process_group(pid, signal);
    }

    /// Waits for its end. Gives the exit code, or 128 + the signal's number, where it was our child, also when it
    /// was started by the program that we replaced.
    pub(super) async fn ended(self) -> Option<i32> {
        if let Err(error) = self.watched().await {
            tracing::warn!(pid = self.pid, %error, "the kernel does not tell when it ends");
            while self.is_alive() {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        }
        self.reap()
    }

    async fn watched(self) -> std::io::Result<()> {
        let Some(pid) = raw(self.pid) else { return Ok(()) };
        let fd = match rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
            Ok(fd) => fd,
            Err(rustix::io::Errno::SRCH) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        // The descriptor holds the pid from here on, so that this answer stays true.
        if !self.is_alive() {
            return Ok(());
        }
        readable(fd)?.readable().await.map(|_| ())
    }

    fn reap(self) -> Option<i32> {
        let pid = raw(self.pid).filter(|_| self.is_known())?;
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        let status = rustix::process::waitid(WaitId::Pid(pid), options).ok()??;
        status.exit_status().or_else(|| status.terminating_signal().map(|signal| 128 + signal))
    }
}

fn raw(pid: u32) -> Option<Pid> {
    i32::try_from(pid).ok().filter(|&pid| pid > 1).and_then(Pid::from_raw)
}

fn stat(pid: u32) -> Option<Stat> {
    parse_stat(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// Fields 3 (state) and 22 (start time) of `/proc/<pid>/stat`; the name before them may hold anything.
fn parse_stat(stat: &str) -> Option<Stat> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace();
    let dead = matches!(fields.next()?, "Z" | "X" | "x");
    Some(Stat { dead, started: fields.nth(18)?.parse().ok()? })
}

#[allow(unsafe_code)]
fn readable(fd: OwnedFd) -> std::io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` names the same open descriptor until it is dropped, and `AsyncFd` owns it.
    let watched = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) };
    Ok(watched?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::CommandExt;
    use std::process::Command;

    #[test]
    fn a_name_full_of_brackets_does_not_mislead() {
        let line = |state| {
            format!("42 (a ) b) (c) {state} 1 42 42 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 987654 9 9")
        };
        assert_eq!(parse_stat(&line("S")), Some(Stat { dead: false, started: 987_654 }));
        assert_eq!(parse_stat(&line("Z")), Some(Stat { dead: true, started: 987_654 }));
        assert_eq!(parse_stat(""), None);
    }

    fn child(script: &str) -> (std::process::Child, Process) {
        let child = Command::new("sh").args(["-c", script]).process_group(0).spawn().unwrap();
        // It may have ended already; until it is waited for it has an entry.
        let process = Process { pid: child.id(), started: Process::started(child.id()).unwrap() };
        (child, process)
    }

    #[tokio::test]
    async fn the_end_of_a_child_is_learned_with_its_code() {
        let (_child, process) = child("exit 7");
        assert_eq!(process.ended().await, Some(7));
        assert!(!process.is_known(), "it was waited for");
        assert_eq!(process.ended().await, None, "a second time there is nothing to learn");
        let (_child, process) = child("exec sleep 60");
        process.terminate();
        assert_eq!(process.ended().await, Some(128 + 15));
    }

    #[tokio::test]
    async fn a_zombie_is_not_alive_and_a_reused_pid_is_somebody_else() {
        let (mut child, process) = child("exec sleep 60");
        let other = Process { started: process.started + 1, ..process };
        assert!(!other.is_alive() && !other.is_known());
        assert_eq!(other.ended().await, None);
        other.kill();
        assert!(process.is_alive(), "the signal was for somebody else");
        child.kill().unwrap();
        while process.is_alive() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert!(process.is_known(), "a zombie keeps its entry until it is waited for");
        assert_eq!(process.ended().await, Some(128 + 9));
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_no_reason_to_panic(text in ".{0,80}|[0-9]{1,3} \\(x\\) [RSZ]( [0-9]{1,9}){0,30}") {
            let _ = parse_stat(&text);
        }
    }
}
