//! Sealing secrets before they touch a disk: AES-256-GCM (NIST SP 800-38D) under the machine's master key.
//!
//! A sealed text is `v1.` and base64url of nonce (12 bytes), ciphertext and tag (16 bytes). The context is
//! authenticated with it, so that a sealed key cannot be moved to another channel or destination.

use crate::atomic;
use crate::ids::fill_random;
use crate::secret::Secret;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::{fs, io};

/// Why a secret could not be sealed or opened. Never says anything about the secret.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The master key is not 32 bytes.
    #[error("the master key must be 64 hexadecimal digits (32 bytes)")]
    BadKey,
    /// Wrong key, wrong context, or the sealed text was changed.
    #[error(
        "its key cannot be opened with this master key; put the old master key back or set the key again"
    )]
    CannotOpen,
    /// The key was lost, and is on the disk again since this process has started.
    #[error("the master key was put back; restart the controller, so that it is used")]
    PutBack,
    /// The key file cannot be read or written.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// The machine's key for secrets at rest.
pub struct MasterKey {
    key: LessSafeKey,
    /// Where a key in the place of a lost one will be, and what will be there.
    unkept: Mutex<Option<(PathBuf, Secret)>>,
}

impl std::fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MasterKey(***)")
    }
}

impl MasterKey {
    /// Reads the key from 64 hexadecimal digits.
    ///
    /// # Errors
    /// [`SealError::BadKey`].
    pub fn from_hex(text: &Secret) -> Result<Self, SealError> {
        let text = text.expose().trim().as_bytes();
        if text.len() != 64 {
            return Err(SealError::BadKey);
        }
        let mut bytes = [0u8; 32];
        for (byte, pair) in bytes.iter_mut().zip(text.chunks(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| SealError::BadKey)?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| SealError::BadKey)?;
        }
        let key = UnboundKey::new(&AES_256_GCM, &bytes).map_err(|_| SealError::BadKey)?;
        Ok(Self { key: LessSafeKey::new(key), unkept: Mutex::default() })
    }

    /// Reads the key from a file, or makes one there, mode 0600.
    ///
    /// # Errors
    /// [`SealError::BadKey`] when the file holds something else; it is never overwritten.
    pub fn load_or_make(path: &Path) -> Result<Self, SealError> {
        match Self::load(path)? {
            Some(key) => Ok(key),
            None => {
                let key = Self::in_place_of_a_lost_one(path)?;
                key.keep()?;
                Ok(key)
            }
        }
    }

    /// Reads the key from a file; `None` where there is no file.
    ///
    /// # Errors
    /// [`SealError::BadKey`] when the file holds something else.
    pub fn load(path: &Path) -> Result<Option<Self>, SealError> {
        match fs::read(path) {
            // What is no text is no key.
            Ok(bytes) => Self::from_hex(&Secret::new(String::from_utf8_lossy(&bytes))).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// A new key that opens nothing of what was sealed before. It is put on the disk only when something is sealed
    /// with it: until then the lost one may be put back.
    ///
    /// # Errors
    /// None that is known.
    pub fn in_place_of_a_lost_one(path: &Path) -> Result<Self, SealError> {
        let mut bytes = [0u8; 32];
        fill_random(&mut bytes);
        let text = Secret::new(bytes.iter().map(|b| format!("{b:02x}")).collect::<String>());
        let key = Self::from_hex(&text)?;
        Ok(Self { unkept: Mutex::new(Some((path.to_owned(), text))), ..key })
    }

    /// Whether the key was lost, and nothing was sealed with another one yet.
    pub fn is_lost(&self) -> bool {
        self.unkept.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    fn keep(&self) -> Result<(), SealError> {
        let mut unkept = self.unkept.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((path, text)) = unkept.as_ref() else { return Ok(()) };
        match Self::load(path) {
            Ok(Some(_)) => return Err(SealError::PutBack),
            Ok(None) => {}
            Err(SealError::BadKey) => fs::rename(path, atomic::aside_of(path, crate::now()))?,
            Err(error) => return Err(error),
        }
        atomic::replace(path, format!("{}\n", text.expose()).as_bytes())?;
        *unkept = None;
        Ok(())
    }

    /// Seals `secret` for the place named by `context`. The key is on the disk when this returns.
    ///
    /// # Errors
    /// Those of putting a new key in the place of a lost one.
    pub fn seal(&self, secret: &Secret, context: &str) -> Result<String, SealError> {
        self.keep()?;
        let mut nonce = [0u8; 12];
        fill_random(&mut nonce);
        let mut body = secret.expose().as_bytes().to_vec();
        // Sealing fails only for texts of more than 64 GiB.
        let _ = self.key.seal_in_place_append_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(context),
            &mut body,
        );
        Ok(format!("v1.{}", base64url(&[&nonce[..], &body].concat())))
    }

    /// Opens what [`Self::seal`] made for the same context.
    ///
    /// # Errors
    /// [`SealError::CannotOpen`].
    pub fn open(&self, sealed: &str, context: &str) -> Result<Secret, SealError> {
        let bytes = sealed.strip_prefix("v1.").and_then(from_base64url).ok_or(SealError::CannotOpen)?;
        let (nonce, body) = bytes.split_at_checked(12).ok_or(SealError::CannotOpen)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| SealError::CannotOpen)?;
        let mut body = body.to_vec();
        let plain = self
            .key
            .open_in_place(nonce, Aad::from(context), &mut body)
            .map_err(|_| SealError::CannotOpen)?;
        String::from_utf8(plain.to_vec()).map(Secret::new).map_err(|_| SealError::CannotOpen)
    }
}

const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// base64url without padding (RFC 4648 section 5).
pub fn base64url(bytes: &[u8]) -> String {
    let letters = bytes.chunks(3).flat_map(|chunk| {
        let at = |i: usize| u32::from(chunk.get(i).copied().unwrap_or(0));
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        (0..=chunk.len()).map(move |i| char::from(LETTERS[(bits >> (18 - 6 * i) & 63) as usize]))
    });
    letters.collect()
}

/// Reads base64url without padding; `None` when a letter is none of it.
pub fn from_base64url(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() * 3 / 4);
    for chunk in text.as_bytes().chunks(4) {
        let mut bits = 0u32;
        for (i, letter) in chunk.iter().enumerate() {
            bits |= u32::try_from(LETTERS.iter().position(|l| l == letter)?).ok()? << (18 - 6 * i);
        }
        bytes.extend_from_slice(&bits.to_be_bytes()[1..chunk.len().max(1)]);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(hex: &str) -> MasterKey {
        MasterKey::from_hex(&Secret::new(hex.repeat(64))).unwrap()
    }

    #[test]
    fn a_sealed_key_opens_only_with_its_key_and_in_its_place() {
        let sealed = key("1").seal(&Secret::new("abcd-efgh"), "main/youtube").unwrap();
        assert!(!sealed.contains("abcd"));
        assert_eq!(key("1").open(&sealed, "main/youtube").unwrap().expose(), "abcd-efgh");
        assert!(key("1").open(&sealed, "main/twitch").is_err());
        assert!(key("2").open(&sealed, "main/youtube").is_err());
        assert!(key("1").open(&sealed[..sealed.len() - 2], "main/youtube").is_err());
    }

    #[test]
    fn base64url_agrees_with_rfc_4648_section_10() {
        for (plain, text) in
            [("f", "Zg"), ("fo", "Zm8"), ("foo", "Zm9v"), ("foob", "Zm9vYg"), ("fooba", "Zm9vYmE")]
        {
            assert_eq!(base64url(plain.as_bytes()), text);
            assert_eq!(from_base64url(text).unwrap(), plain.as_bytes());
        }
    }

    #[test]
    fn a_key_file_is_made_once_and_never_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("master.key");
        let sealed = MasterKey::load_or_make(&path).unwrap().seal(&Secret::new("k"), "c").unwrap();
        assert_eq!(MasterKey::load_or_make(&path).unwrap().open(&sealed, "c").unwrap().expose(), "k");
        fs::write(&path, "not a key").unwrap();
        assert!(matches!(MasterKey::load_or_make(&path), Err(SealError::BadKey)));
        assert_eq!(fs::read_to_string(&path).unwrap(), "not a key");
    }

    #[test]
    fn a_lost_key_is_replaced_only_when_something_is_sealed_and_never_when_it_is_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("master.key");
        let lost = MasterKey::in_place_of_a_lost_one(&path).unwrap();
        assert!(lost.is_lost() && !path.exists());
        fs::write(&path, "1".repeat(64)).unwrap();
        assert!(matches!(lost.seal(&Secret::new("k"), "c"), Err(SealError::PutBack)));
        assert_eq!(fs::read_to_string(&path).unwrap(), "1".repeat(64));
        fs::write(&path, [0xff, 0]).unwrap();
        assert!(matches!(MasterKey::load(&path), Err(SealError::BadKey)));
        let sealed = lost.seal(&Secret::new("k"), "c").unwrap();
        assert!(!lost.is_lost());
        assert_eq!(MasterKey::load(&path).unwrap().unwrap().open(&sealed, "c").unwrap().expose(), "k");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "what was broken is put aside");
    }
}
