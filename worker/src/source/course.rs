//! How an item's child is started, and started again where a link broke off: at which place, and with what left out.

use super::admission::Slot;
use super::buffer::{Buffer, End};
use super::child::Tools;
use super::object::Input;
use super::probe::MediaInfo;
use super::recipe::{self, Recipe};
use super::resume::{Next, Object, Resume};
use state::profile::Profile;
use state::wire::Making;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::time::{Instant, sleep};

/// A child that goes on begins this much before the place it is to go on at, ms: formats without an index enter
/// at the first key picture after a place, and that must not be too late. What is read twice is left out.
const REREAD_MS: i64 = 4_100;

/// Everything that is needed to read an item.
#[derive(Debug)]
pub struct Course {
    tools: Tools,
    input: Input,
    key: String,
    info: MediaInfo,
    recipe: Recipe,
    profile: Profile,
    /// What is seen of an item without a picture.
    slate: Option<PathBuf>,
    /// Where the feed's time 0 is in the item, ms.
    from_ms: u64,
    resume: Resume,
    /// Held until the last child has ended.
    _slot: Option<Slot>,
    /// Children give way to everything else.
    aside: bool,
}

impl Course {
    /// Reads `input` by a recipe, from this place on.
    pub fn new(
        tools: &Tools,
        input: Input,
        key: &str,
        (info, recipe, profile): (&MediaInfo, &Recipe, &Profile),
        from_ms: u64,
    ) -> Self {
        let length = info.video.as_ref().and_then(|v| v.duration_ms);
        let whole = length.map(|length| millis(length) - millis(from_ms));
        Self {
            tools: tools.clone(),
            input,
            key: key.to_owned(),
            info: info.clone(),
            recipe: recipe.clone(),
            profile: profile.clone(),
            slate: None,
            from_ms,
            resume: Resume::new(whole),
            _slot: None,
            aside: false,
        }
    }

    /// The same, under the right to transcode live.
    pub fn holding(self, slot: Option<Slot>) -> Self {
        Self { _slot: slot, ..self }
    }

    /// The same, with a slate for an item without a picture.
    pub fn showing(self, slate: Option<PathBuf>) -> Self {
        Self { slate, ..self }
    }

    /// Whether the pictures are only there while the item is heard.
    pub fn shows_slate(&self) -> bool {
        self.slate.is_some()
    }

    /// The same for something that is not for the air: its children give way to everything else.
    pub fn aside(self) -> Self {
        Self { aside: true, ..self }
    }

    /// Whether its children give way to everything else.
    pub fn is_aside(&self) -> bool {
        self.aside
    }

    /// The programs.
    pub fn tools(&self) -> &Tools {
        &self.tools
    }

    /// Where the bytes come from.
    pub fn input(&self) -> &Input {
        &self.input
    }

    /// The media file's key.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// FFmpeg's arguments for the first child.
    pub fn arguments(&self) -> Vec<OsString> {
        self.arguments_from(self.from_ms)
    }

    fn arguments_from(&self, from_ms: u64) -> Vec<OsString> {
        let whole = (&self.info, &self.recipe, &self.profile);
        recipe::arguments(&self.input, whole, self.slate.as_deref(), from_ms)
    }

    /// What comes after a child that came to `end`: the arguments of one that goes on, once it may be started, or
    /// the end of the item. A file is never gone on with: what is not in it now will not be in it later.
    ///
    /// # Errors
    /// How the item ended.
    pub async fn go_on(&mut self, end: End, buffer: &Mutex<Buffer>) -> Result<Vec<OsString>, End> {
        let Input::Link(link) = &self.input else { return Err(end) };
        let reached = lock(buffer).reached();
        if self.resume.is_over(&end, reached) {
            return Err(end);
        }
        if let End::Broken(why) = &end {
            lock(buffer).trouble = Some(why.clone());
        }
        let mut told = false;
        loop {
            let object = link.look().await;
            lock(buffer).away = matches!(object, Object::Unknown(_));
            if let Object::Unknown(why) = &object {
                lock(buffer).trouble = Some(why.clone());
            }
            if !std::mem::replace(&mut told, true) {
                tracing::warn!(item.key = %self.key, at_ms = reached.shown, ?end, ?object, "reading broke off");
            }
            match self.resume.next(&end, reached, object, Instant::now()) {
                Next::Over(end) => return Err(end),
                Next::Ask(after) => sleep(after).await,
                Next::ReadOn(after) => {
                    sleep(after).await;
                    break;
                }
            }
        }
        let mut buffer = lock(buffer);
        let from_ms = self.next_place(&mut buffer);
        buffer.go_on(millis(from_ms) - millis(self.from_ms));
        Ok(self.arguments_from(from_ms))
    }

    /// Where the next child begins, ms of the item.
    fn next_place(&self, buffer: &mut Buffer) -> u64 {
        let reached = buffer.reached();
        let of_feed = match self.recipe.video {
            // Decoding is exact to the picture. A millisecond less survives rounding.
            Making::Transcode | Making::Slate => {
                buffer.cut_back().or(reached.shown.map(|ms| ms + 2)).unwrap_or(0) - 1
            }
            Making::Copy | Making::Silent => {
                let video = reached.video.unwrap_or(0);
                reached.audio.map_or(video, |audio| audio.min(video)) - REREAD_MS
            }
        };
        u64::try_from(of_feed + millis(self.from_ms)).unwrap_or(0)
    }
}

fn lock(buffer: &Mutex<Buffer>) -> MutexGuard<'_, Buffer> {
    buffer.lock().unwrap_or_else(PoisonError::into_inner)
}

fn millis(ms: u64) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX)
}
