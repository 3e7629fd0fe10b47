//! The wall clock of the timeline: which millisecond of channel time is due now, when to look again, and the alarm that
//! rings then.

use rustix::fd::OwnedFd;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use std::io;
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, sleep_until};

/// A tag may leave this much before its time, ms, for the company of those before it.
const EARLY_MS: i64 = 24;
/// A tag may leave this much after its time, for the company of those behind it. Lateness is promised to stay within
/// 30 ms, on a machine that wakes us up late as well.
const LATE: Duration = Duration::from_millis(16);
/// Shortest time between two wake-ups. Sending a few tags at once costs a third of sending each at its own time.
const COALESCE: Duration = Duration::from_millis(40);
/// Longest time between two wake-ups.
const LONGEST: Duration = Duration::from_millis(250);

/// Later than this is not caught up with, ms.
const MOST_LATE_MS: u64 = 2_000;

/// Maps channel time to the monotonic clock.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    zero: Instant,
}

impl Pace {
    /// Channel time 0 is now.
    pub fn start(now: Instant) -> Self {
        Self { zero: now }
    }

    /// Channel time that is due, ms.
    pub fn due_ms(&self, now: Instant) -> i64 {
        i64::try_from(now.saturating_duration_since(self.zero).as_millis()).unwrap_or(i64::MAX)
    }

    /// Channel time up to which tags leave now, ms.
    pub fn reach_ms(&self, now: Instant) -> i64 {
        self.due_ms(now).saturating_add(EARLY_MS)
    }

    /// Leaves out what was slept through: if the clock is more than two seconds past `next_ms`, the time of the
    /// next tag, that tag is due now. Whoever was held up, by a paused machine for example, goes on from there
    /// instead of sending everything at once. Returns how much was left out, ms.
    pub fn forgive(&mut self, now: Instant, next_ms: i64) -> Option<u64> {
        let late = u64::try_from(self.due_ms(now) - next_ms).ok().filter(|late| *late > MOST_LATE_MS)?;
        self.zero += Duration::from_millis(late);
        Some(late)
    }

    /// When to send again if the next tag is due at `at_ms` of channel time: as late as that one may leave, so that most
    /// leave with it.
    pub fn wake(&self, now: Instant, at_ms: i64) -> Instant {
        let due = self.zero + Duration::from_millis(u64::try_from(at_ms).unwrap_or(0));
        (due + LATE).clamp(now + COALESCE, now + LONGEST)
    }
}

/// Rings at a moment. It is a timer of the kernel: setting one of the runtime's wakes the thread once more each time,
/// and its wheel once or twice before the moment, which is half of all wake-ups of a channel.
#[derive(Debug)]
pub struct Alarm {
    timer: AsyncFd<OwnedFd>,
    /// For when it is set.
    set: Option<Instant>,
}

impl Alarm {
    /// An alarm that is not set. Call it within a runtime.
    ///
    /// # Errors
    /// When the kernel gives no timer.
    #[allow(unsafe_code)]
    pub fn new() -> io::Result<Self> {
        let timer =
            timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        // SAFETY: the timer is owned by what it is given to, which alone closes it, and always has the same descriptor.
        let timer = unsafe { AsyncFd::register_with_interest(timer, Interest::READABLE)? };
        Ok(Self { timer, set: None })
    }

    /// Returns at `at` or soon after. Nothing is lost when it is dropped before.
    pub async fn rings(&mut self, at: Instant) {
        loop {
            let left = at.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            if self.wait(at, left).await.is_err() {
                // Without the timer the runtime's own will do.
                return sleep_until(at).await;
            }
        }
    }

    async fn wait(&mut self, at: Instant, left: Duration) -> io::Result<()> {
        if self.set != Some(at) {
            let once = Itimerspec {
                it_interval: Timespec::default(),
                it_value: Timespec::try_from(left).unwrap_or_default(),
            };
            timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &once)?;
            self.set = Some(at);
        }
        // It need not be read: to set it again is enough for the next ring to be told.
        self.timer.readable().await?.clear_ready();
        self.set = None;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_alarm_rings_each_time_and_never_early() {
        let mut alarm = Alarm::new().unwrap();
        for ms in [5, 0, 30, 1, 1] {
            let at = Instant::now() + Duration::from_millis(ms);
            alarm.rings(at).await;
            assert!(Instant::now() >= at);
        }
    }

    #[tokio::test]
    async fn an_alarm_that_is_set_anew_rings_for_the_newest_moment() {
        let mut alarm = Alarm::new().unwrap();
        let (far, near) =
            (Instant::now() + Duration::from_secs(3600), Instant::now() + Duration::from_millis(1500));
        for later in [far, near, far] {
            assert!(tokio::time::timeout(Duration::from_millis(2), alarm.rings(later)).await.is_err());
        }
        tokio::time::timeout(Duration::from_secs(20), alarm.rings(near)).await.unwrap();
        assert!(Instant::now() >= near);
    }

    #[test]
    fn wake_ups_are_neither_hectic_nor_lazy() {
        let zero = Instant::now();
        let pace = Pace::start(zero);
        let at = |ms| zero + Duration::from_millis(ms);
        assert_eq!(pace.due_ms(at(1234)), 1234);
        assert_eq!(pace.wake(at(1000), 1005), at(1040));
        assert_eq!(pace.wake(at(1000), 1033), at(1049));
        assert_eq!(pace.wake(at(1000), 9000), at(1250));
    }

    #[test]
    fn every_tag_leaves_near_its_time() {
        let zero = Instant::now();
        let pace = Pace::start(zero);
        let (mut now, mut looks) = (zero, 0);
        let mut tags =
            (0..300).map(|n| n * 64 / 3).chain((0..192).map(|n| n * 100 / 3)).collect::<Vec<i64>>();
        tags.sort_unstable();
        let mut tags = tags.into_iter().peekable();
        while let Some(next) = tags.peek().copied() {
            while let Some(tag) = tags.next_if(|tag| *tag <= pace.reach_ms(now)) {
                assert!((-24..=16).contains(&(pace.due_ms(now) - tag)), "{tag}");
            }
            (now, looks) = (tags.peek().map_or(now, |next| pace.wake(now, *next)), looks + 1);
            assert!(tags.peek() != Some(&next), "nothing was sent");
        }
        assert!(looks < 6_400 / 40, "{looks} looks in 6.4 s");
    }

    #[test]
    fn what_was_slept_through_is_left_out() {
        let zero = Instant::now();
        let mut pace = Pace::start(zero);
        let at = |ms| zero + Duration::from_millis(ms);
        assert_eq!(pace.forgive(at(3000), 1500), None);
        assert_eq!(pace.forgive(at(31_000), 1000), Some(30_000));
        assert_eq!(pace.due_ms(at(31_000)), 1000);
    }
}
