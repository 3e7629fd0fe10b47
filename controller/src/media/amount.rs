//! Amounts of bytes as people write them.

/// Reads `0`, `500MB`, `20 GB`, `1.5GiB`. KB, MB, GB and TB count by 1000, KiB to TiB by 1024; a bare number is bytes.
///
/// # Errors
/// What it must be, in words.
pub fn parse(text: &str) -> Result<u64, &'static str> {
    const FORM: &str = "0 or an amount such as 500MB or 20GB";
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor: f64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "k" | "kb" => 1e3,
        "m" | "mb" => 1e6,
        "g" | "gb" => 1e9,
        "t" | "tb" => 1e12,
        "kib" => 1024.0,
        "mib" => 1024.0 * 1024.0,
        "gib" => 1024.0 * 1024.0 * 1024.0,
        "tib" => 1024.0 * 1024.0 * 1024.0 * 1024.0,
        _ => return Err(FORM),
    };
    let number: f64 = number.parse().map_err(|_| FORM)?;
    let bytes = number * factor;
    // Every whole number up to here is exact.
    if bytes <= 9e15 { Ok(bytes as u64) } else { Err(FORM) }
}

/// An amount for people, with one decimal.
pub fn words(bytes: u64) -> String {
    let bytes = bytes as f64;
    match bytes {
        b if b >= 1e9 => format!("{:.1} GB", b / 1e9),
        b if b >= 1e6 => format!("{:.1} MB", b / 1e6),
        b => format!("{:.1} kB", b / 1e3),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn amounts_are_read_as_people_write_them() {
        for (text, bytes) in [
            ("0", 0),
            ("123", 123),
            ("500MB", 500_000_000),
            ("20 GB", 20_000_000_000),
            ("1.5gib", 1_610_612_736),
            ("2k", 2_000),
            ("1TB", 1_000_000_000_000),
        ] {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
        for text in ["", "-1", "GB", "1.2.3", "5 apples", "1e3", "99999999999TB", "."] {
            assert!(parse(text).is_err(), "{text}");
        }
        assert_eq!((words(1_250), words(2_500_000_000)), ("1.2 kB".into(), "2.5 GB".into()));
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(text in ".{0,40}") {
            let _ = parse(&text);
        }
    }
}
