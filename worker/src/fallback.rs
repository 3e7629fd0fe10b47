//! What is shown when there is nothing else: the channel's video where it has one and that is ready, else the slate.
//! Which of them there is, and when one is to be made. When it goes on the air is decided in `air`.

use crate::retry;
use crate::source::feed::{Alive, Feed};
use crate::source::open::Opener;
use crate::source::reel::Reel;
use crate::source::slate::Slate;
use state::profile::Profile;
use state::wire::ItemSpec;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// A video may go on the air with this many pictures in hand: more than the splice looks ahead.
const ENOUGH_PICTURES: usize = 12;
/// FFmpeg has a deadline of its own for each try; what takes longer waits for a disk.
const SLATE_DEADLINE: Duration = Duration::from_secs(90);
/// After it has left the air its last sounds are still sent, ms.
pub const TAIL_MS: i64 = 500;

/// What is to be made, off the loop.
#[derive(Debug)]
pub enum Job {
    /// The slate, or one without the name where others are before it.
    Slate,
    /// The slate with the name, which another stands in for.
    NamedSlate,
    /// The reel of this video.
    Video(ItemSpec),
}

/// What came of it.
#[derive(Debug)]
pub enum Made {
    /// The slate, or why there is none.
    Slate(Result<Slate, String>),
    /// The reel of this video, or why there is none.
    Video(ItemSpec, Result<Reel, String>),
}

impl Job {
    /// Does it.
    pub async fn run(self, opener: &Opener, profile: &Profile, name: &str) -> Made {
        match self {
            Self::Slate => {
                let slate = Slate::load_or_make(&opener.tools, profile, name, &opener.cache_dir);
                let slate = timeout(SLATE_DEADLINE, slate).await;
                Made::Slate(slate.unwrap_or_else(|_| Err("the disk does not answer".to_owned())))
            }
            Self::NamedSlate => {
                Made::Slate(Slate::make_with_name(&opener.tools, profile, name, &opener.cache_dir).await)
            }
            Self::Video(item) => {
                let reel = Reel::load_or_make(opener, &item, profile).await;
                Made::Video(item, reel)
            }
        }
    }
}

/// The video and the slate.
#[derive(Debug)]
pub struct Fallback {
    slate: Option<Arc<Slate>>,
    /// When the slate is to be made; `None` once it is there or on its way.
    slate_due: Option<Instant>,
    wanted: Option<ItemSpec>,
    video: Option<Video>,
    video_due: Option<Instant>,
    /// A video is being made.
    making: bool,
    failures: u32,
    /// Since when the video is off the air, ms of the channel.
    off_since: i64,
}

#[derive(Debug)]
struct Video {
    item: ItemSpec,
    feed: Arc<Feed>,
}

impl Fallback {
    /// Nothing is there yet; this video is wanted.
    pub fn new(wanted: Option<ItemSpec>, now: Instant) -> Self {
        let video_due = wanted.as_ref().map(|_| now);
        Self {
            slate: None,
            slate_due: Some(now),
            wanted,
            video: None,
            video_due,
            making: false,
            failures: 0,
            off_since: 0,
        }
    }

    /// Another video, or none. The one before is shown until the new one is ready.
    pub fn want(&mut self, wanted: Option<ItemSpec>, now: Instant) {
        if wanted == self.wanted {
            return;
        }
        self.video_due = wanted.as_ref().map(|_| now);
        self.failures = 0;
        self.wanted = wanted;
        if self.wanted.is_none() {
            self.video = None;
        }
    }

    /// The profile is another one: everything is made anew, and what there is stands in until then.
    pub fn renew(&mut self, now: Instant) {
        self.slate_due = Some(now);
        self.video_due = self.wanted.as_ref().map(|_| now);
    }

    /// What is to be made now. Each job is handed out once; [`Self::made`] brings it back.
    pub fn job(&mut self, now: Instant) -> Option<Job> {
        if self.slate_due.take_if(|due| *due <= now).is_some() {
            let stand_in = self.slate.as_ref().is_some_and(|slate| slate.is_nameless());
            return Some(if stand_in { Job::NamedSlate } else { Job::Slate });
        }
        if self.making || self.video_due.take_if(|due| *due <= now).is_none() {
            return None;
        }
        self.making = self.wanted.is_some();
        self.wanted.clone().map(Job::Video)
    }

    /// Takes in what was made. A video that cannot be had is returned with the reason, and tried again later.
    pub fn made(&mut self, made: Made, alive: &Alive, now: Instant) -> Option<(String, String)> {
        match made {
            Made::Slate(Ok(slate)) => {
                self.slate_due = slate.is_nameless().then_some(now);
                self.slate = Some(Arc::new(slate));
            }
            Made::Slate(Err(why)) if self.slate.is_some() => {
                tracing::warn!(reason = %why, "the slate has no name");
                self.slate_due = Some(now + retry::no_fallback(3));
            }
            Made::Slate(Err(why)) => {
                tracing::error!(reason = %why, "there is no slate; FFmpeg must be able to encode H.264 (libx264)");
                self.slate_due = Some(now + retry::no_fallback(1));
            }
            Made::Video(item, reel) => {
                self.making = false;
                if self.wanted.as_ref() == Some(&item) {
                    return self.take_video(item, reel, alive, now);
                }
            }
        }
        None
    }

    fn take_video(
        &mut self,
        item: ItemSpec,
        reel: Result<Reel, String>,
        alive: &Alive,
        now: Instant,
    ) -> Option<(String, String)> {
        match reel {
            Ok(reel) => {
                tracing::info!(item.key = %item.key, "the fallback video is ready");
                self.failures = 0;
                self.video = Some(Video { item, feed: Arc::new(Feed::of_reel(reel, alive)) });
                None
            }
            Err(why) => {
                self.failures += 1;
                self.video_due = Some(now + retry::no_fallback(self.failures));
                Some((item.key, format!("cannot be the fallback video: {why}")))
            }
        }
    }

    /// Whether a video is there and open, or the slate where no video is wanted. While another video is made ready the
    /// one before protects.
    pub fn is_protected(&self) -> bool {
        match (&self.video, &self.wanted) {
            (Some(video), _) => is_sound(&video.feed),
            (None, Some(_)) => false,
            (None, None) => self.slate.is_some(),
        }
    }

    /// Whether there is anything to show.
    pub fn is_there(&self) -> bool {
        self.slate.is_some() || self.video.as_ref().is_some_and(|video| is_ready(&video.feed))
    }

    /// What is to be shown now: the video if it is ready, else the slate.
    pub fn feed(&self) -> Option<Arc<Feed>> {
        let video = self.video.as_ref().filter(|video| is_ready(&video.feed));
        let slate = || self.slate.as_ref().map(|slate| Arc::new(Feed::of_slate(Arc::clone(slate))));
        video.map(|video| Arc::clone(&video.feed)).or_else(slate)
    }

    /// The key of the video, if this is its feed.
    pub fn key_of(&self, feed: &Arc<Feed>) -> Option<&str> {
        self.video
            .as_ref()
            .filter(|video| Arc::ptr_eq(&video.feed, feed))
            .map(|video| video.item.key.as_str())
    }

    /// Whether something better than `feed`, which is on the air, has become ready.
    pub fn has_better_than(&self, feed: &Arc<Feed>) -> bool {
        match &self.video {
            // Read ahead as far as it goes, so that a slow disk does not make the two take turns.
            Some(video) => {
                !Arc::ptr_eq(&video.feed, feed) && is_ready(&video.feed) && video.feed.buffer().is_full()
            }
            None => !feed.is_slate() && self.slate.is_some(),
        }
    }

    /// Keeps the video ready while it is off the air, and lets one go that broke.
    pub fn tend(&mut self, on_air: Option<&Arc<Feed>>, until: i64, now: Instant) {
        let Some(video) = &self.video else { return };
        if !is_sound(&video.feed) {
            tracing::warn!(item.key = %video.item.key, "the fallback video broke off; it is opened again");
            self.video = None;
            self.failures += 1;
            self.video_due = self.wanted.as_ref().map(|_| now + retry::no_fallback(self.failures));
            return;
        }
        if on_air.is_some_and(|feed| Arc::ptr_eq(feed, &video.feed)) {
            self.off_since = until;
        } else if until - self.off_since >= TAIL_MS && !is_ready(&video.feed) {
            video.feed.buffer().wait_for_idr();
            video.feed.taken();
        }
    }
}

fn is_sound(feed: &Feed) -> bool {
    feed.buffer().end.is_none()
}

fn is_ready(feed: &Feed) -> bool {
    let buffer = feed.buffer();
    buffer.video.front().is_some_and(|first| first.idr) && buffer.video.len() >= ENOUGH_PICTURES
}
