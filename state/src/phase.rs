//! Where a channel stands between "off" and "live": the state machine and its table.

use serde::{Deserialize, Serialize};

/// Whether a channel shall be on the air. Saved before anything is done about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum Wish {
    /// Nobody wants it.
    #[default]
    Off,
    /// It shall be on the air until somebody says otherwise.
    On,
}

/// What is seen of a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// No worker, none wanted.
    #[default]
    Off,
    /// A worker is being started or has not sent its first media yet.
    Starting,
    /// The worker sends media.
    Live,
    /// The worker is gone and the next one is on its way at a known time.
    Retrying,
    /// The worker was told to end.
    Stopping,
    /// The worker failed; the exit code and the words say how. A restart follows by policy.
    Error,
}

/// What can happen to a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Happening {
    /// A worker process was started, or a living one was found.
    Spawned,
    /// The worker reports media on its way.
    Sending,
    /// The worker's process ended without being asked.
    Crashed,
    /// The worker could not be started at all.
    SpawnFailed,
    /// The next start has been scheduled.
    RetryScheduled,
    /// The channel was switched off while a worker lives.
    StopAsked,
    /// The worker's process ended as asked, or there was none when the channel was switched off.
    Ended,
}

impl Phase {
    /// The phase after `happening`, or `None` where it cannot happen.
    ///
    /// | from \ happening | spawned | sending | crashed | spawn failed | retry scheduled | stop asked | ended |
    /// |---|---|---|---|---|---|---|---|
    /// | off      | starting | –    | –     | error | –        | –        | off |
    /// | starting | –        | live | error | error | –        | stopping | off |
    /// | live     | –        | live | error | –     | –        | stopping | off |
    /// | retrying | starting | –    | –     | error | retrying | –        | off |
    /// | stopping | –        | stopping | off | –   | –        | stopping | off |
    /// | error    | starting | –    | –     | error | retrying | –        | off |
    pub fn after(self, happening: Happening) -> Option<Phase> {
        use Happening as H;
        match (self, happening) {
            (Phase::Off | Phase::Retrying | Phase::Error, H::Spawned) => Some(Phase::Starting),
            (Phase::Starting | Phase::Live, H::Sending) => Some(Phase::Live),
            (Phase::Stopping, H::Sending | H::StopAsked) => Some(Phase::Stopping),
            (Phase::Starting | Phase::Live, H::Crashed) => Some(Phase::Error),
            (Phase::Stopping, H::Crashed) => Some(Phase::Off),
            (Phase::Off | Phase::Starting | Phase::Retrying | Phase::Error, H::SpawnFailed) => {
                Some(Phase::Error)
            }
            (Phase::Retrying | Phase::Error, H::RetryScheduled) => Some(Phase::Retrying),
            (Phase::Starting | Phase::Live, H::StopAsked) => Some(Phase::Stopping),
            (_, H::Ended) => Some(Phase::Off),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Happening as H;
    use Phase as P;

    #[test]
    fn every_cell_of_the_table_holds() {
        let columns =
            [H::Spawned, H::Sending, H::Crashed, H::SpawnFailed, H::RetryScheduled, H::StopAsked, H::Ended];
        #[rustfmt::skip]
        let table = [
            (P::Off,      [Some(P::Starting), None,              None,           Some(P::Error), None,              None,              Some(P::Off)]),
            (P::Starting, [None,              Some(P::Live),     Some(P::Error), Some(P::Error), None,              Some(P::Stopping), Some(P::Off)]),
            (P::Live,     [None,              Some(P::Live),     Some(P::Error), None,           None,              Some(P::Stopping), Some(P::Off)]),
            (P::Retrying, [Some(P::Starting), None,              None,           Some(P::Error), Some(P::Retrying), None,              Some(P::Off)]),
            (P::Stopping, [None,              Some(P::Stopping), Some(P::Off),   None,           None,              Some(P::Stopping), Some(P::Off)]),
            (P::Error,    [Some(P::Starting), None,              None,           Some(P::Error), Some(P::Retrying), None,              Some(P::Off)]),
        ];
        for (from, row) in table {
            for (happening, to) in columns.into_iter().zip(row) {
                assert_eq!(from.after(happening), to, "{from:?} + {happening:?}");
            }
        }
    }
}
