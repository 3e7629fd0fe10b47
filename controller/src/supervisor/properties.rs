//! What holds for a channel whatever happens to it, in whatever order: the supervisor's decisions played against
//! random lives of workers, wishes, crashes and clocks. No process and no clock is involved.

use super::air::{Air, Is, View, judge};
use super::channel::{Channel, Verdict, verdict};
use super::process::Process;
use super::reconcile::{Action, GRACE, Wanted, reconcile, wake_at};
use super::seen::{BEAT_EVERY, Ending, Life, MISSING, Now, Run, STALE, Stage, Why};
use super::spawn::LogMark;
use proptest::prelude::*;
use state::ids::{ChannelId, Ulid};
use state::phase::{Happening, Phase, Wish};
use state::restart::Restart;
use state::seen::StreamState;
use state::wire::{Cursor, Heartbeat, Playing};
use std::time::Duration;

/// What can happen to a channel and its worker.
#[derive(Debug, Clone, Copy)]
enum Fate {
    /// Time passes, ms; a worker that beats goes on beating.
    Wait(u32),
    /// Time passes and the worker says nothing.
    Silence(u32),
    Start,
    Stop,
    Calls,
    Beats,
    Dies,
    /// The worker gives way, to one that waits for it or to nobody.
    GivesWay(bool),
    /// The controller is killed and comes back; what is on the disk and the worker are all it has.
    ControllerDies,
    /// From now on programs cannot be started, or can be again.
    Startable(bool),
}

fn fates() -> impl Strategy<Value = Vec<Fate>> {
    let fate = prop_oneof![
        4 => (1u32..100_000).prop_map(Fate::Wait),
        1 => (1u32..40_000).prop_map(Fate::Silence),
        2 => Just(Fate::Start),
        1 => Just(Fate::Stop),
        3 => Just(Fate::Calls),
        3 => Just(Fate::Beats),
        3 => Just(Fate::Dies),
        1 => any::<bool>().prop_map(Fate::GivesWay),
        1 => Just(Fate::ControllerDies),
        1 => any::<bool>().prop_map(Fate::Startable),
    ];
    proptest::collection::vec(fate, 1..120)
}

fn policies() -> impl Strategy<Value = Restart> {
    let delays = proptest::collection::vec(0u32..200, 1..6);
    (proptest::bool::weighted(0.9), proptest::option::of(1u32..4), delays)
        .prop_map(|(auto, max_attempts, delays_s)| Restart { auto, max_attempts, delays_s })
}

/// A channel in a world of its own, with a supervisor that acts as the real one does.
struct World {
    channel: Channel,
    wish: Wish,
    policy: Restart,
    now: Now,
    /// The worker's process lives.
    alive: bool,
    /// It does not do what it is told.
    startable: bool,
    spawns: u32,
    /// Most living workers at one time.
    most: u32,
}

impl World {
    fn new(policy: Restart) -> Self {
        let now = Now::read();
        let channel = Channel::new(StreamState::new(ChannelId::main()), Vec::new(), now);
        let wish = Wish::Off;
        Self { channel, wish, policy, now, alive: false, startable: true, spawns: 0, most: 0 }
    }

    fn wanted(&self) -> Wanted {
        if self.wish == Wish::On { Wanted::On } else { Wanted::Off }
    }

    fn pass(&mut self, time: Duration) {
        self.now = Now { mono: self.now.mono + time, wall: self.now.wall.checked_add(time).unwrap() };
    }

    /// Time passes, with a look whenever one is due.
    fn wait(&mut self, mut time: Duration, beating: bool) {
        while !time.is_zero() {
            let due = wake_at(&self.channel.life, self.channel.state.retry_count);
            let step = due.map_or(time, |due| due.saturating_duration_since(self.now.mono).min(time));
            let step = if beating && self.beats() { step.min(BEAT_EVERY) } else { step };
            let step = step.max(Duration::from_millis(1)).min(time);
            self.pass(step);
            time -= step;
            if beating && self.beats() {
                self.beat();
            }
            self.settle();
        }
    }

    fn beats(&self) -> bool {
        self.alive && matches!(&self.channel.life, Life::Running(run) if run.stage == Stage::Beating)
    }

    fn beat(&mut self) {
        let beat = beat(&self.channel, self.now);
        self.channel.heard(beat, self.now);
    }

    fn meet(&mut self, fate: Fate) {
        match fate {
            Fate::Wait(ms) => self.wait(Duration::from_millis(ms.into()), true),
            Fate::Silence(ms) => self.wait(Duration::from_millis(ms.into()), false),
            Fate::Start => {
                self.wish = Wish::On;
                self.channel.start_afresh();
            }
            Fate::Stop => self.wish = Wish::Off,
            Fate::Calls | Fate::Beats if !self.alive => {}
            Fate::GivesWay(awaited) => self.give_way(awaited),
            Fate::Calls => {
                let now = self.now.mono;
                if let Life::Running(run) = &mut self.channel.life
                    && run.stage == Stage::Started
                {
                    run.reach(Stage::Called, now);
                    run.reach(Stage::Briefed, now);
                }
            }
            Fate::Beats => self.beat(),
            Fate::Dies => self.die(Some(1)),
            Fate::ControllerDies => self.replace_controller(),
            Fate::Startable(startable) => self.startable = startable,
        }
        self.settle();
    }

    fn replace_controller(&mut self) {
        let state = self.channel.state.clone();
        self.channel = Channel::new(state, Vec::new(), self.now);
        match self.channel.state.run.clone().filter(|run| self.alive && run.exit_words.is_none()) {
            Some(run) => {
                let process = Process { pid: run.pid, started: run.pid_start };
                self.channel.found(run.id, process, self.now);
            }
            None => {
                self.channel.found_none(None, self.now);
                self.channel.bound_wait(&self.policy, self.now);
            }
        }
    }

    /// The worker's end, as the supervisor takes it in.
    fn die(&mut self, code: Option<i32>) {
        let Life::Running(run) = &self.channel.life else { return };
        let ending = run.ending.map(|ending| ending.why);
        self.alive = false;
        self.channel.gone(code, "it died".into(), self.now);
        match verdict(self.wish, ending, false, false) {
            Verdict::GaveWay => unreachable!("it died"),
            Verdict::AsAsked => drop(self.channel.happen(Happening::Ended, self.now)),
            Verdict::Finished | Verdict::Crashed => {
                self.channel.failed(Happening::Crashed, &self.policy, self.now);
            }
        }
    }

    /// The end of a worker that was asked to leave at the next boundary.
    fn give_way(&mut self, awaited: bool) {
        let Life::Running(run) = &self.channel.life else { return };
        let ending = run.ending.map(|ending| ending.why);
        if awaited && ending.is_none() {
            self.spawns += 1;
            let (run, process) = self.fresh();
            let cursor = Cursor { item: Ulid::from_text("next"), key: "next".into(), offset_ms: 0 };
            self.channel.await_successor(run, process, LogMark::default(), cursor, self.now);
        }
        if verdict(self.wish, ending, false, true) != Verdict::GaveWay {
            return self.die(Some(0));
        }
        self.channel.gone(Some(0), "it gave way".into(), self.now);
        self.channel.gave_way(None, self.now);
        self.alive = matches!(self.channel.life, Life::Running(_));
    }

    /// The process of the newest start.
    fn fresh(&self) -> (Ulid, Process) {
        (Ulid::from_text(&format!("{:06}", self.spawns)), Process { pid: 1000 + self.spawns, started: 1 })
    }

    fn settle(&mut self) {
        for _ in 0..8 {
            let (wanted, failures) = (self.wanted(), self.channel.state.retry_count);
            let actions = reconcile(wanted, &self.channel.life, failures, self.now.mono);
            if actions.is_empty() {
                break;
            }
            actions.into_iter().for_each(|action| self.act(action));
        }
        self.check();
    }

    fn act(&mut self, action: Action) {
        let now = self.now;
        match action {
            Action::Spawn => {
                self.channel.attempt(now);
                if !self.startable {
                    self.channel.failed(Happening::SpawnFailed, &self.policy, now);
                    return;
                }
                self.spawns += 1;
                self.most = self.most.max(1 + u32::from(self.alive));
                self.alive = true;
                let (run, process) = self.fresh();
                self.channel.spawned(run, process, LogMark::default(), now);
            }
            Action::End(why) => {
                if let Life::Running(run) = &mut self.channel.life {
                    run.ending = Some(Ending { why, since: now.mono, killed: false });
                }
                if why != Why::Hung && matches!(self.channel.state.phase, Phase::Starting | Phase::Live) {
                    self.channel.happen(Happening::StopAsked, now);
                }
            }
            Action::Kill => self.die(Some(137)),
            Action::StopWaiting => {
                self.channel.life = Life::None;
                self.channel.state.next_retry_at = None;
                self.channel.state.gave_up = false;
                self.channel.happen(Happening::Ended, now);
            }
            Action::ForgetFailures => self.channel.state.retry_count = 0,
            Action::TryLock => self.channel.life = Life::None,
        }
    }

    /// Phase, life and wish fit each other at every moment.
    fn check(&self) {
        let (phase, life) = (self.channel.state.phase, &self.channel.life);
        let fits = match life {
            Life::None => phase == Phase::Off,
            Life::Waiting { .. } | Life::GaveUp => matches!(phase, Phase::Error | Phase::Retrying),
            Life::Held { .. } => true,
            Life::Running(Run { ending: Some(Ending { why: Why::Asked, .. }), .. }) => {
                phase == Phase::Stopping
            }
            Life::Running(_) => matches!(phase, Phase::Starting | Phase::Live),
        };
        assert!(fits, "{phase:?} with {life:?}");
        assert_eq!(matches!(life, Life::Running(_)), self.alive, "{life:?}");
        if self.wish == Wish::Off {
            let ending = matches!(life, Life::None | Life::Running(Run { ending: Some(_), .. }));
            assert!(ending, "nobody wants it: {life:?}");
        }
        let waits = matches!(life, Life::Waiting { .. });
        assert_eq!(self.channel.state.next_retry_at.is_some(), waits);
        assert_eq!(self.channel.state.gave_up, *life == Life::GaveUp);
    }
}

fn beat(channel: &Channel, now: Now) -> Heartbeat {
    let run = channel.state.run.as_ref().map_or_else(|| Ulid::from_text("r"), |run| run.id.clone());
    Heartbeat { playing: Playing::Programme, ..Heartbeat::new(run, channel.state.epoch, 1, now.wall) }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    // Feature: channel-management, Property 3: for any channel in any state, starts, stops and whatever happens to
    // its worker lead to a phase that fits its process and its wish, and never to a second worker.
    #[test]
    fn phase_process_and_wish_agree_at_every_moment(policy in policies(), fates in fates()) {
        let mut world = World::new(policy);
        let mut epoch = 0;
        for fate in fates {
            // Every look checks them; see `World::check`.
            world.meet(fate);
            prop_assert!(world.channel.state.epoch >= epoch, "the fencing number went back");
            epoch = world.channel.state.epoch;
        }
        prop_assert!(world.most <= 1, "{} workers at a time", world.most);
    }

    // Feature: channel-management, Property 3: every phase can be reached only as its table says, and a stop leads
    // to "off" from each of them, however little the worker listens.
    #[test]
    fn a_stop_is_never_lost(policy in policies(), fates in fates()) {
        let mut world = World::new(policy);
        fates.into_iter().for_each(|fate| world.meet(fate));
        world.meet(Fate::Stop);
        world.wait(GRACE + Duration::from_secs(1), false);
        prop_assert_eq!((world.channel.state.phase, world.alive), (Phase::Off, false));
    }

    // Feature: channel-management, Property 4: after any sequence of crashes, hangs, failed starts and dead
    // controllers a wanted channel has a worker, or the time of the next one, never further away than its policy
    // says; only a policy that gives up leaves it, and then a start brings it back.
    #[test]
    fn a_wanted_channel_always_gets_another_worker(policy in policies(), fates in fates()) {
        let mut world = World::new(policy.clone());
        world.meet(Fate::Start);
        for fate in fates {
            world.meet(fate);
            match &world.channel.life {
                Life::Waiting { due } => {
                    let wait = due.saturating_duration_since(world.now.mono);
                    prop_assert!(wait <= policy.longest(), "{wait:?}");
                }
                Life::GaveUp => {
                    let failures = world.channel.state.retry_count + 1;
                    prop_assert!(!policy.auto || policy.max_attempts.is_some_and(|most| failures > most));
                }
                Life::None => prop_assert_eq!(world.wish, Wish::Off),
                Life::Running(_) | Life::Held { .. } => {}
            }
        }
        // One that is being ended goes first.
        world.meet(Fate::Startable(true));
        world.meet(Fate::Start);
        world.wait(GRACE + Duration::from_secs(1), true);
        world.meet(Fate::Start);
        prop_assert!(world.alive, "{:?}", world.channel.life);
        if policy.auto && policy.max_attempts.is_none() {
            let before = world.spawns;
            world.meet(Fate::Dies);
            world.wait(GRACE + policy.longest() + Duration::from_secs(1), false);
            prop_assert!(world.spawns > before, "{:?}", world.channel.life);
        }
    }

    // Feature: channel-management, Property 4: a stable minute makes the next failure a first one; the position
    // and the HLS sequence numbers survive every worker and every controller.
    #[test]
    fn what_has_been_sent_is_never_forgotten(policy in policies(), fates in fates()) {
        let mut world = World::new(policy);
        let mut reserved = 0;
        for fate in fates {
            world.meet(fate);
            prop_assert!(world.channel.state.hls_sequence_reserved >= reserved);
            reserved = world.channel.state.hls_sequence_reserved;
            prop_assert!(world.channel.first_sequence <= reserved);
        }
        world.meet(Fate::Startable(true));
        world.meet(Fate::Stop);
        world.wait(GRACE + Duration::from_secs(1), false);
        world.meet(Fate::Start);
        world.meet(Fate::Calls);
        world.meet(Fate::Beats);
        world.channel.state.retry_count = 3;
        world.wait(Duration::from_secs(62), true);
        prop_assert_eq!((world.channel.state.retry_count, world.channel.state.phase), (0, Phase::Live));
    }

    // Feature: channel-management, Property 5: a heartbeat that is missing is noticed within five seconds of being
    // due and not before, the air says so at once, and the failure is counted once.
    #[test]
    fn a_missing_heartbeat_is_noticed_in_time(before in 1u32..100, silence_ms in 0u64..20_000) {
        let mut world = World::new(Restart::default());
        [Fate::Start, Fate::Calls, Fate::Beats].into_iter().for_each(|fate| world.meet(fate));
        world.wait(Duration::from_secs(before.into()), true);
        let Life::Running(run) = world.channel.life.clone() else { panic!("it runs") };
        let silence = Duration::from_millis(silence_ms);
        let age = world.now.mono.saturating_duration_since(run.heard) + silence;
        let (mono, limit) = (world.now.mono + silence, BEAT_EVERY + MISSING);
        let actions = reconcile(Wanted::On, &world.channel.life, 0, mono);
        prop_assert_eq!(actions.contains(&Action::End(Why::Hung)), age >= limit, "{:?}", age);

        let heard = beat(&world.channel, world.now);
        let view = View { wish: Wish::On, phase: Phase::Live, failure: None, wanted: 0, beat: Some((&heard, age)) };
        let off = Air { is: Is::Off, since: world.now.wall, because: String::new() };
        let air = judge(view, &off, world.now.wall);
        prop_assert_eq!(air.because.contains("has said nothing"), age > STALE, "{}", air.because);

        world.wait(limit + Duration::from_secs(3), false);
        prop_assert_eq!((world.spawns, world.channel.state.restart_count), (2, 1));
    }

    // Feature: channel-management, Property 5: restarts are counted one by one since the last start, and only
    // those that followed a failure.
    #[test]
    fn restarts_are_counted(deaths in 0u64..30) {
        let mut world = World::new(Restart { delays_s: vec![0, 1], ..Restart::default() });
        world.meet(Fate::Start);
        for _ in 0..deaths {
            world.meet(Fate::Dies);
            world.wait(Duration::from_secs(2), false);
            world.meet(Fate::ControllerDies);
        }
        prop_assert_eq!(world.channel.state.restart_count, deaths);
        prop_assert_eq!(u64::from(world.spawns), deaths + 1);
        world.meet(Fate::Start);
        prop_assert_eq!(world.channel.state.restart_count, 0);
    }
}
