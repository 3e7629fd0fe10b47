//! Running FFmpeg and ffprobe: cleared environment, limits, a leash to the worker's life, and a tail of what they say.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::ffi::OsString;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};
use tokio::process::{Child, ChildStderr, Command};
use tokio::time::{Instant, timeout};

/// The programs and what they may not repeat.
#[derive(Debug, Clone)]
pub struct Tools {
    /// FFmpeg 5.1 or newer.
    pub ffmpeg: PathBuf,
    /// Its ffprobe.
    pub ffprobe: PathBuf,
}

impl Tools {
    /// What a child sees of the environment: nothing but a search path for its libraries' helpers.
    pub fn secrets_free_environment(&self) -> Vec<(&'static str, OsString)> {
        vec![("PATH", OsString::from("/usr/local/bin:/usr/bin:/bin")), ("LC_ALL", OsString::from("C"))]
    }
}

/// Options before every input that came from somebody else. A playlist named `.mp4` must not make FFmpeg fetch
/// other addresses, so only real containers are opened; which protocols may be used is the input's to say.
pub const INPUT_LIMITS: [&str; 2] =
    ["-format_whitelist", "mov,mp4,m4a,matroska,webm,mpegts,flv,avi,mpeg,mp3,aac,wav,flac,ogg"];

/// Most address space a child may take.
const MAX_MEMORY: u64 = 4 << 30;

/// A path as FFmpeg's argument, which cannot be taken for an option or for another protocol.
pub fn file_argument(path: &Path) -> OsString {
    let mut argument = OsString::from("file:");
    argument.push(path);
    argument
}

/// A command for `program` that dies with this process, inherits nothing, and cannot eat the machine.
///
/// Call it from the thread that lives as long as the worker: the leash is tied to the spawning thread.
pub fn command(program: &Path, environment: &[(&'static str, OsString)]) -> Command {
    leashed(program, environment, 0)
}

/// The same, for a child that writes files: none larger than `most` bytes.
pub fn writing_command(program: &Path, environment: &[(&'static str, OsString)], most: u64) -> Command {
    leashed(program, environment, most)
}

/// The child gives way to everything else on this machine.
#[allow(unsafe_code)]
pub fn give_way(command: &mut Command) {
    // SAFETY: between fork and exec only setpriority(2) is called.
    unsafe {
        command.pre_exec(|| rustix::process::nice(19).map(drop).map_err(io::Error::from));
    }
}

fn leashed(program: &Path, environment: &[(&'static str, OsString)], largest_file: u64) -> Command {
    let mut command = Command::new(program);
    command.env_clear().envs(environment.iter().cloned());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    leash(&mut command, largest_file);
    command
}

#[allow(unsafe_code)]
fn leash(command: &mut Command, largest_file: u64) {
    let parent = rustix::process::getpid();
    // SAFETY: between fork and exec only async-signal-safe system calls are made; nothing is allocated.
    unsafe {
        command.pre_exec(move || {
            use rustix::process::{Resource, Signal, getppid, set_parent_process_death_signal};
            set_parent_process_death_signal(Some(Signal::KILL))?;
            if getppid() != Some(parent) {
                return Err(io::Error::from_raw_os_error(libc::ESRCH));
            }
            lower(Resource::Core, 0)?;
            lower(Resource::Fsize, largest_file)?;
            lower(Resource::Nofile, 64)?;
            lower(Resource::As, MAX_MEMORY)
        });
    }
}

/// Lowers a limit; one that is lower already stays, because nobody may raise it again.
fn lower(resource: rustix::process::Resource, to: u64) -> io::Result<()> {
    let present = rustix::process::getrlimit(resource).maximum;
    let limit = Some(present.map_or(to, |present| present.min(to)));
    Ok(rustix::process::setrlimit(resource, rustix::process::Rlimit { current: limit, maximum: limit })?)
}

/// Runs a command to its end and gives what it printed.
///
/// # Errors
/// In words: that it could not be started, took too long, printed too much, or failed, with its last line.
pub async fn answer(mut command: Command, deadline: Duration, most: usize) -> Result<Vec<u8>, String> {
    let mut child = command.spawn().map_err(|error| format!("ffprobe cannot be started: {error}"))?;
    let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
        return Err("ffprobe has no output".to_owned());
    };
    let whole = async {
        let (printed, said) = tokio::join!(read_up_to(stdout, most), read_up_to(stderr, 64 * 1024));
        (printed, said, child.wait().await)
    };
    let Ok((printed, said, status)) = timeout(deadline, whole).await else {
        // The child is killed and reaped by its drop guard.
        return Err(format!("was not read within {} s", deadline.as_secs()));
    };
    match status {
        Ok(status) if status.success() => Ok(printed),
        Ok(status) => {
            let words = killed(status).or_else(|| last_line(&said));
            Err(words.unwrap_or_else(|| "ffprobe failed without a word".to_owned()))
        }
        Err(error) => Err(format!("ffprobe cannot be waited for: {error}")),
    }
}

async fn read_up_to(from: impl AsyncRead + Unpin, most: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    let _ = from.take(most as u64).read_to_end(&mut bytes).await;
    bytes
}

/// The last thing that was said, without the file's path or address in front and cut to a length for people.
fn last_line(said: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(said);
    let line = text.lines().rev().find(|l| !l.trim().is_empty())?;
    let named = line.starts_with("file:") || line.starts_with("http://");
    let line = if named { line.rsplit_once(": ").map_or(line, |(_, why)| why) } else { line };
    Some(without_addresses(line).trim().chars().take(200).collect())
}

/// A line without web addresses: a signed one opens the object to everybody who reads the log.
fn without_addresses(line: &str) -> Cow<'_, str> {
    if !line.contains("://") {
        return Cow::Borrowed(line);
    }
    let shown = |word: &str| match word.find("http") {
        Some(at) if word[at..].contains("://") => format!("{}(address)", &word[..at]),
        _ => word.to_owned(),
    };
    Cow::Owned(line.split(' ').map(shown).collect::<Vec<_>>().join(" "))
}

/// FFmpeg's messages: each goes to the log with the prefix `[FFMPEG]`, at most [`LINES`] in [`SPAN`], and the
/// last few are kept to explain an end.
#[derive(Debug, Default)]
pub struct Said {
    tail: VecDeque<String>,
}

const LINES: u32 = 20;
const SPAN: Duration = Duration::from_secs(10);
const LONGEST_LINE: u64 = 2048;
const KEPT: usize = 8;

impl Said {
    /// What a server answered, else the last message, if there was one.
    pub fn last(&self) -> Option<String> {
        let answer = self.tail.iter().rev().find_map(|line| line.find("HTTP error ").map(|at| &line[at..]));
        if let Some(answer) = answer {
            return Some(answer.chars().take(200).collect());
        }
        let all: Vec<u8> = self.tail.iter().flat_map(|l| [l.as_bytes(), b"\n"].concat()).collect();
        last_line(&all)
    }
}

/// Reads messages until the child closes its stderr.
pub async fn listen(stderr: ChildStderr, key: String) -> Said {
    let mut said = Said::default();
    let mut reader = BufReader::with_capacity(1024, stderr);
    let (mut span_began, mut shown, mut hidden) = (Instant::now(), 0u32, 0u64);
    let mut line = Vec::new();
    loop {
        line.clear();
        match (&mut reader).take(LONGEST_LINE).read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => break,
            Ok(_) => {}
        }
        let text = without_addresses(String::from_utf8_lossy(&line).trim_end()).into_owned();
        if span_began.elapsed() > SPAN {
            if hidden > 0 {
                tracing::warn!(item.key = %key, hidden, "[FFMPEG] more lines were left out");
            }
            (span_began, shown, hidden) = (Instant::now(), 0, 0);
        }
        if shown < LINES {
            tracing::warn!(item.key = %key, "[FFMPEG] {text}");
            shown += 1;
        } else {
            hidden += 1;
        }
        if said.tail.len() == KEPT {
            said.tail.pop_front();
        }
        said.tail.push_back(text);
    }
    said
}

/// That a child was killed. Nobody here kills one at work, so somebody else did: mostly the kernel, for want of memory.
pub fn killed(status: ExitStatus) -> Option<String> {
    let signal = status.signal()?;
    let why = if signal == libc::SIGKILL { ", perhaps because memory ran out" } else { "" };
    Some(format!("its reader was killed by signal {signal}{why}"))
}

/// Ends a child: a polite signal, at most `grace`, then the hard one. It is reaped when this returns.
pub async fn end(mut child: Child, grace: Duration) {
    if let Some(pid) =
        child.id().and_then(|id| i32::try_from(id).ok()).and_then(rustix::process::Pid::from_raw)
    {
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
    }
    if timeout(grace, child.wait()).await.is_err() {
        let _ = child.kill().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_is_the_end_of_the_last_line() {
        let said = b"something\nfile:/m/a.mp4: Invalid data found when processing input\n\n";
        assert_eq!(last_line(said).unwrap(), "Invalid data found when processing input");
        assert_eq!(last_line(b" \n"), None);
        let said = b"http://127.0.0.1:1/T/m.mp4: Server returned 404 Not Found";
        assert_eq!(last_line(said).unwrap(), "Server returned 404 Not Found");
    }

    #[test]
    fn a_servers_answer_is_a_better_reason_than_what_came_of_it() {
        let lines = ["[http @ 0x1] HTTP error 403 Forbidden", "[mov @ 0x2] Packet corrupt"];
        let said = Said { tail: lines.map(str::to_owned).into() };
        assert_eq!(said.last().unwrap(), "HTTP error 403 Forbidden");
    }

    #[test]
    fn no_address_is_repeated() {
        let line = "[https @ 0x1] Opening 'https://b.example/k.mp4?X-Amz-Signature=0a1b' for reading";
        assert_eq!(without_addresses(line), "[https @ 0x1] Opening '(address) for reading");
        assert_eq!(without_addresses("[http @ 0x1] HTTP error 403"), "[http @ 0x1] HTTP error 403");
    }

    #[tokio::test]
    async fn a_child_sees_no_environment_and_cannot_write_files() {
        let tools = Tools { ffmpeg: "/bin/sh".into(), ffprobe: "/bin/sh".into() };
        let mut command = command(&tools.ffprobe, &tools.secrets_free_environment());
        command.args(["-c", "env; ulimit -f; ulimit -c"]);
        let printed =
            String::from_utf8(answer(command, Duration::from_secs(5), 4096).await.unwrap()).unwrap();
        assert!(printed.contains("LC_ALL=C") && printed.ends_with("0\n0\n"), "{printed}");
        assert!(!printed.contains("HOME") && !printed.contains("CARGO"), "{printed}");
    }

    #[tokio::test]
    async fn a_child_that_is_killed_says_by_what() {
        let mut killed = command(Path::new("/bin/sh"), &[]);
        killed.args(["-c", "echo words >&2; kill -9 $$"]);
        let error = answer(killed, Duration::from_secs(5), 10).await.unwrap_err();
        assert!(error.contains("killed by signal 9, perhaps because memory ran out"), "{error}");
    }

    #[tokio::test]
    async fn a_child_that_takes_too_long_is_ended() {
        let mut slow = command(Path::new("/bin/sh"), &[]);
        slow.args(["-c", "exec sleep 60"]);
        let error = answer(slow, Duration::from_millis(50), 10).await.unwrap_err();
        assert!(error.contains("was not read within"), "{error}");
    }
}
