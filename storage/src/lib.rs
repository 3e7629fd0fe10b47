//! Where media lives. A leaf: it knows keys and files, and nothing of channels.
//!
//! Today that is a folder on this machine ([`local`]); buckets join it behind the same names.

pub mod local;
mod order;

pub use order::natural;

/// File name endings that count as media, in lower case.
pub const MEDIA_EXTENSIONS: [&str; 17] = [
    "mp4", "m4v", "mov", "mkv", "webm", "ts", "m2ts", "flv", "avi", "mpg", "mp3", "m4a", "aac", "wav",
    "flac", "ogg", "opus",
];

/// Whether a key is listed: a media extension, and no part of it hidden.
pub fn is_media_key(key: &str) -> bool {
    let hidden = key.split('/').any(|part| part.starts_with('.'));
    let extension =
        key.rsplit('/').next().and_then(|name| name.rsplit_once('.')).map(|(_, e)| e.to_ascii_lowercase());
    !hidden && extension.is_some_and(|e| MEDIA_EXTENSIONS.contains(&e.as_str()))
}
