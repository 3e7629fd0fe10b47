//! When each tag of a publish has arrived, beside its own time: what a recording cannot tell.

use anyhow::{Context, Result};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::Instant;

/// A tag at the sink.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    /// When it came, ms since the publish.
    pub at_ms: u64,
    /// Picture or sound.
    pub video: bool,
    /// Its own time, ms.
    pub dts: u64,
}

/// The list of a publish, one line per tag. It is complete when the publish has ended.
pub(super) struct Arrivals {
    file: BufWriter<File>,
    began: Instant,
}

impl Arrivals {
    pub(super) fn create(path: &Path) -> Result<Self> {
        let file = File::create(path).with_context(|| format!("make {}", path.display()))?;
        Ok(Self { file: BufWriter::new(file), began: Instant::now() })
    }

    pub(super) fn note(&mut self, kind: char, dts: u32) -> Result<()> {
        writeln!(self.file, "{} {kind} {dts}", self.began.elapsed().as_millis()).context("note an arrival")
    }
}

/// Reads a list.
pub fn read(path: &Path) -> Result<Vec<Arrival>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    let line = |line: &str| -> Option<Arrival> {
        let mut words = line.split(' ');
        let at_ms = words.next()?.parse().ok()?;
        let video = words.next()? == "v";
        Some(Arrival { at_ms, video, dts: words.next()?.parse().ok()? })
    };
    text.lines().map(|l| line(l).with_context(|| format!("understand {l:?}"))).collect()
}
