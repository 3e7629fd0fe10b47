//! What happened at the sink, one JSON line per event, with the wall time.

use anyhow::{Context, Result};
use serde_json::{Map, Value};
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// The open `events.jsonl`.
#[derive(Debug)]
pub struct Journal {
    file: Mutex<File>,
    publishes: AtomicU64,
}

impl Journal {
    /// Opens `events.jsonl` in `folder`, to go on where it ends.
    pub fn open(folder: &Path) -> Result<Self> {
        let path = folder.join("events.jsonl");
        let file = File::options().create(true).append(true).open(&path);
        let file = file.with_context(|| format!("open {}", path.display()))?;
        Ok(Self { file: Mutex::new(file), publishes: AtomicU64::new(0) })
    }

    /// The number of the next publish, from 1.
    pub(super) fn next_publish(&self) -> u64 {
        self.publishes.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Writes an event: `event`, `at_ms` (Unix time) and the fields of `details`.
    pub(super) fn write(&self, event: &str, details: Value) {
        let at_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64);
        let mut line = Map::new();
        line.insert("event".into(), event.into());
        line.insert("at_ms".into(), at_ms.into());
        if let Value::Object(details) = details {
            line.extend(details);
        }
        let mut file = self.file.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        // A full disk shows in the recordings, which are checked; the sink has nobody to tell.
        let _ = writeln!(file, "{}", Value::Object(line));
    }
}
