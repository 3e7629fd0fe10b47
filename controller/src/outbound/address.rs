//! Which addresses may be asked: the form of a URL, and which networks are public. Pure.
//!
//! The networks are those that the IANA special-purpose registries (RFC 6890) do not call globally reachable.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Longest address, bytes.
const LONGEST: usize = 2048;

/// Networks that are not public: address and prefix length.
const CLOSED_V4: [(Ipv4Addr, u32); 16] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8),
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    (Ipv4Addr::new(192, 0, 2, 0), 24),
    (Ipv4Addr::new(192, 88, 99, 0), 24),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(198, 18, 0, 0), 15),
    (Ipv4Addr::new(198, 51, 100, 0), 24),
    (Ipv4Addr::new(203, 0, 113, 0), 24),
    (Ipv4Addr::new(224, 0, 0, 0), 4),
    (Ipv4Addr::new(240, 0, 0, 0), 4),
    (Ipv4Addr::new(255, 255, 255, 255), 32),
];

/// Only 2000::/3 is given out to the public, and not all of it.
const OPEN_V6: (u16, u32) = (0x2000, 3);
const CLOSED_V6: [(Ipv6Addr, u32); 4] = [
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32),
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20),
];

/// The parts of an address that a request needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parts {
    /// `https`, else `http`.
    pub secure: bool,
    /// Name or address of the host; IPv6 without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Path and query, beginning with a slash.
    pub path: String,
    /// Host and port as they go into the `Host` header.
    pub authority: String,
}

/// Why `url` cannot be asked, whatever is allowed; `None` when it can.
pub fn form_problem(url: &str) -> Option<String> {
    parts(url).err()
}

/// Takes an address apart.
///
/// # Errors
/// What is wrong with it, without showing it: it may hold a secret.
pub fn parts(url: &str) -> Result<Parts, String> {
    let form = "must look like https://host[:port]/path";
    let odd = |c: char| c.is_control() || c.is_whitespace() || c == '\\' || c == '#' || !c.is_ascii();
    if url.len() > LONGEST || url.chars().any(odd) {
        return Err(format!("{form}, in ASCII, without spaces, '\\' or '#', of at most {LONGEST} bytes"));
    }
    let (scheme, rest) = url.split_once("://").ok_or(form)?;
    let secure = match scheme {
        "https" => true,
        "http" => false,
        _ => return Err(form.to_owned()),
    };
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    if authority.contains('@') {
        return Err("must not hold a user name or password".to_owned());
    }
    let (host, port) = host_and_port(authority, if secure { 443 } else { 80 }).ok_or(form)?;
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    Ok(Parts { secure, host, port, path, authority: authority.to_owned() })
}

fn host_and_port(authority: &str, usual: u16) -> Option<(String, u16)> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']')?;
            host.parse::<Ipv6Addr>().ok()?;
            (host, after.strip_prefix(':').or(if after.is_empty() { Some("") } else { None })?)
        }
        None => authority.split_once(':').unwrap_or((authority, "")),
    };
    let port = if port.is_empty() { Some(usual) } else { port.parse().ok().filter(|port| *port > 0) };
    (!host.is_empty()).then_some((host.to_owned(), port?))
}

/// Whether anybody on the internet may have this address.
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => is_public_v4(v4),
            None => is_public_v6(v6),
        },
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let inside = |(network, length): &(Ipv4Addr, u32)| {
        let mask = u32::MAX.checked_shl(32 - length).unwrap_or(0);
        address.to_bits() & mask == network.to_bits() & mask
    };
    !CLOSED_V4.iter().any(inside)
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let (open, length) = OPEN_V6;
    let inside = |(network, length): &(Ipv6Addr, u32)| {
        let mask = u128::MAX.checked_shl(128 - length).unwrap_or(0);
        address.to_bits() & mask == network.to_bits() & mask
    };
    address.segments()[0] >> (16 - length) == open >> (16 - length) && !CLOSED_V6.iter().any(inside)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_taken_apart() {
        let one = parts("https://hooks.example:8443/next?x=1").unwrap();
        assert_eq!((one.secure, one.host.as_str(), one.port), (true, "hooks.example", 8443));
        assert_eq!((one.path.as_str(), one.authority.as_str()), ("/next?x=1", "hooks.example:8443"));
        let bare = parts("http://[::1]?x").unwrap();
        assert_eq!((bare.host.as_str(), bare.port, bare.path.as_str()), ("::1", 80, "/?x"));
    }

    #[test]
    fn what_is_no_web_address_is_refused_without_being_shown() {
        for bad in [
            "",
            "hooks.example",
            "file:///etc/passwd",
            "gopher://h/_x",
            "https://",
            "https:///x",
            "https://u:s3cret@h/",
            "http://1.1.1.1@127.0.0.1/",
            "http://127.0.0.1#@example.com/",
            "http://example.com\\@127.0.0.1/",
            "https://h:0/",
            "https://h:99999/",
            "https://[h]/",
            "https://[::1]x/",
            "http://①②⑦.⓪.⓪.①/",
            "https://h/a b",
        ] {
            let words = form_problem(bad).unwrap_or_else(|| panic!("{bad}"));
            assert!(!words.contains("s3cret"), "{words}");
        }
    }

    #[test]
    fn this_machine_and_its_neighbours_are_not_public() {
        for closed in [
            "127.0.0.1",
            "127.1.2.3",
            "0.0.0.0",
            "10.0.0.5",
            "100.64.0.1",
            "169.254.169.254",
            "172.31.255.255",
            "192.168.0.1",
            "198.19.0.1",
            "203.0.113.9",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "64:ff9b::7f00:1",
            "fd00:ec2::254",
            "fe80::1",
            "ff02::1",
            "2001::1",
            "2001:db8::1",
            "2002:7f00:1::",
        ] {
            assert!(!is_public(closed.parse().unwrap()), "{closed}");
        }
        for open in ["1.1.1.1", "172.32.0.1", "192.0.1.1", "2606:4700::1111", "::ffff:1.1.1.1"] {
            assert!(is_public(open.parse().unwrap()), "{open}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_no_reason_to_panic(text in "(https?://)?[\\[\\]a-z0-9.:@/?#\\\\ ]{0,30}|.{0,60}") {
            let _ = parts(&text);
        }
    }
}
