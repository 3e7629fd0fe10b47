//! Programs that die or freeze: what the destination sees of it.

use super::scene::{PATIENCE, darkest_ms, media_flows};
use super::{Fault, Measured, Scale};
use crate::rig::controller::{Controller, Plan, SOON};
use crate::rig::process::{self, Process};
use crate::rig::program::wait_for;
use crate::rig::sink::Sink;
use crate::rig::wanted::{destination, is_live, start};
use crate::trace::Trace;
use crate::zoo::{self, Animal};
use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};

pub(super) const FAULTS: &[Fault] = &[
    fault("kill-controller", "the same connection goes on, not one frame is lost", false, kill_controller),
    fault("reload", "the same connection goes on, not one frame is lost", false, reload),
    fault("kill-worker", "back within 2 s at the place where it was", true, kill_worker),
    fault("freeze-worker", "noticed and replaced by itself", false, freeze_worker),
    fault(
        "kill-source",
        "FFmpeg dies as by the OOM killer: the same connection, the item goes on or gives way",
        true,
        kill_source,
    ),
];

const fn fault(
    name: &'static str,
    promise: &'static str,
    short: bool,
    run: fn(&Scale) -> Result<Measured>,
) -> Fault {
    Fault { name, group: "program", promise, short, run }
}

pub(super) struct Stage {
    pub(super) sink: Sink,
    pub(super) controller: Controller,
}

impl Stage {
    pub(super) fn set() -> Result<Self> {
        Self::set_with(&zoo::sample())
    }

    fn set_with(items: &[Animal]) -> Result<Self> {
        Self::arranged(Plan::new()?, items)
    }

    /// On the air with a controller as the fault wants it.
    pub(super) fn arranged(plan: Plan, items: &[Animal]) -> Result<Self> {
        let sink = Sink::start()?;
        zoo::put_into(&plan.media(), items)?;
        let controller = plan.start()?;
        controller.go_on_air(&start(&[destination("one", &sink.url(), "one-key")]))?;
        controller.wait_until("media are acknowledged", SOON, |s| is_live(s, "one"))?;
        Ok(Self { sink, controller })
    }

    /// Processes of the channel with this program.
    fn those(&self, program: &str) -> Vec<Process> {
        let root = self.controller.plan().root();
        let all = process::of_folder(root).into_iter();
        all.filter(|p| p.names(program)).collect()
    }

    fn hit(&self, program: &str, signal: Signal) -> Result<()> {
        let found = self.those(program);
        let pid = found.first().map(|p| p.pid).with_context(|| format!("no {program} is running"))?;
        let pid = Pid::from_raw(i32::try_from(pid)?).context("no pid")?;
        kill_process(pid, signal).with_context(|| format!("signal {program}"))
    }

    /// The first publish goes on to the end, without a step back or a gap.
    pub(super) fn one_connection(self, scale: &Scale) -> Result<Measured> {
        std::thread::sleep(scale.seconds(4.0));
        media_flows(&self.sink)?;
        self.controller.wait_until("it is live", PATIENCE, |s| is_live(s, "one"))?;
        self.controller.go_off_air()?;
        self.sink.wait_for("close", 1, SOON)?;
        let publishes = self.sink.count("publish")?;
        ensure!(publishes == 1, "{publishes} publishes in place of one");
        let trace = Trace::read(&self.sink.recording(1))?;
        ensure!(trace.backward_steps() == 0, "{} steps back", trace.backward_steps());
        let (gap, late) = (trace.longest_step_ms(), self.sink.latest_picture_ms()?);
        ensure!(gap <= 160, "{gap} ms from one picture to the next");
        let words = if late == 0 {
            "no picture came late".to_owned()
        } else {
            format!("a picture came {late} ms late")
        };
        Ok(Measured { gap_ms: Some(u64::from(gap)), words })
    }

    /// A second publish comes within `limit_ms` of the end of the first.
    fn back_within(self, limit_ms: u64) -> Result<Measured> {
        self.sink.wait_for("first_idr", 2, PATIENCE)?;
        self.controller.wait_until("it is live", PATIENCE, |s| is_live(s, "one"))?;
        let dark = darkest_ms(&self.sink)?;
        ensure!(dark <= limit_ms, "dark for {dark} ms");
        Ok(Measured { gap_ms: Some(dark), words: "a new connection".to_owned() })
    }
}

fn kill_controller(scale: &Scale) -> Result<Measured> {
    let mut stage = Stage::set()?;
    stage.controller.crash()?;
    std::thread::sleep(scale.seconds(3.0));
    stage.controller.come_back()?;
    stage.one_connection(scale)
}

fn reload(scale: &Scale) -> Result<Measured> {
    let mut stage = Stage::set()?;
    stage.controller.reload()?;
    stage.one_connection(scale)
}

fn kill_worker(_: &Scale) -> Result<Measured> {
    let stage = Stage::set()?;
    stage.hit("stream-worker", Signal::KILL)?;
    stage.back_within(2_000)
}

fn freeze_worker(_: &Scale) -> Result<Measured> {
    let stage = Stage::set()?;
    stage.hit("stream-worker", Signal::STOP)?;
    stage.back_within(30_000)
}

fn kill_source(scale: &Scale) -> Result<Measured> {
    let stage = Stage::set_with(&[zoo::for_ffmpeg()])?;
    wait_for("a source", SOON, || Ok((!stage.those("ffmpeg").is_empty()).then_some(())))?;
    stage.hit("ffmpeg", Signal::KILL)?;
    stage.one_connection(scale)
}
