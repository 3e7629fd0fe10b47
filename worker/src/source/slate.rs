//! The slate: a calm picture with the channel's name in the channel's profile, made by FFmpeg once, kept in a file,
//! played from memory.
//!
//! A machine whose channels all start at once would have an encoder for each of them. So those with a name are made one
//! after the other, and who must wait is given the slate of the profile, which has no name and is made once for all.

use super::buffer::{Buffer, SourceTag};
use super::child::{self, Tools};
use super::disk;
use super::flv::Cutter;
use super::lettering::Lettering;
use super::recipe;
use super::turn::Turn;
use crate::media::Shape;
use bytes::BytesMut;
use state::profile::Profile;
use state::{atomic, prepared};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::time::timeout;

/// Length of the loop: two GOPs.
const SECONDS: u32 = 4;
/// Refilled below this much in hand, ms, or below this many pictures: more than the splice looks ahead.
const LOW_MS: i64 = 1_000;
const LOW_PICTURES: usize = 16;
const DEADLINE: Duration = Duration::from_secs(30);
/// The turn is waited for this long before a slate without a name will do.
const HURRY: Duration = Duration::from_secs(1);
/// The longest wait for the turn of one that is not needed now: a hundred channels that had 30 s each.
const PATIENCE: Duration = Duration::from_secs(3000);
/// The same at the lowest priority.
const DEADLINE_ASIDE: Duration = Duration::from_secs(120);
const MOST_BYTES: usize = 16 << 20;

/// The pictures of one loop.
#[derive(Debug)]
pub struct Slate {
    pictures: Vec<SourceTag>,
    length_ms: f64,
    shape: Shape,
    nameless: bool,
}

impl Slate {
    /// Reads the slate for this profile and name from `cache`, or has FFmpeg make it there. Where others are before it,
    /// the one of the profile, which [has no name](Self::is_nameless).
    ///
    /// # Errors
    /// Why there is no slate, in words.
    pub async fn load_or_make(
        tools: &Tools,
        profile: &Profile,
        name: &str,
        cache: &Path,
    ) -> Result<Slate, String> {
        let maker = Maker { tools, profile, cache };
        match maker.lettered(name, HURRY).await? {
            Some(slate) => Ok(slate),
            None => maker.nameless().await,
        }
    }

    /// The one with the name, however long others take before it. Gives way to everything else on this machine.
    ///
    /// # Errors
    /// Why there is none, in words.
    pub async fn make_with_name(
        tools: &Tools,
        profile: &Profile,
        name: &str,
        cache: &Path,
    ) -> Result<Slate, String> {
        let made = Maker { tools, profile, cache }.lettered(name, PATIENCE).await?;
        made.ok_or_else(|| "it was never its turn to be made".to_owned())
    }

    /// Whether it stands in for one with a name.
    pub fn is_nameless(&self) -> bool {
        self.nameless
    }

    /// The slate as a file that FFmpeg can read, made if need be.
    ///
    /// # Errors
    /// Why there is none, in words.
    pub async fn on_disk(
        tools: &Tools,
        profile: &Profile,
        name: &str,
        cache: &Path,
    ) -> Result<PathBuf, String> {
        Slate::load_or_make(tools, profile, name, cache).await?;
        for path in [name, ""].map(|name| path_of(profile, name, cache)) {
            if disk::metadata(&path).await.is_ok() {
                return Ok(path);
            }
        }
        Err("the slate cannot be kept in the cache".to_owned())
    }

    fn parse(bytes: &[u8], profile: &Profile) -> Result<Slate, String> {
        let fps = profile.fps.per_second();
        let shape =
            Shape::Video { width: profile.width, height: profile.height, fps, kbps: profile.video_kbps };
        let mut buffer = Buffer::new(shape, false);
        let (mut cutter, mut bytes) = (Cutter::default(), BytesMut::from(bytes));
        while let Some(tag) = cutter.next(&mut bytes).map_err(|error| error.to_string())? {
            buffer.push(tag);
        }
        let pictures: Vec<SourceTag> = buffer.video.into();
        if !pictures.first().is_some_and(|t| t.idr) {
            return Err("FFmpeg made no slate".to_owned());
        }
        let length_ms = pictures.len() as f64 * profile.fps.frame_ms();
        Ok(Slate { pictures, length_ms, shape, nameless: false })
    }

    /// A slate of pictures that a test made.
    #[cfg(test)]
    pub fn of_pictures(pictures: Vec<SourceTag>, length_ms: f64, shape: Shape) -> Slate {
        Slate { pictures, length_ms, shape, nameless: false }
    }

    /// Size and rate of the pictures.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// Appends whole loops until enough is in hand, in time and in pictures.
    pub fn top_up(&self, buffer: &mut Buffer) {
        while buffer.ahead_ms() < LOW_MS || buffer.video.len() < LOW_PICTURES {
            let first = self.pictures[0].pts();
            let played = buffer.loops_ms;
            let shift = played.round() as i64 - first;
            buffer.video.extend(self.pictures.iter().map(|t| SourceTag { dts: t.dts + shift, ..t.clone() }));
            buffer.loops_ms += self.length_ms;
        }
    }
}

fn path_of(profile: &Profile, name: &str, cache: &Path) -> PathBuf {
    cache.join(format!("slate-{}.flv", prepared::name(name, "", profile)))
}

/// What a slate is made of, and where it is kept.
struct Maker<'a> {
    tools: &'a Tools,
    profile: &'a Profile,
    cache: &'a Path,
}

impl Maker<'_> {
    /// The slate with a name. `None` when it is not its turn within `patience`.
    async fn lettered(&self, name: &str, patience: Duration) -> Result<Option<Slate>, String> {
        let path = path_of(self.profile, name, self.cache);
        if let Some(slate) = self.load(&path).await {
            return Ok(Some(slate));
        }
        let Some(_turn) = self.turn("slates.lock", patience).await else { return Ok(None) };
        // Another channel may have the same name.
        if let Some(slate) = self.load(&path).await {
            return Ok(Some(slate));
        }
        match self.draw_name(name, patience > HURRY).await {
            Ok(bytes) => self.keep(bytes, path).await.map(Some),
            Err(why) => {
                tracing::warn!(reason = %why, "the channel's name cannot be drawn; the slate goes without it");
                let slate = self.nameless().await?;
                Ok(Some(Slate { nameless: false, ..slate }))
            }
        }
    }

    /// The slate without a name, one for all channels of the profile.
    async fn nameless(&self) -> Result<Slate, String> {
        let path = path_of(self.profile, "", self.cache);
        let lock = format!("slate-{}.lock", prepared::name("", "", self.profile));
        let _turn = self.turn(&lock, DEADLINE).await.ok_or("another worker takes too long to make it")?;
        let slate = match self.load(&path).await {
            Some(slate) => slate,
            None => self.keep(self.draw(None, false).await?, path).await?,
        };
        Ok(Slate { nameless: true, ..slate })
    }

    /// `None` when it is not its turn within `patience`. Where no lock can be had nobody waits for others.
    async fn turn(&self, lock: &str, patience: Duration) -> Option<Option<Turn>> {
        let taken = timeout(patience, Turn::take(&self.cache.join(lock))).await.ok()?;
        Some(
            taken
                .inspect_err(
                    |why| tracing::warn!(reason = %why, "the slate is made without waiting for others"),
                )
                .ok(),
        )
    }

    async fn load(&self, path: &Path) -> Option<Slate> {
        let file = path.to_owned();
        let bytes = disk::soon(path, move || std::fs::read(file)).await.flatten().ok()?;
        Slate::parse(&bytes, self.profile).ok()
    }

    async fn draw_name(&self, name: &str, aside: bool) -> Result<Vec<u8>, String> {
        let (name, profile, cache) = (name.to_owned(), self.profile.clone(), self.cache.to_owned());
        let lettering = disk::soon(self.cache, move || Lettering::new(&name, &profile, &cache)).await;
        let lettering = lettering.map_err(|error| error.to_string())??;
        let drawn = self.draw(Some(&lettering), aside).await;
        disk::let_go(lettering);
        drawn
    }

    async fn draw(&self, lettering: Option<&Lettering>, aside: bool) -> Result<Vec<u8>, String> {
        let mut command = child::command(&self.tools.ffmpeg, &self.tools.secrets_free_environment());
        if let Some(lettering) = lettering {
            command.current_dir(lettering.folder());
        }
        if aside {
            child::give_way(&mut command);
        }
        command.args(recipe::slate_arguments(self.profile, SECONDS, lettering.map(Lettering::filter)));
        child::answer(command, if aside { DEADLINE_ASIDE } else { DEADLINE }, MOST_BYTES).await
    }

    /// Keeps what was drawn. A slate that cannot be kept is made again by the next run.
    async fn keep(&self, bytes: Vec<u8>, path: PathBuf) -> Result<Slate, String> {
        let slate = Slate::parse(&bytes, self.profile)?;
        let folder = self.cache.to_owned();
        let kept = disk::soon(self.cache, move || {
            atomic::private_folder(&folder).and_then(|()| atomic::replace(&path, &bytes))
        });
        if let Err(error) = kept.await.flatten() {
            tracing::warn!(%error, "the slate cannot be kept in the cache");
        }
        Ok(slate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The splice waits for more than it looks ahead; at a picture a second that is more than a second.
    #[test]
    fn enough_is_in_hand_however_slow_the_pictures_come() {
        let shape = Shape::Video { width: 16, height: 16, fps: 1.0, kbps: 0 };
        let picture = |dts| SourceTag {
            dts,
            cts: 0,
            idr: dts == 0,
            next_idr: None,
            body: BytesMut::new(),
            config: None,
        };
        let slate = Slate::of_pictures((0..4).map(|n| picture(n * 1000)).collect(), 4000.0, shape);
        let mut buffer = Buffer::new(shape, false);
        slate.top_up(&mut buffer);
        assert_eq!(buffer.video.len(), LOW_PICTURES);
        let times: Vec<i64> = buffer.video.iter().map(|t| t.dts).collect();
        assert!(times.windows(2).all(|w| w[1] - w[0] == 1000), "{times:?}");
    }
}
