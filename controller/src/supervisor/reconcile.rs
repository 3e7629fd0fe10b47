//! What must be done so that what is seen becomes what is wanted. Pure: no clock, no process, no disk.

use super::backoff::STABLE;
use super::seen::{Life, Run, Why};
use std::time::{Duration, Instant};

/// How long a worker may take to end before it is killed. It needs 10 s of that for its own FFmpeg.
pub const GRACE: Duration = Duration::from_secs(15);

/// The same for one whose loop stands still: it will hardly listen, and the channel is dark.
pub const GRACE_OF_HUNG: Duration = Duration::from_secs(2);

/// What is wanted of a channel at this moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// The wish is on.
    On,
    /// The wish is off.
    Off,
    /// The wish stays as it is, but this controller is ending and takes its workers with it.
    Leaving,
}

/// One thing to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Start a worker.
    Spawn,
    /// Try the channel's lock again.
    TryLock,
    /// Tell the worker to end.
    End(Why),
    /// End it without asking.
    Kill,
    /// Do not start it again, and wait for nobody.
    StopWaiting,
    /// It has played long enough: the next failure is a first one.
    ForgetFailures,
}

/// What to do now.
///
/// | wanted \ life | none | waiting | gave up | held | running | ending |
/// |---|---|---|---|---|---|---|
/// | on | spawn | spawn when due | – | try the lock when due | silent: end; stable for 60 s: forget failures | kill after its grace |
/// | off, leaving | – | stop waiting | stop waiting | stop waiting | end | kill after its grace |
pub fn reconcile(wanted: Wanted, life: &Life, failures: u32, now: Instant) -> Vec<Action> {
    match (wanted, life) {
        (Wanted::On, Life::None) => vec![Action::Spawn],
        (Wanted::On, Life::Waiting { due }) if *due <= now => vec![Action::Spawn],
        (Wanted::On, Life::Held { look_at, .. }) if *look_at <= now => vec![Action::TryLock],
        (Wanted::Off | Wanted::Leaving, Life::Waiting { .. } | Life::GaveUp | Life::Held { .. }) => {
            vec![Action::StopWaiting]
        }
        (_, Life::Running(run)) => running(wanted, run, failures, now).into_iter().collect(),
        _ => Vec::new(),
    }
}

fn running(wanted: Wanted, run: &Run, failures: u32, now: Instant) -> Option<Action> {
    if let Some(ending) = run.ending {
        return (!ending.killed && ending.since + grace(ending.why) <= now).then_some(Action::Kill);
    }
    if wanted != Wanted::On {
        return Some(Action::End(Why::Asked));
    }
    if run.silent_at() <= now {
        return Some(Action::End(Why::Hung));
    }
    let stable = run.sending.is_some_and(|since| since + STABLE <= now);
    (stable && failures > 0).then_some(Action::ForgetFailures)
}

fn grace(why: Why) -> Duration {
    match why {
        Why::Asked => GRACE,
        Why::Hung => GRACE_OF_HUNG,
    }
}

/// When [`reconcile`] has to be asked again though nothing happens; `None` when only an event can change anything.
pub fn wake_at(life: &Life, failures: u32) -> Option<Instant> {
    match life {
        Life::None | Life::GaveUp => None,
        Life::Waiting { due } => Some(*due),
        Life::Held { look_at, .. } => Some(*look_at),
        Life::Running(run) => match run.ending {
            Some(ending) if ending.killed => None,
            Some(ending) => Some(ending.since + grace(ending.why)),
            None => {
                let silent = run.silent_at();
                let stable = run.sending.filter(|_| failures > 0).map(|since| since + STABLE);
                Some(stable.map_or(silent, |stable| stable.min(silent)))
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use super::super::process::Process;
    use super::super::seen::{Ending, Origin, Stage};
    use super::*;
    use state::ids::Ulid;

    fn secs(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    fn run(stage: Stage, heard: Instant) -> Run {
        Run {
            id: Ulid::from_text("r"),
            process: Process { pid: 2, started: 1 },
            origin: Origin::Ours,
            stage,
            heard,
            sending: None,
            ending: None,
        }
    }

    fn ending(why: Why, since: Instant, killed: bool) -> Life {
        Life::Running(Run { ending: Some(Ending { why, since, killed }), ..run(Stage::Beating, since) })
    }

    fn held(look_at: Instant) -> Life {
        Life::Held { since: look_at, look_at, alerted: false }
    }

    #[test]
    fn every_cell_of_the_table_holds() {
        use Stage::{Beating, Briefed, Called, Started};
        use Wanted::{Leaving, Off, On};
        use Why::{Asked, Hung};
        let t0 = Instant::now();
        let now = t0 + secs(1000);
        let ago = |n| now - secs(n);
        let alive = |stage, heard| Life::Running(run(stage, heard));
        let fresh = || Run { ..run(Beating, ago(5)) };
        let sending = |since| Life::Running(Run { sending: Some(since), ..fresh() });
        let cases: &[(&str, Wanted, Life, u32, &[Action])] = &[
            ("wanted and absent", On, Life::None, 0, &[Action::Spawn]),
            ("not wanted and absent", Off, Life::None, 0, &[]),
            ("leaving and absent", Leaving, Life::None, 0, &[]),
            ("due", On, Life::Waiting { due: now }, 3, &[Action::Spawn]),
            ("not yet due", On, Life::Waiting { due: now + secs(1) }, 3, &[]),
            ("switched off in backoff", Off, Life::Waiting { due: now + secs(1) }, 3, &[Action::StopWaiting]),
            ("leaving in backoff", Leaving, Life::Waiting { due: now }, 3, &[Action::StopWaiting]),
            ("given up", On, Life::GaveUp, 3, &[]),
            ("given up and switched off", Off, Life::GaveUp, 3, &[Action::StopWaiting]),
            ("held", On, held(now), 0, &[Action::TryLock]),
            ("held, tried a moment ago", On, held(now + secs(1)), 0, &[]),
            ("held and not wanted", Off, held(now), 0, &[Action::StopWaiting]),
            ("held and leaving", Leaving, held(now), 0, &[Action::StopWaiting]),
            ("in good health", On, Life::Running(fresh()), 0, &[]),
            ("switched off", Off, Life::Running(fresh()), 0, &[Action::End(Asked)]),
            ("leaving", Leaving, Life::Running(fresh()), 0, &[Action::End(Asked)]),
            ("never called", On, alive(Started, ago(15)), 0, &[Action::End(Hung)]),
            ("may still call", On, alive(Started, ago(14)), 0, &[]),
            ("waits for a slow list", On, alive(Called, ago(34)), 0, &[]),
            ("was never told", On, alive(Called, ago(35)), 0, &[Action::End(Hung)]),
            ("does not begin", On, alive(Briefed, ago(15)), 0, &[Action::End(Hung)]),
            ("fell silent", On, alive(Beating, ago(6)), 0, &[Action::End(Hung)]),
            ("stable again", On, sending(ago(60)), 2, &[Action::ForgetFailures]),
            ("not yet stable", On, sending(ago(59)), 2, &[]),
            ("was always stable", On, sending(t0), 0, &[]),
            ("ending in time", Off, ending(Asked, ago(14), false), 0, &[]),
            ("does not end", Off, ending(Asked, ago(15), false), 0, &[Action::Kill]),
            ("does not end though wanted again", On, ending(Asked, ago(15), false), 0, &[Action::Kill]),
            ("hangs and does not end", On, ending(Hung, ago(2), false), 0, &[Action::Kill]),
            ("hangs and may yet end", On, ending(Hung, ago(1), false), 0, &[]),
            ("killed, not yet gone", Leaving, ending(Asked, ago(99), true), 0, &[]),
        ];
        for (name, wanted, life, failures, actions) in cases {
            assert_eq!(reconcile(*wanted, life, *failures, now), *actions, "{name}");
        }
    }

    #[test]
    fn waking_at_the_named_time_finds_something_to_do() {
        let t0 = Instant::now();
        let lives = [
            Life::Waiting { due: t0 + secs(30) },
            held(t0 + secs(1)),
            Life::Running(run(Stage::Started, t0)),
            Life::Running(Run { sending: Some(t0), ..run(Stage::Beating, t0 + secs(58)) }),
            ending(Why::Asked, t0, false),
            ending(Why::Hung, t0, false),
        ];
        for life in lives {
            let at = wake_at(&life, 1).unwrap();
            assert!(reconcile(Wanted::On, &life, 1, at - Duration::from_nanos(1)).is_empty(), "{life:?}");
            assert_eq!(reconcile(Wanted::On, &life, 1, at).len(), 1, "{life:?}");
        }
        for life in [Life::None, Life::GaveUp, ending(Why::Asked, t0, true)] {
            assert_eq!(wake_at(&life, 1), None);
        }
    }
}
