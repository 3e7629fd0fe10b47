//! The scenes that faults are tried in, and the looks at them afterwards.

use super::Measured;
use crate::rig::controller::{Controller, Plan, SOON};
use crate::rig::nginx::Nginx;
use crate::rig::program::wait_for;
use crate::rig::sink::Sink;
use crate::rig::wanted::{destination, is_live, seen, start};
use crate::trace::Trace;
use crate::zoo::{self, Animal};
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::time::Duration;

/// Longest wait for something that is bound to come, on a busy machine too.
pub(super) const PATIENCE: Duration = Duration::from_secs(90);
/// Longest step between two pictures where nothing is wrong, ms: one of 25 frames per second, and some rounding.
const EVEN_MS: u32 = 60;
/// The same where the fallback takes over: at most 100 ms late (the promise), plus the step itself.
const HANDED_OVER_MS: u32 = 160;

/// A channel on two destinations: nginx-rtmp, which nothing is done to, and another one that is hit.
pub(super) struct Pair {
    pub(super) controller: Controller,
    pub(super) spared: Nginx,
}

impl Pair {
    /// On the air at both places, as far as the second one lets it be.
    pub(super) fn on_air(hit: Value) -> Result<Self> {
        Self::playing(&zoo::sample(), hit)
    }

    /// The same, with other media.
    pub(super) fn playing(items: &[Animal], hit: Value) -> Result<Self> {
        Self::arranged(Plan::new()?, items, &[hit])
    }

    /// The same, with a controller and as many other destinations as the fault wants.
    pub(super) fn arranged(plan: Plan, items: &[Animal], others: &[Value]) -> Result<Self> {
        let spared = Nginx::start()?;
        zoo::put_into(&plan.media(), items)?;
        let controller = plan.start()?;
        let all = [&[destination("spared", &spared.url(), "a")], others].concat();
        controller.go_on_air(&start(&all))?;
        controller.wait_until("the spared one is live", SOON, |s| is_live(s, "spared"))?;
        Ok(Self { controller, spared })
    }

    /// What the status says of the one that is hit.
    pub(super) fn seen(&self) -> Result<Value> {
        Ok(seen(&self.controller.status()?, "hit").clone())
    }

    /// Waits until the one that is hit acknowledges media.
    pub(super) fn hit_is_live(&self, limit: Duration) -> Result<()> {
        self.controller.wait_until("the one that is hit is live", limit, |s| is_live(s, "hit")).map(drop)
    }

    /// Waits until it does not.
    pub(super) fn hit_is_lost(&self, limit: Duration) -> Result<()> {
        self.controller.wait_until("the loss is seen", limit, |s| !is_live(s, "hit")).map(drop)
    }

    /// Waits until its newest failure has this code.
    pub(super) fn hit_says(&self, code: &str, limit: Duration) -> Result<()> {
        let what = format!("the failure {code}");
        let said =
            |s: &Value| seen(s, "hit")["last_error"]["code"].as_str().is_some_and(|c| c.contains(code));
        self.controller.wait_until(&what, limit, said).map(drop)
    }

    /// Ends it: the spared one was sent every picture in one connection, and nobody was told that all is dark.
    pub(super) fn spared_is_untouched(self, words: impl Into<String>) -> Result<Measured> {
        let air = self.controller.status()?["air"]["is"].clone();
        ensure!(air == "on", "the air is {air} while one destination is live");
        self.controller.go_off_air()?;
        Ok(Measured { gap_ms: Some(untouched(&self.spared, EVEN_MS)?), words: words.into() })
    }
}

/// One publish, no step back, no step longer than this; gives the longest, ms.
fn untouched(nginx: &Nginx, longest: u32) -> Result<u64> {
    ensure!(nginx.publishes() == 1, "{} publishes at nginx in place of one", nginx.publishes());
    let recordings = nginx.recordings()?;
    let trace = Trace::read(recordings.first().context("nginx recorded nothing")?)?;
    ensure!(trace.backward_steps() == 0, "{} steps back", trace.backward_steps());
    let step = trace.longest_step_ms();
    ensure!(step <= longest, "{step} ms from one picture to the next");
    Ok(u64::from(step))
}

/// Two receivers of a worker that plays from a bucket: nobody may notice more than a change of picture.
pub(super) struct Watchers {
    pub(super) nginx: Nginx,
    pub(super) sink: Sink,
}

impl Watchers {
    pub(super) fn start() -> Result<Self> {
        Ok(Self { nginx: Nginx::start()?, sink: Sink::start()? })
    }

    /// For the spec of a worker.
    pub(super) fn destinations(&self) -> Value {
        let to = |id: &str, url: String| serde_json::json!({"id": id, "name": id, "platform": "custom", "url": url, "key": "k"});
        serde_json::json!([to("nginx", self.nginx.url()), to("sink", self.sink.url())])
    }

    /// Waits until both have everything, and judges: one publish each, and no longer gap than a hand-over takes.
    pub(super) fn judge(&self, words: impl Into<String>) -> Result<Measured> {
        self.sink.wait_for("close", 1, SOON)?;
        let publishes = self.sink.count("publish")?;
        ensure!(publishes == 1, "{publishes} publishes at the sink in place of one");
        let gap = untouched(&self.nginx, HANDED_OVER_MS)?;
        let trace = Trace::read(&self.sink.recording(1))?;
        ensure!(trace.backward_steps() == 0, "{} steps back at the sink", trace.backward_steps());
        let late = self.sink.latest_picture_ms()?;
        let words = format!("{}; pictures at most {} ms apart by the clock", words.into(), late.max(150));
        Ok(Measured { gap_ms: Some(gap.max(u64::from(trace.longest_step_ms()))), words })
    }
}

/// From the last close here to the first picture of this publish there, ms by the clock of the sinks.
pub(super) fn changed_over_ms(from: &Sink, to: &Sink, publish: usize) -> Result<u64> {
    let at = |sink: &Sink, event: &str, count: usize| -> Result<u64> {
        sink.wait_for(event, count, PATIENCE)?;
        let events = sink.events()?;
        let found = events.iter().filter(|e| e["event"] == event).nth(count - 1);
        found.and_then(|e| e["at_ms"].as_u64()).context("an event has a time")
    };
    let (there, closes) = (at(to, "first_idr", publish)?, from.count("close")?);
    Ok(there.saturating_sub(at(from, "close", closes.max(1))?))
}

/// The newest goodbye of a publisher was one, and not a broken connection.
pub(super) fn took_its_leave(sink: &Sink, closes: usize) -> Result<()> {
    sink.wait_for("close", closes, PATIENCE)?;
    let reason = sink.events()?.into_iter().rfind(|e| e["event"] == "close").map(|e| e["reason"].clone());
    ensure!(reason.as_ref().is_some_and(|reason| reason == "unpublish"), "it ended with {reason:?}");
    Ok(())
}

/// From a broken publish to the next picture, ms, as the sink saw it.
pub(super) fn darkest_ms(sink: &Sink) -> Result<u64> {
    Ok(crate::kills::dark_times(&sink.events()?).into_iter().max().unwrap_or(0))
}

/// Waits until the sink sees media move.
pub(super) fn media_flows(sink: &Sink) -> Result<()> {
    let recording = sink.recording(sink.count("publish")?);
    let size = || recording.metadata().map_or(0, |meta| meta.len());
    let before = size();
    wait_for("media at the sink", SOON, || Ok((size() > before).then_some(())))
}
