//! A link to a media file that anybody who holds it may read, for a while.

use crate::StorageError;
use std::fmt;
use std::time::Duration;

/// How long a link is valid unless told otherwise: 24 hours.
pub const LINK_VALID: Duration = Duration::from_secs(24 * 3600);

/// The shortest validity: one minute.
pub const SHORTEST_LINK: Duration = Duration::from_secs(60);

/// The longest validity: seven days, the limit of the signature (AWS SigV4 query authentication).
pub const LONGEST_LINK: Duration = Duration::from_secs(7 * 24 * 3600);

/// Where FFmpeg or a browser reads the media file. `Debug` and `Display` leave out the signature.
#[derive(Clone, PartialEq, Eq)]
pub struct StreamUrl(String);

impl StreamUrl {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The whole address with its signature, or the path of a local file. Keep it out of argv and logs.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for StreamUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.split_once('?') {
            Some((shown, _)) if shown.contains("://") => write!(f, "{shown}?***"),
            _ => f.write_str(&self.0),
        }
    }
}

impl fmt::Debug for StreamUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StreamUrl({self})")
    }
}

/// Whether a link may be valid that long.
///
/// # Errors
/// [`StorageError::Unsupported`], outside of `shortest` to [`LONGEST_LINK`].
pub(crate) fn check_validity(valid: Duration, shortest: Duration) -> Result<(), StorageError> {
    if (shortest..=LONGEST_LINK).contains(&valid) {
        return Ok(());
    }
    Err(StorageError::Unsupported(format!(
        "a link can be valid for 1 minute to 7 days, not for {} s",
        valid.as_secs_f64()
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_shows_where_it_leads_and_not_its_signature() {
        let link = StreamUrl::new("https://h/b/a.mp4?X-Amz-Signature=abc");
        assert_eq!(format!("{link} {link:?}"), "https://h/b/a.mp4?*** StreamUrl(https://h/b/a.mp4?***)");
        assert!(link.expose().ends_with("=abc"));
        assert_eq!(StreamUrl::new("/media/what?.mp4").to_string(), "/media/what?.mp4");
    }

    #[test]
    fn a_link_is_valid_for_a_minute_to_seven_days() {
        for (seconds, fits) in
            [(0, false), (59, false), (60, true), (86_400, true), (604_800, true), (604_801, false)]
        {
            let checked = check_validity(Duration::from_secs(seconds), SHORTEST_LINK);
            assert_eq!(checked.is_ok(), fits, "{seconds}");
        }
    }
}
