//! Files without a picture, from a bucket: the slate is seen while they are heard, whatever becomes of the connection.

use anyhow::{Context, Result};
use e2e::analysis::{Limits, judge};
use e2e::media::Clip;
use e2e::rare;
use e2e::recording::Recording;
use e2e::rig::front::{Fault, Front};
use e2e::rig::s3::{self, S3};
use e2e::rig::sink::Sink;
use e2e::rig::worker::{self, Worker};
use e2e::zoo::{self, Animal};
use serde_json::json;
use std::time::Duration;

const SONG: &str = "02-song.m4a";

#[test]
fn a_song_goes_on_under_the_slate_although_its_connections_break_off() -> Result<()> {
    let clip = |file, item| Clip { size: (320, 180), ..Clip::plain(file, item) };
    let song = clip(SONG, 2).lasting(8.0).blind();
    let items = [clip("01-before.mp4", 1), song, clip("03-after.mp4", 3)].map(Animal::new);
    let (s3, mut sink) = (S3::start()?, Sink::start()?);
    zoo::put_into(&s3.bucket(), &items)?;
    let front = Front::start(s3.address())?;
    front.tell(|r| if r.reads(SONG) { Fault::EndEarly { after: 50_000 } } else { Fault::None });
    let mut worker = Worker::start(json!({
        "profile": rare::profile(),
        "items": worker::objects(&s3.bucket(), &items)?,
        "loop": false,
        "destinations": [worker::destination(&sink.url())],
        "storage": s3::settings(&front.url(), 600),
    }))?;
    worker.wait_for_end(Duration::from_secs(60))?;
    sink.wait_for("close", 1, Duration::from_secs(20))?;
    sink.end();
    let recording = Recording::read(&sink.recording(1)).context("read the recording")?;
    let verdict = judge(&recording, &items, &Limits::default());
    assert!(verdict.problems.is_empty(), "\n{verdict}\n{}\n{}", front.table(), worker.tail());
    let reads = front.answered().iter().filter(|answer| answer.request.reads(SONG)).count();
    assert!(reads > 2, "the connection never broke off:\n{}", front.table());
    Ok(())
}
