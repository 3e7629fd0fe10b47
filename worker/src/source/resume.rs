//! Whether an item whose reading broke off is gone on with: a decision without clock and network.
//!
//! FFmpeg asks the link server again by itself after a short trouble; what it gives up on, or takes for the end of
//! the file without a word, is decided here. Nothing else asks for an object again.

use super::buffer::{End, Reached};
use std::time::Duration;
use tokio::time::Instant;

/// Pictures that may be missing before the end that the file promises, ms: less is rounding.
const SLACK_MS: i64 = 120;
/// How long the bucket may be out of reach. Whether something else is played meanwhile is not decided here.
const PATIENCE: Duration = Duration::from_secs(3600);
/// How often an absent bucket is asked.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// Before each try that begins where the one before it ended. After them the file itself is broken there.
const FRUITLESS: [Duration; 3] = [Duration::ZERO, Duration::from_millis(500), Duration::from_secs(1)];

/// What the bucket says of the object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Object {
    /// It is there and is what it was.
    Same,
    /// It will not be had again: deleted, replaced, or refused; the words say which.
    Gone(String),
    /// The bucket does not answer; the words say how.
    Unknown(String),
}

/// What to do next.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// Read on after this long.
    ReadOn(Duration),
    /// Ask the bucket again after this long.
    Ask(Duration),
    /// That was it.
    Over(End),
}

/// What has been tried for one item.
#[derive(Debug, Default)]
pub struct Resume {
    /// Length of the picture, ms of the feed's time, where the file says.
    whole_ms: Option<i64>,
    shown: Option<i64>,
    fruitless: usize,
    absent_since: Option<Instant>,
}

impl Resume {
    /// Nothing tried yet for a picture that ends at `whole_ms` of the feed's time.
    pub fn new(whole_ms: Option<i64>) -> Self {
        Self { whole_ms, ..Self::default() }
    }

    /// Whether there is nothing to go on with: the item was read to its end, or never began.
    pub fn is_over(&self, end: &End, reached: Reached) -> bool {
        reached.shown.is_none() || (*end == End::Complete && self.is_whole(reached))
    }

    fn is_whole(&self, reached: Reached) -> bool {
        self.whole_ms.is_none_or(|whole| reached.shown.is_some_and(|shown| shown + SLACK_MS >= whole))
    }

    /// Decides after a child came to this `end` and the bucket was asked.
    pub fn next(&mut self, end: &End, reached: Reached, object: Object, now: Instant) -> Next {
        if reached.shown > self.shown {
            (self.shown, self.fruitless, self.absent_since) = (reached.shown, 0, None);
        }
        match object {
            Object::Gone(why) => Next::Over(End::Broken(why)),
            Object::Unknown(why) => {
                let since = *self.absent_since.get_or_insert(now);
                if now - since > PATIENCE { Next::Over(End::Broken(why)) } else { Next::Ask(ASK_AGAIN) }
            }
            Object::Same => {
                // An error after the last picture is looked at once more, and then believed.
                let tries = if self.is_whole(reached) { 1 } else { FRUITLESS.len() };
                if self.fruitless >= tries {
                    return Next::Over(end.clone());
                }
                self.fruitless += 1;
                Next::ReadOn(FRUITLESS[self.fruitless - 1])
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: i64) -> Reached {
        Reached { video: Some(ms - 40), shown: Some(ms), audio: Some(ms) }
    }

    fn broken() -> End {
        End::Broken("Connection reset".to_owned())
    }

    #[test]
    fn only_what_was_read_to_its_end_is_over() {
        let resume = Resume::new(Some(10_000));
        assert!(resume.is_over(&End::Complete, at(9_960)));
        assert!(!resume.is_over(&End::Complete, at(9_000)), "an early end is no end, whatever FFmpeg says");
        assert!(!resume.is_over(&broken(), at(9_960)));
        assert!(
            resume.is_over(&broken(), Reached::default()),
            "an item that never began is not gone on with"
        );
        assert!(Resume::new(None).is_over(&End::Complete, at(1)), "nobody knows how long it is");
    }

    #[test]
    fn a_place_that_is_never_passed_ends_the_item_and_progress_begins_anew() {
        let (mut resume, now) = (Resume::new(Some(60_000)), Instant::now());
        let mut next = |shown| resume.next(&broken(), at(shown), Object::Same, now);
        assert_eq!(next(5_000), Next::ReadOn(Duration::ZERO));
        assert_eq!(next(5_000), Next::ReadOn(FRUITLESS[1]));
        assert_eq!(next(9_000), Next::ReadOn(Duration::ZERO));
        assert_eq!(next(9_000), Next::ReadOn(FRUITLESS[1]));
        assert_eq!(next(9_000), Next::ReadOn(FRUITLESS[2]));
        assert_eq!(next(9_000), Next::Over(broken()));
    }

    #[test]
    fn an_error_after_the_last_picture_is_tried_once_more() {
        let (mut resume, now) = (Resume::new(Some(10_000)), Instant::now());
        assert_eq!(resume.next(&broken(), at(9_990), Object::Same, now), Next::ReadOn(Duration::ZERO));
        assert_eq!(resume.next(&broken(), at(9_990), Object::Same, now), Next::Over(broken()));
    }

    #[test]
    fn a_bucket_that_is_away_is_waited_for_and_one_that_refuses_is_not() {
        let (mut resume, now) = (Resume::new(Some(60_000)), Instant::now());
        let away = || Object::Unknown("timed out".to_owned());
        assert_eq!(resume.next(&broken(), at(5_000), away(), now), Next::Ask(ASK_AGAIN));
        assert_eq!(resume.next(&broken(), at(5_000), away(), now + PATIENCE), Next::Ask(ASK_AGAIN));
        let later = now + PATIENCE + Duration::from_secs(1);
        assert_eq!(
            resume.next(&broken(), at(5_000), away(), later),
            Next::Over(End::Broken("timed out".into()))
        );
        let gone = Object::Gone("was replaced".to_owned());
        assert_eq!(
            resume.next(&End::Complete, at(5_000), gone, now),
            Next::Over(End::Broken("was replaced".into()))
        );
    }
}
