//! When one follows the other on the air: the fallback the item, the item the fallback, the next item a stalled one.

use super::item::{OnItem, in_hand};
use super::{Air, BY_ORDER, On, PATIENCE_MS, RECOVERY_MS, Standing};
use crate::played::Exit;
use crate::programme::Programme;

impl Air {
    /// From the fallback to an item, from an item that is to be skipped to the next one, or to the fallback by order.
    pub(super) fn change_over(&mut self, until: i64, programme: &mut Programme) {
        if self.starved.is_some() && self.group.resume() {
            self.starved = None;
        }
        match &self.on {
            On::Item(_) if self.held => {
                if self.group.may_leave() {
                    self.fall_back(until, BY_ORDER.to_owned());
                }
            }
            On::Nothing if self.held => drop(self.fall_back(until, BY_ORDER.to_owned())),
            On::Item(_) if self.is_unwanted(until) && programme.has_ready() && self.group.may_leave() => {
                self.put_next_on(programme, until);
            }
            On::Fallback(_) => self.look_after_fallback(until, programme),
            On::Item(_) | On::Nothing => {}
        }
    }

    /// The item on the air is to be left for the next one: somebody said so, or it stalled and nothing stands in for it.
    fn is_unwanted(&self, until: i64) -> bool {
        self.skip || self.starved.is_some_and(|since| until - since > PATIENCE_MS)
    }

    fn look_after_fallback(&mut self, until: i64, programme: &mut Programme) {
        let On::Fallback(standing) = &mut self.on else { return };
        if self.skip {
            self.skip = false;
            if let Some((item, position)) = standing.paused.take() {
                self.leave(&item, position, Exit::Skipped, None, programme);
            }
        } else if self.held {
            // An order is no trouble; what paused begins to be impatient when it may come back.
            standing.since_ms = until;
            BY_ORDER.clone_into(&mut standing.why);
        } else if self.group.may_leave() && self.come_back(until) {
            return;
        } else {
            self.lose_patience(until, programme);
        }
        let better = self.group.on_air().is_some_and(|feed| self.fallback.has_better_than(feed));
        if better && matches!(self.on, On::Fallback(_)) && self.group.may_leave() {
            self.show_another();
        }
    }

    /// The paused item goes on at its next IDR picture, if enough of it is in hand.
    fn come_back(&mut self, until: i64) -> bool {
        let On::Fallback(standing) = &mut self.on else { return false };
        let enough = |item: &OnItem| in_hand(&item.feed).is_some_and(|h| self.falls.may_come_back(h, until));
        let Some((item, _)) = standing.paused.take_if(|(item, _)| enough(item)) else { return false };
        if !item.feed.buffer().enter_at_idr(i64::MIN) {
            return false;
        }
        let at = self.group.switch(&item.feed);
        self.falls.came_back(until);
        self.on = On::Item(item);
        self.started(at, true);
        true
    }

    /// A paused item that brings nothing is left, and the next item follows, if that is ready.
    fn lose_patience(&mut self, until: i64, programme: &mut Programme) {
        let On::Fallback(standing) = &mut self.on else { return };
        let missed_it = standing.paused.as_ref().is_some_and(|(item, _)| item.feed.buffer().away);
        if missed_it || programme.is_away() {
            standing.away_ms = Some(until);
        }
        // A bucket that was away comes back for both: the item that it interrupted goes first.
        let just_back = standing.away_ms.is_some_and(|at| until - at <= RECOVERY_MS);
        let waits = programme.next_is_from_bucket() && just_back;
        let impatient = until - standing.since_ms > PATIENCE_MS && programme.has_ready() && !waits;
        let gone = |item: &OnItem| item.has_ended() && in_hand(&item.feed).is_none();
        let ordered = standing.why == BY_ORDER;
        if let Some((item, position)) = standing.paused.take_if(|(item, _)| impatient || gone(item)) {
            // An order in its last GOP leaves nothing to come back to, and that is nobody's failure.
            let (how, why) = match ordered && item.is_complete() {
                true => (Exit::Ordered, None),
                false => (Exit::Stalled, Some(item.stalled())),
            };
            self.leave(&item, position, how, why, programme);
        }
        let On::Fallback(Standing { paused: None, .. }) = &self.on else { return };
        let ready = programme.next_feed().and_then(in_hand);
        if ready.is_some_and(|hand| self.falls.may_come_back(hand, until)) && self.group.may_leave() {
            self.put_next_on(programme, until);
        }
    }
}
