//! Reading `rtmp://` and `rtmps://` addresses as publishers do.

use state::mask;
use state::secret::Secret;
use std::fmt;

/// Where to publish.
#[derive(Clone, PartialEq, Eq)]
pub struct Target {
    /// Whether the bytes travel in TLS.
    pub tls: bool,
    /// Name or address of the server; an IPv6 address without its brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Application: the path, with its query if it has one.
    pub app: String,
    /// What to publish: the stream key.
    pub playpath: Secret,
}

/// An address that cannot be used. The message is safe to show.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadUrl(pub &'static str);

impl Target {
    /// Reads `rtmp[s]://host[:port]/app`; the port is 1935, or 443 for rtmps.
    ///
    /// With a key the whole path is the application, as in OBS. Without one the last part of the path is what to
    /// publish (`/a/b/KEY?x=1` is application `a/b`, `KEY?x=1`), unless there is only one part.
    ///
    /// # Errors
    /// When the scheme, host, port or application is missing or impossible.
    pub fn parse(url: &str, key: &Secret) -> Result<Self, BadUrl> {
        let (scheme, rest) = url.trim().split_once("://").ok_or(BadUrl("the URL has no scheme"))?;
        let tls = match scheme.to_ascii_lowercase().as_str() {
            "rtmp" => false,
            "rtmps" => true,
            _ => return Err(BadUrl("the URL must begin with rtmp:// or rtmps://")),
        };
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (host, port) = host_and_port(authority, if tls { 443 } else { 1935 })?;
        let path = path.trim_end_matches('/');
        let (app, playpath) = if key.is_empty() { split_path(path) } else { (path, key.expose()) };
        if app.is_empty() {
            return Err(BadUrl("the URL has no application: it must be like rtmp://host/app"));
        }
        Ok(Self { tls, host, port, app: app.to_owned(), playpath: Secret::new(playpath) })
    }

    /// Where a server sends us with a `tcUrl`, absolute or relative, to publish the same there.
    ///
    /// # Errors
    /// When it cannot be used, or leads from TLS to a connection that anybody can read.
    pub fn redirected(&self, tc_url: &str) -> Result<Self, BadUrl> {
        let tc_url = tc_url.trim();
        let scheme = if self.tls { "rtmps" } else { "rtmp" };
        let whole = match tc_url {
            _ if tc_url.contains("://") => tc_url.to_owned(),
            _ if tc_url.starts_with("//") => format!("{scheme}:{tc_url}"),
            _ => format!("{scheme}://{}/{}", self.address(), tc_url.trim_start_matches('/')),
        };
        let (url, query) = whole.split_once('?').unwrap_or((&whole, ""));
        let mut target = Self::parse(url, &Secret::new("-"))?;
        if self.tls && !target.tls {
            return Err(BadUrl("the server asks to go on without TLS"));
        }
        if !query.is_empty() {
            target.app = format!("{}?{query}", target.app);
        }
        Ok(Self { playpath: self.playpath.clone(), ..target })
    }

    /// The address as it is told to the server in `connect`: without user and key.
    pub fn tc_url(&self) -> String {
        format!("{}/{}", self.shown_server(), self.app)
    }

    /// `host:port`, as in error messages.
    pub fn address(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }

    /// Whatever a server might repeat and nobody may see: the key, its name without parameters, the parameters.
    pub fn secrets(&self) -> Vec<Secret> {
        let key = self.playpath.expose();
        let (name, query) = key.split_once('?').unwrap_or((key, ""));
        let app_query = self.app.split_once('?').map_or("", |(_, query)| query);
        let mut texts = vec![key, name, query, app_query];
        texts.sort_by_key(|text| std::cmp::Reverse(text.len()));
        texts.into_iter().filter(|text| !text.is_empty()).map(Secret::new).collect()
    }

    fn shown_server(&self) -> String {
        let (scheme, usual) = if self.tls { ("rtmps", 443) } else { ("rtmp", 1935) };
        let address = self.address();
        let suffix = format!(":{}", self.port);
        let server =
            if self.port == usual { address.strip_suffix(&suffix).unwrap_or(&address) } else { &address };
        format!("{scheme}://{server}")
    }
}

/// Shows no key and no query.
impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&mask::url(&self.tc_url()))
    }
}

fn host_and_port(authority: &str, usual: u16) -> Result<(String, u16), BadUrl> {
    let server = authority.rsplit_once('@').map_or(authority, |(_, server)| server);
    let (host, port) = match server.strip_prefix('[') {
        Some(rest) => rest.split_once(']').ok_or(BadUrl("the URL's IPv6 address has no closing bracket"))?,
        None => server.find(':').map_or((server, ""), |colon| server.split_at(colon)),
    };
    if host.is_empty() {
        return Err(BadUrl("the URL has no host"));
    }
    let port = match port.strip_prefix(':') {
        Some(digits) => {
            digits.parse().ok().filter(|p| *p > 0).ok_or(BadUrl("the URL's port is not a port"))?
        }
        None if port.is_empty() => usual,
        None => return Err(BadUrl("the URL's port is not a port")),
    };
    Ok((host.to_owned(), port))
}

/// A query before the last slash belongs to the application, one after it to what is published.
fn split_path(path: &str) -> (&str, &str) {
    let end = path.find('?').filter(|query| path[..*query].contains('/')).unwrap_or(path.len());
    match path[..end].rfind('/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (path, ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parts(url: &str, key: &str) -> (String, String, String) {
        let target = Target::parse(url, &Secret::new(key)).unwrap();
        (target.address(), target.app.clone(), target.playpath.expose().to_owned())
    }

    fn expect(url: &str, key: &str, address: &str, app: &str, playpath: &str) {
        assert_eq!(parts(url, key), (address.to_owned(), app.to_owned(), playpath.to_owned()), "{url}");
    }

    #[test]
    fn with_a_key_the_whole_path_is_the_application() {
        expect("rtmps://a.rtmps.youtube.com:443/live2", "k-1", "a.rtmps.youtube.com:443", "live2", "k-1");
        expect("rtmp://b/live2?backup=1", "k-1", "b:1935", "live2?backup=1", "k-1");
        expect("rtmps://h/a/b/", "k?x=1", "h:443", "a/b", "k?x=1");
        expect("rtmp://user:word@[::1]:99/app", "k", "[::1]:99", "app", "k");
    }

    #[test]
    fn without_a_key_the_last_part_is_published() {
        expect("rtmp://h/a/b/KEY", "", "h:1935", "a/b", "KEY");
        expect("rtmp://h/a/KEY?x=1/2", "", "h:1935", "a", "KEY?x=1/2");
        expect("rtmp://h/a?x=1/KEY", "", "h:1935", "a?x=1", "KEY");
        expect("rtmp://h/a", "", "h:1935", "a", "");
    }

    #[test]
    fn what_is_told_and_shown_has_no_key() {
        let target =
            Target::parse("rtmps://u:p@h:443/live2?token=t0ken", &Secret::new("k3y-k3y?a=secret")).unwrap();
        assert_eq!(target.tc_url(), "rtmps://h/live2?token=t0ken");
        assert_eq!(format!("{target:?}"), "rtmps://h/live2");
        let said = "stream k3y-k3y refused, a=secret, token=t0ken";
        assert_eq!(mask::line(said, &target.secrets()), "stream *** refused, ***, ***");
    }

    #[test]
    fn a_server_may_send_us_elsewhere_but_not_out_of_tls() {
        let from = |url: &str| Target::parse(url, &Secret::new("k3y")).unwrap();
        let to = |url: &str, tc_url: &str| from(url).redirected(tc_url);
        let (plain, tls) = ("rtmp://h:99/live", "rtmps://h/live");
        assert_eq!(to(plain, "rtmp://c/other?t=1/2").unwrap(), from("rtmp://c/other?t=1/2"));
        assert_eq!(to(plain, "/other").unwrap(), from("rtmp://h:99/other"));
        assert_eq!(to(plain, "other").unwrap(), from("rtmp://h:99/other"));
        assert_eq!(to(tls, "//c/live").unwrap(), from("rtmps://c/live"));
        assert_eq!(to(plain, "rtmps://c/live").unwrap(), from("rtmps://c/live"));
        for bad in ["rtmp://c/live", "http://c/live", "", "rtmps://c"] {
            assert!(to(tls, bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn addresses_that_lead_nowhere_are_refused() {
        for bad in
            ["", "h/a", "http://h/a", "rtmp://", "rtmp:///a", "rtmp://h", "rtmp://h:0/a", "rtmp://h:x/a"]
        {
            assert!(Target::parse(bad, &Secret::new("key")).is_err(), "{bad:?}");
        }
        assert!(Target::parse("rtmp://[::1/a", &Secret::default()).is_err());
        assert!(Target::parse("rtmp://[::1]9/a", &Secret::default()).is_err());
    }

    proptest! {
        #[test]
        fn arbitrary_text_is_no_danger(url in "(rtmps?://)?[\\[\\]:@/?a1é]{0,20}", key in "[a?/]{0,3}") {
            let _ = Target::parse(&url, &Secret::new(key));
            let _ = Target::parse("rtmps://h/a", &Secret::new("k")).unwrap().redirected(&url);
        }
    }
}
