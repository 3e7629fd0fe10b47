//! How things look on a terminal: results on stdout, errors and progress on stderr.

use serde::Serialize;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// One line of a result. Whoever closed the pipe does not want it.
pub(crate) fn line(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// One JSON document.
pub(crate) fn json(document: &impl Serialize) {
    line(&serde_json::to_string_pretty(document).unwrap_or_default());
}

/// One line about what went wrong. A name with a line break in it stays on the line.
pub(crate) fn error(text: &str) {
    let _ = writeln!(std::io::stderr(), "streamctl: {}", text.replace(['\n', '\r'], " "));
}

/// `1.5 GB`; 1 kB is 1000 bytes.
pub(crate) fn bytes(count: u64) -> String {
    let units = ["B", "kB", "MB", "GB", "TB"];
    let (mut value, mut unit) = (count as f64, 0);
    while value >= 999.5 && unit + 1 < units.len() {
        value /= 1000.0;
        unit += 1;
    }
    if unit == 0 { format!("{count} B") } else { format!("{value:.1} {}", units[unit]) }
}

/// `1:02:03`, or `2:03.4` below an hour.
pub(crate) fn length(ms: u64) -> String {
    let (hours, minutes, seconds) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60);
    if hours > 0 {
        format!("{hours}:{minutes:02}:{seconds:02}")
    } else {
        format!("{minutes}:{seconds:02}.{}", ms / 100 % 10)
    }
}

/// How far a file has come: a bar that is drawn again on a terminal, a line at every tenth elsewhere.
pub(crate) struct Progress {
    name: String,
    began: Instant,
    terminal: bool,
    /// Bytes that were there already when we began to send.
    before: Option<u64>,
    drawn: Option<Instant>,
    tenths: u64,
}

const DRAW_EVERY: Duration = Duration::from_millis(100);
const BAR: usize = 24;

impl Progress {
    /// Of the file with this name.
    pub(crate) fn of(name: &str) -> Self {
        let terminal = std::io::stderr().is_terminal();
        Self { name: name.to_owned(), began: Instant::now(), terminal, before: None, drawn: None, tenths: 0 }
    }

    /// So many bytes of so many are there.
    pub(crate) fn at(&mut self, done: u64, total: u64) {
        let part = if total == 0 { 1.0 } else { done as f64 / total as f64 };
        let tenths = (part * 10.0) as u64;
        if self.terminal {
            if self.drawn.is_none_or(|at| at.elapsed() >= DRAW_EVERY) || done == total {
                self.drawn = Some(Instant::now());
                let _ = write!(std::io::stderr(), "\r\x1b[K{}", self.bar(part, done, total));
            }
        } else if tenths > self.tenths && done < total {
            self.tenths = tenths;
            let _ = writeln!(std::io::stderr(), "{}: {}0 % of {}", self.name, tenths, bytes(total));
        }
    }

    /// Leaves the line to whoever writes next.
    pub(crate) fn end(self) {
        if self.terminal && self.drawn.is_some() {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }

    fn bar(&mut self, part: f64, done: u64, total: u64) -> String {
        let full = (part * BAR as f64) as usize;
        let name: String = self.name.chars().filter(|c| !c.is_control()).take(30).collect();
        let before = *self.before.get_or_insert(done);
        let speed = done.saturating_sub(before) as f64 / self.began.elapsed().as_secs_f64().max(0.001);
        let left = if speed > 0.0 {
            length(((total - done.min(total)) as f64 / speed * 1000.0) as u64)
        } else {
            "-".into()
        };
        format!(
            "{name:<30} [{}{}] {:>3.0} %  {} of {}  {}/s  {left} left",
            "#".repeat(full),
            ".".repeat(BAR - full.min(BAR)),
            part * 100.0,
            bytes(done),
            bytes(total),
            bytes(speed as u64)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_lengths_read_well() {
        let sizes = [0, 999, 1000, 1_500_000, 999_950_000, 5_000_000_000_000_000].map(bytes);
        assert_eq!(sizes, ["0 B", "999 B", "1.0 kB", "1.5 MB", "1.0 GB", "5000.0 TB"]);
        assert_eq!([0, 61_250, 3_723_000].map(length), ["0:00.0", "1:01.2", "1:02:03"]);
    }
}
