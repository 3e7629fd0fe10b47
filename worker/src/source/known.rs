//! What files were found to be, so that a file that comes round again is not probed again: starting ffprobe costs
//! more than playing a short item does. Kept in memory, for as long as the worker lives.

use super::probe::MediaInfo;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Files at most; one takes some hundred bytes.
const MOST: usize = 2_000;

/// Files that were probed: by key, which content that was and what it is. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Known(Arc<Mutex<HashMap<String, (String, MediaInfo)>>>);

impl Known {
    /// What a file of this content is, if it was seen. A content without a name is never known.
    pub fn get(&self, key: &str, content: &str) -> Option<MediaInfo> {
        let all = self.lock();
        let (seen, info) = all.get(key)?;
        (!content.is_empty() && seen == content).then(|| info.clone())
    }

    /// Keeps what a file is, instead of what an earlier content was. Where it is full any other file goes: of a loop
    /// that is longer, the oldest one would always be the next to be needed.
    pub fn keep(&self, key: &str, content: &str, info: &MediaInfo) {
        let mut all = self.lock();
        if all.len() >= MOST
            && !all.contains_key(key)
            && let Some(any) = all.keys().next().cloned()
        {
            all.remove(&any);
        }
        all.insert(key.to_owned(), (content.to_owned(), info.clone()));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, (String, MediaInfo)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(duration_ms: u64) -> MediaInfo {
        MediaInfo { duration_ms: Some(duration_ms), video: None, audio: None, indexed: true }
    }

    #[test]
    fn only_the_same_content_is_known() {
        let known = Known::default();
        known.keep("a.mp4", "1", &info(1));
        known.keep("b.mp4", "", &info(2));
        assert_eq!(known.get("a.mp4", "1"), Some(info(1)));
        assert_eq!((known.get("a.mp4", "2"), known.get("b.mp4", "")), (None, None));
        known.clone().keep("a.mp4", "2", &info(3));
        assert_eq!((known.get("a.mp4", "1"), known.get("a.mp4", "2")), (None, Some(info(3))));
    }

    #[test]
    fn it_does_not_grow_for_ever_and_the_newest_is_always_there() {
        let known = Known::default();
        for n in 0..MOST + 50 {
            known.keep(&n.to_string(), "1", &info(1));
            assert!(known.get(&n.to_string(), "1").is_some());
        }
        assert_eq!(known.lock().len(), MOST);
    }
}
