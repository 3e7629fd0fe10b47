//! The numbers that a destination lives by. Tests move them; the product uses the defaults.

use std::time::Duration;

/// Deadlines and limits of a destination.
#[derive(Debug, Clone)]
pub struct Tuning {
    /// Whether somebody of ours may have published there a moment ago: a server that still holds the key is asked again
    /// soon.
    pub came_before: bool,
    /// Age in ms from which the first IDR of an item begins a new connection. The default is 23 days: many servers
    /// keep 31 bits, which end after 24.86 days.
    pub planned_reconnect_ms: u64,
    /// So much later any IDR does, ms.
    pub renewal_window_ms: u64,
    /// Longest time for resolving and connecting, and again for each of TLS, handshake and publish.
    pub opening: Duration,
    /// Longest time in which the kernel may take no byte of ours.
    pub write: Duration,
    /// Without newly acknowledged bytes for this long, a destination is no longer live.
    pub fading: Duration,
    /// Without newly acknowledged bytes for this long while data is waiting for it, the connection is given up.
    pub stalled: Duration,
    /// After this much uninterrupted sending the failures are forgotten.
    pub stable: Duration,
    /// Longest time until a connection whose address or key was changed is given up, where no IDR comes.
    pub change: Duration,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            came_before: false,
            planned_reconnect_ms: 23 * 24 * 3600 * 1000,
            renewal_window_ms: 24 * 3600 * 1000,
            opening: Duration::from_secs(10),
            write: Duration::from_secs(10),
            fading: Duration::from_secs(5),
            stalled: Duration::from_secs(15),
            stable: Duration::from_secs(60),
            change: Duration::from_secs(5),
        }
    }
}
