//! From a bucket to the air: links that expire while their items play, and secrets that nobody sees.

use anyhow::{Context, Result};
use e2e::analysis::{Limits, judge};
use e2e::media::{Clip, EVEN};
use e2e::recording::Recording;
use e2e::rig::controller::{Controller, Plan, SOON};
use e2e::rig::front::{Fault, Front, Request};
use e2e::rig::nginx::Nginx;
use e2e::rig::process::Process;
use e2e::rig::s3::{self, S3};
use e2e::rig::wanted::{destination, is_live, plays, start};
use e2e::rig::worker::{self, Worker};
use e2e::zoo::{self, Animal};
use serde_json::json;
use std::path::Path;
use std::time::Duration;

/// What a signed link cannot be without.
const SIGNATURE: &str = "X-Amz-Signature";
const LONG: &str = "01-longer-than-a-link.mp4";

#[test]
fn links_that_expire_every_twenty_seconds_are_never_noticed() -> Result<()> {
    const LINK_TTL_S: u64 = 20;
    // Fifteen seconds are read ahead, so it is still being read when its first link is long dead.
    let long = Clip::plain(LONG, 1).lasting(45.0);
    let long = Clip { video: EVEN, container: &["-movflags", "+faststart"], ..long };
    let items = [Animal::new(long), Animal::new(Clip::plain("02-next.mp4", 2))];
    let (s3, nginx) = (S3::start()?, Nginx::start()?);
    zoo::put_into(&s3.bucket(), &items)?;
    let front = Front::start(s3.address())?;
    // Every connection ends after some seconds of media, and the next one needs a link.
    front.tell(|r| if r.reads(LONG) { Fault::EndEarly { after: 1_000_000 } } else { Fault::None });
    let mut worker = Worker::start(json!({
        "items": worker::objects(&s3.bucket(), &items)?,
        "loop": false,
        "destinations": [worker::destination(&nginx.url())],
        "storage": s3::settings(&front.url(), LINK_TTL_S),
    }))?;
    worker.wait_for_end(Duration::from_secs(150))?;
    let recordings = nginx.recordings()?;
    let recording = Recording::read(recordings.first().context("nginx recorded nothing")?)?;
    let verdict = judge(&recording, &items, &Limits::default());
    assert!(verdict.problems.is_empty(), "\n{verdict}\n{}\n{}", front.table(), worker.tail());
    assert_eq!(nginx.publishes(), 1);
    assert_dead(&front, &s3, LINK_TTL_S)
}

/// The first link is refused by now, the item was read for longer than it lived, and nothing was refused meanwhile.
fn assert_dead(front: &Front, s3: &S3, link_ttl_s: u64) -> Result<()> {
    let answered = front.answered();
    assert!(answered.iter().all(|a| matches!(a.status, 200 | 206)), "{}", front.table());
    let reads: Vec<Request> = answered.into_iter().map(|a| a.request).filter(|r| r.reads(LONG)).collect();
    let (first, last) = reads.first().zip(reads.last()).context("nothing was read")?;
    assert!(last.at > first.at + Duration::from_secs(link_ttl_s), "{}", front.table());
    let agent = ureq::Agent::config_builder().http_status_as_error(false).build().new_agent();
    assert_eq!(agent.get(format!("{}{}", s3.url(), first.path)).call()?.status(), 403);
    Ok(())
}

#[test]
fn a_channel_plays_from_a_bucket_and_its_secrets_are_nowhere_to_be_seen() -> Result<()> {
    let (s3, nginx) = (S3::start()?, Nginx::start()?);
    zoo::put_into(&s3.bucket(), &zoo::sample())?;
    zoo::put_into(&s3.bucket(), &zoo::for_many_ffmpegs())?;
    let plan = Plan::new()?
        .with("STORAGE_PROVIDER", "s3")
        .with("STORAGE_BUCKET", s3::BUCKET)
        .with("STORAGE_ENDPOINT", s3.url())
        .with("STORAGE_ACCESS_KEY_ID", s3::KEY_ID)
        .with("STORAGE_SECRET_ACCESS_KEY", s3::SECRET)
        .with("CACHE_BYTES", "0");
    let controller = plan.start()?;
    controller.go_on_air(&start(&[destination("one", &nginx.url(), "k")]))?;
    let links = watch(&controller)?;
    assert!(links > 0, "no source was seen that reads a link");
    let answers =
        ["/streams/status", "/health", "/api/channels/main/destinations"].map(|p| controller.get(p));
    for answer in answers {
        let text = answer?.text;
        assert!(!text.contains(s3::SECRET) && !text.contains(SIGNATURE), "{text}");
    }
    controller.go_off_air()?;
    assert_no_file_holds(controller.plan().root(), &[s3::SECRET, SIGNATURE]);
    Ok(())
}

/// Looks at every process while more files are opened, some of them by FFmpeg; how often one was seen that reads a link.
fn watch(controller: &Controller) -> Result<usize> {
    let links = std::cell::Cell::new(0);
    let own = controller.pid();
    let look = || {
        for process in controller.processes() {
            let Process { pid, arguments, .. } = &process;
            links.set(links.get() + usize::from(arguments.contains("-i http://127.0.0.1:")));
            // The controller's own environment is where its owner put the secret.
            let shown = if *pid == own { arguments.contains(s3::SECRET) } else { process.names(s3::SECRET) };
            assert!(!shown && !process.names(SIGNATURE), "a secret is seen in {process:#?}");
        }
    };
    controller.wait_until("media are acknowledged", SOON, |s| {
        look();
        is_live(s, "one")
    })?;
    for file in ["02-b-frames.mp4", "03-audio-ends-early.mp4", "31-for-ffmpeg.mkv", "32-for-ffmpeg.mkv"] {
        controller.wait_until(&format!("{file} is on the air"), SOON, |s| {
            look();
            plays(s, file)
        })?;
    }
    Ok(links.get())
}

/// Every file below `folder`: state, logs, HLS, cache, what the controller said at its most talkative.
fn assert_no_file_holds(folder: &Path, secrets: &[&str]) {
    let mut folders = vec![folder.to_owned()];
    let mut looked_at = 0;
    while let Some(folder) = folders.pop() {
        for path in std::fs::read_dir(&folder).into_iter().flatten().flatten().map(|entry| entry.path()) {
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let bytes = std::fs::read(&path).unwrap_or_default();
            looked_at += 1;
            for secret in secrets {
                let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
                assert!(!found, "{secret} is in {}", path.display());
            }
        }
    }
    assert!(looked_at > 3, "only {looked_at} files were looked at");
}
