//! Showing addresses and lines of text without what must not be seen.

use crate::secret::Secret;

/// A URL without user information, query and fragment: what status, logs and errors may show.
///
/// Text that is not a URL at all is shown as `***`, because nobody knows what it holds.
pub fn url(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return "***".to_owned() };
    let end = rest.find(['?', '#']).unwrap_or(rest.len());
    let (authority, path) = match rest[..end].find('/') {
        Some(slash) => rest[..end].split_at(slash),
        None => (&rest[..end], ""),
    };
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    format!("{scheme}://{host}{path}")
}

/// Replaces every known secret in a line with `***`. Secrets shorter than four characters are left alone,
/// because replacing them would shred the text without hiding anything.
pub fn line(text: &str, secrets: &[Secret]) -> String {
    let mut shown = text.to_owned();
    for secret in secrets.iter().filter(|s| s.expose().len() >= 4) {
        if shown.contains(secret.expose()) {
            shown = shown.replace(secret.expose(), "***");
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_lose_userinfo_and_query() {
        assert_eq!(url("rtmps://u:p@h:443/live2?backup=1"), "rtmps://h:443/live2");
        assert_eq!(url("https://h/x.mp4?X-Amz-Signature=abc#f"), "https://h/x.mp4");
        assert_eq!(url("rtmp://h"), "rtmp://h");
        assert_eq!(url("not a url"), "***");
    }

    #[test]
    fn lines_lose_known_secrets() {
        let secrets = [Secret::new("k3y-k3y"), Secret::new("a")];
        assert_eq!(line("opening rtmp://h/a/k3y-k3y failed", &secrets), "opening rtmp://h/a/*** failed");
    }
}
