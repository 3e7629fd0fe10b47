//! When the programme may take over from the fallback: a source that trickles must not flap. Pure; times are ms of
//! the channel.

/// Asked for after the first fall, ms.
const LEAST_MS: i64 = 1_000;
/// Most that is ever asked for, ms: less than what is read ahead of a link.
const MOST_MS: i64 = 8_000;
/// Without a fall for this long everything is forgotten, ms.
const STABLE_MS: i64 = 60_000;

/// What a source has in hand from its next IDR picture on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InHand {
    /// Pictures, ms.
    pub ms: i64,
    /// More will not be read before some of it was taken: the reader has stopped, or everything was read.
    pub all: bool,
}

/// How often the programme fell lately, and what that asks of it before it may come back.
#[derive(Debug, Default)]
pub struct Falls {
    in_a_row: u32,
    fell_at: i64,
    back_at: Option<i64>,
}

impl Falls {
    /// The programme had nothing to send.
    pub fn fell(&mut self, now: i64) {
        if self.back_at.is_none_or(|at| now - at >= STABLE_MS) {
            self.in_a_row = 0;
        }
        self.in_a_row = self.in_a_row.saturating_add(1);
        self.fell_at = now;
    }

    /// The programme is on the air again.
    pub fn came_back(&mut self, now: i64) {
        self.back_at = Some(now);
    }

    /// Pictures that must be in hand, ms: it doubles with each fall, because what was in hand sets how long the
    /// programme lasts at least.
    pub fn needed_ms(&self) -> i64 {
        (LEAST_MS << self.in_a_row.saturating_sub(1).min(10)).min(MOST_MS)
    }

    /// How long the fallback stays at least, ms: nothing the first time, then half of what must be in hand.
    fn stay_ms(&self) -> i64 {
        if self.in_a_row < 2 { 0 } else { self.needed_ms() / 2 }
    }

    /// Whether a source may go on the air with this in hand.
    pub fn may_come_back(&self, hand: InHand, now: i64) -> bool {
        now - self.fell_at >= self.stay_ms() && (hand.all || hand.ms >= self.needed_ms())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn more_is_asked_for_with_each_fall_and_all_is_forgotten_after_a_calm_minute() {
        let mut falls = Falls::default();
        let mut asked = Vec::new();
        for n in 0..6 {
            falls.fell(n * 20_000);
            asked.push((falls.needed_ms(), falls.stay_ms()));
            falls.came_back(n * 20_000 + 5_000);
        }
        assert_eq!(asked, [(1000, 0), (2000, 1000), (4000, 2000), (8000, 4000), (8000, 4000), (8000, 4000)]);
        falls.fell(105_000 + STABLE_MS);
        assert_eq!(falls.needed_ms(), 1000);
    }

    #[test]
    fn whoever_cannot_have_more_in_hand_need_not() {
        let mut falls = Falls::default();
        falls.fell(0);
        assert!(!falls.may_come_back(InHand { ms: 999, all: false }, 10));
        assert!(falls.may_come_back(InHand { ms: 40, all: true }, 10));
        falls.came_back(10);
        falls.fell(20);
        assert!(!falls.may_come_back(InHand { ms: 40, all: true }, 1_019));
        assert!(falls.may_come_back(InHand { ms: 40, all: true }, 1_020));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        /// A source brings media in pieces of any size at any time. It is played while there is some.
        #[test]
        fn no_pattern_of_arrival_makes_it_flap(
            pieces in prop::collection::vec((0i64..4_000, 0i64..4_000), 20..400),
        ) {
            const STEP: i64 = 20;
            let mut falls = Falls::default();
            let (mut hand, mut on, mut changes) = (0i64, false, Vec::new());
            falls.fell(0);
            let mut pieces = pieces.into_iter();
            let mut due = 0;
            let mut now = 0;
            loop {
                while due <= now {
                    let Some((pause, amount)) = pieces.next() else { break };
                    (due, hand) = (due + pause.max(STEP), (hand + amount).min(15_000));
                }
                if pieces.len() == 0 {
                    break;
                }
                if on {
                    hand -= STEP;
                }
                if on && hand < 0 {
                    (on, hand) = (false, 0);
                    falls.fell(now);
                    changes.push(now);
                } else if !on && falls.may_come_back(InHand { ms: hand, all: hand == 15_000 }, now) {
                    on = true;
                    falls.came_back(now);
                }
                now += STEP;
            }
            // 1 + 2 + 4 s, then at least 8 s each, with half of that between them.
            for window in changes.windows(7) {
                prop_assert!(window[6] - window[0] >= 50_000, "{changes:?}");
            }
        }
    }
}
