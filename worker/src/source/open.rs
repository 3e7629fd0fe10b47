//! Opening an item: probe it, decide, start FFmpeg, and look at the first seconds before it may go on the air.

use super::admission::Admission;
use super::asc;
use super::buffer::{Buffer, End, MAX_IDR_DISTANCE_MS};
use super::child::Tools;
use super::course::Course;
use super::disk;
use super::feed::{Alive, Feed};
use super::known::Known;
use super::mp4::{self, Ask, ObjectReader, Reader};
use super::object::{self, Input, Link, Objects, Reach};
use super::probe::{self, MediaInfo};
use super::recipe::{self, Recipe};
use super::slate::Slate;
use crate::media::{Shape, Track};
use state::profile::Profile;
use state::wire::{ItemSpec, Making};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

const DEADLINE: Duration = Duration::from_secs(15);
/// What reads its tables for longer is FFmpeg's to try.
const NATIVE_DEADLINE: Duration = Duration::from_secs(5);
/// The same for what gives way to everything else on a busy machine.
const DEADLINE_ASIDE: Duration = Duration::from_secs(120);
/// A transcoder is ready when this much is in hand, ms: it has shown that it runs.
const TRANSCODED_AHEAD_MS: i64 = 1_000;

/// An item that is ready to go on the air: its buffer begins with an IDR picture.
#[derive(Debug)]
pub struct Opened {
    /// Which entry of the playlist.
    pub item: ItemSpec,
    /// Its media.
    pub feed: Feed,
    /// What the file is.
    pub info: MediaInfo,
    /// How it is made.
    pub recipe: Recipe,
    /// Where in the item it begins, ms.
    pub from_ms: u64,
    /// Where its bytes come from: `file`, `cache` or `bucket`.
    pub source: &'static str,
    /// It is what was made of the file ahead of time.
    pub prepared: bool,
}

/// Times of an item are exact to this, ms.
const ROUNDING_MS: i64 = 10;

/// What the opener needs to know of the channel.
#[derive(Debug, Clone)]
pub struct Opener {
    /// The programs.
    pub tools: Tools,
    /// Held by every child.
    pub alive: Alive,
    /// The bucket, where there is one that can be used.
    pub objects: Option<Arc<Objects>>,
    /// What files were found to be.
    pub known: Known,
    /// Where what was prepared is.
    pub cache_dir: PathBuf,
    /// What people call the channel; it stands on the slate.
    pub name: String,
    /// Whether there is time for a live transcode.
    pub admission: Admission,
    /// What is opened is not for the air: it gives way to everything else, and takes nobody's place.
    pub aside: bool,
}

impl Opener {
    /// What the item's file is. A content that was probed before is not probed again.
    ///
    /// # Errors
    /// Why it cannot be played, in words.
    pub async fn probe(&self, item: &ItemSpec) -> Result<MediaInfo, String> {
        let input = object::input_of(item, self.objects.as_ref()).await?;
        let content = input.content_of(item).await;
        self.look(&item.key, &content, &input).await
    }

    /// What an input is, of which this is the name and the content.
    pub(super) async fn look(&self, name: &str, content: &str, input: &Input) -> Result<MediaInfo, String> {
        if let Some(info) = self.known.get(name, content) {
            return Ok(info);
        }
        if let Input::File(path) = input {
            probe::is_there(path).await?;
        }
        let info = match look_natively(input, name).await {
            Some(info) => info,
            None => probe::probe_input(&self.tools, input).await?,
        };
        self.known.keep(name, content, &info);
        Ok(info)
    }

    /// What the bucket says of an item now; one that does not answer is away.
    pub async fn reach(&self, item: &ItemSpec) -> Reach {
        match &self.objects {
            Some(objects) => timeout(DEADLINE, objects.reach(&item.key)).await.unwrap_or(Reach::Away),
            None => Reach::There,
        }
    }

    /// Opens an item. `conform` says why its picture may not be copied although it looks as if it could.
    ///
    /// # Errors
    /// Why it cannot be played, in words.
    pub async fn open(
        &self,
        item: ItemSpec,
        info: MediaInfo,
        profile: &Profile,
        from_ms: u64,
        conform: Option<String>,
    ) -> Result<Opened, String> {
        let mut recipe = recipe::decide(&info, profile)?;
        if let (Making::Copy, Some(why)) = (recipe.video, conform) {
            recipe = recipe.without_copy(Track::Video, why);
        }
        loop {
            let (feed, source) = self.start(&item, &info, &recipe, profile, from_ms).await?;
            match ready(&feed, &recipe, from_ms, self.patience()).await {
                Ok(()) => return Ok(Opened { item, feed, info, recipe, from_ms, source, prepared: false }),
                // Each turn copies one track less.
                Err(NotReady::Unfit(track, why)) if recipe.copies(track) => {
                    recipe = recipe.without_copy(track, why);
                }
                Err(NotReady::Unfit(_, why) | NotReady::Broken(why)) => return Err(why),
            }
        }
    }

    /// How long the first seconds of an item are waited for.
    fn patience(&self) -> Duration {
        if self.aside { DEADLINE_ASIDE } else { DEADLINE }
    }

    async fn start(
        &self,
        item: &ItemSpec,
        info: &MediaInfo,
        recipe: &Recipe,
        profile: &Profile,
        from_ms: u64,
    ) -> Result<(Feed, &'static str), String> {
        let on_the_air = recipe.video == Making::Transcode && !self.aside;
        let slot = if on_the_air { self.admission.enter().await? } else { None };
        let slate = match recipe.video {
            Making::Slate => Some(Slate::on_disk(&self.tools, profile, &self.name, &self.cache_dir).await?),
            Making::Copy | Making::Transcode | Making::Silent => None,
        };
        let input = object::input_of(item, self.objects.as_ref()).await?;
        let source = input.source_of(item);
        let has_audio = recipe.audio != Making::Silent;
        let shape = shape_of(info, recipe, profile);
        let native = native(&input, &item.key, info, recipe, from_ms).await;
        let course = Course::new(&self.tools, input, &item.key, (info, recipe, profile), from_ms);
        let course = course.holding(slot).showing(slate);
        let course = if self.aside { course.aside() } else { course };
        let feed = match native {
            Some(Native::File(reader, path)) => {
                Feed::read_natively(*reader, path, shape, has_audio, &self.alive)
            }
            Some(Native::Object(reader)) => Feed::read_object(*reader, course, shape, has_audio, &self.alive),
            None => Feed::run(course, shape, has_audio, &self.alive)?,
        };
        Ok((ends_with(feed, info, from_ms), source))
    }
}

/// The feed, told where its last picture ends.
fn ends_with(feed: Feed, info: &MediaInfo, from_ms: u64) -> Feed {
    let pictures = info.pictures_end_ms().and_then(|end| i64::try_from(end.saturating_sub(from_ms)).ok());
    feed.buffer().ends_at(pictures);
    feed
}

/// What an ordinary MP4 file is, without ffprobe, which takes a hundred times as long to start.
async fn look_natively(input: &Input, key: &str) -> Option<MediaInfo> {
    let looked = match input {
        Input::File(path) => {
            let file = path.clone();
            let looked = disk::soon(path, move || mp4::look(&file)).await;
            looked.map_err(|error| error.to_string()).and_then(|looked| looked.map_err(|why| why.to_string()))
        }
        // In a box: what asks a bucket is a large part of every future that it is in.
        Input::Link(link) => Box::pin(look_at_object(link)).await,
    };
    looked.inspect_err(|why| tracing::debug!(item.key = %key, reason = %why, "left to ffprobe")).ok()
}

async fn look_at_object(link: &Link) -> Result<MediaInfo, String> {
    let looking = timeout(NATIVE_DEADLINE, link.parts().look()).await;
    let (info, parts) = looking.unwrap_or_else(|_| Err("looking at it takes too long".to_owned()))?;
    link.keep(parts);
    Ok(info)
}

/// A reader of an ordinary MP4 file.
enum Native {
    File(Box<Reader>, PathBuf),
    Object(Box<ObjectReader>),
}

/// A reader of an ordinary MP4 file that is copied as it is; everything else is FFmpeg's.
async fn native(input: &Input, key: &str, info: &MediaInfo, recipe: &Recipe, from_ms: u64) -> Option<Native> {
    if recipe.video != Making::Copy || recipe.audio == Making::Transcode {
        return None;
    }
    let audio = info.audio.as_ref().filter(|_| recipe.audio == Making::Copy).map(|audio| audio.index);
    let ask = Ask { video: info.video.as_ref()?.index, audio, from_ms };
    let opening = timeout(NATIVE_DEADLINE, open_natively(input, ask)).await;
    let opened = opening.unwrap_or_else(|_| Err("reading its tables takes too long".to_owned()));
    opened.inspect_err(|why| tracing::debug!(item.key = %key, reason = %why, "read by FFmpeg")).ok()
}

async fn open_natively(input: &Input, ask: Ask) -> Result<Native, String> {
    match input {
        Input::File(path) => {
            let file = path.clone();
            let opened = disk::soon(path, move || Reader::open(&file, ask)).await;
            let reader = opened.map_err(|error| error.to_string())?.map_err(|why| why.to_string())?;
            Ok(Native::File(Box::new(reader), path.clone()))
        }
        Input::Link(link) => Box::pin(link.parts().open(ask)).await.map(Box::new).map(Native::Object),
    }
}

fn shape_of(info: &MediaInfo, recipe: &Recipe, profile: &Profile) -> Shape {
    match (&info.video, recipe.video) {
        (Some(video), Making::Copy) => Shape::Video {
            width: video.width,
            height: video.height,
            fps: video.fps.unwrap_or(profile.fps).per_second(),
            kbps: video.kbps.unwrap_or(0),
        },
        _ => Shape::Video {
            width: profile.width,
            height: profile.height,
            fps: profile.fps.per_second(),
            kbps: profile.video_kbps,
        },
    }
}

enum NotReady {
    /// This track cannot be copied, but it can be transcoded.
    Unfit(Track, String),
    /// There is nothing to play.
    Broken(String),
}

async fn ready(feed: &Feed, recipe: &Recipe, from_ms: u64, patience: Duration) -> Result<(), NotReady> {
    // An item that is entered in its middle begins with the IDR picture before that place.
    let from_start_ms = if from_ms > 0 { i64::MIN } else { -ROUNDING_MS };
    match timeout(patience, feed.wait_until(|buffer| verdict(buffer, recipe, from_start_ms))).await {
        Ok(verdict) => verdict,
        Err(_) => {
            let why = feed.buffer().trouble.take().map(|why| format!(": {why}")).unwrap_or_default();
            Err(NotReady::Broken(format!("gave too little within {} s{why}", patience.as_secs())))
        }
    }
}

/// What the first seconds say; `None` when more of them are needed. A copied picture before `from_start_ms` of the
/// item is one that an edit list hides: a decoder needs it, and a viewer must not see it.
fn verdict(buffer: &mut Buffer, recipe: &Recipe, from_start_ms: i64) -> Option<Result<(), NotReady>> {
    let copied = recipe.copies(Track::Video);
    let unfit = |why: String| NotReady::Unfit(Track::Video, why);
    let idr = buffer.idr();
    let ahead = buffer.ahead_ms();
    let ended = buffer.end.is_some();
    let hidden = buffer.video.front().is_some_and(|t| t.pts() < from_start_ms);
    if copied && hidden {
        return Some(Err(unfit("an edit list begins between two IDR pictures".to_owned())));
    }
    if copied && idr.widest_ms > MAX_IDR_DISTANCE_MS {
        let open = if idr.false_keys > 0 { " (open GOP)" } else { "" };
        return Some(Err(unfit(format!("IDR pictures are more than 4 s apart{open}"))));
    }
    let config = buffer.sound_config.as_deref().filter(|_| recipe.copies(Track::Audio));
    if let Some(why) = config.and_then(asc::problem) {
        return Some(Err(NotReady::Unfit(Track::Audio, why)));
    }
    let enough_video = match (idr.count, copied) {
        (0, _) => false,
        (1, true) => ended || idr.foreseen || buffer.is_full(),
        (_, true) => true,
        (_, false) => ended || ahead >= TRANSCODED_AHEAD_MS,
    };
    let audio_known =
        !buffer.has_audio || !buffer.audio.is_empty() || ended || ahead >= buffer.skew_ms() * 3 / 2;
    if enough_video && audio_known {
        buffer.enter_at_idr(i64::MIN);
        return Some(Ok(()));
    }
    if ended && idr.count == 0 {
        let why = match (&buffer.end, buffer.video.is_empty()) {
            (Some(End::Broken(why)), _) => why.clone(),
            (_, true) => "has no picture that can be read".to_owned(),
            (_, false) => return Some(Err(unfit("has no IDR picture".to_owned()))),
        };
        return Some(Err(NotReady::Broken(why)));
    }
    (buffer.is_full() && idr.count == 0)
        .then(|| Err(unfit("has no IDR picture in its first seconds".to_owned())))
}
