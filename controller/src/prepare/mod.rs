//! Preparing files that do not fit their channel: the list of what is to be done ([`list`]), the one process of this
//! host that does it ([`job`]), what channels show to be needed ([`watch`]), and what people ask for ([`ask`]).
//!
//! The list is on disk, so that a restart goes on with it; a job goes on where it was by what it left in the cache.

pub mod ask;
mod job;
pub mod list;
mod places;
mod watch;

use crate::config::Config;
use crate::media::Media;
use crate::supervisor::Handle as Supervisor;
use crate::supervisor::brief::Briefing;
use crate::wishes::Wishes;
use job::Outcome;
use list::{Entry, List, Next, Wanted};
use state::atomic;
use state::prepared;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// How often channels are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// The way to the list. Cheap to clone.
#[derive(Clone)]
pub struct Handle {
    shared: Arc<Shared>,
}

struct Shared {
    file: PathBuf,
    list: Mutex<List>,
    /// Held by whoever writes the file: requests, the watch and the work all save.
    saving: tokio::sync::Mutex<()>,
    /// There is something new to do.
    news: Notify,
    /// The controller ends.
    leave: Notify,
    leaving: AtomicBool,
}

/// Does what is on the list.
pub struct Preparer {
    handle: Handle,
    config: Arc<Config>,
    wishes: Arc<Wishes>,
    briefing: Arc<Briefing>,
    supervisor: Supervisor,
    media: Media,
}

/// Loads the list. What was wrong with it is told in words.
pub fn open(
    config: Arc<Config>,
    wishes: Arc<Wishes>,
    briefing: Arc<Briefing>,
    supervisor: Supervisor,
    media: Media,
) -> (Preparer, Handle, Option<String>) {
    let file = config.state_dir.join("prepare.json");
    let (list, broken) = load(&file);
    let shared = Shared {
        file,
        list: Mutex::new(list),
        saving: tokio::sync::Mutex::default(),
        news: Notify::new(),
        leave: Notify::new(),
        leaving: AtomicBool::new(false),
    };
    let handle = Handle { shared: Arc::new(shared) };
    (Preparer { handle: handle.clone(), config, wishes, briefing, supervisor, media }, handle, broken)
}

/// A list that cannot be understood is put aside: nothing but the list is lost, and channels do not wait for it.
fn load(file: &Path) -> (List, Option<String>) {
    let why = match std::fs::read(file) {
        Ok(text) => match serde_json::from_slice::<List>(&text) {
            Ok(list) => return (list.resumed(), None),
            Err(why) => why.to_string(),
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return (List::default(), None),
        Err(error) => error.to_string(),
    };
    let aside = atomic::aside_of(file, state::now());
    let what = match std::fs::rename(file, &aside) {
        Ok(()) => format!("it was put aside as {}", aside.display()),
        Err(error) => format!("it cannot be put aside ({error})"),
    };
    (List::default(), Some(format!("{}: {why}; {what}, and a new list begins", file.display())))
}

impl Handle {
    /// Everything on the list, oldest first.
    pub fn all(&self) -> Vec<Entry> {
        self.lock().entries().to_vec()
    }

    /// Ends the present job and begins no other; it goes on at the next start.
    pub fn leave(&self) {
        self.shared.leaving.store(true, Ordering::Relaxed);
        self.shared.leave.notify_one();
    }

    /// Puts files on the list and saves it. `None` for each for which there is no room.
    ///
    /// # Errors
    /// The list cannot be saved; what was asked for is done nevertheless.
    async fn want(&self, wanted: Vec<Wanted>) -> std::io::Result<Vec<Option<Entry>>> {
        let now = state::now();
        let entries = self.lock().want(wanted, now);
        self.shared.news.notify_one();
        self.save().await.map(|()| entries)
    }

    fn lock(&self) -> MutexGuard<'_, List> {
        self.shared.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn save(&self) -> std::io::Result<()> {
        let _turn = self.shared.saving.lock().await;
        let (list, file) = (self.lock().clone(), self.shared.file.clone());
        let write = move || {
            let text = serde_json::to_vec_pretty(&list).map_err(std::io::Error::other)?;
            atomic::replace(&file, &text)
        };
        crate::off_thread(write).await
    }

    /// A list that cannot be saved is still worked off: what is lost is found to be needed again.
    async fn save_or_tell(&self) {
        if let Err(error) = self.save().await {
            tracing::error!(%error, "the list of files to prepare cannot be saved");
        }
    }
}

impl Preparer {
    /// Works the list off, one file at a time, until [`Handle::leave`].
    pub async fn run(self) {
        let this = &self;
        let watching = async {
            loop {
                tokio::time::sleep(LOOK_EVERY).await;
                this.look().await;
            }
        };
        tokio::select! {
            () = this.work() => {}
            () = watching, if this.config.prepares => {}
        }
    }

    async fn look(&self) {
        let wanted = watch::wanted(&self.wishes, &self.supervisor, &self.briefing).await;
        let (mut new, ready): (Vec<_>, Vec<_>) = {
            let list = self.handle.lock();
            let (new, known): (Vec<_>, Vec<_>) = wanted.into_iter().partition(|wanted| list.is_news(wanted));
            (new, known.into_iter().filter(|wanted| list.is_ready(wanted)).collect())
        };
        if !ready.is_empty() {
            let cache = self.briefing.cache_dir();
            new.extend(crate::off_thread(move || gone(ready, &cache)).await);
        }
        if new.is_empty() {
            return;
        }
        for file in &new {
            tracing::info!(channel.id = %file.channel, item.key = %file.item.key, "will be prepared");
        }
        if let Err(error) = self.handle.want(new).await {
            tracing::error!(%error, "the list of files to prepare cannot be saved");
        }
    }

    async fn work(&self) {
        let Shared { news, leave, leaving, .. } = &*self.handle.shared;
        while !leaving.load(Ordering::Relaxed) {
            let next =
                if self.config.prepares { self.handle.lock().next(state::now()) } else { Next::Nothing };
            match next {
                Next::Do(entry) => self.prepare(*entry).await,
                Next::Wait(time) => tokio::select! {
                    () = tokio::time::sleep(time) => {}
                    () = news.notified() => {}
                    () = leave.notified() => return,
                },
                Next::Nothing => tokio::select! {
                    () = news.notified() => {}
                    () = leave.notified() => return,
                },
            }
        }
    }

    async fn prepare(&self, entry: Entry) {
        self.handle.save_or_tell().await;
        let media = self.media.clone();
        let outcome = match crate::off_thread(move || media.full()).await {
            Some(why) => Outcome::Later(why),
            None => self.run_job(&entry).await,
        };
        match &outcome {
            Outcome::Ready(reason) => tracing::info!(item.key = %entry.item.key, reason, "prepared"),
            Outcome::Fits(reason) => tracing::info!(item.key = %entry.item.key, reason, "nothing to prepare"),
            Outcome::Failed(why) => tracing::warn!(item.key = %entry.item.key, why, "cannot be prepared"),
            // Said once, not every minute.
            Outcome::Later(why) if entry.error.as_ref() == Some(why) => {}
            Outcome::Later(why) => tracing::warn!(item.key = %entry.item.key, why, "preparing waits"),
            Outcome::Died(why) => tracing::warn!(item.key = %entry.item.key, why, "preparing broke off"),
            Outcome::Left => {}
        }
        self.handle.lock().ended(&entry, outcome, state::now());
        self.handle.save_or_tell().await;
    }

    async fn run_job(&self, entry: &Entry) -> Outcome {
        let job = self.job(entry);
        tracing::info!(channel.id = %entry.channel, item.key = %entry.item.key, "preparing");
        let progress = |said: &prepared::Said| self.handle.lock().said(entry, said);
        job::run(&self.config, &job, progress, &self.handle.shared.leave).await
    }

    fn job(&self, entry: &Entry) -> prepared::Job {
        let tools = self.briefing.tools();
        prepared::Job {
            item: entry.item.clone(),
            profile: entry.profile.clone(),
            cache_dir: self.briefing.cache_dir(),
            ffmpeg: tools.ffmpeg,
            ffprobe: tools.ffprobe,
            storage: self.briefing.storage(),
            tls_ca_file: self.config.tls_ca_file.clone(),
            loudness: self.config.loudness,
            even_if_it_fits: entry.loudness,
            part_s: self.config.prepare_part_s,
        }
    }
}

/// What was prepared but is not there any more: the cache had no room for it, or somebody has removed it. Reads the
/// disk.
fn gone(ready: Vec<Wanted>, cache: &Path) -> Vec<Wanted> {
    let is_gone = |wanted: &Wanted| prepared::look(cache, &wanted.item, &wanted.profile).is_none();
    ready.into_iter().filter(is_gone).map(|wanted| Wanted { asked: true, ..wanted }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use state::ids::{ChannelId, Ulid};
    use state::profile::Profile;
    use state::wire::{ItemSpec, MediaAt};

    #[test]
    fn a_list_that_was_broken_is_put_aside_and_another_begins() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("prepare.json");
        assert_eq!(load(&file), (List::default(), None));
        for broken in [&b""[..], b"{\"version\": 1, \"ent", &[0xff, 0]] {
            std::fs::write(&file, broken).unwrap();
            let (list, broken) = load(&file);
            assert_eq!(list, List::default());
            assert!(broken.unwrap().contains("put aside as"));
            assert!(!file.exists());
        }
        let mut kept = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
        assert!(kept.all(|name| name.to_string_lossy().starts_with("prepare.json.broken-")));
    }

    #[test]
    fn a_result_that_somebody_has_removed_is_asked_for_again() {
        let cache = tempfile::tempdir().unwrap();
        let at = MediaAt::Object { size: 1 };
        let item = ItemSpec { id: Ulid::from_text("a"), key: "a".into(), at, content: "1".into() };
        let (channel, profile) = (ChannelId::main(), Profile::default());
        let ready = Wanted { item, channel, profile, loudness: false, asked: false };
        let asked: Vec<bool> = gone(vec![ready], cache.path()).iter().map(|wanted| wanted.asked).collect();
        assert_eq!(asked, [true]);
    }
}
