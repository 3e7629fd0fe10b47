//! The one task of the alerts: it looks every second, keeps book and outbox on the disk, and calls the webhooks.

use super::book::{Book, Finding, Notice};
use super::call::Caller;
use super::file::{Folder, Remembered};
use super::kind::{Kind, Severity};
use super::outbox::{Failure, Outbox};
use super::webhooks::{Kept, MOST, Origin, Sealed, Webhook, Written};
use super::{Order, Shared, lock, shape};
use crate::config::AlertSettings;
use crate::error::Problem;
use crate::supervisor::{backoff, seen::Now};
use state::ids::Ulid;
use state::seal::MasterKey;
use state::store::StoreError;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::MissedTickBehavior;

/// How often it looks.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A disk may take this long before alerts go out without having been saved.
const SAVE_WITHIN: Duration = Duration::from_secs(3);

/// A webhook that failed so often in a row is an alert for the others.
const TROUBLE: u32 = 3;

/// How often book and outbox were changed.
type Changes = (u64, u64);

type Tried = (Ulid, Result<(), Failure>);

/// The task.
pub struct Watcher {
    folder: Folder,
    master: Arc<MasterKey>,
    caller: Caller,
    shared: Shared,
    orders: mpsc::Receiver<Order>,
    tries: JoinSet<Tried>,
    remembered: Remembered,
    /// What of the changes is on the disk.
    on_disk: Changes,
    saving: Option<(Changes, JoinHandle<Result<Remembered, StoreError>>)>,
    save_failed: Option<String>,
    kept: Kept,
    implied: Vec<Webhook>,
    book: Book,
    outbox: Outbox,
    /// What was wrong at the start, to be told once.
    troubles: Vec<Finding>,
}

impl Watcher {
    /// Goes on with what is in the folder.
    pub(super) fn open(
        folder: Folder,
        master: Arc<MasterKey>,
        settings: &AlertSettings,
        caller: Caller,
        shared: Shared,
        orders: mpsc::Receiver<Order>,
    ) -> Self {
        let (now, mut troubles) = (Now::read(), Vec::new());
        let remembered: Remembered = folder.load(&mut troubles);
        let kept = folder.load(&mut troubles);
        let mut watcher = Self {
            book: Book::new(remembered.pages.clone(), settings.remind_every, now),
            outbox: Outbox::new(remembered.letters.clone(), now),
            remembered,
            kept,
            implied: settings.webhooks.clone(),
            on_disk: Changes::default(),
            saving: None,
            save_failed: None,
            troubles: troubles.into_iter().map(broken).collect(),
            folder,
            master,
            caller,
            shared,
            orders,
            tries: JoinSet::new(),
        };
        watcher.know_webhooks();
        watcher.show();
        watcher
    }

    /// Looks and delivers for as long as the controller lives. `look` gives what is wrong.
    pub async fn run(mut self, mut look: impl AsyncFnMut() -> Vec<Finding>) {
        let mut ticks = tokio::time::interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => self.take_in(look().await),
                Some(order) = self.orders.recv() => self.obey(order).await,
                Some(Ok((id, result))) = self.tries.join_next() => self.tried(&id, result),
            }
            self.save().await;
            self.deliver();
        }
    }

    fn take_in(&mut self, mut findings: Vec<Finding>) {
        let now = Now::read();
        findings.extend(std::mem::take(&mut self.troubles));
        findings.extend(self.own_findings());
        for notice in self.book.take_in(findings, now) {
            log(&notice);
            self.post(notice, now);
        }
    }

    /// What is wrong with the alerts themselves.
    fn own_findings(&self) -> Vec<Finding> {
        let unsaved = self.save_failed.iter().map(|words| {
            let sentence = format!(
                "Alerts cannot be kept, and what is open will be told again after a restart: {words}; make room on that disk."
            );
            Finding::new(Kind::StateUnsaved, sentence).about("alerts")
        });
        let shown = lock(&self.shared);
        let failing = shown.webhooks.iter().filter_map(|webhook| {
            let (failures, words) = self.outbox.trouble(&webhook.id).filter(|(n, _)| *n >= TROUBLE)?;
            let sentence = format!(
                "Webhook {} failed {failures} times in a row: {words}; see GET /api/alerts/webhooks.",
                webhook.id
            );
            Some(Finding::new(Kind::WebhookFailing, sentence).about(&webhook.id))
        });
        let closed = self
            .kept
            .webhooks
            .iter()
            .filter(|sealed| !shown.webhooks.iter().any(|webhook| webhook.id == sealed.id));
        let closed = closed.map(|sealed| {
            let sentence = format!(
                "Webhook {} cannot be used with this master key and these settings; make it again.",
                sealed.id
            );
            Finding::new(Kind::WebhookFailing, sentence).about(&sealed.id)
        });
        unsaved.chain(failing).chain(closed).collect()
    }

    /// Puts a notice on its way to everybody who wants it.
    fn post(&mut self, notice: Notice, now: Now) {
        let about = match notice.alert.subject.kind {
            Kind::WebhookFailing => notice.alert.subject.about.as_deref(),
            _ => None,
        };
        for webhook in &lock(&self.shared).webhooks {
            if webhook.wants(notice.alert.severity, about) {
                self.outbox.add(&webhook.id, notice.clone(), now);
            }
        }
    }

    fn deliver(&mut self) {
        let now = Now::read();
        for letter in self.outbox.take_due(now) {
            let webhook = lock(&self.shared).webhooks.iter().find(|w| w.id == letter.webhook).cloned();
            let Some(webhook) = webhook else { continue };
            let words = shape::words(&webhook, &letter.id, &letter.notice, now.wall);
            let caller = self.caller.clone();
            self.tries.spawn(async move { (letter.id, caller.call(&webhook.address, words).await) });
        }
    }

    fn tried(&mut self, id: &Ulid, result: Result<(), Failure>) {
        if let Err(failure) = &result {
            tracing::warn!(delivery.id = %id, words = failure.words, "an alert was not delivered yet");
        }
        self.outbox.tried(id, result, backoff::jitter(), Now::read());
    }

    async fn obey(&mut self, order: Order) {
        match order {
            Order::Add { written, done } => {
                let _ = done.send(self.add(written).await);
            }
            Order::Remove { id, done } => {
                let _ = done.send(self.remove(&id).await);
            }
        }
    }

    async fn add(&mut self, written: Written) -> Result<Webhook, Problem> {
        if self.kept.webhooks.len() >= MOST {
            return Err(Problem::conflict("conflict", format!("there are {MOST} webhooks; take one away")));
        }
        let now = state::now();
        let id = Ulid::new(now).to_string().to_lowercase();
        let made = Webhook::make(id.clone(), written.clone(), Origin::Api, self.caller.allows_private());
        let made = made.map_err(|problem| Problem::invalid(vec![problem]))?;
        let mut kept = self.kept.clone();
        let sealed = Sealed::new(id, &written, &self.master, now);
        let failed = |error| Problem::unavailable(format!("the webhook cannot be kept: {error}"));
        kept.webhooks.push(sealed.map_err(failed)?);
        self.keep(kept).await?;
        Ok(made)
    }

    async fn remove(&mut self, id: &str) -> Result<(), Problem> {
        if self.implied.iter().any(|webhook| webhook.id == id) {
            let words = "this webhook is in ALERT_WEBHOOKS; take it out there and restart the controller";
            return Err(Problem::conflict("conflict", words));
        }
        let mut kept = self.kept.clone();
        kept.webhooks.retain(|sealed| sealed.id != id);
        if kept.webhooks.len() == self.kept.webhooks.len() {
            return Err(Problem::not_found(format!("there is no webhook {id}")));
        }
        self.keep(kept).await
    }

    /// Disk first, memory after.
    async fn keep(&mut self, kept: Kept) -> Result<(), Problem> {
        let folder = self.folder.clone();
        let saved = crate::off_thread(move || folder.save_webhooks(&kept)).await;
        self.kept =
            saved.map_err(|error| Problem::unavailable(format!("the webhooks cannot be saved: {error}")))?;
        self.know_webhooks();
        Ok(())
    }

    /// Opens all webhooks; letters to others are given up.
    fn know_webhooks(&mut self) {
        let open = |sealed: &Sealed| {
            let written = sealed.open(&self.master).ok()?;
            Webhook::make(sealed.id.clone(), written, Origin::Api, self.caller.allows_private()).ok()
        };
        let kept = self.kept.webhooks.iter().filter_map(open);
        let all: Vec<_> = self.implied.iter().cloned().chain(kept).collect();
        let names: BTreeSet<_> = all.iter().map(|webhook| webhook.id.clone()).collect();
        self.outbox.keep_only(&names, Now::read());
        lock(&self.shared).webhooks = all;
    }

    /// Puts what has changed on the disk. A disk that is full or hangs keeps nobody from being told.
    async fn save(&mut self) {
        self.show();
        let changes = (self.book.changes(), self.outbox.changes());
        if self.saving.is_none() && changes != self.on_disk {
            let mut next = self.remembered.clone();
            next.pages.clone_from(self.book.pages());
            next.letters.clone_from(self.outbox.letters());
            let folder = self.folder.clone();
            let saving = tokio::task::spawn_blocking(move || folder.save(&next));
            self.saving = Some((changes, saving));
        }
        let Some((of, saving)) = self.saving.as_mut() else { return };
        let of = *of;
        let result = match tokio::time::timeout(SAVE_WITHIN, saving).await {
            Ok(Ok(result)) => result.map_err(|error| error.to_string()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => return self.saved(of, Err("the disk does not answer".to_owned())),
        };
        self.saving = None;
        self.saved(of, result);
    }

    fn saved(&mut self, of: Changes, result: Result<Remembered, String>) {
        match result {
            Ok(remembered) => {
                (self.remembered, self.on_disk) = (remembered, of);
                self.save_failed = None;
            }
            Err(words) => {
                if self.save_failed.is_none() {
                    tracing::error!(error = words, "alerts cannot be saved");
                }
                self.save_failed = Some(words);
            }
        }
    }

    fn show(&self) {
        let mut shown = lock(&self.shared);
        shown.pages.clone_from(self.book.pages());
        shown.letters.clone_from(self.outbox.letters());
    }
}

/// A file of our own was broken.
fn broken(words: String) -> Finding {
    let sentence = format!("A file was broken: {words}; look what it held.");
    Finding::new(Kind::StateBroken, sentence).about(words)
}

fn log(notice: &Notice) {
    let alert = &notice.alert;
    let (kind, what, sentence) = (alert.subject.kind.name(), notice.what, &alert.sentence);
    let channel = alert.subject.channel.as_ref().map(tracing::field::display);
    let destination = alert.subject.destination.as_ref().map(tracing::field::display);
    match (what, alert.severity) {
        (super::What::Opened, Severity::Critical) => {
            tracing::error!(channel.id = channel, destination.id = destination,
            alert.kind = kind, alert.id = %alert.id, sentence, "alert")
        }
        (super::What::Opened, Severity::Warning) => {
            tracing::warn!(channel.id = channel, destination.id = destination,
            alert.kind = kind, alert.id = %alert.id, sentence, "alert")
        }
        _ => tracing::info!(channel.id = channel, destination.id = destination,
            alert.kind = kind, alert.id = %alert.id, ?what, sentence, "alert"),
    }
}
