//! Where one segment ends and the next begins. Decisions only: no bytes, no files, no clock.

/// EXTINF is rounded to whole seconds before it is held against the target (RFC 8216, 4.3.3.1).
const ROUNDING_MS: i64 = 499;
/// What a segment may be longer than its target for the sake of its next IDR: NTSC rates and whole milliseconds
/// make two GOPs of "2 s" last 4,004 ms.
const SLACK_MS: i64 = 100;
/// Shortest step to expect from one tag to the next.
const STEP_MS: i64 = 100;
/// Tags of the two tracks may come this much out of order.
const DISORDER_MS: i64 = 1000;

/// The open segment, in ms of channel time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Running {
    /// Where it starts.
    pub(super) start: i64,
    /// Latest decoding time in it.
    pub(super) last: i64,
}

/// The tag that comes next, as far as it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Coming {
    pub(super) dts: i64,
    pub(super) idr: bool,
    pub(super) next_idr: Option<i64>,
    /// Its parameters are not those of the segment.
    pub(super) changed: bool,
    /// It could be decoded after what is in the segment: not before its track's last tag, not with
    /// parameters that need an IDR.
    pub(super) follows: bool,
}

/// Whether a segment ends before a tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cut {
    /// It goes on.
    No,
    /// At an IDR.
    Clean,
    /// Where parameters change.
    Parameters,
    /// At a picture that is no IDR, because none came in time.
    Forced,
    /// The tag does not follow: the segment ends, and the next one begins at an IDR.
    Torn,
}

/// Decides whether the segment ends before the tag. `target_ms` is the target duration.
pub(super) fn cut(running: Running, tag: Coming, target_ms: i64) -> Cut {
    let length = tag.dts.saturating_sub(running.start);
    if !tag.follows || length < -DISORDER_MS || length > longest(target_ms) {
        return Cut::Torn;
    }
    if tag.changed {
        return Cut::Parameters;
    }
    if tag.idr && is_last_in_time(running, tag, target_ms) {
        return Cut::Clean;
    }
    let step = tag.dts.saturating_sub(running.last).max(STEP_MS);
    if length.saturating_add(step) > longest(target_ms) {
        return if tag.idr { Cut::Clean } else { Cut::Forced };
    }
    Cut::No
}

/// Where a segment ends when nothing follows it: a step after its last tag, and within the limit.
pub(super) fn end(running: Running, step: i64, target_ms: i64) -> i64 {
    let latest = running.start.saturating_add(longest(target_ms));
    running.last.saturating_add(step.clamp(1, STEP_MS)).min(latest)
}

/// Longest segment that does not break the target duration, ms.
fn longest(target_ms: i64) -> i64 {
    target_ms + ROUNDING_MS
}

/// Whether this IDR is the last one at which the segment can end within its target.
fn is_last_in_time(running: Running, tag: Coming, target_ms: i64) -> bool {
    match tag.next_idr {
        Some(next) if next > tag.dts => next.saturating_sub(running.start) > target_ms + SLACK_MS,
        _ => tag.dts.saturating_sub(running.start) >= target_ms / 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn picture(dts: i64) -> Coming {
        Coming { dts, idr: false, next_idr: None, changed: false, follows: true }
    }

    fn idr(dts: i64, next_idr: Option<i64>) -> Coming {
        Coming { idr: true, next_idr, ..picture(dts) }
    }

    #[test]
    fn cuts() {
        let table = [
            ("a picture within the target", picture(3_000), Cut::No),
            ("an IDR, the next is in time", idr(2_000, Some(4_000)), Cut::No),
            ("an IDR, the next is in time but for NTSC", idr(2_002, Some(4_004)), Cut::No),
            ("an IDR, the next is too late", idr(2_000, Some(5_000)), Cut::Clean),
            ("an early IDR, the next is too late", idr(500, Some(5_000)), Cut::Clean),
            ("an IDR at the target", idr(4_000, Some(6_000)), Cut::Clean),
            ("an IDR in the second half, the next unknown", idr(2_000, None), Cut::Clean),
            ("an IDR in the first half, the next unknown", idr(1_960, None), Cut::No),
            ("an IDR whose next is nonsense", idr(2_500, Some(2_500)), Cut::Clean),
            ("an IDR that rounding still allows", idr(4_499, None), Cut::Clean),
            ("new parameters", Coming { changed: true, ..idr(1_000, Some(2_000)) }, Cut::Parameters),
            ("new parameters of sound", Coming { changed: true, ..picture(1_000) }, Cut::Parameters),
            ("no IDR came in time", picture(4_400), Cut::Forced),
            ("there is still time", picture(4_399), Cut::No),
            ("a hole", idr(4_500, None), Cut::Torn),
            ("back in time", picture(-2_000), Cut::Torn),
            ("undecodable", Coming { follows: false, ..picture(1_000) }, Cut::Torn),
        ];
        for (what, tag, expected) in table {
            let running = Running { start: 0, last: tag.dts - 33 };
            assert_eq!(cut(running, tag, 4_000), expected, "{what}");
        }
    }

    #[test]
    fn slow_pictures_are_cut_before_the_limit() {
        let running = Running { start: 0, last: 3_000 };
        assert_eq!(cut(running, picture(4_000), 4_000), Cut::Forced);
    }

    proptest! {
        #[test]
        fn no_segment_is_longer_than_its_target(steps in prop::collection::vec((1..2_000_i64, any::<bool>()), 1..200)) {
            let mut running = Running { start: 0, last: 0 };
            let mut dts = 0;
            for (step, idr) in steps {
                dts += step;
                let end = match cut(running, Coming { idr, ..picture(dts) }, 4_000) {
                    Cut::No => {
                        running.last = dts;
                        continue;
                    }
                    Cut::Torn => end(running, step, 4_000),
                    _ => dts,
                };
                prop_assert!(end > running.start && end - running.start < 4_500);
                running = Running { start: dts, last: dts };
            }
        }
    }
}
