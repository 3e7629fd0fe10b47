//! What is on the air: the item, or the fallback while there is none, and the rules by which one follows the other.

mod change;
mod item;
#[cfg(test)]
mod tests;
mod told;

use crate::fallback::Fallback;
use crate::media::Tag;
use crate::played::{Exit, Left};
use crate::programme::Programme;
use crate::source::feed::Feed;
use crate::splice::{Advance, Group};
use crate::stall::Falls;
use item::{OnItem, Reason};
use state::profile::Profile;
use state::wire::{Cursor, ItemSeen, Playing};
use std::sync::Arc;
use tokio::time::Instant;

/// A stalled item is left for the next one after this long without a picture, ms: it is to be off the air within
/// two seconds.
const PATIENCE_MS: i64 = 1_800;
/// An item that the bucket interrupted has this long to come back once the bucket answers, ms.
const RECOVERY_MS: i64 = 5_000;
/// Most changes of feed in one moment.
const MOST_SWITCHES: u32 = 32;
/// Why the fallback is on the air when somebody wanted it there.
const BY_ORDER: &str = "it was asked for";
/// Why nothing is on the air after the start.
const STARVED: &str = "no picture comes, and there is no fallback to show";

#[derive(Debug)]
enum On {
    Nothing,
    Item(OnItem),
    Fallback(Standing),
}

/// The fallback on the air.
#[derive(Debug)]
struct Standing {
    /// An item that may come back, and where it stood, ms of the item.
    paused: Option<(OnItem, u64)>,
    /// When that was, ms of the channel.
    paused_ms: i64,
    /// Since when the paused item has given nothing, ms of the channel.
    since_ms: i64,
    /// When the bucket was out of reach last, ms of the channel.
    away_ms: Option<i64>,
    why: String,
}

/// What came of a moment.
#[derive(Debug, PartialEq, Eq)]
pub enum Moment {
    /// The next tag is due at this ms of channel time.
    Due(i64),
    /// Everything has been played.
    Finished,
    /// The item has been played to its end, and the next one is somebody else's.
    GaveWay,
}

/// What happened, for events and logs.
#[derive(Debug, PartialEq)]
pub enum Happened {
    /// An item went on the air at this ms of channel time; its position is that of its first picture. It came back
    /// after the slate if the last word is true.
    Started(Box<ItemSeen>, i64, bool),
    /// An item was left and does not come back.
    Ended(Box<Left>),
    /// The fallback went on the air.
    Fallback {
        /// At this ms of channel time.
        at: i64,
        /// For this reason, in words.
        why: String,
        /// Key of the fallback video; none for the slate.
        key: Option<String>,
        /// The item in whose place it is, if there was one.
        left: Option<Box<Left>>,
    },
}

/// The group and what it plays.
#[derive(Debug)]
pub struct Air {
    group: Group,
    on: On,
    fallback: Fallback,
    /// The fallback shall be on the air, whatever there is to play.
    held: bool,
    falls: Falls,
    skip: bool,
    /// Another worker waits for the next boundary.
    gives_way: bool,
    /// Since when silence is sent because there is nothing, not even a fallback, ms of the channel.
    starved: Option<i64>,
    happened: Vec<Happened>,
}

impl Air {
    /// Nothing on the air yet, in this profile.
    pub fn new(profile: &Profile, fallback: Fallback, held: bool) -> Self {
        let group = Group::new(profile);
        Self {
            group,
            on: On::Nothing,
            fallback,
            held,
            falls: Falls::default(),
            skip: false,
            gives_way: false,
            starved: None,
            happened: Vec::new(),
        }
    }

    /// What is shown when there is nothing else.
    pub fn fallback(&mut self) -> &mut Fallback {
        &mut self.fallback
    }

    /// Whether the fallback is there and open.
    pub fn is_protected(&self) -> bool {
        self.fallback.is_protected()
    }

    /// Puts the fallback on the air as soon as the outgoing picture can be left, or lets the programme go on where it
    /// stood.
    pub fn hold(&mut self, held: bool) {
        self.held = held;
    }

    /// Whether there is something to send, so that time may begin. With `late` anything is better than waiting.
    pub fn can_begin(&self, programme: &Programme, late: bool) -> bool {
        let without_item = self.held || late || programme.trouble().is_some();
        (!self.held && programme.has_ready()) || (without_item && self.fallback.is_there())
    }

    /// Leave the item on the air, or the one that made way for the fallback, for the next one as soon as that is
    /// ready.
    pub fn skip(&mut self) {
        self.skip = match &self.on {
            On::Item(_) => true,
            On::Fallback(standing) => standing.paused.is_some(),
            On::Nothing => false,
        };
    }

    /// Ends with the item on the air: the next one is somebody else's.
    pub fn give_way(&mut self) {
        self.gives_way = true;
    }

    /// Whether somebody else may go on here: nothing waits to be continued, and something follows.
    fn is_free(&self, programme: &Programme) -> bool {
        let between = match &self.on {
            On::Item(_) => false,
            On::Fallback(standing) => standing.paused.is_none() && !self.held,
            On::Nothing => true,
        };
        self.gives_way && between && programme.next_cursor().is_some()
    }

    /// Whether the next item should be opened: little is left of the one on the air.
    pub fn needs_next(&self) -> bool {
        match &self.on {
            On::Item(on) => self.skip || on.is_near_its_end() || self.starved.is_some(),
            On::Fallback(standing) => self.skip || !(self.held && standing.paused.is_some()),
            On::Nothing => true,
        }
    }

    /// Sends what is due up to `until`, ms of channel time.
    pub fn moment(&mut self, until: i64, programme: &mut Programme, out: &mut Vec<Tag>) -> Moment {
        self.fallback.tend(self.group.on_air(), until, Instant::now());
        self.change_over(until, programme);
        let waits_for_nothing = matches!(&self.on, On::Fallback(Standing { paused: None, .. }));
        if waits_for_nothing && !self.held && programme.is_finished() {
            return Moment::Finished;
        }
        if self.is_free(programme) {
            return Moment::GaveWay;
        }
        let moment = self.send(until, programme, out);
        if let Some(feed) = self.group.on_air() {
            feed.taken();
        }
        if let On::Fallback(Standing { paused: Some((item, _)), paused_ms, .. }) = &self.on {
            item.keep_ready(until - paused_ms);
        }
        moment
    }

    fn send(&mut self, until: i64, programme: &mut Programme, out: &mut Vec<Tag>) -> Moment {
        for _ in 0..MOST_SWITCHES {
            let (due, ended) = match self.group.advance(until, out) {
                Advance::Reached(at) => return Moment::Due(at),
                Advance::Ended(due) => (due, true),
                Advance::Dry(due) => (due, false),
            };
            if ended && self.gives_way && !self.held && programme.next_cursor().is_some() {
                if due > until {
                    return Moment::Due(due);
                }
                // The sound that belongs to the last picture.
                self.group.advance(self.group.end_ms(), out);
                self.end_item(programme);
                return Moment::GaveWay;
            }
            let next = ended && !self.held && !matches!(self.on, On::Fallback(_));
            if next && self.put_next_on(programme, until) {
                continue;
            }
            if due > until {
                return Moment::Due(due);
            }
            if next && programme.is_finished() {
                self.end_item(programme);
                return Moment::Finished;
            }
            if !self.make_do(until, ended, programme) {
                self.group.fill(until, out);
                self.starved.get_or_insert(until);
                return Moment::Due(until);
            }
        }
        // Feeds that have nothing to give take turns: the clock goes on without them.
        self.group.fill(until, out);
        Moment::Due(until)
    }

    /// There is nothing to send. False when there is no fallback either.
    fn make_do(&mut self, until: i64, ended: bool, programme: &mut Programme) -> bool {
        if matches!(self.on, On::Fallback(_)) {
            return self.show_another();
        }
        if ended {
            self.end_item(programme);
        }
        let why = match (self.held, ended) {
            (true, _) => BY_ORDER.to_owned(),
            (false, true) => programme.trouble().unwrap_or_else(|| "the next item is not ready".to_owned()),
            (false, false) => "the item has stalled".to_owned(),
        };
        if !self.fall_back(until, why) {
            return false;
        }
        if !self.held {
            self.falls.fell(until);
            self.read_further();
        }
        true
    }

    /// What fell is read further ahead, so that it can have in hand what is asked of it.
    fn read_further(&self) {
        if let On::Fallback(Standing { paused: Some((item, _)), .. }) = &self.on {
            item.feed.buffer().read_further(self.falls.needed_ms());
        }
    }

    fn put_next_on(&mut self, programme: &mut Programme, until: i64) -> bool {
        let Some(opened) = programme.take() else { return false };
        self.end_item(programme);
        let item = OnItem::new(opened);
        let at = self.group.switch(&item.feed);
        if matches!(self.on, On::Fallback(_)) {
            self.falls.came_back(until);
        }
        self.on = On::Item(item);
        self.started(at, false);
        (self.skip, self.starved) = (false, None);
        true
    }

    /// Puts the fallback on the air; the item that was there may come back.
    fn fall_back(&mut self, until: i64, why: String) -> bool {
        let Some(feed) = self.fallback.feed() else { return false };
        self.starved = None;
        let how = if self.held { Exit::Ordered } else { Exit::Stalled };
        let (mut paused, mut left) = (None, None);
        if let On::Item(item) = std::mem::replace(&mut self.on, On::Nothing) {
            let position = self.position_of(&item);
            left = Some(Box::new(self.left(&item, position, how, None)));
            paused = Some((item, position));
        }
        let at = self.show(&feed);
        let key = self.fallback.key_of(&feed).map(str::to_owned);
        self.happened.push(Happened::Fallback { at, why: why.clone(), key, left });
        self.on = On::Fallback(Standing { paused, paused_ms: until, since_ms: until, away_ms: None, why });
        true
    }

    /// Another fallback in place of the one on the air: a better one, or the slate for one that broke.
    fn show_another(&mut self) -> bool {
        match self.fallback.feed() {
            Some(feed) if self.group.on_air().is_none_or(|on_air| !Arc::ptr_eq(on_air, &feed)) => {
                self.show(&feed);
                true
            }
            _ => false,
        }
    }

    /// Returns from when on, ms of channel time.
    fn show(&mut self, feed: &Arc<Feed>) -> i64 {
        let key = self.fallback.key_of(feed);
        tracing::info!(shows = key.unwrap_or("the slate"), "the fallback is on the air");
        self.group.switch(feed)
    }

    fn end_item(&mut self, programme: &mut Programme) {
        if let On::Item(item) = &self.on {
            let position = self.position_of(item);
            let (how, why) = match (self.skip, self.starved.is_some() && !item.has_ended()) {
                (true, _) => (Exit::Skipped, None),
                (false, true) => (Exit::Stalled, Some(item.stalled())),
                (false, false) => match item.ended_early(position) {
                    Some(why) => (Exit::Early, Some(why)),
                    None => (Exit::Played, None),
                },
            };
            let On::Item(item) = std::mem::replace(&mut self.on, On::Nothing) else { return };
            self.leave(&item, position, how, why, programme);
        }
    }

    fn leave(
        &mut self,
        item: &OnItem,
        position: u64,
        how: Exit,
        why: Option<Reason>,
        programme: &mut Programme,
    ) {
        if let Some(why) = item.against_copying() {
            programme.conform_from_now_on(item.item.key.clone(), why);
        }
        match &why {
            Some(why) => programme.left(&item.item, Some(why.failure)),
            None if item.has_ended() => programme.left(&item.item, None),
            // Somebody did not want to see more of it.
            None => {}
        }
        let left = self.left(item, position, how, why.map(|why| why.words));
        self.happened.push(Happened::Ended(Box::new(left)));
    }

    fn position_of(&self, item: &OnItem) -> u64 {
        item.from_ms + u64::try_from(self.group.position_ms()).unwrap_or(0)
    }

    /// What happened since the last call.
    pub fn happened(&mut self) -> Vec<Happened> {
        std::mem::take(&mut self.happened)
    }

    /// What is being sent, and why if it is not the programme.
    pub fn playing(&self) -> (Playing, Option<String>) {
        match &self.on {
            // Whatever stands still there, nobody sees it move.
            _ if self.starved.is_some() => (Playing::Nothing, Some(STARVED.to_owned())),
            On::Nothing => (Playing::Nothing, None),
            On::Item(_) => (Playing::Programme, None),
            On::Fallback(standing) => (Playing::Fallback, Some(standing.why.clone())),
        }
    }

    /// The item on the air.
    pub fn item_seen(&self) -> Option<ItemSeen> {
        let On::Item(item) = &self.on else { return None };
        Some(item.seen(self.position_of(item)))
    }

    /// Where a new run should go on.
    pub fn cursor(&self) -> Option<Cursor> {
        match &self.on {
            On::Item(item) => Some(item.cursor(self.position_of(item))),
            On::Fallback(Standing { paused: Some((item, position)), .. }) => Some(item.cursor(*position)),
            On::Fallback(_) | On::Nothing => None,
        }
    }

    /// The timeline.
    pub fn group(&mut self) -> &mut Group {
        &mut self.group
    }
}
