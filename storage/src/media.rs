//! What a media file is called, and which names count as media.

/// File name endings that count as media, in lower case.
pub const MEDIA_EXTENSIONS: [&str; 17] = [
    "mp4", "m4v", "mov", "mkv", "webm", "ts", "m2ts", "flv", "avi", "mpg", "mp3", "m4a", "aac", "wav",
    "flac", "ogg", "opus",
];

/// A media file.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct MediaFile {
    /// Its key: the path below the folder or in the bucket, with `/`; the prefix belongs to it.
    pub key: String,
    /// Its size in bytes.
    pub size: u64,
    /// Another text when the bytes are others: the ETag without quotes, or `<size>-<mtime in ns>` of a local file.
    /// Empty where a service leaves it out, as some do in listings; then only [`crate::Storage::stat`] tells.
    pub content: String,
}

/// Whether a key is listed: a media extension, no part of it hidden, and nothing in it that would forge a line of a log
/// or move the cursor of a terminal.
pub fn is_media_key(key: &str) -> bool {
    let hidden = key.split('/').any(|part| part.starts_with('.'));
    let extension =
        key.rsplit('/').next().and_then(|name| name.rsplit_once('.')).map(|(_, e)| e.to_ascii_lowercase());
    let printable = !key.chars().any(char::is_control);
    !hidden && printable && extension.is_some_and(|e| MEDIA_EXTENSIONS.contains(&e.as_str()))
}

/// Longest key in bytes that S3 and R2 take.
const LONGEST_KEY: usize = 1024;

/// Why a file may not be stored under this key.
pub(crate) fn key_problem(key: &str) -> Option<&'static str> {
    if key.is_empty() || key.len() > LONGEST_KEY {
        Some("must have 1 to 1024 bytes")
    } else if key.chars().any(char::is_control) {
        Some("must not hold control characters")
    } else if key.split('/').any(|part| part.is_empty() || part == "." || part == "..") {
        Some("must be a path without empty parts, . and ..")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_listed_if_it_is_media_and_can_be_shown() {
        for key in ["a.mp4", "shows/日本語 🎬.MKV", "it's \"50 %\".ts"] {
            assert!(is_media_key(key), "{key:?}");
        }
        for key in ["a.txt", "mp4", ".a.mp4", ".git/a.mp4", "a\nERROR b.mp4", "a\u{1b}[2J.mp4", "a\0.mp4"] {
            assert!(!is_media_key(key), "{key:?}");
        }
    }

    #[test]
    fn a_key_that_could_leave_the_folder_or_break_a_listing_is_refused() {
        for key in ["", "/a.mp4", "a//b.mp4", "../a.mp4", "a/./b.mp4", "a/", "a\nb.mp4", &"x".repeat(1025)] {
            assert!(key_problem(key).is_some(), "{key:?}");
        }
        for key in ["a.mp4", "shows/ä b+c.mp4", "..a.mp4", "a..mp4"] {
            assert_eq!(key_problem(key), None, "{key:?}");
        }
    }
}
