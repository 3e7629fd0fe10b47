//! What must be done so that what is seen becomes what is wanted. Pure: no clock, no process, no disk.

use super::backoff::STABLE;
use super::seen::{Life, Origin, Run, SILENCE, Why};
use std::time::{Duration, Instant};

/// How long a worker may take to end before it is killed. It needs 10 s of that for its own FFmpeg.
pub const GRACE: Duration = Duration::from_secs(15);

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
    /// Tell the worker to end.
    End(Why),
    /// End it without asking.
    Kill,
    /// Do not start it again.
    StopWaiting,
    /// It has played long enough: the next failure is a first one.
    ForgetFailures,
}

/// What to do now.
///
/// | wanted \ life | none | waiting | running | ending |
/// |---|---|---|---|---|
/// | on | spawn | spawn when due | leftover or silent for 10 s: end; stable for 60 s: forget failures | kill after 15 s |
/// | off, leaving | – | stop waiting | end | kill after 15 s |
pub fn reconcile(wanted: Wanted, life: &Life, failures: u32, now: Instant) -> Vec<Action> {
    match (wanted, life) {
        (Wanted::On, Life::None) => vec![Action::Spawn],
        (Wanted::On, Life::Waiting { due }) if *due <= now => vec![Action::Spawn],
        (Wanted::Off | Wanted::Leaving, Life::Waiting { .. }) => vec![Action::StopWaiting],
        (_, Life::Running(run)) => running(wanted, run, failures, now).into_iter().collect(),
        _ => Vec::new(),
    }
}

fn running(wanted: Wanted, run: &Run, failures: u32, now: Instant) -> Option<Action> {
    if let Some(ending) = run.ending {
        return (!ending.killed && ending.since + GRACE <= now).then_some(Action::Kill);
    }
    if wanted != Wanted::On {
        return Some(Action::End(Why::Asked));
    }
    if run.origin == Origin::Leftover {
        return Some(Action::End(Why::Leftover));
    }
    if run.last_sign() + SILENCE <= now {
        return Some(Action::End(Why::Hung));
    }
    let stable = run.sending.is_some_and(|since| since + STABLE <= now);
    (stable && failures > 0).then_some(Action::ForgetFailures)
}

/// When [`reconcile`] has to be asked again though nothing happens; `None` when only an event can change anything.
pub fn wake_at(life: &Life, failures: u32) -> Option<Instant> {
    match life {
        Life::None => None,
        Life::Waiting { due } => Some(*due),
        Life::Running(run) => match run.ending {
            Some(ending) if ending.killed => None,
            Some(ending) => Some(ending.since + GRACE),
            None => {
                let silent = run.last_sign() + SILENCE;
                let stable = run.sending.filter(|_| failures > 0).map(|since| since + STABLE);
                Some(stable.map_or(silent, |stable| stable.min(silent)))
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use super::super::seen::Ending;
    use super::*;
    use state::ids::Ulid;

    fn secs(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    fn run(since: Instant) -> Run {
        Run {
            id: Ulid::from_text("r"),
            pid: 1,
            origin: Origin::Ours,
            since,
            heard: None,
            sending: None,
            ending: None,
        }
    }

    fn ending(since: Instant, killed: bool) -> Life {
        Life::Running(Run { ending: Some(Ending { why: Why::Asked, since, killed }), ..run(since) })
    }

    #[test]
    fn every_cell_of_the_table_holds() {
        use Wanted::{Leaving, Off, On};
        let t0 = Instant::now();
        let now = t0 + secs(1000);
        let fresh = Run { heard: Some(now - secs(9)), ..run(t0) };
        let cases: &[(&str, Wanted, Life, u32, &[Action])] = &[
            ("wanted and absent", On, Life::None, 0, &[Action::Spawn]),
            ("not wanted and absent", Off, Life::None, 0, &[]),
            ("leaving and absent", Leaving, Life::None, 0, &[]),
            ("due", On, Life::Waiting { due: now }, 3, &[Action::Spawn]),
            ("not yet due", On, Life::Waiting { due: now + secs(1) }, 3, &[]),
            ("switched off in backoff", Off, Life::Waiting { due: now + secs(1) }, 3, &[Action::StopWaiting]),
            ("leaving in backoff", Leaving, Life::Waiting { due: now }, 3, &[Action::StopWaiting]),
            ("in good health", On, Life::Running(fresh.clone()), 0, &[]),
            ("switched off", Off, Life::Running(fresh.clone()), 0, &[Action::End(Why::Asked)]),
            ("leaving", Leaving, Life::Running(fresh.clone()), 0, &[Action::End(Why::Asked)]),
            ("never spoke", On, Life::Running(run(now - secs(10))), 0, &[Action::End(Why::Hung)]),
            ("may still speak", On, Life::Running(run(now - secs(9))), 0, &[]),
            (
                "fell silent",
                On,
                Life::Running(Run { heard: Some(now - secs(10)), ..run(t0) }),
                0,
                &[Action::End(Why::Hung)],
            ),
            (
                "left over",
                On,
                Life::Running(Run { origin: Origin::Leftover, ..run(now) }),
                0,
                &[Action::End(Why::Leftover)],
            ),
            (
                "stable again",
                On,
                Life::Running(Run { sending: Some(now - secs(60)), ..fresh.clone() }),
                2,
                &[Action::ForgetFailures],
            ),
            (
                "not yet stable",
                On,
                Life::Running(Run { sending: Some(now - secs(59)), ..fresh.clone() }),
                2,
                &[],
            ),
            ("was always stable", On, Life::Running(Run { sending: Some(t0), ..fresh }), 0, &[]),
            ("ending in time", Off, ending(now - secs(14), false), 0, &[]),
            ("does not end", Off, ending(now - secs(15), false), 0, &[Action::Kill]),
            ("does not end though wanted again", On, ending(now - secs(15), false), 0, &[Action::Kill]),
            ("killed, not yet gone", Leaving, ending(now - secs(99), true), 0, &[]),
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
            Life::Running(run(t0)),
            Life::Running(Run { heard: Some(t0 + secs(58)), sending: Some(t0), ..run(t0) }),
            ending(t0, false),
        ];
        for life in lives {
            let at = wake_at(&life, 1).unwrap();
            assert!(reconcile(Wanted::On, &life, 1, at - Duration::from_nanos(1)).is_empty(), "{life:?}");
            assert_eq!(reconcile(Wanted::On, &life, 1, at).len(), 1, "{life:?}");
        }
        assert_eq!(wake_at(&Life::None, 1), None);
        assert_eq!(wake_at(&ending(t0, true), 1), None);
    }
}
