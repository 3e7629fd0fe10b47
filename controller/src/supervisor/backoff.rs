//! When failures are forgotten and when somebody must know of them. How long to wait is the channel's policy
//! ([`state::restart::Restart`]); the supervisor owns this retry and nobody else does.

use std::time::Duration;

/// A life that played this long forgets the failures before it.
pub const STABLE: Duration = Duration::from_secs(60);

/// Failures in a row that someone should know about.
pub const ALERT_AFTER: u32 = 3;

/// A random number from −1 to 1.
pub fn jitter() -> f64 {
    let mut bytes = [0u8; 2];
    state::ids::fill_random(&mut bytes);
    f64::from(u16::from_ne_bytes(bytes)) / 32767.5 - 1.0
}

#[cfg(test)]
mod tests {
    #[test]
    fn jitter_stays_within_its_bounds() {
        assert!((0..1000).all(|_| (-1.0..=1.0).contains(&super::jitter())));
    }
}
