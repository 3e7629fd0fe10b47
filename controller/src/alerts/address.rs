//! Addresses that this program may call on somebody's word: well-formed, over TLS, and not into its own network.
//! Names are judged by what they lead to, every time anew.

use hyper::Uri;
use state::secret::Secret;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Longest address, in bytes.
const LONGEST: usize = 2048;

/// Ports below 1024 that may be called; above, those of databases and the like may not.
const LOW_PORTS: [u16; 2] = [80, 443];
const NEVER: [u16; 9] = [2375, 2379, 3306, 5432, 6379, 9200, 11211, 27017, 10250];

/// Where a call goes. The whole address is a secret: tokens are in its path.
#[derive(Clone)]
pub struct Address {
    text: Secret,
    uri: Uri,
}

impl std::fmt::Debug for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.shown())
    }
}

impl Address {
    /// Reads an address. `allow_private` is for tests and for servers next door: plain HTTP and any port.
    ///
    /// # Errors
    /// What is wrong with it, in words that do not show it.
    pub fn parse(text: &Secret, allow_private: bool) -> Result<Self, &'static str> {
        let plain = text.expose();
        if plain.is_empty() || plain.len() > LONGEST {
            return Err("must be an address of 1 to 2048 characters");
        }
        if !plain.bytes().all(|b| b.is_ascii_graphic() && b != b'\\') || plain.contains('#') {
            return Err("must hold no blanks, backslashes, fragments or characters outside of ASCII");
        }
        let uri: Uri = plain.parse().map_err(|_| "must be an address such as https://example.org/hook")?;
        let authority = uri.authority().ok_or("must begin with https://")?;
        if authority.as_str().contains('@') {
            return Err("must not hold a user or a password");
        }
        match uri.scheme_str() {
            Some("https") => {}
            Some("http") if allow_private => {}
            Some("http") => return Err("must begin with https://"),
            _ => return Err("must begin with https://"),
        }
        let address = Self { text: text.clone(), uri };
        address.check_host(allow_private)?;
        Ok(address)
    }

    fn check_host(&self, allow_private: bool) -> Result<(), &'static str> {
        let host = self.host();
        if host.is_empty() || self.uri.authority().is_some_and(|a| a.as_str().ends_with(':')) {
            return Err("must name a host");
        }
        let literal = host.parse::<IpAddr>().ok();
        let last = host.trim_end_matches('.').rsplit('.').next().unwrap_or_default();
        let odd = last.starts_with(|c: char| c.is_ascii_digit());
        if literal.is_none() && odd {
            return Err("must write the numbers of a host as four decimals");
        }
        if allow_private {
            return Ok(());
        }
        let named = host.trim_end_matches('.').to_ascii_lowercase();
        let inside = named == "localhost" || named.ends_with(".localhost");
        let inside = inside || named.ends_with(".internal") || named.ends_with(".local");
        if inside || literal.is_some_and(|ip| !is_public(ip)) {
            return Err("must lead to a public host; ALERT_ALLOW_PRIVATE=1 lifts that");
        }
        let port = self.port();
        if (port < 1024 && !LOW_PORTS.contains(&port)) || NEVER.contains(&port) {
            return Err("must use port 443, 80 or a usual one above 1023");
        }
        Ok(())
    }

    /// The whole of it.
    pub fn text(&self) -> &Secret {
        &self.text
    }

    /// Its parts.
    pub fn uri(&self) -> &Uri {
        &self.uri
    }

    /// The host's name or address, without brackets.
    pub fn host(&self) -> &str {
        let host = self.uri.host().unwrap_or_default();
        host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
    }

    /// The port.
    pub fn port(&self) -> u16 {
        let usual = if self.is_secure() { 443 } else { 80 };
        self.uri.port_u16().unwrap_or(usual)
    }

    /// Whether it is called over TLS.
    pub fn is_secure(&self) -> bool {
        self.uri.scheme_str() == Some("https")
    }

    /// What people may see of it.
    pub fn shown(&self) -> String {
        let authority = self.uri.authority().map_or("", |authority| authority.as_str());
        format!("{}://{authority}/…", self.uri.scheme_str().unwrap_or_default())
    }
}

/// Whether an address is one of the open internet (RFC 6890 and the registries behind it).
pub fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => is_public_v4(ip),
        IpAddr::V6(ip) => is_public_v6(ip),
    }
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    let special = match ip.octets() {
        [0 | 10 | 127 | 224..=255, ..] => true,
        [100, b, ..] => (64..128).contains(&b),
        [169, 254, ..] | [192, 168, ..] | [192, 88, 99, _] => true,
        [172, b, ..] => (16..32).contains(&b),
        [192, 0, 0 | 2, _] | [198, 18 | 19, ..] | [198, 51, 100, _] | [203, 0, 113, _] => true,
        _ => false,
    };
    !special
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    let part = ip.segments();
    let [.., a, b] = part;
    let inside = || Ipv4Addr::from(u32::from(a) << 16 | u32::from(b));
    match part {
        // Addresses that hold one of IPv4.
        [0, 0, 0, 0, 0, 0xffff, ..] | [0x64, 0xff9b, 0, 0, 0, 0, ..] => is_public_v4(inside()),
        [0x2002, a, b, ..] => is_public_v4(Ipv4Addr::from(u32::from(a) << 16 | u32::from(b))),
        // Of 2001::/23 and documentation nothing may be called; the open internet is 2000::/3.
        [0x2001, b, ..] if b < 0x200 || b == 0xdb8 => false,
        [0x3fff, b, ..] if b < 0x1000 => false,
        [first, ..] => (0x2000..0x4000).contains(&first),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Address, &'static str> {
        Address::parse(&Secret::new(text), false)
    }

    #[test]
    fn addresses_into_our_own_network_are_refused_however_they_are_written() {
        for text in [
            "https://127.0.0.1/",
            "https://2130706433/",
            "https://0x7f.1/",
            "https://0177.0.0.1/",
            "https://127.1/",
            "https://[::1]/",
            "https://[::ffff:127.0.0.1]/",
            "https://[::ffff:7f00:1]/",
            "https://169.254.169.254/latest/meta-data/",
            "https://[fd00:ec2::254]/",
            "https://0/",
            "https://localhost:8080",
            "https://metadata.google.internal/",
            "https://1.1.1.1@127.0.0.1/",
            "https://127.0.0.1#@example.com/",
            "https://example.com\\@127.0.0.1/",
            "file:///etc/passwd",
            "gopher://127.0.0.1:6379/_x",
            "rtmp://10.0.0.5/live/k",
            "https://[64:ff9b::7f00:1]/",
            "https://①②⑦.⓪.⓪.①/",
            "http://example.org/",
            "https://example.org:22/",
            "https://example.org:6379/",
            "https://exa mple.org/",
            "https:///path",
            "https://example.org:/",
            "/relative",
            "",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
        assert!(read(&format!("https://example.org/{}", "x".repeat(LONGEST))).is_err());
    }

    #[test]
    fn a_public_address_is_taken_and_shown_without_its_secrets() {
        let address = read("https://api.example.org:8443/bot123:SECRET/send?chat_id=5").unwrap();
        assert_eq!((address.host(), address.port()), ("api.example.org", 8443));
        assert_eq!(address.shown(), "https://api.example.org:8443/…");
        assert!(!format!("{address:?}").contains("SECRET"));
        assert!(read("https://1.1.1.1/x").is_ok() && read("https://[2606:4700::1111]/").is_ok());
    }

    #[test]
    fn next_door_is_allowed_when_somebody_says_so() {
        let address = Address::parse(&Secret::new("http://127.0.0.1:9999/x"), true).unwrap();
        assert_eq!((address.port(), address.is_secure()), (9999, false));
        assert!(Address::parse(&Secret::new("ftp://127.0.0.1/"), true).is_err());
    }

    #[test]
    fn special_ranges_are_not_the_open_internet() {
        for ip in
            ["100.64.0.1", "172.31.255.255", "198.19.0.1", "203.0.113.9", "240.0.0.1", "255.255.255.255"]
        {
            assert!(!is_public(ip.parse().unwrap()), "{ip}");
        }
        for ip in ["2002:7f00:1::", "2001:db8::1", "fe80::1", "ff02::1", "::", "2001::1", "64:ff9b:1::1"] {
            assert!(!is_public(ip.parse().unwrap()), "{ip}");
        }
        for ip in ["100.63.0.1", "172.32.0.1", "8.8.8.8", "2a00:1450::1", "::ffff:8.8.8.8"] {
            assert!(is_public(ip.parse().unwrap()), "{ip}");
        }
    }
}
