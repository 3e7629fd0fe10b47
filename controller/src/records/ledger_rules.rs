//! What holds for the books whatever happens, in whatever order: the ledger played against a world in which workers
//! and controllers die, wishes change and clocks are set.

use super::*;
use proptest::prelude::*;
use state::wire::{Airtime, DestinationState, Playing};
use std::time::Duration;

/// The sheet of all channels is put on the disk this often, ms; see `supervisor/sheet.rs`.
const SHEET_EVERY_MS: u64 = 5_000;

/// Without an acknowledgement for longer than this a worker decides for dark.
const WORKER_WAITS_MS: u64 = 5_000;

#[derive(Debug, Clone, Copy)]
enum Fate {
    /// Time passes, with media accepted or not; the worker may tell of it.
    Pass {
        ms: u64,
        accepted: bool,
        told: bool,
    },
    Wish(bool),
    WorkerStarts,
    WorkerDies,
    ControllerDies,
    ControllerReturns,
    /// Somebody sets the wall clock, by seconds.
    ClockSet(i64),
    /// The machine is off for a while, s.
    PowerFails(u32),
}

fn fates() -> impl Strategy<Value = Vec<Fate>> {
    let pass = (1u64..15_000, proptest::bool::weighted(0.8), proptest::bool::weighted(0.9));
    let fate = prop_oneof![
        12 => pass.prop_map(|(ms, accepted, told)| Fate::Pass { ms, accepted, told }),
        2 => any::<bool>().prop_map(Fate::Wish),
        3 => Just(Fate::WorkerStarts),
        1 => Just(Fate::WorkerDies),
        1 => Just(Fate::ControllerDies),
        2 => Just(Fate::ControllerReturns),
        1 => (-7200i64..7200).prop_map(Fate::ClockSet),
        1 => (1u32..4000).prop_map(Fate::PowerFails),
    ];
    proptest::collection::vec(fate, 1..100)
}

struct Worker {
    run: Ulid,
    airtime: Airtime,
}

/// Everything that is true, and what the controllers of this world write down about it.
struct World {
    now: Moment,
    wanted: bool,
    wanted_since: Timestamp,
    /// What the wall clock was set by while nobody was looking.
    set_unseen_ms: u64,
    /// The books, or what is newer than they are on the sheet.
    disk: Option<Totals>,
    sheet_ms: u64,
    ledger: Option<Ledger>,
    worker: Option<Worker>,
    runs: u64,
    true_wanted_ms: u64,
    true_on_ms: u64,
    dest: DestinationId,
}

impl World {
    fn new() -> Self {
        let wall = jiff::Timestamp::from_second(1_800_000_000).unwrap();
        let mut world = Self {
            now: Moment { wall, boot: "first".into(), boot_ms: 100_000 },
            wanted: false,
            wanted_since: wall,
            set_unseen_ms: 0,
            disk: None,
            sheet_ms: 0,
            ledger: None,
            worker: None,
            runs: 0,
            true_wanted_ms: 0,
            true_on_ms: 0,
            dest: "one".parse().unwrap(),
        };
        world.controller_returns();
        world
    }

    fn advance(&mut self, ms: u64) {
        self.now.wall = self.now.wall.checked_add(Duration::from_millis(ms)).unwrap();
        self.now.boot_ms += ms;
        self.true_wanted_ms += if self.wanted { ms } else { 0 };
    }

    fn meet(&mut self, fate: Fate) {
        match fate {
            Fate::Pass { ms, accepted, told } => self.pass(ms, accepted, told),
            Fate::Wish(wanted) if self.ledger.is_some() => {
                (self.wanted, self.wanted_since) = (wanted, self.now.wall);
                if !wanted {
                    self.worker_ends(true);
                }
            }
            Fate::WorkerStarts if self.ledger.is_some() && self.worker.is_none() && self.wanted => {
                self.runs += 1;
                let run = Ulid::from_text(&format!("{:026}", self.runs));
                self.ledger.as_mut().unwrap().run_began(&run);
                self.worker = Some(Worker { run, airtime: Airtime::default() });
            }
            Fate::WorkerDies => self.worker_ends(false),
            Fate::ControllerDies => self.ledger = None,
            Fate::ControllerReturns if self.ledger.is_none() => self.controller_returns(),
            Fate::ClockSet(seconds) => {
                self.now.wall = self.now.wall.checked_add(jiff::SignedDuration::from_secs(seconds)).unwrap();
            }
            Fate::PowerFails(seconds) => {
                self.ledger = None;
                self.worker_ends(false);
                self.advance(u64::from(seconds) * 1000);
                self.now.boot = format!("{}x", self.now.boot);
                self.now.boot_ms = 9_000;
                self.set_unseen_ms += 3 * 7_200_000;
                self.controller_returns();
            }
            _ => {}
        }
        self.look();
    }

    fn pass(&mut self, ms: u64, accepted: bool, told: bool) {
        self.advance(ms);
        let Some(worker) = &mut self.worker else { return };
        let airtime = &mut worker.airtime;
        airtime.open_ms += ms;
        if airtime.open_ms > WORKER_WAITS_MS {
            airtime.dark_ms += std::mem::take(&mut airtime.open_ms);
        } else if accepted {
            airtime.on_ms += std::mem::take(&mut airtime.open_ms);
        }
        let (beat, now, wanted) = (self.beat(), self.now.clone(), self.wanted);
        if let (Some(ledger), Some(beat), true) = (&mut self.ledger, beat, told) {
            ledger.pass(now, wanted);
            ledger.heard(&beat);
        }
    }

    fn beat(&self) -> Option<Heartbeat> {
        let worker = self.worker.as_ref()?;
        let mut seen = DestinationSeen::new(self.dest.clone(), DestinationState::Live, self.now.wall);
        (seen.on_air_ms, seen.dark_ms) = (worker.airtime.on_ms, worker.airtime.dark_ms);
        let (airtime, destinations) = (worker.airtime, vec![seen]);
        let beat = Heartbeat::new(worker.run.clone(), 1, 1, self.now.wall);
        Some(Heartbeat { airtime, destinations, playing: Playing::Programme, ..beat })
    }

    fn worker_ends(&mut self, as_asked: bool) {
        let Some(worker) = self.worker.take() else { return };
        self.true_on_ms += worker.airtime.on_ms;
        if let Some(ledger) = &mut self.ledger {
            ledger.pass(self.now.clone(), self.wanted);
            ledger.run_ended(&worker.run, as_asked);
        }
    }

    /// As the supervisor does it: whoever is not found any more has ended unseen.
    fn controller_returns(&mut self) {
        let wanted = Wanted { is: self.wanted, since: Some(self.wanted_since) };
        let living = self.worker.as_ref().map(|worker| &worker.run);
        let mut ledger = match self.disk.clone() {
            Some(totals) => Ledger::take_up(totals, wanted, living, self.now.clone()),
            None => Ledger::new(ChannelId::main(), self.wanted, self.now.clone()),
        };
        ledger.want(std::slice::from_ref(&self.dest));
        self.ledger = Some(ledger);
    }

    /// The supervisor looks at every channel after every event.
    fn look(&mut self) {
        let Some(ledger) = &mut self.ledger else { return };
        ledger.pass(self.now.clone(), self.wanted);
        if let Some(due) = ledger.due() {
            self.disk = Some(due);
        }
        if self.wanted && self.now.boot_ms.abs_diff(self.sheet_ms) >= SHEET_EVERY_MS {
            self.sheet_ms = self.now.boot_ms;
            self.disk = Some(ledger.totals().clone());
        }
    }

    fn on_ms(&self) -> u64 {
        self.true_on_ms + self.worker.as_ref().map_or(0, |worker| worker.airtime.on_ms)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn wanted_time_is_counted_once_and_nothing_goes_back(fates in fates()) {
        let mut world = World::new();
        let mut before = Account::default();
        for fate in fates {
            world.meet(fate);
            let Some(totals) = &world.disk else { continue };
            for account in std::iter::once(&totals.channel).chain(totals.destinations.values()) {
                let sum = account.on_ms + account.dark_ms + account.unknown_ms + account.open_ms();
                prop_assert_eq!(sum, account.wanted_ms, "{:?} after {:?}", account, fate);
                prop_assert!(account.on_ms <= world.on_ms(), "{:?} {}", account, world.on_ms());
            }
            let now = totals.channel;
            for (name, was, is) in [
                ("wanted", before.wanted_ms, now.wanted_ms),
                ("on", before.on_ms, now.on_ms),
                ("dark", before.dark_ms, now.dark_ms),
                ("unknown", before.unknown_ms, now.unknown_ms),
            ] {
                prop_assert!(was <= is, "{name} went back from {was} to {is} after {fate:?}");
            }
            before = now;
            if let Some(ledger) = &world.ledger {
                let off = ledger.totals().channel.wanted_ms.abs_diff(world.true_wanted_ms);
                prop_assert!(off <= SHEET_EVERY_MS + world.set_unseen_ms, "{off} ms off after {fate:?}");
            }
        }
    }
}

fn moment(second: u64) -> Moment {
    let wall = jiff::Timestamp::from_second(1_800_000_000 + second as i64).unwrap();
    Moment { wall, boot: "b".into(), boot_ms: second * 1000 }
}

fn told(run: &str, on_s: u64, dark_s: u64) -> Heartbeat {
    let airtime = Airtime { on_ms: on_s * 1000, dark_ms: dark_s * 1000, ..Airtime::default() };
    let mut one = DestinationSeen::new("one".parse().unwrap(), DestinationState::Live, moment(0).wall);
    (one.on_air_ms, one.dark_ms, one.reconnects) = (on_s * 1000, dark_s * 1000, 2);
    Heartbeat {
        airtime,
        destinations: vec![one],
        ..Heartbeat::new(Ulid::from_text(run), 1, 1, moment(0).wall)
    }
}

fn seconds(ledger: &Ledger) -> [u64; 5] {
    let a = &ledger.totals().channel;
    [a.wanted_ms, a.on_ms, a.dark_ms, a.unknown_ms, a.open_ms()].map(|ms| ms / 1000)
}

/// On the air since second 10, after 2 s of starting.
fn on_air() -> Ledger {
    let mut ledger = Ledger::new(ChannelId::main(), true, moment(0));
    ledger.pass(moment(8), true);
    ledger.run_began(&Ulid::from_text("r"));
    ledger.pass(moment(10), true);
    ledger.heard(&told("r", 0, 0));
    ledger.pass(moment(100), true);
    ledger.heard(&told("r", 90, 0));
    ledger
}

#[test]
fn the_time_without_a_worker_and_until_its_first_word_is_dark() {
    let ledger = on_air();
    assert_eq!(seconds(&ledger), [100, 90, 10, 0, 0]);
    assert_eq!(ledger.totals().channel.reconnects, 2);
}

#[test]
fn a_worker_that_played_on_alone_tells_the_next_controller() {
    let mut ledger = on_air();
    let saved = ledger.due().unwrap();
    let wanted = Wanted { is: true, since: None };
    let run = Ulid::from_text("r");
    let mut next = Ledger::take_up(saved.clone(), wanted, Some(&run), moment(400));
    assert_eq!(seconds(&next), [400, 90, 10, 0, 300]);
    next.heard(&told("r", 380, 10));
    assert_eq!(seconds(&next), [400, 380, 20, 0, 0]);
    // Its reconnects were counted before.
    assert_eq!(next.totals().channel.reconnects, 2);
    // One that died meanwhile tells nobody any more.
    let next = Ledger::take_up(saved.clone(), wanted, None, moment(400));
    assert_eq!(seconds(&next), [400, 90, 10, 300, 0]);
    // One that nobody lived to write down is heard as well.
    let unwritten = Totals { run: None, ..saved };
    let mut next = Ledger::take_up(unwritten, wanted, Some(&Ulid::from_text("s")), moment(400));
    next.heard(&told("s", 280, 5));
    assert_eq!(seconds(&next), [400, 370, 30, 0, 0]);
}

#[test]
fn a_machine_that_was_off_was_dark() {
    let saved = on_air().due().unwrap();
    let now = Moment { boot: "another".into(), boot_ms: 5_000, ..moment(3700) };
    let next = Ledger::take_up(saved, Wanted { is: true, since: None }, None, now);
    assert_eq!(seconds(&next), [3700, 90, 3610, 0, 0]);
}

#[test]
fn what_nobody_wants_counts_as_nothing() {
    let mut ledger = on_air();
    ledger.pass(moment(110), false);
    ledger.run_ended(&Ulid::from_text("r"), true);
    let saved = ledger.due().unwrap();
    ledger.pass(moment(5000), false);
    assert_eq!(seconds(&ledger)[0], 110);
    // Wanted again 20 s before the controller came back to see it.
    let since = Some(moment(5980).wall);
    let next = Ledger::take_up(saved, Wanted { is: true, since }, None, moment(6000));
    assert_eq!(seconds(&next), [130, 90, 30, 10, 0]);
}

#[test]
fn a_destination_is_dark_while_it_is_wanted_and_the_worker_does_not_have_it() {
    let mut ledger = on_air();
    let (one, two): (DestinationId, DestinationId) = ("one".parse().unwrap(), "two".parse().unwrap());
    ledger.want(&[one.clone(), two.clone()]);
    ledger.pass(moment(130), true);
    ledger.heard(&told("r", 120, 0));
    let of = |ledger: &Ledger, id| ledger.totals().destinations[id];
    assert_eq!((of(&ledger, &one).on_ms, of(&ledger, &two).dark_ms), (30_000, 30_000));
    ledger.want(std::slice::from_ref(&one));
    ledger.pass(moment(200), true);
    ledger.heard(&told("r", 190, 0));
    assert_eq!((of(&ledger, &one).on_ms, of(&ledger, &two).dark_ms), (100_000, 30_000));
}

#[test]
fn hls_alone_is_dark_while_a_destination_is_wanted_and_the_worker_has_none() {
    let without = |on_s| Heartbeat { destinations: Vec::new(), ..told("r", on_s, 0) };
    let mut ledger = on_air();
    for (on_s, wanted) in [(100, vec![]), (120, vec!["one".parse().unwrap()])] {
        ledger.want(&wanted);
        ledger.pass(moment(10 + on_s), true);
        ledger.heard(&without(on_s));
    }
    assert_eq!(seconds(&ledger), [130, 100, 30, 0, 0]);
}

#[test]
fn forgotten_destinations_make_room() {
    let mut ledger = on_air();
    for n in 0..300 {
        ledger.want(&[format!("d{n}").parse().unwrap()]);
    }
    assert!(ledger.totals().destinations.len() <= MOST_REMEMBERED);
    assert!(ledger.totals().destinations.values().any(|account| account.wanted));
}
