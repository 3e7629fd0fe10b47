//! House rules that a compiler cannot see. Each rule says why it is there.

use anyhow::{Context, Result};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_owned).unwrap_or_default()
}

/// Every file of ours below a folder, without what is built or installed.
fn files(below: &str, ending: &str) -> Result<Vec<(String, String)>> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(below)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if path.is_dir() {
                let foreign = ["target", "node_modules", ".git", "data", "media"].contains(&name.as_str());
                folders.extend((!foreign).then_some(path));
            } else if name.ends_with(ending)
                && let Ok(text) = fs::read_to_string(&path)
            {
                found.push((path.strip_prefix(root())?.display().to_string(), text));
            }
        }
    }
    assert!(!found.is_empty(), "no {ending} below {below}");
    Ok(found)
}

fn offenders(files: &[(String, String)], breaks: impl Fn(&str, &str) -> bool) -> Vec<&str> {
    files.iter().filter(|(path, text)| breaks(path, text)).map(|(path, _)| path.as_str()).collect()
}

const ROOMS: [&str; 5] = ["state", "storage", "worker", "controller", "tests"];

#[test]
fn dependencies_point_one_way() -> Result<()> {
    let manifest = |room: &str| fs::read_to_string(root().join(room).join("Cargo.toml"));
    for (room, never) in [
        ("state", &["storage", "stream-worker", "stream-controller"][..]),
        ("storage", &["stream-worker", "stream-controller"]),
        ("worker", &["stream-controller"]),
        ("controller", &["stream-worker"]),
    ] {
        let text = manifest(room)?;
        for other in never {
            let named = text.lines().any(|line| line.split(['.', ' ', '=']).next() == Some(other));
            assert!(!named, "{room} must not depend on {other}");
        }
    }
    let controller = files("controller/src", ".rs")?;
    // Engines decide for every door, so they cannot know one of them; only one room starts processes.
    let knows_axum = offenders(&controller, |path, text| !path.contains("/http/") && text.contains("axum::"));
    assert!(knows_axum.is_empty(), "only controller/src/http may know axum: {knows_axum:?}");
    let engines =
        offenders(&controller, |path, text| path.contains("/engines/") && text.contains("crate::http"));
    assert!(engines.is_empty(), "engines must not know http: {engines:?}");
    Ok(())
}

#[test]
fn every_module_says_what_lives_in_it() -> Result<()> {
    for room in ROOMS {
        let found = files(room, ".rs")?;
        let silent = offenders(&found, |_, text| !text.starts_with("//!"));
        assert!(silent.is_empty(), "a module begins with //! and what lives in it: {silent:?}");
    }
    Ok(())
}

#[test]
fn files_are_short_enough_to_see() -> Result<()> {
    for room in ROOMS {
        let found = files(room, ".rs")?;
        let long = offenders(&found, |_, text| text.lines().count() > 420);
        assert!(
            long.is_empty(),
            "a file near 400 lines is to be split by a word of the domain, past 420 it must be: {long:?}"
        );
    }
    Ok(())
}

#[test]
fn nothing_is_left_unfinished_or_switched_off() -> Result<()> {
    // Written apart, so that this file does not find itself.
    let marks = ["TO\u{44}O", "FIX\u{4d}E", "#[ig\u{6e}ore", "unimplem\u{65}nted!"];
    let mut found = Vec::new();
    for room in ROOMS {
        for (path, text) in files(room, ".rs")? {
            found.extend(
                marks.iter().filter(|mark| text.contains(**mark)).map(|mark| format!("{path}: {mark}")),
            );
        }
    }
    assert!(found.is_empty(), "{found:#?}");
    Ok(())
}

#[test]
fn rooms_are_named_after_the_domain() -> Result<()> {
    let vague = ["utils", "util", "helpers", "common", "manager", "service", "types", "models", "misc"];
    for room in ROOMS {
        let found = files(room, ".rs")?;
        let named =
            offenders(&found, |path, _| vague.iter().any(|v| path.split(['/', '.']).any(|part| part == *v)));
        assert!(named.is_empty(), "{named:?}");
    }
    Ok(())
}

#[test]
fn scripts_can_be_run_and_explain_themselves() -> Result<()> {
    for (path, text) in files("scripts", ".sh")? {
        if text.starts_with("# shellcheck shell=") {
            continue; // Sourced by others.
        }
        let mode = fs::metadata(root().join(&path))?.permissions().mode();
        assert!(mode & 0o111 != 0, "{path} is not executable");
        // `options` in needs.sh knows it; what it prints is asked for in the tests of the scripts.
        assert!(text.contains("--help") || text.contains("\noptions "), "{path} has no --help");
        assert!(text.contains("set -euo pipefail"), "{path} goes on after an error");
    }
    Ok(())
}

#[test]
fn links_in_the_documents_lead_somewhere() -> Result<()> {
    for (path, text) in files("", ".md")? {
        let folder = root().join(&path);
        let folder = folder.parent().context("a document is in a folder")?;
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = target.split('#').next().unwrap_or_default();
            let outside = target.contains("://") || file.is_empty();
            assert!(outside || folder.join(file).exists(), "{path} links to {target}");
        }
    }
    Ok(())
}
