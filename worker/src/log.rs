//! The worker's log: lines on stderr, which the controller points at the channel's log file.

use tracing_subscriber::EnvFilter;

/// Starts logging by `LOG_LEVEL` (error, warn, info, debug, trace; info when unset or not understood) and
/// `LOG_FORMAT` (`json` or `text`; text when unset).
pub fn start() {
    let level = std::env::var("LOG_LEVEL").unwrap_or_default();
    let filter = EnvFilter::try_new(level.to_lowercase()).ok().filter(|_| !level.is_empty());
    let mut filter = filter.unwrap_or_else(|| EnvFilter::new("info"));
    // The ways to the bucket have much to say, and some of it is signed.
    for quiet in ["aws=warn", "hyper=warn", "rustls=warn"] {
        filter = quiet.parse().map(|directive| filter.clone().add_directive(directive)).unwrap_or(filter);
    }
    let lines =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false);
    let started = match std::env::var("LOG_FORMAT").as_deref() {
        Ok("json") => lines.json().flatten_event(true).try_init(),
        _ => lines.try_init(),
    };
    // A second start in one process keeps the first.
    let _ = started;
}
