//! Sealing secrets before they touch a disk: AES-256-GCM (NIST SP 800-38D) under the machine's master key.
//!
//! A sealed text is `v1.` and base64url of nonce (12 bytes), ciphertext and tag (16 bytes). The context is
//! authenticated with it, so that a sealed key cannot be moved to another channel or destination.

use crate::atomic;
use crate::ids::fill_random;
use crate::secret::Secret;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use std::path::Path;
use std::{fs, io};

/// Why a secret could not be sealed or opened. Never says anything about the secret.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The master key is not 32 bytes.
    #[error("the master key must be 64 hexadecimal digits (32 bytes)")]
    BadKey,
    /// Wrong key, wrong context, or the sealed text was changed.
    #[error("a sealed secret cannot be opened with this master key; set it again")]
    CannotOpen,
    /// The key file cannot be read or written.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// The machine's key for secrets at rest.
pub struct MasterKey(LessSafeKey);

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
        Ok(Self(LessSafeKey::new(key)))
    }

    /// Reads the key from a file, or makes one there, mode 0600.
    ///
    /// # Errors
    /// [`SealError::BadKey`] when the file holds something else; it is never overwritten.
    pub fn load_or_make(path: &Path) -> Result<Self, SealError> {
        match fs::read_to_string(path) {
            Ok(text) => Self::from_hex(&Secret::new(text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let mut bytes = [0u8; 32];
                fill_random(&mut bytes);
                let text: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
                atomic::replace(path, format!("{text}\n").as_bytes())?;
                Self::from_hex(&Secret::new(text))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Seals `secret` for the place named by `context`.
    pub fn seal(&self, secret: &Secret, context: &str) -> String {
        let mut nonce = [0u8; 12];
        fill_random(&mut nonce);
        let mut body = secret.expose().as_bytes().to_vec();
        // Sealing fails only for texts of more than 64 GiB.
        let _ = self.0.seal_in_place_append_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(context),
            &mut body,
        );
        format!("v1.{}", base64url(&[&nonce[..], &body].concat()))
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
        let plain =
            self.0.open_in_place(nonce, Aad::from(context), &mut body).map_err(|_| SealError::CannotOpen)?;
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
        let sealed = key("1").seal(&Secret::new("abcd-efgh"), "main/youtube");
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
        let sealed = MasterKey::load_or_make(&path).unwrap().seal(&Secret::new("k"), "c");
        assert_eq!(MasterKey::load_or_make(&path).unwrap().open(&sealed, "c").unwrap().expose(), "k");
        fs::write(&path, "not a key").unwrap();
        assert!(matches!(MasterKey::load_or_make(&path), Err(SealError::BadKey)));
        assert_eq!(fs::read_to_string(&path).unwrap(), "not a key");
    }
}
