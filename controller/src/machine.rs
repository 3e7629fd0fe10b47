//! What this controller holds on its machine: folders, the lock, the admin token, the master key.

use crate::config::Config;
use anyhow::{Context, bail};
use ring::hmac;
use state::seal::{MasterKey, SealError};
use state::secret::Secret;
use state::{atomic, ids};
use std::fs::{self, File, OpenOptions, Permissions, TryLockError};
use std::io::ErrorKind;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Makes the folders and keeps a second controller out of them for as long as the result lives.
///
/// # Errors
/// The state folder cannot be written, or another controller uses it.
pub fn move_in(config: &Config) -> anyhow::Result<File> {
    make_folders(config)?;
    let run = config.state_dir.join("run");
    let lock = lock(&run.join("controller.lock")).with_context(|| advice(config))?;
    let state_dir = config.state_dir.display();
    let Some(lock) = lock else { bail!("another controller uses the state folder {state_dir}") };
    Ok(lock)
}

fn advice(config: &Config) -> String {
    let state_dir = config.state_dir.display();
    format!("the state folder {state_dir} cannot be written; make it writable or set STATE_DIR")
}

/// Makes the folders that everybody else takes for granted.
///
/// # Errors
/// One of them cannot be made.
pub fn make_folders(config: &Config) -> anyhow::Result<()> {
    let advice = || advice(config);
    for name in ["run", "logs", "channels", "cache"] {
        atomic::private_folder(&config.state_dir.join(name)).with_context(advice)?;
    }
    let run = config.state_dir.join("run");
    fs::set_permissions(&run, Permissions::from_mode(0o700)).with_context(advice)?;
    fs::create_dir_all(&config.hls_dir)
        .with_context(|| format!("the HLS folder {} cannot be made; set HLS_DIR", config.hls_dir.display()))
}

/// `None` when someone else holds it. The file itself is never removed: that would let two hold "the" lock.
fn lock(path: &Path) -> anyhow::Result<Option<File>> {
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error.into()),
    }
}

/// The key that seals stream keys: given, or kept in the state folder. While there is something `sealed`, a key that
/// is missing or broken is not made anew by itself: whoever has it can put it back.
///
/// # Errors
/// The key file cannot be read.
pub fn master_key(config: &Config, sealed: bool) -> anyhow::Result<MasterKey> {
    if let Some(given) = &config.master_key {
        return MasterKey::from_hex(given).context("MASTER_KEY");
    }
    let path = config.state_dir.join("master.key");
    let key = match MasterKey::load(&path) {
        Ok(None) if !sealed => MasterKey::load_or_make(&path),
        Ok(None) | Err(SealError::BadKey) => return Ok(MasterKey::in_place_of_a_lost_one(&path)?),
        Ok(Some(key)) => Ok(key),
        Err(error) => Err(error),
    };
    let key = key.with_context(|| path.display().to_string())?;
    tighten(&path)?;
    Ok(key)
}

/// Shortest token that is taken from a file.
const SHORTEST_TOKEN: usize = 20;

/// The bearer token that opens everything. Compared by HMAC under a key of this process, so that the time it
/// takes tells nothing.
pub struct AdminToken {
    key: hmac::Key,
    tag: hmac::Tag,
}

impl AdminToken {
    /// Takes a token.
    pub fn new(token: &Secret) -> Self {
        let mut random = [0u8; 32];
        ids::fill_random(&mut random);
        let key = hmac::Key::new(hmac::HMAC_SHA256, &random);
        let tag = hmac::sign(&key, token.expose().as_bytes());
        Self { key, tag }
    }

    /// Reads `admin.token`, or makes one; keeps `auth.header` beside it for `curl -H @file`. A file that holds no
    /// token is put aside for a new one, because channels must not wait for it; what was done is told in words.
    ///
    /// # Errors
    /// The files cannot be written.
    pub fn load_or_make(state_dir: &Path) -> anyhow::Result<(Self, Option<String>)> {
        let path = state_dir.join("admin.token");
        let (token, broken) = match read_token(&path) {
            Ok(Some(token)) => (token, None),
            Ok(None) => (make_token(&path)?, None),
            Err(why) => match put_aside(&path) {
                Ok((token, aside)) => {
                    let what = format!("it was put aside as {}, and a new token was made", aside.display());
                    (token, Some(format!("{}: {why}; {what}", path.display())))
                }
                // Nobody knows this one.
                Err(error) => {
                    let what =
                        format!("no other can be made ({error:#}), so that the API is closed to everybody");
                    let words =
                        format!("{}: {why}; {what}; mend it and restart the controller", path.display());
                    return Ok((Self::new(&Secret::new(ids::random_base62(43))), Some(words)));
                }
            },
        };
        let header = state_dir.join("auth.header");
        let line = format!("Authorization: Bearer {token}\n");
        if fs::read_to_string(&header).ok().as_deref() != Some(&line) {
            atomic::replace(&header, line.as_bytes()).context("write auth.header")?;
            // A previous copy would keep a token alive on disk that was taken back.
            let _ = fs::remove_file(atomic::previous_of(&header)?);
        }
        tighten(&path)?;
        tighten(&header)?;
        Ok((Self::new(&Secret::new(token)), broken))
    }

    /// Whether `presented` is the token.
    pub fn is(&self, presented: &str) -> bool {
        hmac::verify(&self.key, presented.as_bytes(), self.tag.as_ref()).is_ok()
    }
}

fn read_token(path: &Path) -> Result<Option<String>, String> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text.trim().to_owned(),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    let good = text.len() >= SHORTEST_TOKEN && text.bytes().all(|b| b.is_ascii_graphic());
    good.then_some(Some(text))
        .ok_or_else(|| format!("must hold at least {SHORTEST_TOKEN} visible characters"))
}

fn make_token(path: &Path) -> anyhow::Result<String> {
    let token = ids::random_base62(43);
    atomic::replace(path, format!("{token}\n").as_bytes()).context("write admin.token")?;
    Ok(token)
}

fn put_aside(path: &Path) -> anyhow::Result<(String, PathBuf)> {
    let aside = atomic::aside_of(path, state::now());
    fs::rename(path, &aside).context("put admin.token aside")?;
    Ok((make_token(path)?, aside))
}

fn tighten(path: &Path) -> anyhow::Result<()> {
    fs::set_permissions(path, Permissions::from_mode(0o600)).with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_is_made_once_and_is_private() {
        let folder = tempfile::tempdir().unwrap();
        AdminToken::load_or_make(folder.path()).unwrap();
        let token = fs::read_to_string(folder.path().join("admin.token")).unwrap();
        assert_eq!(token.trim().len(), 43);
        let (again, broken) = AdminToken::load_or_make(folder.path()).unwrap();
        assert_eq!(broken, None);
        assert!(again.is(token.trim()));
        assert!(!again.is("") && !again.is(&token) && !again.is(&token[..42]));
        for name in ["admin.token", "auth.header"] {
            let mode = fs::metadata(folder.path().join(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
    }

    #[test]
    fn a_token_of_nothing_opens_nothing_and_gives_way_to_a_new_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.token");
        for broken in [&b""[..], b"\n", b"too-short\n", &[0xff; 40]] {
            fs::write(&path, broken).unwrap();
            let (token, words) = AdminToken::load_or_make(folder.path()).unwrap();
            assert!(words.unwrap().contains("put aside as"));
            assert!(!token.is("") && !token.is("too-short"));
            assert!(token.is(fs::read_to_string(&path).unwrap().trim()));
        }
    }

    #[test]
    fn where_no_token_can_be_made_the_api_is_closed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.token");
        fs::write(&path, "").unwrap();
        // It cannot be renamed over, and nothing can be written in its place.
        fs::create_dir(folder.path().join("admin.token.tmp")).unwrap();
        let (token, words) = AdminToken::load_or_make(folder.path()).unwrap();
        assert!(words.unwrap().contains("closed to everybody"));
        assert!(!token.is(""));
    }

    #[test]
    fn the_lock_is_held_by_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.lock");
        let held = lock(&path).unwrap();
        assert!(held.is_some());
        assert!(lock(&path).unwrap().is_none());
    }
}
