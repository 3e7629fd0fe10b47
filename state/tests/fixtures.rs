//! Files that older versions wrote. Each must load for ever; add one with every new shape, never change one.

#![allow(clippy::unwrap_used, missing_docs)]

use state::channel::StreamConfig;
use state::phase::{Phase, Wish};
use state::runs::Runs;
use state::seen::StreamState;
use state::store::{self, Document};
use state::totals::Totals;
use std::path::{Path, PathBuf};

fn fixtures(of: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let paths = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path());
    let found: Vec<_> = paths.filter(|p| p.file_name().unwrap().to_string_lossy().starts_with(of)).collect();
    assert!(!found.is_empty(), "no fixture of {of}");
    found
}

/// Loads a file, saves it, and finds everything that was in it again.
fn survives<T: Document>(path: &Path) -> T {
    let text = std::fs::read(path).unwrap();
    let document: T = store::parse(&text).unwrap();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join(T::FILE), &text).unwrap();
    store::put(folder.path(), &document).unwrap();
    let saved: serde_json::Value =
        serde_json::from_slice(&std::fs::read(folder.path().join(T::FILE)).unwrap()).unwrap();
    let before: serde_json::Value = serde_json::from_slice(&text).unwrap();
    for (name, value) in before.as_object().unwrap().iter().filter(|(name, _)| *name != "revision") {
        if name != "profile" {
            assert_eq!(&saved[name], value, "{name} in {}", path.display());
        }
    }
    document
}

#[test]
fn every_configuration_ever_written_loads() {
    for path in fixtures("stream_config") {
        let config: StreamConfig = survives(&path);
        assert_eq!((config.wish, config.destinations.len()), (Wish::On, 1), "{}", path.display());
    }
}

#[test]
fn every_state_ever_written_loads() {
    for path in fixtures("stream_state") {
        let state: StreamState = survives(&path);
        assert_eq!((state.phase, state.epoch), (Phase::Live, 7), "{}", path.display());
    }
}

#[test]
fn all_totals_ever_written_load() {
    for path in fixtures("totals") {
        let totals: Totals = survives(&path);
        assert_eq!((totals.channel.on_ms, totals.destinations.len()), (90_000, 1), "{}", path.display());
        assert_eq!(totals.channel.open_ms(), 1_000);
    }
}

#[test]
fn every_history_ever_written_loads() {
    for path in fixtures("runs") {
        let runs: Runs = survives(&path);
        assert_eq!((runs.runs.len(), runs.runs[0].run.exit_code), (2, Some(137)), "{}", path.display());
    }
}
