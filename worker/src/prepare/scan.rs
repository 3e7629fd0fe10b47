//! Reading a whole file as the air would: every picture with its time, every real IDR picture, every parameter set.

use super::clock;
use super::picture::Picture;
use super::step::Bench;
use crate::media::Shape;
use crate::source::buffer::{Buffer, MAX_IDR_DISTANCE_MS, SourceTag};
use crate::source::flv::{Cutter, Kind, RawTag};
use crate::source::object::Input;
use crate::source::probe::{self, MediaInfo};
use crate::source::recipe::{self, Recipe};
use bytes::{Bytes, BytesMut};
use ring::digest::{SHA256, digest};
use state::prepared::{IdrList, Job, Stage};
use state::profile::Profile;
use state::wire::Making;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::time::timeout;

/// A read that brings nothing for this long ends the scan.
const STALLED: Duration = Duration::from_secs(120);
const LISTED: usize = 10_000;
/// Times before this are hidden by an edit list, ms; nearer ones are rounded.
const HIDDEN_MS: i64 = -10;
/// Samples in an AAC-LC frame.
const AAC_FRAME: f64 = 1024.0;

/// What a file is like from its first picture to its last.
#[derive(Debug, Default)]
pub(super) struct Scan {
    /// Pictures.
    pub(super) frames: u64,
    /// Real IDR pictures.
    pub(super) idr: IdrList,
    /// Key frames that are no IDR pictures.
    pub(super) false_keys: u64,
    /// How often parameter sets came that differ from those before.
    pub(super) headers: u64,
    /// Whether it begins with pictures that must not be seen.
    pub(super) begins_hidden: bool,
    /// End of the last picture, ms.
    pub(super) video_end_ms: i64,
    /// End of the last audio frame, ms.
    pub(super) audio_end_ms: Option<f64>,
    /// Longest time from one picture to the next in decoding order, ms.
    pub(super) widest_step_ms: i64,
    header: Option<Bytes>,
    asc: Option<Bytes>,
    last_dts: Option<i64>,
    last_idr: Option<i64>,
}

/// Looks at the whole picture of an original if its kind may be copied.
///
/// # Errors
/// That it cannot be read, in words.
pub(super) async fn picture_that_may_be_copied(
    bench: &mut Bench<'_>,
    job: &Job,
    input: &Path,
    info: &MediaInfo,
) -> Result<Option<Scan>, String> {
    let fits = info.video.as_ref().is_some_and(|v| recipe::video_problems(v, &job.profile).is_empty());
    if !fits {
        return Ok(None);
    }
    scan(bench, Stage::Look, input, info, &job.profile, false).await.map(Some)
}

/// Looks at a result.
///
/// # Errors
/// That it cannot be read, in words.
pub(super) async fn result(
    bench: &mut Bench<'_>,
    job: &Job,
    media: &Path,
    with_sound: bool,
) -> Result<Scan, String> {
    let info = probe::probe(bench.tools(), media).await?;
    let profile = Profile { uniform: false, ..job.profile.clone() };
    let recipe = recipe::decide(&info, &profile)?;
    if recipe.video != Making::Copy || recipe.audio == Making::Transcode {
        return Err(format!("the result does not fit the profile: {}", recipe.reason));
    }
    scan(bench, Stage::Certify, media, &info, &job.profile, with_sound).await
}

async fn scan(
    bench: &mut Bench<'_>,
    stage: Stage,
    path: &Path,
    info: &MediaInfo,
    profile: &Profile,
    with_sound: bool,
) -> Result<Scan, String> {
    let audio = if with_sound { Making::Copy } else { Making::Silent };
    let recipe = Recipe { video: Making::Copy, audio, reason: String::new() };
    let mut arguments = recipe::arguments(&Input::File(path.to_owned()), (info, &recipe, profile), None, 0);
    if !with_sound {
        arguments.extend(clock::read_along(path, info, info.video.as_ref().map_or(0, |v| v.index)));
    }
    let mut child = bench.reader(arguments)?;
    let (Some(mut stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
        return Err("FFmpeg has no output".to_owned());
    };
    let words = tokio::spawn(super::step::tail(stderr));
    let frame_ms = info.video.as_ref().and_then(|v| v.fps).unwrap_or(profile.fps).frame_ms();
    let mut reader = Reader::new(frame_ms, f64::from(profile.sample_rate));
    let mut bytes = BytesMut::new();
    loop {
        bytes.reserve(64 * 1024);
        let read = timeout(STALLED, stdout.read_buf(&mut bytes)).await;
        match read.map_err(|_| "FFmpeg stopped reading it".to_owned())?.map_err(|error| error.to_string())? {
            0 => break,
            _ => reader.take(&mut bytes)?,
        }
        let done = reader.scan.video_end_ms.max(0) as u64;
        bench.tell_now_and_then(stage, done, info.duration_ms.unwrap_or(0).max(done))?;
    }
    let status = timeout(STALLED, child.wait()).await.map_err(|_| "FFmpeg does not end".to_owned())?;
    let words = words.await.unwrap_or_default();
    match status {
        Ok(status) if status.success() => Ok(reader.end()),
        _ => Err(super::step::why_it_failed(&words)),
    }
}

/// Takes tags in and keeps nothing but figures.
struct Reader {
    cutter: Cutter,
    buffer: Buffer,
    scan: Scan,
    frame_ms: f64,
    sample_rate: f64,
}

impl Reader {
    fn new(frame_ms: f64, sample_rate: f64) -> Self {
        let shape = Shape::Video { width: 0, height: 0, fps: 1000.0 / frame_ms, kbps: 0 };
        let buffer = Buffer::new(shape, true);
        Self { cutter: Cutter::default(), buffer, scan: Scan::default(), frame_ms, sample_rate }
    }

    fn take(&mut self, bytes: &mut BytesMut) -> Result<(), String> {
        while let Some(tag) = self.cutter.next(bytes).map_err(|error| error.to_string())? {
            self.note_asc(&tag);
            self.buffer.push(tag);
            while let Some(picture) = self.buffer.video.pop_front() {
                self.scan.note_picture(&picture, self.frame_ms);
            }
            while let Some(sound) = self.buffer.audio.pop_front() {
                self.scan.audio_end_ms = Some(sound.dts as f64 + AAC_FRAME * 1000.0 / self.sample_rate);
            }
        }
        Ok(())
    }

    /// The AudioSpecificConfig (ISO/IEC 14496-3, 1.6.2.1) follows the two bytes of an FLV sequence header.
    fn note_asc(&mut self, tag: &RawTag) {
        if tag.kind == Kind::Audio && tag.body.len() > 2 && tag.body[0] >> 4 == 10 && tag.body[1] == 0 {
            self.scan.asc.get_or_insert_with(|| Bytes::copy_from_slice(&tag.body[2..]));
        }
    }

    fn end(mut self) -> Scan {
        let scan = &mut self.scan;
        if let Some(last) = scan.last_idr {
            scan.idr.widest_ms = scan.idr.widest_ms.max(scan.video_end_ms - last);
        }
        scan.false_keys = self.buffer.idr().false_keys;
        self.scan
    }
}

impl Scan {
    fn note_picture(&mut self, picture: &SourceTag, frame_ms: f64) {
        self.frames += 1;
        self.begins_hidden |= self.frames == 1 && picture.pts() < HIDDEN_MS;
        let end = picture.pts() as f64 + frame_ms;
        self.video_end_ms = self.video_end_ms.max(end.round() as i64);
        if let Some(last) = self.last_dts.replace(picture.dts) {
            self.widest_step_ms = self.widest_step_ms.max(picture.dts - last);
        }
        if picture.idr {
            self.note_idr(picture.pts());
        }
        let header = picture.config.as_ref().map(|config| Arc::clone(config).header.clone());
        if header.is_some() && header != self.header {
            self.headers += 1;
            self.header = header;
        }
    }

    fn note_idr(&mut self, at: i64) {
        self.idr.count += 1;
        if self.idr.at_ms.len() < LISTED {
            self.idr.at_ms.push(at);
        }
        let distance = at - self.last_idr.replace(at).unwrap_or(0);
        self.idr.widest_ms = self.idr.widest_ms.max(distance);
    }

    /// End of the sound minus end of the picture, ms; 0 without sound.
    pub(super) fn av_end_skew_ms(&self) -> f64 {
        self.audio_end_ms.map_or(0.0, |end| end - self.video_end_ms as f64)
    }

    /// The hash of everything that a decoder is set up with.
    pub(super) fn parameters(&self) -> String {
        let avcc = self.header.as_ref().and_then(|header| header.get(5..)).unwrap_or_default();
        let both = [avcc, self.asc.as_deref().unwrap_or_default()].concat();
        digest(&SHA256, &both).as_ref().iter().map(|b| format!("{b:02x}")).collect()
    }

    /// Whether it is what was wanted.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub(super) fn certify(&self, job: &Job, wanted: &Picture, with_sound: bool) -> Result<(), String> {
        let frame_ms = job.profile.fps.frame_ms();
        // The end of the sound is known to one of its own frames.
        let most_skew = frame_ms.max(AAC_FRAME * 1000.0 / f64::from(job.profile.sample_rate)) + 1.0;
        let skew = self.av_end_skew_ms();
        let problem = if self.frames != wanted.frames {
            format!("has {} pictures instead of {}", self.frames, wanted.frames)
        } else if self.headers != 1 {
            format!("has {} sets of parameters", self.headers)
        } else if self
            .idr
            .at_ms
            .first()
            .is_none_or(|first| !(HIDDEN_MS..=MAX_IDR_DISTANCE_MS).contains(first))
        {
            "does not begin with an IDR picture".to_owned()
        } else if self.idr.widest_ms > MAX_IDR_DISTANCE_MS {
            format!("has IDR pictures that are {} ms apart", self.idr.widest_ms)
        } else if wanted.encoded && self.widest_step_ms as f64 > frame_ms + 2.0 {
            format!("has pictures that are {} ms apart", self.widest_step_ms)
        } else if with_sound && self.audio_end_ms.is_none() {
            "has lost its sound".to_owned()
        } else if with_sound && skew.abs() > most_skew {
            format!("ends with sound and picture {skew:.0} ms apart")
        } else {
            return Ok(());
        };
        Err(format!("the result {problem}"))
    }
}
