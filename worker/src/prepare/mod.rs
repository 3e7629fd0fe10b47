//! Preparing a file once, so that it can be copied from then on: the process behind `stream-worker --prepare`.
//!
//! It looks at the file, encodes what does not fit the profile in parts that survive an interruption, sets the
//! loudness, joins the tracks, measures the result, and only then gives it its name. Nothing here knows of channels
//! or of the air, and the original is only ever read.

mod clock;
mod depot;
mod join;
mod loudness;
mod original;
mod picture;
mod plan;
mod scan;
mod sound;
mod step;
mod work;

use crate::source::child::Tools;
use crate::source::probe::{self, MediaInfo};
use depot::Depot;
use picture::Picture;
use plan::{Plan, plan};
use sound::Sound;
use state::prepared::{self, Certificate, Job, SETTINGS, Said, Stage};
use state::wire::Making;
use std::io;
use std::path::Path;
use step::Bench;
use storage::{Storage, StorageError};
use work::Work;

/// Why a file was not prepared.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// It cannot be, in words.
    #[error("{0}")]
    File(String),
    /// Another process is at it.
    #[error("another process prepares it already")]
    Busy,
    /// The bucket is away for now, in words.
    #[error("{0}")]
    Away(String),
}

impl From<String> for Failure {
    fn from(why: String) -> Self {
        Self::File(why)
    }
}

impl From<StorageError> for Failure {
    fn from(error: StorageError) -> Self {
        if error.is_worth_retrying() { Self::Away(error.to_string()) } else { Self::File(error.to_string()) }
    }
}

/// Whoever listens to a job. An error means that nobody does any more: the job ends then.
pub type Tell<'a> = &'a mut dyn FnMut(&Said) -> io::Result<()>;

/// Prepares one file. Call it from the thread that lives as long as the process.
///
/// # Errors
/// Why it cannot be done.
pub async fn run(job: &Job, tell: Tell<'_>) -> Result<Said, Failure> {
    let tools = Tools { ffmpeg: job.ffmpeg.clone(), ffprobe: job.ffprobe.clone() };
    let mut bench = Bench::new(&tools, tell);
    let bucket = original::bucket(job)?;
    let depot = Depot::of(job, bucket.as_ref());
    let said = here(&mut bench, job, bucket.as_ref(), depot.as_ref()).await?;
    if let (Said::Ready { .. }, Some(depot)) = (&said, &depot) {
        depot.keep(&mut bench, job).await.map_err(|failure| match failure {
            Failure::File(why) => Failure::File(format!("is prepared, but not kept in the bucket: {why}")),
            other => other,
        })?;
    }
    Ok(said)
}

/// Sees to it that the result is on this machine: it is there, or another host has made it, or it is made.
async fn here(
    bench: &mut Bench<'_>,
    job: &Job,
    bucket: Option<&Storage>,
    depot: Option<&Depot<'_>>,
) -> Result<Said, Failure> {
    let name = prepared::name(&job.item.key, &job.item.content, &job.profile);
    let found = prepared::find(&job.cache_dir, &job.item, &job.profile);
    if let Some((_, found)) = found.filter(|(_, found)| found.is_as_loud_as(job.loudness)) {
        return Ok(Said::Ready { name, reason: found.reason });
    }
    let work = Work::enter(job)?;
    let taken = match depot {
        Some(depot) => depot.take(bench, job, &work).await?,
        None => None,
    };
    let certificate = match taken {
        Some(taken) => taken,
        None => match made(bench, job, &work, bucket).await? {
            Ok(made) => made,
            Err(reason) => {
                work.clear();
                return Ok(Said::Fits { reason });
            }
        },
    };
    work.publish(&certificate)?;
    Ok(Said::Ready { name, reason: certificate.reason })
}

/// Makes the result. The inner error says that nothing is to be done, and why.
async fn made(
    bench: &mut Bench<'_>,
    job: &Job,
    work: &Work,
    bucket: Option<&Storage>,
) -> Result<Result<Certificate, String>, Failure> {
    let input = original::original(bench, job, work, bucket).await?;
    let info = probe::probe(bench.tools(), &input).await?;
    let original = std::fs::metadata(&input).map_err(|error| format!("cannot be opened: {error}"))?.len();
    let sizes = sizes(job, &info, original);
    bench.largest_file = sizes.largest;
    let scanned = scan::picture_that_may_be_copied(bench, job, &input, &info).await?;
    match plan(&info, job, scanned)? {
        Err(reason) => Ok(Err(reason)),
        Ok(plan) => {
            work.check_space(sizes.needed)?;
            Ok(Ok(make(bench, job, work, &input, info, plan).await?))
        }
    }
}

/// How much a job may write, bytes.
#[derive(Debug, Clone, Copy)]
struct Sizes {
    /// The result and its parts together, by the bitrates.
    needed: u64,
    /// No single file may become larger: the original may have to be copied for its index.
    largest: u64,
}

fn sizes(job: &Job, info: &MediaInfo, original: u64) -> Sizes {
    const SPARE: u64 = 64 << 20;
    /// Where a file does not say how long it is, ms.
    const UNKNOWN_MS: u64 = 4 * 3600 * 1000;
    let copied = info.video.as_ref().and_then(|v| v.kbps).unwrap_or(0).min(job.profile.max_video_kbps);
    let kbps = copied.max(job.profile.video_kbps) + job.profile.audio_kbps;
    let result = info.duration_ms.unwrap_or(UNKNOWN_MS) * u64::from(kbps) / 8;
    Sizes { needed: SPARE + result * 9 / 4, largest: SPARE + original.saturating_add(result * 2) }
}

async fn make(
    bench: &mut Bench<'_>,
    job: &Job,
    work: &Work,
    input: &Path,
    info: MediaInfo,
    plan: Plan,
) -> Result<Certificate, String> {
    let picture = match plan.copied {
        Some(scan) => Picture::of_original(input, &info, &scan),
        None => picture::encode(bench, job, work, input, &info).await?,
    };
    let sound = match info.audio {
        Some(_) => sound::make(bench, job, work, input, &info, picture.length_ms).await?,
        None => None,
    };
    all_of_it(&info, &picture, sound.as_ref()).inspect_err(|_| work.clear())?;
    let media = join::join(bench, work, &info, &picture, sound.as_ref()).await?;
    let scan = scan::result(bench, job, &media, sound.is_some()).await?;
    scan.certify(job, &picture, sound.is_some())?;
    bench.tell(Stage::Certify, 1, 1)?;
    let making = |made: bool, otherwise| if made { Making::Transcode } else { otherwise };
    Ok(Certificate {
        settings: SETTINGS,
        key: job.item.key.clone(),
        content: job.item.content.clone(),
        profile: job.profile.clone(),
        made_at: state::now(),
        video: making(picture.encoded, Making::Copy),
        audio: making(sound.is_some(), Making::Silent),
        reason: plan.reason,
        parameters: scan.parameters(),
        frames: scan.frames,
        av_end_skew_ms: (scan.av_end_skew_ms() * 10.0).round() / 10.0,
        loudness: sound.and_then(|sound| sound.loudness),
        target: job.loudness,
        duration_ms: scan.video_end_ms.max(0) as u64,
        size: std::fs::metadata(&media).map_err(|error| error.to_string())?.len(),
        idr: scan.idr,
    })
}

/// A decoder that meets the end of a truncated file says nothing and exits 0, so what was read is compared with
/// what the file promises.
fn all_of_it(info: &MediaInfo, picture: &Picture, sound: Option<&Sound>) -> Result<(), String> {
    let of_picture = info.video.as_ref().and_then(|v| v.duration_ms);
    let (promised, read) = match (of_picture, info.duration_ms) {
        (Some(promised), _) => (promised, picture.length_ms),
        (None, Some(promised)) => (promised, picture.length_ms.max(sound.map_or(0.0, |s| s.heard_ms))),
        (None, None) => return Ok(()),
    };
    let tolerance = 1_000.0 + promised as f64 * 0.01;
    if read + tolerance < promised as f64 {
        let (read, promised) = (read / 1000.0, promised as f64 / 1000.0);
        return Err(format!("breaks off after {read:.1} s of {promised:.1} s"));
    }
    Ok(())
}

/// Gives way to everything else on this machine: the least processor share and idle disk access.
pub fn give_way() {
    if let Err(error) = rustix::process::nice(19) {
        tracing::warn!(%error, "the priority cannot be lowered");
    }
    idle_disk_access();
}

#[allow(unsafe_code)]
fn idle_disk_access() {
    const WHO_PROCESS: libc::c_int = 1;
    const CLASS_IDLE: libc::c_int = 3 << 13;
    // SAFETY: ioprio_set (ioprio_set(2)) takes three integers and touches no memory. Kernels without it say no.
    unsafe { libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS, 0 as libc::c_int, CLASS_IDLE) };
}
