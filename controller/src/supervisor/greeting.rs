//! What to say to a worker that calls. Pure: who is known to live and who is calling decide.

use super::process::Process;
use super::reconcile::Wanted;
use super::seen::{Life, Origin};
use state::ids::Ulid;

/// Who is calling.
#[derive(Debug, Clone, Copy)]
pub struct Caller<'a> {
    /// The run that it says it is.
    pub run: &'a Ulid,
    /// Its process; `None` when there is no such process, or another one is at the other end of the line.
    pub process: Option<Process>,
}

/// What to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Greeting {
    /// It is the run that we know.
    Welcome,
    /// It is a run that we did not know; from now on we do.
    Adopt(Process),
    /// It has to go, for this reason.
    SendAway(&'static str),
}

/// What to say to a caller. `newest` is the newest run that this channel is known to have had.
///
/// | life \ caller | the living run | the newest run or a newer one | an older run |
/// |---|---|---|---|
/// | running | welcome, if it is that process | send away | send away |
/// | any other, wanted | – | adopt, if its process is proven | send away |
/// | any other, not wanted | – | send away | send away |
pub fn greet(caller: Caller<'_>, life: &Life, newest: Option<&Ulid>, wanted: Wanted) -> Greeting {
    if let Life::Running(run) = life {
        // A child of ours may have put another process in front of itself; one that was left to us may not.
        let same = run.origin == Origin::Ours || caller.process == Some(run.process);
        return match run.id == *caller.run {
            true if same => Greeting::Welcome,
            true => Greeting::SendAway("it is not the process of that run"),
            false => Greeting::SendAway("another run has the channel"),
        };
    }
    if wanted != Wanted::On {
        return Greeting::SendAway("nobody wants the channel");
    }
    if newest.is_some_and(|newest| newest.as_str() > caller.run.as_str()) {
        return Greeting::SendAway("a newer run is known");
    }
    caller.process.map_or(Greeting::SendAway("its process is not known"), Greeting::Adopt)
}

#[cfg(test)]
mod tests {
    use super::super::seen::{Run, Stage};
    use super::*;
    use std::time::Instant;

    const ITS: Process = Process { pid: 7, started: 70 };
    const OTHER: Process = Process { pid: 7, started: 71 };

    fn running(origin: Origin) -> Life {
        let (id, now) = (Ulid::from_text("b"), Instant::now());
        let stage = Stage::Started;
        Life::Running(Run { id, process: ITS, origin, stage, heard: now, sending: None, ending: None })
    }

    #[test]
    fn every_cell_of_the_table_holds() {
        use Wanted::{Leaving, Off, On};
        let adopted = running(Origin::Adopted);
        let held = Life::Held { since: Instant::now(), look_at: Instant::now(), alerted: false };
        let away = |greeting| matches!(greeting, Greeting::SendAway(_));
        let say = |run: &str, process, life: &Life, wanted| {
            let newest = Ulid::from_text("b");
            greet(Caller { run: &Ulid::from_text(run), process }, life, Some(&newest), wanted)
        };
        assert_eq!(say("b", Some(ITS), &adopted, On), Greeting::Welcome);
        assert_eq!(say("b", Some(ITS), &adopted, Off), Greeting::Welcome, "it is told to stop over its line");
        assert!(away(say("b", Some(OTHER), &adopted, On)), "the pid was given to somebody else");
        assert!(away(say("b", None, &adopted, On)));
        assert_eq!(say("b", None, &running(Origin::Ours), On), Greeting::Welcome);
        for other in ["a", "c"] {
            assert!(away(say(other, Some(ITS), &adopted, On)));
        }
        for life in [Life::None, Life::GaveUp, Life::Waiting { due: Instant::now() }, held] {
            assert_eq!(say("b", Some(ITS), &life, On), Greeting::Adopt(ITS));
            assert_eq!(say("c", Some(ITS), &life, On), Greeting::Adopt(ITS));
            assert!(away(say("a", Some(ITS), &life, On)));
            assert!(away(say("c", None, &life, On)));
            assert!(away(say("c", Some(ITS), &life, Off)) && away(say("c", Some(ITS), &life, Leaving)));
        }
        let first = Caller { run: &Ulid::from_text("a"), process: Some(ITS) };
        assert_eq!(greet(first, &Life::None, None, On), Greeting::Adopt(ITS));
    }
}
