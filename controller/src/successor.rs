//! Becoming the next version of this program in place: same process, so that the workers stay its children; same
//! port, same socket and same lock, so that nobody is refused in between and nobody else gets in.

use crate::config::Config;
use crate::{http, machine, supervisor};
use anyhow::{Context, bail};
use rustix::io::{FdFlags, fcntl_getfd, fcntl_setfd};
use std::fs::File;
use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// Names the descriptors that are handed over: `pid http socket lock`.
const VARIABLE: &str = "CONTROLLER_FDS";

/// How long the next program may take to say its version.
const TRIAL: Duration = Duration::from_secs(10);

/// What one controller holds at a time.
#[derive(Debug)]
pub struct Doors {
    /// Where the API listens.
    pub http: TcpListener,
    /// Where workers call.
    pub socket: UnixListener,
    lock: File,
}

impl Doors {
    /// Takes over those of the program before this one, or opens them: the lock first, so that a second controller
    /// gets no further.
    ///
    /// # Errors
    /// Another controller has the state folder, or the port or the socket cannot be opened.
    pub fn open(config: &Config) -> anyhow::Result<Self> {
        if let Some(doors) = Self::inherited() {
            machine::make_folders(config)?;
            return Ok(doors);
        }
        let lock = machine::move_in(config)?;
        let http = http::serve::listen(config.bind)?;
        let socket = supervisor::socket::listen(&supervisor::socket_path(config))?;
        Ok(Self { http, socket, lock })
    }

    fn inherited() -> Option<Self> {
        let text = std::env::var(VARIABLE).ok()?;
        let [http, socket, lock] = numbers(&text, std::process::id())?;
        let doors = Self {
            http: TcpListener::from(take(http)?),
            socket: UnixListener::from(take(socket)?),
            lock: File::from(take(lock)?),
        };
        // What the numbers name could be anything; a door that does not answer to its name is not one.
        let right = doors.http.local_addr().is_ok() && doors.socket.local_addr().is_ok();
        right.then_some(doors)
    }

    fn all(&self) -> [impl AsFd; 3] {
        [self.http.as_fd(), self.socket.as_fd(), self.lock.as_fd()]
    }

    /// Lets them live through an exec, or not.
    fn keep_open(&self, kept: bool) -> io::Result<()> {
        let flags = if kept { FdFlags::empty() } else { FdFlags::CLOEXEC };
        self.all().into_iter().try_for_each(|fd| fcntl_setfd(fd, flags).map_err(Into::into))
    }

    fn named(&self) -> String {
        let [http, socket, lock] = [self.http.as_raw_fd(), self.socket.as_raw_fd(), self.lock.as_raw_fd()];
        format!("{} {http} {socket} {lock}", std::process::id())
    }
}

/// Three different descriptors, if they are meant for this process. Children inherit the variable and nothing else.
fn numbers(text: &str, own_pid: u32) -> Option<[RawFd; 3]> {
    let mut words = text.split(' ').map(|word| word.parse::<RawFd>().ok().filter(|n| *n >= 0));
    let pid = words.next()??;
    let fds = [words.next()??, words.next()??, words.next()??];
    let apart = fds[0] != fds[1] && fds[1] != fds[2] && fds[0] != fds[2] && fds.iter().all(|fd| *fd > 2);
    let complete = words.next().is_none();
    (u32::try_from(pid).ok() == Some(own_pid) && apart && complete).then_some(fds)
}

/// A descriptor that the program before this one has left open for us.
#[allow(unsafe_code)]
fn take(number: RawFd) -> Option<OwnedFd> {
    // SAFETY: only borrowed to ask whether it is open at all, which the kernel answers for any number ≥ 0.
    let borrowed = unsafe { std::os::fd::BorrowedFd::borrow_raw(number) };
    let flags = fcntl_getfd(borrowed).ok()?;
    // One that closes at exec was opened by this program for something else.
    if flags.contains(FdFlags::CLOEXEC) {
        return None;
    }
    // SAFETY: it is open, nothing in this process owns it yet (this runs first thing), and the variable that
    // names it is meant for this very process.
    let owned = unsafe { OwnedFd::from_raw_fd(number) };
    fcntl_setfd(&owned, FdFlags::CLOEXEC).ok()?;
    Some(owned)
}

/// The program that will take our place, by the path that we were started by: whoever puts a new file there, or
/// points a link elsewhere, means that one.
#[derive(Debug, Clone)]
pub struct Successor {
    program: PathBuf,
}

impl Successor {
    /// Remembers it. To be called at the very start, while the file is still the one that runs.
    ///
    /// # Errors
    /// When the kernel does not say which program this is.
    pub fn remember() -> anyhow::Result<Self> {
        let running = std::env::current_exe().context("find our own program file")?;
        let called = std::env::args_os().next().map(PathBuf::from).unwrap_or_default();
        let called = if called.as_os_str().as_bytes().contains(&b'/') {
            std::path::absolute(called)?
        } else {
            running.clone()
        };
        let program = if same_file(&called, &running) { called } else { running };
        Ok(Self { program })
    }

    /// Which file it is.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// Whether it can be started at all: it is asked for its version.
    ///
    /// # Errors
    /// Why not, with its path.
    pub async fn try_out(&self) -> anyhow::Result<String> {
        let shown = self.program.display();
        let mut command = tokio::process::Command::new(&self.program);
        command.arg("--version").env_remove(VARIABLE).stdin(Stdio::null()).kill_on_drop(true);
        let output = tokio::time::timeout(TRIAL, command.output());
        let output = output.await.with_context(|| format!("{shown} does not answer"))?;
        let output = output.with_context(|| format!("{shown} cannot be started"))?;
        let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        if !output.status.success() || !text.starts_with(env!("CARGO_PKG_NAME")) {
            bail!("{shown} is not a controller that can run here ({}): {text:?}", output.status);
        }
        Ok(text)
    }

    /// Replaces this program. It comes back only when that failed, and everything is as it was then.
    pub fn take_over(&self, doors: &Doors) -> anyhow::Error {
        if let Err(error) = doors.keep_open(true) {
            return anyhow::Error::from(error).context("keep the doors open");
        }
        // The next program does not listen for signals at once; a second reload must not end it.
        ignore_reloads(true);
        let error = Command::new(&self.program).arg0(&self.program).env(VARIABLE, doors.named()).exec();
        ignore_reloads(false);
        let _ = doors.keep_open(false);
        anyhow::Error::from(error).context(format!("{} cannot take over", self.program.display()))
    }
}

fn same_file(a: &Path, b: &Path) -> bool {
    let id = |path: &Path| std::fs::metadata(path).ok().map(|meta| (meta.dev(), meta.ino()));
    id(a).is_some() && id(a) == id(b)
}

/// `exec` forgets handlers, and the default of SIGHUP is the end; what is ignored stays ignored. The runtime
/// listens again when it is told to.
#[allow(unsafe_code)]
fn ignore_reloads(ignored: bool) {
    use std::sync::Mutex;
    static BEFORE: Mutex<Option<libc::sigaction>> = Mutex::new(None);
    let mut before = BEFORE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    // SAFETY: `sigaction` with valid or null pointers to structs of its own kind; an all-zero struct is a valid one
    // (no flags, an empty mask), and SIG_IGN runs no code of ours.
    unsafe {
        if ignored {
            let mut ignore: libc::sigaction = std::mem::zeroed();
            ignore.sa_sigaction = libc::SIG_IGN;
            let mut old: libc::sigaction = std::mem::zeroed();
            libc::sigaction(libc::SIGHUP, &raw const ignore, &raw mut old);
            *before = Some(old);
        } else if let Some(old) = before.take() {
            libc::sigaction(libc::SIGHUP, &raw const old, std::ptr::null_mut());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_three_different_descriptors_for_this_very_process_count() {
        assert_eq!(numbers("42 7 8 9", 42), Some([7, 8, 9]));
        for wrong in
            ["43 7 8 9", "42 7 8", "42 7 8 9 10", "42 7 7 9", "42 1 8 9", "42 -7 8 9", "", "x", "42  7 8 9"]
        {
            assert_eq!(numbers(wrong, 42), None, "{wrong}");
        }
    }

    #[test]
    fn a_descriptor_that_was_not_left_open_for_us_is_not_taken() {
        let own = File::open("/dev/null").unwrap();
        assert!(take(own.as_raw_fd()).is_none(), "it closes at exec, so it is ours already");
        assert!(take(999_999).is_none());
    }

    #[tokio::test]
    async fn a_program_that_cannot_run_is_refused_before_it_replaces_us() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("stream-controller");
        let words = |program: &Path| {
            let successor = Successor { program: program.to_owned() };
            async move { format!("{:#}", successor.try_out().await.unwrap_err()) }
        };
        assert!(words(&program).await.contains("cannot be started"));
        std::fs::write(&program, "garbage").unwrap();
        assert!(words(&program).await.contains("cannot be started"));
        assert!(words(Path::new("/bin/false")).await.contains("not a controller"));
        assert!(words(Path::new("/bin/echo")).await.contains("not a controller"));
    }
}
