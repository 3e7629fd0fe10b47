//! Connections that begin just before their timestamps change their form (2^24, 2^31 and 2^32 ms): a real worker, and
//! a sink that writes down what it was told. Months of a channel in a few seconds.

use anyhow::{Context, Result};
use e2e::media::Clip;
use e2e::recording::Recording;
use e2e::rig::program;
use e2e::rig::sink::Sink;
use e2e::rig::worker::Worker;
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;

const WHOLE: Duration = Duration::from_secs(60);
/// How long before the edge a connection begins, ms.
const BEFORE: u32 = 1_500;
const EDGES: [(&str, u32); 3] = [("three-bytes", 1 << 24), ("sign", 1 << 31), ("all-bits", 0)];

/// Timestamps of the tags of one type in an FLV file, as they are written: 9 is picture, 8 is sound.
fn times(flv: &Path, kind: u8) -> Result<Vec<u32>> {
    let bytes = std::fs::read(flv).with_context(|| flv.display().to_string())?;
    let (mut found, mut rest) = (Vec::new(), bytes.get(13..).context("an FLV header")?);
    while let [tag, a, b, c, t1, t2, t3, t0, _, _, _, body @ ..] = rest {
        let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
        if *tag == kind {
            found.push(u32::from_be_bytes([*t0, *t1, *t2, *t3]));
        }
        rest = body.get(length + 4..).unwrap_or_default();
    }
    Ok(found)
}

fn destination(sink: &Sink, (id, edge): (&str, u32)) -> Value {
    json!({"id": id, "name": id, "platform": "custom", "url": sink.url(), "key": id,
        "first_timestamp_ms": edge.wrapping_sub(BEFORE)})
}

#[test]
fn every_edge_is_crossed_in_one_connection_and_time_only_grows() -> Result<()> {
    let media = tempfile::tempdir()?;
    let clip = Clip::plain("01-clip.mp4", 1).lasting(4.0);
    let path = clip.put_into(media.path())?;
    let mut sink = Sink::start()?;
    let mut worker = Worker::start(json!({
        "items": [{"id": "item", "key": clip.file, "at": {"path": path}}], "loop": false,
        "destinations": EDGES.map(|edge| destination(&sink, edge)),
    }))?;
    worker.wait_for_end(WHOLE)?;
    program::wait_for("every goodbye", WHOLE, || Ok((sink.count("close")? == 3).then_some(())))?;
    sink.end();
    assert_eq!(sink.count("publish")?, 3, "one connection each");
    let mut crossed = 0;
    for publish in 1..=3 {
        let file = sink.recording(publish);
        for kind in [8, 9] {
            let times = times(&file, kind)?;
            let steps = times.windows(2).map(|pair| pair[1].wrapping_sub(pair[0]));
            // A header has the time of the picture after it.
            assert!(steps.enumerate().all(|(at, step)| step < 200 && (step > 0 || at == 0)), "{times:?}");
            let (first, last) = (times[0], times[times.len() - 1]);
            let edge =
                EDGES.iter().find(|(_, edge)| edge.wrapping_sub(first) <= BEFORE).context("an edge")?.1;
            assert!(last.wrapping_sub(edge) < 1 << 23, "{first} to {last} does not cross {edge}");
            crossed += 1;
        }
        let recording = Recording::read(&file)?;
        assert_eq!(recording.pictures.len(), usize::from(clip.frames()));
        assert!(recording.decode_errors.is_empty(), "{:?}", recording.decode_errors);
    }
    assert_eq!(crossed, 6);
    Ok(())
}
