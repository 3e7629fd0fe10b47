//! Kills at random moments, by seed: the controller, the worker, the sources, reloads. Then everybody who knows
//! something about the channel must say the same: the sink, the state file, the processes, the API.

use crate::rig::controller::{Controller, Plan, SOON};
use crate::rig::process::{self, Process};
use crate::rig::program::{built, wait_for};
use crate::rig::sink::Sink;
use crate::rig::wanted::{destination, is_live, start};
use crate::zoo;
use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long a channel may take to be on the air again after the last kill.
const CALM: Duration = Duration::from_secs(60);

/// How long media may take from one look to the next.
const ARRIVES: Duration = Duration::from_secs(3);

/// What is done to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Blow {
    KillController,
    Reload,
    Upgrade,
    KillWorker,
    FreezeWorker,
    KillSource,
    Stop,
}

/// A small generator of random numbers (xorshift64*): the same seed gives the same blows.
#[derive(Debug)]
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % below.max(1)
    }

    fn blow(&mut self) -> Blow {
        match self.roll(20) {
            0..5 => Blow::KillController,
            5..8 => Blow::Reload,
            8..10 => Blow::Upgrade,
            10..14 => Blow::KillWorker,
            14..18 => Blow::KillSource,
            18 => Blow::FreezeWorker,
            _ => Blow::Stop,
        }
    }
}

/// What was found out.
#[derive(Debug, Default)]
pub struct Report {
    blows: BTreeMap<Blow, usize>,
    /// HLS sequence numbers that went back.
    backwards: Vec<String>,
    sequence: (u64, u64),
    /// Times at which the sink had no publish, ms; stops that were asked for are not among them.
    dark_ms: Vec<u64>,
    publishes: usize,
    /// What decoders complained about, and how often.
    decode_errors: BTreeMap<String, usize>,
}

impl Report {
    /// In one JSON line.
    pub fn line(&self) -> String {
        let blows: BTreeMap<String, usize> =
            self.blows.iter().map(|(blow, n)| (format!("{blow:?}"), *n)).collect();
        let worst = self.dark_ms.iter().max();
        json!({"blows": blows, "publishes": self.publishes, "dark_ms": self.dark_ms, "darkest_ms": worst,
            "media_sequence": self.sequence.0, "discontinuity_sequence": self.sequence.1,
            "decode_errors": self.decode_errors, "backwards": self.backwards})
        .to_string()
    }
}

struct Arena {
    controller: Controller,
    sink: Sink,
    dice: Dice,
    report: Report,
    last: Option<Blow>,
}

/// Puts a channel on the air, hits it for this long, and asks everybody.
///
/// # Errors
/// Whatever does not agree in the end, or a channel that does not come back.
pub fn run(time: Duration, seed: u64) -> Result<Report> {
    let sink = Sink::start()?;
    let plan = Plan::new()?;
    zoo::put_into(&plan.media(), &zoo::sample())?;
    zoo::put_into(&plan.media(), &[zoo::for_ffmpeg()])?;
    let program = plan.root().join("stream-worker");
    replace(&program, &std::fs::read(built("stream-worker")?)?)?;
    let controller = plan.with("WORKER_PATH", &program).start()?;
    // Kills come faster than the usual waits pass.
    let mut body = start(&[destination("one", &sink.url(), "one-key")]);
    body["restart"] = json!({"delays_s": [0, 1, 2]});
    controller.go_on_air(&body)?;
    let dice = Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let mut arena = Arena { controller, sink, dice, report: Report::default(), last: None };
    arena.wait_for_air()?;
    let end = Instant::now() + time;
    while Instant::now() < end {
        arena.rest()?;
        let blow = arena.dice.blow();
        arena.strike(blow).with_context(|| format!("{blow:?}"))?;
        *arena.report.blows.entry(blow).or_default() += 1;
        arena.last = Some(blow);
    }
    let last = arena.last;
    arena.agree().with_context(|| format!("in the end, after {last:?}"))?;
    arena.leave()
}

impl Arena {
    /// Some moments in peace, at any time of which the next blow may fall.
    fn rest(&mut self) -> Result<()> {
        let end = Instant::now() + Duration::from_millis(self.dice.roll(6000));
        while Instant::now() < end {
            std::thread::sleep(Duration::from_millis(100));
            self.watch_sequences();
        }
        Ok(())
    }

    fn strike(&mut self, blow: Blow) -> Result<()> {
        match blow {
            Blow::KillController => {
                self.controller.crash()?;
                std::thread::sleep(Duration::from_millis(self.dice.roll(3000)));
                // Now and then the worker goes too while nobody looks.
                if self.dice.roll(4) == 0 {
                    self.signal("stream-worker", Signal::KILL);
                }
                self.controller.come_back()?;
            }
            Blow::Reload => self.controller.reload()?,
            Blow::Upgrade => self.upgrade()?,
            Blow::KillWorker => self.signal("stream-worker", Signal::KILL),
            Blow::FreezeWorker => self.signal("stream-worker", Signal::STOP),
            Blow::KillSource => self.signal("ffmpeg", Signal::KILL),
            Blow::Stop => {
                self.controller.go_off_air()?;
                ensure!(self.workers().is_empty(), "a stopped channel has a worker");
                self.controller.go_on_air(&json!({}))?;
            }
        }
        Ok(())
    }

    /// The same worker with one byte more is another one. Whoever plays gives way to it.
    fn upgrade(&mut self) -> Result<()> {
        let program = self.controller.plan().root().join("stream-worker");
        let mut bytes = std::fs::read(&program).context("read the worker")?;
        bytes.push(b'\n');
        replace(&program, &bytes)?;
        self.controller.reload()
    }

    fn of_program(&self, name: &str) -> Vec<Process> {
        let all = process::of_folder(self.controller.plan().root()).into_iter();
        let runs = |p: &Process| p.arguments.split(' ').next().is_some_and(|program| program.ends_with(name));
        all.filter(runs).collect()
    }

    fn workers(&self) -> Vec<Process> {
        self.of_program("stream-worker")
    }

    /// There may be none at this moment, which is as good a moment as any.
    fn signal(&mut self, program: &str, signal: Signal) {
        let all = self.of_program(program);
        let chosen = self.dice.roll(all.len() as u64) as usize;
        let pid = all.get(chosen).and_then(|p| i32::try_from(p.pid).ok()).and_then(Pid::from_raw);
        let _ = pid.map(|pid| kill_process(pid, signal));
    }

    fn wait_for_air(&self) -> Result<Value> {
        let fits = |s: &Value| s["phase"] == "live" && s["air"]["is"] == "on" && is_live(s, "one");
        self.controller.wait_until("the programme on the air", CALM, fits)
    }

    fn watch_sequences(&mut self) {
        let Some(seen) = self.sequences() else { return };
        let before = self.report.sequence;
        if seen.0 < before.0 || seen.1 < before.1 {
            self.report.backwards.push(format!("{before:?} then {seen:?}"));
        }
        self.report.sequence = seen;
    }

    /// Media and discontinuity sequence of the playlist, as it is on the disk.
    fn sequences(&self) -> Option<(u64, u64)> {
        let folders = std::fs::read_dir(self.controller.plan().root().join("hls")).ok()?;
        let playlist: PathBuf = folders.flatten().next()?.path().join("index.m3u8");
        let text = std::fs::read_to_string(playlist).ok()?;
        let of = |tag: &str| text.lines().find_map(|line| line.strip_prefix(tag)?.parse().ok());
        Some((of("#EXT-X-MEDIA-SEQUENCE:")?, of("#EXT-X-DISCONTINUITY-SEQUENCE:").unwrap_or(0)))
    }

    /// The API, the state file, the processes and the sink come to say the same.
    fn agree(&mut self) -> Result<()> {
        let end = Instant::now() + CALM;
        loop {
            self.wait_for_air()?;
            let Err(disagreement) = self.compare() else { break };
            // The last blow may have fallen a moment ago.
            if Instant::now() > end {
                return Err(disagreement);
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        self.watch_sequences();
        ensure!(self.report.backwards.is_empty(), "HLS went back: {:?}", self.report.backwards);
        Ok(())
    }

    fn compare(&self) -> Result<()> {
        let workers = self.workers();
        ensure!(workers.len() == 1, "one worker, not {workers:#?}");
        let status = self.controller.status()?;
        let path = self.controller.plan().state().join("channels/main/stream_state.json");
        let kept: Value = serde_json::from_slice(&std::fs::read(path)?)?;
        for place in ["/run/id", "/run/pid", "/phase", "/restart_count"] {
            let (shown, kept) = (status.pointer(place), kept.pointer(place));
            ensure!(shown == kept, "{place}: {shown:?} in the API and {kept:?} on the disk");
        }
        ensure!(status["run"]["pid"] == workers[0].pid, "the worker is another one: {workers:#?}");
        ensure!(self.open_publishes()? == 1, "one publish is open at the sink");
        // The newest one: a worker that was frozen a moment ago still has its own open.
        let recording = self.sink.recording(self.sink.count("publish")?);
        let size = || recording.metadata().map_or(0, |meta| meta.len());
        let before = size();
        wait_for("media at the sink", ARRIVES, || Ok((size() > before).then_some(())))
    }

    fn open_publishes(&self) -> Result<usize> {
        Ok(self.sink.count("publish")? - self.sink.count("close")?)
    }

    /// Ends everything; nothing may be left.
    fn leave(mut self) -> Result<Report> {
        self.controller.go_off_air()?;
        wait_for("the last close", SOON, || Ok((self.open_publishes()? == 0).then_some(())))?;
        let left = self.controller.end()?;
        ensure!(left.is_empty(), "left behind: {left:#?}");
        self.report.publishes = self.sink.count("publish")?;
        self.report.dark_ms = dark_times(&self.sink.events()?);
        self.sink.end();
        for publish in 1..=self.report.publishes {
            let recording = crate::recording::Recording::read(&self.sink.recording(publish));
            // A publish that was killed before its first picture has nothing to decode.
            for error in recording.map_or(Vec::new(), |recording| recording.decode_errors) {
                let text = error.rsplit_once("] ").map_or(error.as_str(), |(_, text)| text).to_owned();
                *self.report.decode_errors.entry(text).or_default() += 1;
            }
        }
        Ok(self.report)
    }
}

/// Another file under the name, as an installation makes it.
fn replace(program: &Path, bytes: &[u8]) -> Result<()> {
    let half = program.with_extension("new");
    std::fs::write(&half, bytes)?;
    std::fs::set_permissions(&half, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    std::fs::rename(half, program).context("install a worker")
}

/// From each close to the next picture. A worker that takes its leave was told to stop, and nobody counts that.
pub(crate) fn dark_times(events: &[Value]) -> Vec<u64> {
    let mut dark_since = None;
    let mut found = Vec::new();
    for event in events {
        let at = event["at_ms"].as_u64().unwrap_or(0);
        match event["event"].as_str() {
            Some("close") if event["reason"] != "unpublish" => dark_since = Some(at),
            Some("close") => dark_since = None,
            Some("first_idr") => found.extend(dark_since.take().map(|since| at.saturating_sub(since))),
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_blows_and_every_kind_comes() {
        let blows =
            |seed| (0..200).map(|_| seed).scan(Dice(seed), |dice, _| Some(dice.blow())).collect::<Vec<_>>();
        assert_eq!(blows(7), blows(7));
        assert_ne!(blows(7), blows(8));
        assert_eq!(blows(7).into_iter().collect::<std::collections::BTreeSet<_>>().len(), 7);
    }

    #[test]
    fn darkness_is_from_a_broken_publish_to_the_next_picture() {
        let event =
            |event: &str, at_ms: u64, reason: &str| json!({"event": event, "at_ms": at_ms, "reason": reason});
        let events = [
            event("publish", 0, ""),
            event("first_idr", 10, ""),
            event("close", 100, "closed"),
            event("first_idr", 350, ""),
            event("close", 400, "unpublish"),
            event("first_idr", 9000, ""),
        ];
        assert_eq!(dark_times(&events), [250]);
    }
}
