//! How long a connection may live, and where it is renewed before that. Pure.

use super::tuning::Tuning;
use state::wire::DestinationSpec;
use std::time::Duration;

const MINUTE: u64 = 60_000;
/// At most this long before a session's end a new key is asked for, ms.
const ASK_AHEAD: u64 = 30 * MINUTE;
/// At most this long before a session's end the first item boundary is taken, ms.
const LOOK_AHEAD: u64 = 15 * MINUTE;
/// At most this long before a session's end any IDR is taken, ms.
const MARGIN: u64 = 2 * MINUTE;

/// Ages of one connection, in ms of media since its first IDR.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lease {
    /// From here on the beginning of an item is taken for a renewal.
    first_ms: u64,
    /// From here on any IDR is.
    last_ms: u64,
    /// When the platform ends the session, and from when on that is told; only where there is such a limit.
    session: Option<(u64, u64)>,
}

impl Lease {
    /// A session of `max_session_s` is renewed ahead: it is said to end half an hour before its end, renewed where an
    /// item begins in its last quarter of an hour, and two minutes before its end wherever it is; of short sessions
    /// these are a half, a quarter and a sixteenth. Without one, the clock of 31 bits that many servers keep is the
    /// limit.
    pub(super) fn of(spec: &DestinationSpec, tuning: &Tuning) -> Self {
        if spec.first_timestamp_ms != 0 {
            return Self { first_ms: u64::MAX, last_ms: u64::MAX, session: None };
        }
        let first_ms = tuning.planned_reconnect_ms;
        let clock =
            Self { first_ms, last_ms: first_ms.saturating_add(tuning.renewal_window_ms), session: None };
        let Some(session) = spec.max_session_s.filter(|s| *s > 0).map(|s| s.saturating_mul(1000)) else {
            return clock;
        };
        let before = |most: u64, part: u64| session - most.min(session / part);
        let (first_ms, last_ms) = (before(LOOK_AHEAD, 4), before(MARGIN, 16));
        if clock.last_ms < last_ms {
            return clock;
        }
        Self { first_ms, last_ms, session: Some((session, before(ASK_AHEAD, 2))) }
    }

    /// Whether an IDR of this age begins a new connection; `item_begins` where it is the first of an item.
    pub(super) fn is_due(&self, age_ms: u64, item_begins: bool) -> bool {
        age_ms >= self.last_ms || (item_begins && age_ms >= self.first_ms)
    }

    /// How long the session will last still, once that is near its end.
    pub(super) fn ending_in(&self, age_ms: u64) -> Option<Duration> {
        let (end, told) = self.session?;
        (age_ms >= told).then(|| Duration::from_millis(end.saturating_sub(age_ms)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use state::destination::Platform;
    use state::secret::Secret;

    const HOUR: u64 = 60 * MINUTE;
    const DAY: u64 = 24 * HOUR;

    fn lease(change: impl FnOnce(&mut DestinationSpec)) -> Lease {
        let id = "test".parse().unwrap();
        let mut spec = DestinationSpec::new(id, "T", Platform::Custom, "rtmp://h/a", Secret::new("k"));
        change(&mut spec);
        Lease::of(&spec, &Tuning::default())
    }

    #[test]
    fn before_the_31st_bit_the_beginning_of_an_item_is_waited_for_a_day() {
        let lease = lease(|_| {});
        assert!(!lease.is_due(23 * DAY - 1, true) && lease.is_due(23 * DAY, true));
        assert!(!lease.is_due(24 * DAY - 1, false) && lease.is_due(24 * DAY, false));
        const { assert!(24 * DAY < 1 << 31) };
        assert_eq!(lease.ending_in(24 * DAY), None, "no platform ends anything");
    }

    #[test]
    fn a_session_is_renewed_ahead_of_its_end() {
        let lease = lease(|spec| spec.max_session_s = Some(48 * 3600));
        let end = 48 * HOUR;
        assert!(!lease.is_due(end - 15 * MINUTE - 1, true) && lease.is_due(end - 15 * MINUTE, true));
        assert!(!lease.is_due(end - 2 * MINUTE - 1, false) && lease.is_due(end - 2 * MINUTE, false));
        assert_eq!(lease.ending_in(end - 30 * MINUTE - 1), None);
        assert_eq!(lease.ending_in(end - 30 * MINUTE), Some(Duration::from_secs(1800)));
        assert_eq!(lease.ending_in(end + 1), Some(Duration::ZERO));
    }

    #[test]
    fn a_short_session_keeps_its_proportions_and_a_long_one_ends_with_the_clock() {
        let short = lease(|spec| spec.max_session_s = Some(16));
        assert_eq!(short, Lease { first_ms: 12_000, last_ms: 15_000, session: Some((16_000, 8_000)) });
        assert_eq!(lease(|spec| spec.max_session_s = Some(90 * 86_400)), lease(|_| {}));
        assert_eq!(lease(|spec| spec.max_session_s = Some(u64::MAX)), lease(|_| {}));
    }

    #[test]
    fn a_trial_of_a_wrapped_clock_is_never_renewed() {
        let lease = lease(|spec| (spec.first_timestamp_ms, spec.max_session_s) = (1, Some(60)));
        assert!(!lease.is_due(99 * DAY, true));
    }
}
