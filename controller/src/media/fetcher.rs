//! The one task that fetches: it asks what the channels will play, fetches what is missing one object at a time, and
//! owns the retries. It never gives up, and it makes way for what is needed sooner.

use super::library::Library;
use super::results;
use super::tally::Playing;
use super::wants::{self, Line};
use super::{Fetching, Media};
use crate::supervisor::Handle;
use crate::supervisor::brief;
use crate::wishes::Wishes;
use state::ids::{ChannelId, Ulid};
use state::phase::Wish;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use storage::cache::{Cache, CacheError, Shelf, Usage, Wants};
use storage::{MediaFile, Storage, StorageError};

/// How often the channels are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How often it is asked whether something else is needed sooner than what is being fetched.
const THINK_EVERY: Duration = Duration::from_secs(3);

/// An object that cannot be fetched is left alone this long; so is a folder that does not work.
const LEFT_ALONE: Duration = Duration::from_secs(60);

/// While the bucket is away: after the first failure, the second, and so on.
const AWAY: [Duration; 5] = [
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(5),
    Duration::from_secs(10),
    Duration::from_secs(30),
];

/// How long to wait after so many failures in a row of a bucket that is away.
fn pause(failures: usize) -> Duration {
    AWAY[failures.clamp(1, AWAY.len()) - 1]
}

pub(super) struct Fetcher {
    cache: Cache,
    storage: Storage,
    sight: Sight,
    /// Objects that could not be fetched, and until when they are left alone.
    refused: HashMap<MediaFile, Instant>,
    failures: usize,
    /// What was seen when there was nothing to fetch: while that is so, there is nothing.
    idle: Option<(Mark, usize)>,
}

/// Which listing there is, and for each channel its run, the item on the air and where that comes from.
type Mark = (usize, Vec<(ChannelId, Option<Ulid>, Option<Ulid>, String)>);

/// What is seen of the channels.
#[derive(Clone)]
struct Sight {
    library: Arc<Library>,
    wishes: Arc<Wishes>,
    supervisor: Handle,
    media: Media,
}

/// What came of an attempt.
enum Came {
    Done,
    /// Something else is needed sooner.
    Overtaken,
    Failed(CacheError),
}

impl Fetcher {
    pub(super) fn new(
        cache: Cache,
        library: Arc<Library>,
        wishes: Arc<Wishes>,
        supervisor: Handle,
        media: Media,
        tls_ca_file: Option<&Path>,
    ) -> Result<Self, StorageError> {
        // Connections belong to the runtime that made them, so that this thread has its own.
        let storage = Storage::open(library.settings().clone(), tls_ca_file)?;
        let sight = Sight { library, wishes, supervisor, media };
        Ok(Self { cache, storage, sight, refused: HashMap::new(), failures: 0, idle: None })
    }

    pub(super) async fn run(mut self) {
        let looking = self.sight.clone();
        let fetching = async {
            loop {
                let wait = self.step().await;
                tokio::time::sleep(wait).await;
            }
        };
        match looking.library.is_bucket() {
            true => drop(tokio::join!(looking.count_openings(), fetching)),
            false => fetching.await,
        }
    }

    /// Fetches what is needed next. Gives how long to wait before the next step.
    async fn step(&mut self) -> Duration {
        self.keep_to_the_budget();
        self.refused.retain(|_, until| *until > Instant::now());
        let mark = (self.sight.mark(), self.refused.len());
        if self.idle.as_ref() == Some(&mark) {
            return LOOK_EVERY;
        }
        let wants = self.sight.wants(&self.refused, &prepared_of(self.cache.shelf()));
        let next = match self.cache.shelf().next(&wants) {
            Ok(next) => next.cloned(),
            Err(error) => return self.stuck(&error.to_string()),
        };
        let Some(file) = next else {
            self.idle = Some(mark);
            return LOOK_EVERY;
        };
        let came = self.fetch(&file, &wants).await;
        self.sight.media.shown().cache.fetching = None;
        match came {
            Came::Done | Came::Overtaken => {
                self.failures = 0;
                self.tell(None, None);
                Duration::ZERO
            }
            Came::Failed(error) => self.failed(file, &error),
        }
    }

    async fn fetch(&mut self, file: &MediaFile, wants: &Wants) -> Came {
        let (sight, shelf, refused) = (self.sight.clone(), self.cache.shelf().clone(), self.refused.clone());
        let media = self.sight.media.clone();
        let mut progress = move |done, more| {
            let mut shown = media.shown();
            shown.cache.fetched_bytes += more;
            shown.cache.fetching = Some(Fetching { key: file.key.clone(), done, size: file.size });
        };
        tokio::select! {
            fetched = self.cache.fetch(&self.storage, file, wants, &mut progress) => match fetched {
                Ok(_) => {
                    tracing::info!(item.key = file.key, bytes = file.size, "a copy is kept");
                    Came::Done
                }
                Err(error) => Came::Failed(error),
            },
            () = overtaken(sight, shelf, refused, file) => Came::Overtaken,
        }
    }

    fn failed(&mut self, file: MediaFile, error: &CacheError) -> Duration {
        if error.is_outage() {
            self.failures += 1;
            if self.failures == 1 {
                tracing::warn!(item.key = file.key, %error, "media cannot be fetched for now");
            }
            self.tell(Some(error.to_string()), None);
            return pause(self.failures);
        }
        if matches!(error, CacheError::Folder { .. } | CacheError::NoSpace(_)) {
            return self.stuck(&error.to_string());
        }
        tracing::warn!(item.key = file.key, %error, "no copy can be kept");
        self.tell(Some(error.to_string()), None);
        self.refused.insert(file, Instant::now() + LEFT_ALONE);
        Duration::ZERO
    }

    /// The folder or its disk does not work, which somebody must mend.
    fn stuck(&self, words: &str) -> Duration {
        tracing::error!(error = words, "no copies of media can be kept");
        self.tell(Some(words.to_owned()), Some(words.to_owned()));
        LEFT_ALONE
    }

    fn tell(&self, problem: Option<String>, alert: Option<String>) {
        let mut shown = self.sight.media.shown();
        shown.cache.problem = problem;
        shown.alert = alert;
    }

    /// What was prepared may be too much. What is in use stays, and [`Media::full`] says so.
    fn keep_to_the_budget(&self) {
        let Some(usage) = self.usage() else { return };
        let budget = self.cache.shelf().budget();
        let over = budget > 0 && usage.bytes > budget;
        if over {
            let wants = self.sight.wants(&self.refused, &prepared_of(self.cache.shelf()));
            if let Err(error) = self.cache.trim(&wants) {
                tracing::warn!(%error, "what is too much in the cache cannot be removed");
            }
        }
        let usage = if over { self.usage().unwrap_or(usage) } else { usage };
        let mut shown = self.sight.media.shown();
        (shown.cache.used, shown.cache.files) = (usage.bytes, usage.files);
        (shown.cache.prepared_bytes, shown.cache.prepared_files) =
            (usage.prepared_bytes, usage.prepared_files);
    }

    fn usage(&self) -> Option<Usage> {
        self.cache.shelf().held().ok().map(|held| Usage::of(&held))
    }
}

/// The names of prepared files.
fn prepared_of(shelf: &Shelf) -> HashSet<String> {
    let held = shelf.held().unwrap_or_default().into_iter();
    held.filter(|held| held.prepared).map(|held| held.name).collect()
}

/// Ends when something that is needed soon is missing, and `file` is not needed as soon.
async fn overtaken(sight: Sight, shelf: Shelf, refused: HashMap<MediaFile, Instant>, file: &MediaFile) {
    loop {
        tokio::time::sleep(THINK_EVERY).await;
        let wants = sight.wants(&refused, &prepared_of(&shelf));
        let near = |file: &MediaFile| wants.files[..wants.near].contains(file);
        if let Ok(Some(next)) = shelf.next(&wants)
            && next != file
            && near(next)
            && !near(file)
        {
            return;
        }
    }
}

impl Sight {
    /// What the order of needs depends on.
    fn mark(&self) -> Mark {
        let channels = self.wishes.ids().into_iter().filter_map(|id| {
            let seen = self.supervisor.sight(&id).filter(|seen| seen.alive)?;
            let item = seen.beat.as_ref().and_then(|beat| beat.item.as_ref());
            let source = item.map(|item| item.source.clone()).unwrap_or_default();
            Some((id, seen.state.run.map(|run| run.id), item.map(|item| item.id.clone()), source))
        });
        (Arc::as_ptr(&self.library.known_files()) as usize, channels.collect())
    }

    /// What the running channels will play; `held` are the names of what was prepared.
    fn wants(&self, refused: &HashMap<MediaFile, Instant>, held: &HashSet<String>) -> Wants {
        let files = self.library.known_files();
        let (mut lines, mut prepared) = (Vec::new(), HashSet::new());
        for wish in self.wishes.all() {
            let seen = self.supervisor.sight(&wish.id).filter(|seen| seen.alive);
            if seen.is_none() && wish.wish != Wish::On {
                continue;
            }
            let items = brief::items_of(&wish, &self.library, &files);
            let beat = seen.as_ref().and_then(|seen| seen.beat.as_deref());
            let profile = wish.profile.as_ref().or(beat.and_then(|beat| beat.profile.as_ref()));
            let used = results::used(&items, profile, held);
            prepared.extend(used.names);
            if let Some(seen) = &seen {
                let on_air = beat.and_then(|beat| beat.item.as_ref());
                let begins = seen.state.cursor.as_ref().map(|cursor| &cursor.item);
                let item = on_air.map(|item| &item.id).or(begins);
                let line = Line::new(&wish, items, item, on_air.map_or("", |item| &item.source));
                lines.push(Line { prepared: used.items, ..line });
            }
        }
        Wants { prepared, ..wants::order(&lines, |file| refused.contains_key(file)) }
    }

    /// Counts what workers open, as their heartbeats tell.
    async fn count_openings(self) {
        let mut before: BTreeMap<ChannelId, Playing> = BTreeMap::new();
        loop {
            for id in self.wishes.ids() {
                self.count(&id, &mut before);
            }
            tokio::time::sleep(LOOK_EVERY / 4).await;
        }
    }

    fn count(&self, channel: &ChannelId, before: &mut BTreeMap<ChannelId, Playing>) {
        let sight = self.supervisor.sight(channel);
        let Some(beat) = sight.as_ref().and_then(|sight| sight.beat.as_deref()) else { return };
        let (Some(now), Some(item)) = (Playing::of(beat), &beat.item) else { return };
        if now.is_new(before.get(channel)) {
            let files = self.library.known_files();
            let size = files.iter().find(|file| file.key == item.key).map_or(0, |file| file.size);
            let mut shown = self.media.shown();
            shown.channels.entry(channel.clone()).or_default().add(&item.source, size);
            shown.cache.counts.add(&item.source, size);
            shown.cache.hit_ratio = shown.cache.counts.hit_ratio();
        }
        before.insert(channel.clone(), now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_that_is_away_is_asked_less_and_less_often_but_for_ever() {
        let pauses: Vec<u64> = (1..8).map(|failures| pause(failures).as_secs()).collect();
        assert_eq!(pauses, [1, 2, 5, 10, 30, 30, 30]);
    }
}
