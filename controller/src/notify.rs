//! Words for the service manager (`sd_notify(3)`): ready, reloading, ending, and alive, which is said only while the
//! supervisor answers. Without `$NOTIFY_SOCKET` nothing is said.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// The way to the service manager.
#[derive(Debug, Clone, Default)]
pub struct Notifier {
    address: Option<SocketAddr>,
    watchdog: Option<Duration>,
}

impl Notifier {
    /// Reads `$NOTIFY_SOCKET`, `$WATCHDOG_USEC` and `$WATCHDOG_PID`.
    pub fn of_this_process() -> Self {
        let text = |name: &str| std::env::var(name).ok();
        let address = std::env::var_os("NOTIFY_SOCKET").and_then(|name| address(name.as_bytes()));
        let ours = text("WATCHDOG_PID").is_none_or(|pid| pid == std::process::id().to_string());
        let micros = text("WATCHDOG_USEC").filter(|_| ours).and_then(|text| text.parse().ok());
        Self { address, watchdog: micros.filter(|micros| *micros > 0).map(Duration::from_micros) }
    }

    /// How long the service manager waits for a sign of life; `None` when it does not.
    pub fn watchdog(&self) -> Option<Duration> {
        self.watchdog
    }

    /// Says that everything is up.
    pub fn ready(&self, status: &str) {
        self.say(&format!("READY=1\nSTATUS={}", one_line(status)));
    }

    /// Says that the program is about to replace itself; [`Self::ready`] of the next one ends that.
    pub fn reloading(&self) {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let micros = now.tv_sec.saturating_mul(1_000_000).saturating_add(now.tv_nsec / 1000);
        self.say(&format!("RELOADING=1\nMONOTONIC_USEC={micros}\nSTATUS=reloading"));
    }

    /// Says that the end has begun.
    pub fn stopping(&self) {
        self.say("STOPPING=1\nSTATUS=ending");
    }

    /// Says how things stand.
    pub fn status(&self, status: &str) {
        self.say(&format!("STATUS={}", one_line(status)));
    }

    /// Says that this program does its work.
    pub fn alive(&self) {
        self.say("WATCHDOG=1");
    }

    /// Never waits. A service manager that is gone or does not listen is no reason to stop working.
    fn say(&self, words: &str) {
        let Some(address) = &self.address else { return };
        let sent = UnixDatagram::unbound().and_then(|socket| {
            socket.set_nonblocking(true)?;
            socket.send_to_addr(words.as_bytes(), address)
        });
        if let Err(error) = sent {
            tracing::debug!(%error, "the service manager was not told");
        }
    }
}

/// A path, or `@name` for a name without a file.
fn address(name: &[u8]) -> Option<SocketAddr> {
    match name {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name).ok(),
        [b'/', ..] => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(name)).ok(),
        _ => None,
    }
}

fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 512];
        let n = socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..n].to_vec()).unwrap()
    }

    #[test]
    fn it_is_heard_at_a_path_and_at_an_abstract_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let by_path = UnixDatagram::bind(&path).unwrap();
        let name = format!("notify-test-{}", std::process::id());
        let abstract_name = SocketAddr::from_abstract_name(&name).unwrap();
        let by_name = UnixDatagram::bind_addr(&abstract_name).unwrap();
        for (text, socket) in [(path.to_str().unwrap().to_owned(), &by_path), (format!("@{name}"), &by_name)]
        {
            let notifier = Notifier { address: address(text.as_bytes()), watchdog: None };
            notifier.ready("1 of 1\nX=1");
            assert_eq!(heard(socket), "READY=1\nSTATUS=1 of 1 X=1");
            notifier.reloading();
            assert!(heard(socket).starts_with("RELOADING=1\nMONOTONIC_USEC="));
            notifier.alive();
            assert_eq!(heard(socket), "WATCHDOG=1");
        }
        Notifier::default().ready("nobody listens");
        assert!(address(b"relative").is_none() && address(b"").is_none());
    }
}
