//! What the session says: heartbeats, events, and its last words.

use super::{Session, Stage};
use crate::air::Happened;
use state::wire::{Counts, ToController};
use tokio::time::Instant;

impl Session {
    pub(super) fn note(&mut self, happened: Vec<Happened>) {
        if let Stage::Playing { programme, pace, .. } = &mut self.stage {
            let due_ms = pace.as_ref().map(|pace| pace.due_ms(Instant::now()));
            for what in happened {
                if let Happened::Ended(left) = &what
                    && let Some(why) = &left.why
                {
                    programme.note_failure(left.key.clone(), why.clone(), state::now());
                }
                self.report.happened(what, due_ms);
            }
        }
        self.changed.notify_one();
        self.prepare_fallback();
    }

    /// Says how things stand. It is said by the loop that sends the media and never waits, so that a heartbeat
    /// proves that this loop turns.
    pub(super) fn beat(&mut self) {
        self.outputs.news().into_iter().for_each(|news| self.report.destination(news));
        self.prepare_fallback();
        let up = &self.up;
        self.report.hand_over(|event| up.try_send(ToController::Event(event)).is_ok());
        let playing = match &mut self.stage {
            Stage::Searching => None,
            Stage::Playing { air, programme, pace, .. } => Some((&mut **air, &**programme, pace.is_some())),
        };
        let mut heartbeat = self.report.heartbeat(playing, &self.outputs, state::now());
        heartbeat.slate_on = self.spec.slate_on;
        let _ = self.up.try_send(ToController::Heartbeat(Box::new(heartbeat)));
    }

    pub(super) fn counts(&mut self) -> Counts {
        match &mut self.stage {
            Stage::Searching => Counts::default(),
            Stage::Playing { air, .. } => air.group().counts(),
        }
    }

    /// The last words about what was on the air.
    pub(super) fn last_report(&mut self) {
        if let Stage::Playing { air, .. } = &mut self.stage {
            air.stop();
            let happened = air.happened();
            self.note(happened);
        }
        self.beat();
    }
}
