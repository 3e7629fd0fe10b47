//! The lives of a channel's workers, newest last, as they are kept in `channels/<id>/runs.json`.

use crate::ids::{ChannelId, Ulid};
use crate::seen::RunSeen;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The document.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Runs {
    /// Shape of this document; [`Self::VERSION`].
    pub version: u32,
    /// Counts the changes of this document.
    pub revision: u64,
    /// Which channel.
    pub id: ChannelId,
    /// Oldest first, at most [`Self::MOST`].
    #[serde(default)]
    pub runs: Vec<RunKept>,
    /// Fields that a newer version wrote; kept so that a rollback loses nothing.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// One run, living or ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunKept {
    /// What was seen of its process.
    #[serde(flatten)]
    pub run: RunSeen,
    /// Its fencing number.
    #[serde(default)]
    pub epoch: u64,
    /// The broadcast that it was a part of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<Ulid>,
}

impl Runs {
    /// The newest shape that this program writes.
    pub const VERSION: u32 = 1;
    /// Runs that are kept.
    pub const MOST: usize = 1_000;

    /// No runs yet.
    pub fn new(id: ChannelId) -> Self {
        Self { version: Self::VERSION, revision: 0, id, runs: Vec::new(), other: Map::new() }
    }

    /// Adds a run, or what is new of one that is known. The oldest make room. The broadcast that it began with stays.
    pub fn note(&mut self, new: RunKept) {
        match self.runs.iter_mut().rev().find(|known| known.run.id == new.run.id) {
            Some(known) => *known = RunKept { session: known.session.take().or(new.session), ..new },
            None => self.runs.push(new),
        }
        let surplus = self.runs.len().saturating_sub(Self::MOST);
        self.runs.drain(..surplus);
    }
}

crate::document!(Runs, "runs.json", version Self::VERSION);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seen::Began;

    fn run(n: usize, exit_code: Option<i32>) -> RunKept {
        let id = Ulid::from_text(&format!("{n:026}"));
        let run = RunSeen { exit_code, ..RunSeen::begun(id, 7, 70, crate::now(), Began::Start) };
        RunKept { run, epoch: n as u64, session: exit_code.is_none().then(|| Ulid::from_text("s")) }
    }

    #[test]
    fn a_run_is_listed_once_and_the_oldest_make_room() {
        let mut runs = Runs::new(ChannelId::main());
        for n in 0..Runs::MOST + 5 {
            runs.note(run(n, None));
            runs.note(run(n, Some(1)));
        }
        assert_eq!(runs.runs.len(), Runs::MOST);
        assert_eq!(runs.runs[0].epoch, 5);
        assert!(runs.runs.iter().all(|kept| kept.run.exit_code == Some(1) && kept.session.is_some()));
    }
}
