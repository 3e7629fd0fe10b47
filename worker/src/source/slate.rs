//! The slate: a calm picture with the channel's name in the channel's profile, made by FFmpeg once, kept in a file,
//! played from memory.

use super::buffer::{Buffer, SourceTag};
use super::child::{self, Tools};
use super::flv::Cutter;
use super::lettering::Lettering;
use super::recipe;
use crate::media::Shape;
use bytes::BytesMut;
use state::profile::Profile;
use state::{atomic, prepared};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Length of the loop: two GOPs.
const SECONDS: u32 = 4;
/// Refilled below this much in hand, ms, or below this many pictures: more than the splice looks ahead.
const LOW_MS: i64 = 1_000;
const LOW_PICTURES: usize = 16;
const DEADLINE: Duration = Duration::from_secs(30);
const MOST_BYTES: usize = 16 << 20;

/// The pictures of one loop.
#[derive(Debug)]
pub struct Slate {
    pictures: Vec<SourceTag>,
    length_ms: f64,
    shape: Shape,
}

impl Slate {
    /// Reads the slate for this profile and name from `cache`, or has FFmpeg make it there.
    ///
    /// # Errors
    /// Why there is no slate, in words.
    pub async fn load_or_make(
        tools: &Tools,
        profile: &Profile,
        name: &str,
        cache: &Path,
    ) -> Result<Slate, String> {
        let path = path_of(profile, name, cache);
        if let Ok(bytes) = tokio::fs::read(&path).await
            && let Ok(slate) = Slate::parse(&bytes, profile)
        {
            return Ok(slate);
        }
        let lettering = Lettering::new(name, profile, cache);
        let lettered = match &lettering {
            Ok(lettering) => draw(tools, profile, Some(lettering)).await,
            Err(why) => Err(why.clone()),
        };
        let (bytes, path) = match lettered {
            Ok(bytes) => (bytes, path),
            Err(why) => {
                tracing::warn!(reason = %why, "the channel's name cannot be drawn; the slate goes without it");
                (draw(tools, profile, None).await?, path_of(profile, "", cache))
            }
        };
        let slate = Slate::parse(&bytes, profile)?;
        // A slate that cannot be kept is made again by the next run.
        let folder = cache.to_owned();
        let kept = tokio::task::spawn_blocking(move || {
            atomic::private_folder(&folder).and_then(|()| atomic::replace(&path, &bytes))
        });
        if let Ok(Err(error)) = kept.await {
            tracing::warn!(%error, "the slate cannot be kept in the cache");
        }
        Ok(slate)
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
        let found =
            [name, ""].map(|name| path_of(profile, name, cache)).into_iter().find(|path| path.exists());
        found.ok_or_else(|| "the slate cannot be kept in the cache".to_owned())
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
        Ok(Slate { pictures, length_ms, shape })
    }

    /// A slate of pictures that a test made.
    #[cfg(test)]
    pub fn of_pictures(pictures: Vec<SourceTag>, length_ms: f64, shape: Shape) -> Slate {
        Slate { pictures, length_ms, shape }
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

async fn draw(tools: &Tools, profile: &Profile, lettering: Option<&Lettering>) -> Result<Vec<u8>, String> {
    let mut command = child::command(&tools.ffmpeg, &tools.secrets_free_environment());
    if let Some(lettering) = lettering {
        command.current_dir(lettering.folder());
    }
    command.args(recipe::slate_arguments(profile, SECONDS, lettering.map(Lettering::filter)));
    let bytes = child::answer(command, DEADLINE, MOST_BYTES).await?;
    Slate::parse(&bytes, profile).map(|_| bytes)
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
