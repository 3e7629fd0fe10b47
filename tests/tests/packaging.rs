//! What is installed: programs, unit, settings; upgraded, rolled back and removed, in a folder of its own.

use anyhow::{Context, Result, ensure};
use e2e::rig::program;
use e2e::rig::script::{Said, root, said};
use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

/// Variables that are promised, whether this build reads them or not.
const PROMISED: [&str; 27] = [
    "STATE_DIR",
    "HLS_DIR",
    "CONTROLLER_BIND",
    "TRUSTED_PROXIES",
    "STORAGE_PROVIDER",
    "STORAGE_BUCKET",
    "STORAGE_ENDPOINT",
    "STORAGE_REGION",
    "STORAGE_ACCESS_KEY_ID",
    "STORAGE_SECRET_ACCESS_KEY",
    "STORAGE_LOCAL_DIR",
    "STORAGE_PREFIX",
    "YOUTUBE_STREAM_KEY",
    "YOUTUBE_RTMP_URL",
    "DATABASE_URL",
    "FFMPEG_PATH",
    "FFPROBE_PATH",
    "TLS_CA_FILE",
    "CORS_ORIGINS",
    "LOG_LEVEL",
    "LOG_FORMAT",
    "MASTER_KEY",
    "STORAGE_ACCOUNT_ID",
    "CACHE_BYTES",
    "CACHE_BYTES_PER_S",
    "PREPARE",
    "PREPARE_PART_SECONDS",
];

fn mode(path: &Path) -> Result<u32> {
    let shown = || path.display().to_string();
    Ok(std::fs::metadata(path).with_context(shown)?.permissions().mode() & 0o777)
}

/// install.sh and its relatives into a folder.
fn packaged(name: &str, folder: &Path, arguments: &[&str]) -> Result<Said> {
    let mut command = Command::new(root().join("scripts").join(name));
    said(command.arg("--destdir").arg(folder).args(arguments).env_remove("ENV_FILE"))
}

fn install(folder: &Path, from: &Path) -> Result<()> {
    let from = from.to_str().context("a path")?;
    let said = packaged("install.sh", folder, &["--from", from])?;
    ensure!(said.code == Some(0), "install.sh: {}", said.text);
    Ok(())
}

#[test]
fn install_upgrade_rollback_and_uninstall_keep_what_is_the_operators() -> Result<()> {
    let folder = tempfile::tempdir().context("make a folder")?;
    let at = |path: &str| folder.path().join(path);
    let programs = program::built("stream-controller")?;
    let programs = programs.parent().context("the program is in a folder")?;
    install(folder.path(), programs)?;
    for (path, expected) in [
        ("opt/stream-controller/bin/stream-controller", 0o755),
        ("opt/stream-controller/bin/stream-worker", 0o755),
        ("opt/stream-controller/scripts/start.sh", 0o755),
        ("opt/stream-controller/scripts/place.sh", 0o644),
        ("etc/stream-controller/env", 0o600),
        ("etc/stream-controller/credentials", 0o700),
        ("etc/systemd/system/stream-controller.service", 0o644),
        ("etc/systemd/journald.conf.d/stream-controller.conf", 0o644),
        ("var/lib/stream-controller", 0o700),
        ("srv/stream-controller/media", 0o755),
    ] {
        assert_eq!(mode(&at(path))?, expected, "{path}");
    }
    let help = said(Command::new(at("opt/stream-controller/scripts/start.sh")).arg("--help"))?;
    assert_eq!(help.code, Some(0), "{}", help.text);

    std::fs::write(at("etc/stream-controller/env"), "LOG_LEVEL=debug\n")?;
    install(folder.path(), programs)?;
    assert_eq!(std::fs::read_to_string(at("etc/stream-controller/env"))?, "LOG_LEVEL=debug\n");
    assert!(!at("opt/stream-controller/bin.previous").exists(), "the same programs are no upgrade");
    let none = packaged("rollback.sh", folder.path(), &[])?;
    assert_eq!(none.code, Some(1), "{}", none.text);

    let newer = folder.path().join("newer");
    std::fs::create_dir(&newer)?;
    for name in ["stream-controller", "stream-worker"] {
        std::fs::write(newer.join(name), "#!/bin/sh\necho newer\n")?;
        std::fs::set_permissions(newer.join(name), std::fs::Permissions::from_mode(0o755))?;
    }
    let installed = at("opt/stream-controller/bin/stream-worker");
    let real = std::fs::metadata(&installed)?.len();
    install(folder.path(), &newer)?;
    assert_ne!(std::fs::metadata(&installed)?.len(), real);
    let back = packaged("rollback.sh", folder.path(), &[])?;
    assert_eq!((back.code, std::fs::metadata(&installed)?.len()), (Some(0), real), "{}", back.text);

    let asked = packaged("uninstall.sh", folder.path(), &["--purge"])?;
    assert_eq!((asked.code, installed.exists()), (Some(1), true), "{}", asked.text);
    let gone = packaged("uninstall.sh", folder.path(), &[])?;
    assert_eq!(gone.code, Some(0), "{}", gone.text);
    assert!(
        !at("opt/stream-controller").exists() && !at("etc/systemd/system/stream-controller.service").exists()
    );
    assert!(at("etc/stream-controller/env").exists() && at("var/lib/stream-controller").exists());
    let purged = packaged("uninstall.sh", folder.path(), &["--purge", "--yes"])?;
    assert_eq!(purged.code, Some(0), "{}", purged.text);
    assert!(!at("etc/stream-controller").exists() && !at("var/lib/stream-controller").exists());
    assert!(at("srv/stream-controller/media").exists(), "media are never removed");
    Ok(())
}

#[test]
fn the_unit_is_clean_and_confined() -> Result<()> {
    let folder = tempfile::tempdir().context("make a folder")?;
    let unit = std::fs::read_to_string(root().join("systemd/stream-controller.service"))?;
    let programs = program::built("stream-controller")?;
    let scripts = root().join("scripts").canonicalize()?;
    // verify asks whether the programs exist, which here are elsewhere.
    let unit = unit
        .replace("/opt/stream-controller/bin/stream-controller", &programs.display().to_string())
        .replace("/opt/stream-controller/scripts", &scripts.display().to_string());
    let file = folder.path().join("stream-controller.service");
    std::fs::write(&file, unit)?;
    let verify = said(Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&file))?;
    assert_eq!((verify.code, verify.text.trim()), (Some(0), ""), "systemd-analyze verify");
    let mut security = Command::new("systemd-analyze");
    let security =
        said(security.args(["security", "--offline=true", "--threshold=20", "--no-pager"]).arg(&file))?;
    assert_eq!(security.code, Some(0), "exposed more than 2.0:\n{}", security.text);
    Ok(())
}

/// Names in capitals at the beginning of the lines of `text`, after `prefix`, separated by commas.
fn names(text: &str, prefix: &str) -> BTreeSet<String> {
    let is_name = |word: &&str| {
        word.len() > 3 && word.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
    };
    let of_line = |line: &str| -> Vec<String> {
        let Some(rest) = line.strip_prefix(prefix) else { return Vec::new() };
        rest.split([',', ' ', '=']).filter(|w| !w.is_empty()).take_while(is_name).map(str::to_owned).collect()
    };
    text.lines().flat_map(of_line).collect()
}

#[test]
fn the_example_settings_name_every_variable_and_nothing_else() -> Result<()> {
    let example = std::fs::read_to_string(root().join(".env.example"))?;
    let shown = names(&example, "#");
    let help = said(Command::new(program::built("stream-controller")?).arg("--help"))?;
    let mut known = names(&help.text, "  ");
    known.extend(PROMISED.map(str::to_owned));
    assert_eq!(shown, known);
    let pages = std::fs::read_to_string(root().join("docs/configuration.md"))?;
    let untold: Vec<_> = shown.iter().filter(|name| !pages.contains(&format!("`{name}`"))).collect();
    assert!(untold.is_empty(), "docs/configuration.md does not tell of {untold:?}");
    assert!(
        !example.lines().any(|line| !line.is_empty() && !line.starts_with('#')),
        "an example sets nothing"
    );
    let ignored = std::fs::read_to_string(root().join(".gitignore"))?;
    assert!(ignored.lines().any(|line| line == "/.env"), ".env must not be committed");
    Ok(())
}
