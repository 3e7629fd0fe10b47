//! What the controller and the workers know: documents on disk, and every word the two say to each other.
//!
//! This room is a leaf. It touches files and nothing else: no network, no processes, no runtime, no clock
//! that was not passed in.

pub mod atomic;
pub mod channel;
pub mod destination;
pub mod ids;
pub mod mask;
pub mod phase;
pub mod playlist;
pub mod prepared;
pub mod profile;
pub mod recent;
pub mod restart;
pub mod rotate;
pub mod runs;
pub mod seal;
pub mod secret;
pub mod seen;
pub mod storage;
pub mod store;
pub mod totals;
pub mod wire;

/// A point in time as it appears in documents and messages: RFC 3339, UTC, whole milliseconds.
pub type Timestamp = jiff::Timestamp;

/// The wall clock, cut to whole milliseconds so that a value survives a round trip through text unchanged.
pub fn now() -> Timestamp {
    let now = jiff::Timestamp::now();
    jiff::Timestamp::from_millisecond(now.as_millisecond()).unwrap_or(now)
}

/// This much after `now`, to the millisecond; `None` beyond the end of times.
pub fn after(now: Timestamp, wait: std::time::Duration) -> Option<Timestamp> {
    let millis = i64::try_from(wait.as_millis()).ok()?;
    now.checked_add(jiff::SignedDuration::from_millis(millis)).ok()
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_comes_after_a_while_is_told_in_milliseconds_as_all_times_are() {
        let now: crate::Timestamp = "2026-01-01T00:00:00.001Z".parse().unwrap();
        let later = crate::after(now, std::time::Duration::from_nanos(1_500_987_654)).unwrap();
        assert_eq!(later.to_string(), "2026-01-01T00:00:01.501Z");
        assert_eq!(crate::after(now, std::time::Duration::MAX), None);
    }
}
