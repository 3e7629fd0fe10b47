//! Names of things: channels, runs, items, destinations, and the public names that viewers see.

use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};
use std::fmt;

/// A name that cannot be used as an identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("must be 1 to 64 characters of a-z, 0-9, '-' or '_', starting with a letter or digit")]
pub struct BadId;

macro_rules! slug_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The name as text; safe as a path component.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = BadId;
            fn try_from(text: String) -> Result<Self, BadId> {
                if is_slug(&text) { Ok(Self(text)) } else { Err(BadId) }
            }
        }

        impl std::str::FromStr for $name {
            type Err = BadId;
            fn from_str(text: &str) -> Result<Self, BadId> {
                Self::try_from(text.to_owned())
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

slug_id! {
    /// A channel, chosen by its owner: `main`, `news-24`. Part of paths and log fields.
    ChannelId
}
slug_id! {
    /// The customer a channel belongs to; `default` on a machine with one owner.
    ClientId
}
slug_id! {
    /// A destination within its channel: `youtube`, `backup`.
    DestinationId
}

impl ChannelId {
    /// The channel that exists without being created.
    pub fn main() -> Self {
        Self("main".to_owned())
    }
}

impl ClientId {
    /// The owner of everything that names no other.
    pub fn default_client() -> Self {
        Self("default".to_owned())
    }
}

fn is_slug(text: &str) -> bool {
    let legal = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-' || c == b'_';
    (1..=64).contains(&text.len())
        && text.bytes().all(legal)
        && text.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric)
}

/// A sortable unique name: 48 bits of milliseconds, 80 random bits, in 26 characters (the ULID layout).
/// Names runs, sessions and playlist items.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Ulid(String);

impl Ulid {
    /// A new name, ordered after every name made in an earlier millisecond.
    pub fn new(now: crate::Timestamp) -> Self {
        const CROCKFORD: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
        let mut bytes = [0u8; 16];
        fill_random(&mut bytes);
        let millis = now.as_millisecond().max(0).to_be_bytes();
        bytes[..6].copy_from_slice(&millis[2..]);
        let value = u128::from_be_bytes(bytes);
        let letter = |i: u32| char::from(CROCKFORD[(value >> (5 * (25 - i)) & 31) as usize]);
        Self((0..26).map(letter).collect())
    }

    /// A name that somebody says, in letters of any case; `None` where it cannot be one.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.to_ascii_uppercase();
        let legal = |c: u8| c.is_ascii_digit() || (c.is_ascii_uppercase() && !b"ILOU".contains(&c));
        (text.len() == 26 && text.bytes().all(legal)).then_some(Self(text))
    }

    /// The name of a thing that has a natural name already: the same text gives the same name.
    pub fn from_text(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Ulid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What viewers see in a URL: 22 random base-62 characters, about 131 bits, so that it cannot be guessed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PublicId(String);

impl PublicId {
    /// A new random name.
    pub fn random() -> Self {
        Self(random_base62(22))
    }

    /// The name as text; safe as a path component when it came from [`PublicId::parse`] or `random`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Reads a name from a URL; `None` unless it is exactly 22 base-62 characters.
    pub fn parse(text: &str) -> Option<Self> {
        (text.len() == 22 && text.bytes().all(|c| c.is_ascii_alphanumeric())).then(|| Self(text.to_owned()))
    }
}

impl fmt::Display for PublicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// `length` random base-62 characters, each equally likely.
pub fn random_base62(length: usize) -> String {
    const LETTERS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut text = String::with_capacity(length);
    while text.len() < length {
        let mut pool = [0u8; 64];
        fill_random(&mut pool);
        // 248 is the largest multiple of 62 in a byte; larger values would favour the first letters.
        let fair = pool.iter().filter(|&&b| b < 248).map(|&b| char::from(LETTERS[usize::from(b) % 62]));
        text.extend(fair.take(length - text.len()));
    }
    text
}

/// Fills `bytes` from the operating system's random source.
///
/// Aborts the process if there is none: names and keys that can be guessed are worse than no service.
pub fn fill_random(bytes: &mut [u8]) {
    if SystemRandom::new().fill(bytes).is_err() {
        std::process::abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_name_is_a_safe_path_component() {
        for bad in ["", "../x", "a/b", "A", "-a", "a b", "a\0", &"x".repeat(65)] {
            assert!(bad.parse::<ChannelId>().is_err(), "{bad:?}");
        }
        assert_eq!("news-24_b".parse::<ChannelId>().unwrap().as_str(), "news-24_b");
    }

    #[test]
    fn ulids_sort_by_time_and_do_not_repeat() {
        let early = Ulid::new(jiff::Timestamp::from_millisecond(1_700_000_000_000).unwrap());
        let late = Ulid::new(jiff::Timestamp::from_millisecond(1_700_000_000_001).unwrap());
        assert_eq!(early.as_str().len(), 26);
        assert!(early < late);
        assert_ne!(Ulid::new(crate::now()), Ulid::new(crate::now()));
    }

    #[test]
    fn public_ids_are_22_letters_and_nothing_else_parses() {
        let id = PublicId::random();
        assert_eq!(PublicId::parse(id.as_str()), Some(id));
        assert_eq!(PublicId::parse("../../../../etc/passwd"), None);
    }
}
