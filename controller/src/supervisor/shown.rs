//! What others may know of a channel: its sight, the air as it is judged, and what someone must know.

use super::air::{View, judge};
use super::backoff;
use super::channel::Channel;
use super::seen::{Life, Now, STALE, Sight};
use state::phase::{Phase, Wish};
use std::time::{Duration, Instant};

impl Channel {
    /// When the newest heartbeat will say nothing about now any more.
    pub(super) fn stale_at(&self) -> Option<Instant> {
        match &self.life {
            Life::Running(run) => run.last_beat().map(|heard| heard + STALE + Duration::from_millis(1)),
            _ => None,
        }
    }

    /// What others may know, with the air judged anew. `wanted` destinations are wanted.
    pub(super) fn sight(&mut self, wish: Wish, wanted: usize, now: Now) -> Sight {
        let heard = match &self.life {
            Life::Running(run) => run.last_beat(),
            _ => None,
        };
        let age = heard.map_or(Duration::MAX, |heard| now.mono.saturating_duration_since(heard));
        let failure = self.state.failed_run.as_ref().and_then(|run| run.exit_words.as_deref());
        let beat = self.beat.as_deref().map(|beat| (beat, age));
        let view = View { wish, phase: self.state.phase, failure, wanted, beat };
        self.air = judge(view, &self.air, now.wall);
        Sight {
            state: self.state.clone(),
            beat: self.beat.clone(),
            alive: matches!(self.life, Life::Running(_)),
            air: self.air.clone(),
            alerts: self.alerts_now(),
            broken_files: self.alerts.clone(),
            save_failed: self.save_failed.clone(),
            held_by_unknown: matches!(self.life, Life::Held { alerted: true, .. }),
            totals: None,
        }
    }

    fn alerts_now(&self) -> Vec<String> {
        let (id, failures) = (&self.state.id, self.state.retry_count.saturating_add(1));
        let trouble = match &self.life {
            Life::Held { alerted: true, .. } => {
                Some(format!("channel {id}: an unknown worker holds its lock and does not call"))
            }
            Life::GaveUp => {
                Some(format!("channel {id}: the worker failed and is not started again; start it"))
            }
            _ if self.state.phase == Phase::Error && failures >= backoff::ALERT_AFTER => {
                Some(format!("channel {id}: the worker failed {failures} times in a row"))
            }
            _ => None,
        };
        self.alerts.iter().cloned().chain(self.save_failed.clone()).chain(trouble).collect()
    }
}
