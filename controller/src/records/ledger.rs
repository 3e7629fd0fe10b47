//! The books of a channel: how long it was wanted, and what became of that time. Pure; the time is passed in.
//!
//! The controller counts the wanted time, a worker counts how much of it was on the air or dark within its run. What
//! a worker tells is only ever taken out of time that is open, so that nothing is counted twice, whoever repeats
//! what. Time without a worker is dark. When a run is gone that could have told, time in which no controller was
//! running stays unknown, and the rest is dark.

use state::Timestamp;
use state::ids::{ChannelId, DestinationId, Ulid};
use state::totals::{Account, Counted, Moment, RunMark, Totals};
use state::wire::{DestinationSeen, Heartbeat};

/// The books are put on the disk by themselves this often while they move, ms. In between their sums are on the sheet
/// of all channels.
pub const SAVE_EVERY_MS: u64 = 300_000;
/// Destinations that are remembered, those that were taken away included.
const MOST_REMEMBERED: usize = 100;

/// The books of one channel.
#[derive(Debug, Clone)]
pub struct Ledger {
    totals: Totals,
    saved_at_ms: u64,
    /// Something happened that should be on the disk at once.
    changed: bool,
}

/// The wish as it is on the disk.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    /// Whether the channel is wanted.
    pub is: bool,
    /// Since when that is so.
    pub since: Option<Timestamp>,
}

impl Ledger {
    /// New books.
    pub fn new(id: ChannelId, wanted: bool, now: Moment) -> Self {
        let saved_at_ms = now.boot_ms;
        let totals = Totals { wanted, ..Totals::new(id, now) };
        Self { totals, saved_at_ms, changed: true }
    }

    /// Takes up the books of an earlier controller, and counts the time in between. `living` is the worker that was
    /// found.
    pub fn take_up(mut totals: Totals, wanted: Wanted, living: Option<&Ulid>, now: Moment) -> Self {
        let (gap_ms, same_boot) = gap(&totals.until, &now);
        let since = wanted.since.unwrap_or(now.wall);
        let wanted_ms = match (totals.wanted, wanted.is) {
            (true, true) => gap_ms,
            (false, true) => gap_ms.min(ms_between(since, now.wall)),
            (true, false) => gap_ms.min(ms_between(totals.until.wall, since)),
            (false, false) => 0,
        };
        // A worker does not outlive its machine.
        let may_have_played = (totals.run.is_some() || living.is_some()) && same_boot;
        for account in accounts(&mut totals) {
            account.wanted_ms += wanted_ms;
            account.away_ms += if may_have_played { wanted_ms } else { 0 };
            account.dark_ms += if may_have_played { 0 } else { wanted_ms };
        }
        (totals.wanted, totals.until) = (wanted.is, now);
        let mut ledger = Self { saved_at_ms: totals.until.boot_ms, totals, changed: true };
        match (living, ledger.totals.run.as_ref().map(|run| run.id.clone())) {
            // The controller that started it may not have lived to write that down.
            (Some(living), None) => ledger.begin(living),
            (Some(living), Some(_)) => ledger.run_began(living),
            (None, Some(left)) => ledger.run_ended(&left, false),
            (None, None) => {}
        }
        ledger
    }

    /// The sums of this moment.
    pub fn totals(&self) -> &Totals {
        &self.totals
    }

    /// Time has passed; from now on the channel is wanted or not.
    pub fn pass(&mut self, now: Moment, wanted: bool) {
        let (passed, _) = gap(&self.totals.until, &now);
        let without_worker = self.totals.run.is_none();
        if self.totals.wanted {
            for account in accounts(&mut self.totals) {
                account.wanted_ms += passed;
                account.dark_ms += if without_worker { passed } else { 0 };
            }
        }
        self.changed |= self.totals.wanted != wanted;
        (self.totals.until, self.totals.wanted) = (now, wanted);
    }

    /// These destinations are wanted from now on, and no others.
    pub fn want(&mut self, ids: &[DestinationId]) {
        for (id, account) in &mut self.totals.destinations {
            let wanted = ids.contains(id);
            if account.wanted && !wanted {
                account.unknown_ms += account.open_ms();
                account.away_ms = 0;
            }
            self.changed |= account.wanted != wanted;
            account.wanted = wanted;
        }
        for id in ids {
            self.changed |= !self.totals.destinations.contains_key(id);
            self.totals.destinations.entry(id.clone()).or_default().wanted = true;
        }
        let many = self.totals.destinations.len().saturating_sub(MOST_REMEMBERED);
        let unwanted = self.totals.destinations.iter().filter(|(_, account)| !account.wanted);
        let forgotten: Vec<_> = unwanted.map(|(id, _)| id.clone()).take(many).collect();
        self.totals.destinations.retain(|id, _| !forgotten.contains(id));
    }

    /// A worker was started or found.
    pub fn run_began(&mut self, run: &Ulid) {
        if self.totals.run.as_ref().is_some_and(|known| known.id == *run) {
            return;
        }
        self.close(|account| account.dark_ms += account.open_ms());
        self.begin(run);
    }

    fn begin(&mut self, run: &Ulid) {
        self.totals.run = Some(RunMark { id: run.clone(), heard: false });
        let all = std::iter::once(&mut self.totals.channel).chain(self.totals.destinations.values_mut());
        all.for_each(|account| account.counted = Counted::default());
        self.changed = true;
    }

    /// Takes in what a worker tells of its run.
    pub fn heard(&mut self, beat: &Heartbeat) {
        self.run_began(&beat.run);
        let first = self.totals.run.as_mut().is_some_and(|run| !std::mem::replace(&mut run.heard, true));
        let open_ms = beat.airtime.open_ms;
        let before = self.totals.channel;
        add(&mut self.totals.channel, of_channel(beat), first.then_some(open_ms));
        if beat.destinations.is_empty() && self.totals.destinations.values().any(|account| account.wanted) {
            // HLS alone is not what was asked for.
            let channel = &mut self.totals.channel;
            channel.dark_ms += channel.on_ms - before.on_ms;
            (channel.on_ms, channel.fallback_ms) = (before.on_ms, before.fallback_ms);
        }
        let mut reconnects = 0;
        for seen in &beat.destinations {
            let account = self.totals.destinations.entry(seen.id.clone()).or_default();
            let before = account.reconnects;
            add(account, of_destination(seen), first.then_some(open_ms));
            reconnects += account.reconnects - before;
        }
        self.totals.channel.reconnects += reconnects;
        let unheard = |id: &DestinationId| !beat.destinations.iter().any(|seen| seen.id == *id);
        for (_, account) in self.totals.destinations.iter_mut().filter(|(id, _)| unheard(id)) {
            account.dark_ms += account.open_ms();
            account.away_ms = 0;
        }
        self.changed |= first || reconnects > 0;
    }

    /// A worker is gone. What it has not told is dark, or unknown where it ended as it was asked to.
    pub fn run_ended(&mut self, run: &Ulid, as_asked: bool) {
        if self.totals.run.as_ref().is_none_or(|known| known.id != *run) {
            return;
        }
        self.close(|account| {
            let open = account.open_ms();
            let unknown = if as_asked { open } else { account.away_ms.min(open) };
            account.unknown_ms += unknown;
            account.dark_ms += open - unknown;
        });
        self.totals.run = None;
        self.changed = true;
    }

    /// Everything that is open is decided.
    fn close(&mut self, how: impl Fn(&mut Account)) {
        let all = std::iter::once(&mut self.totals.channel).chain(self.totals.destinations.values_mut());
        for account in all {
            how(account);
            account.away_ms = 0;
        }
    }

    /// What is to be put on the disk now, if anything is.
    pub fn due(&mut self) -> Option<Totals> {
        let age = self.totals.until.boot_ms.saturating_sub(self.saved_at_ms);
        let due = self.changed || (self.totals.wanted && age >= SAVE_EVERY_MS);
        if !due {
            return None;
        }
        (self.saved_at_ms, self.changed) = (self.totals.until.boot_ms, false);
        Some(self.totals.clone())
    }

    /// What was due could not be handed over.
    pub fn try_again(&mut self) {
        self.changed = true;
    }
}

/// The channel's account, and those of the destinations that are wanted.
fn accounts(totals: &mut Totals) -> impl Iterator<Item = &mut Account> {
    let destinations = totals.destinations.values_mut().filter(|account| account.wanted);
    std::iter::once(&mut totals.channel).chain(destinations)
}

/// Milliseconds from one moment to another, and whether the machine ran all the time. A wall clock that was set
/// makes a difference only where the machine was started anew.
fn gap(from: &Moment, to: &Moment) -> (u64, bool) {
    match !from.boot.is_empty() && from.boot == to.boot {
        true => (to.boot_ms.saturating_sub(from.boot_ms), true),
        false => (ms_between(from.wall, to.wall), false),
    }
}

fn ms_between(from: Timestamp, to: Timestamp) -> u64 {
    u64::try_from(to.as_millisecond() - from.as_millisecond()).unwrap_or(0)
}

fn of_channel(beat: &Heartbeat) -> Counted {
    Counted {
        on_ms: beat.airtime.on_ms,
        dark_ms: beat.airtime.dark_ms,
        fallback_ms: beat.airtime.fallback_ms,
        // The sum of its destinations, which may come and go.
        reconnects: 0,
    }
}

fn of_destination(seen: &DestinationSeen) -> Counted {
    Counted {
        on_ms: seen.on_air_ms,
        dark_ms: seen.dark_ms,
        fallback_ms: seen.fallback_ms,
        reconnects: seen.reconnects,
    }
}

/// Adds what is new in a run's figures. With the first of them, what was open before the run began is dark;
/// `before_run` is then how much the worker itself has not decided yet.
fn add(account: &mut Account, told: Counted, before_run: Option<u64>) {
    if let Some(undecided) = before_run {
        let of_run = told.on_ms + told.dark_ms + undecided;
        account.dark_ms += account.open_ms().saturating_sub(of_run);
    }
    let counted = account.counted;
    let on = told.on_ms.saturating_sub(counted.on_ms).min(account.open_ms());
    account.on_ms += on;
    account.dark_ms += told.dark_ms.saturating_sub(counted.dark_ms).min(account.open_ms());
    account.fallback_ms += told.fallback_ms.saturating_sub(counted.fallback_ms).min(on);
    // Connections that were set up anew count from nought again.
    let again = told.reconnects < counted.reconnects;
    account.reconnects += told.reconnects - if again { 0 } else { counted.reconnects };
    account.away_ms = 0;
    account.counted = told;
}

#[cfg(test)]
#[path = "ledger_rules.rs"]
mod rules;
