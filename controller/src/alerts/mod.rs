//! Alerts: what is wrong, who is told, and that they were told. One task looks every second, keeps the book and the
//! outbox, and delivers; another one pings so that somebody notices when this machine is dead.
//!
//! What is wrong is decided in pure functions (`channel`, `machine`, `book`, `outbox`); here and in `watch` it is done.

pub mod address;
pub mod book;
pub mod call;
pub mod channel;
pub mod deadman;
pub mod file;
pub mod kind;
pub mod look;
pub mod machine;
pub mod outbox;
#[cfg(test)]
mod properties;
pub mod shape;
pub mod signature;
pub mod watch;
pub mod webhooks;

pub use address::Address;
pub use book::{Alert, Notice};
pub use deadman::Ping;
pub use kind::{Kind, Severity};
pub use outbox::DeadLetter;
pub use watch::Watcher;
pub use webhooks::{Webhook, of_environment};

use crate::config::Config;
use crate::error::Problem;
use crate::supervisor::Handle;
use book::{Finding, What};
use call::Caller;
use file::Folder;
use serde::Serialize;
use serde_json::Value;
use state::Timestamp;
use state::channel::FieldProblem;
use state::ids::{ChannelId, Ulid};
use state::seal::MasterKey;
use state::secret::Secret;
use state::store::{self, Document as _};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{mpsc, oneshot};
use webhooks::{Kept, Origin, Shape, Written};

/// Orders that wait for the watcher.
const ORDERS: usize = 16;

type Shared = Arc<Mutex<Shown>>;

/// What others may see.
#[derive(Default)]
struct Shown {
    pages: book::Pages,
    letters: outbox::Letters,
    webhooks: Vec<Webhook>,
    deadman: Option<Ping>,
}

fn lock(shared: &Shared) -> MutexGuard<'_, Shown> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the watcher is asked for; it answers when it is on the disk.
enum Order {
    Add { written: Written, done: oneshot::Sender<Result<Webhook, Problem>> },
    Remove { id: String, done: oneshot::Sender<Result<(), Problem>> },
}

/// The way to the alerts.
#[derive(Clone)]
pub struct Alerts {
    shared: Shared,
    orders: mpsc::Sender<Order>,
    caller: Caller,
}

/// All alerts.
#[derive(Debug, Serialize)]
pub struct AlertsShown {
    /// What is wrong now, oldest first.
    open: Vec<Alert>,
    /// What was wrong, newest first, at most 200.
    recent: Vec<Alert>,
    /// Notices on their way to webhooks.
    waiting: usize,
    /// The dead-man ping; null where there is none.
    deadman: Option<Ping>,
}

/// A webhook as people see it.
#[derive(Debug, Serialize)]
pub struct WebhookShown {
    id: String,
    kind: Shape,
    /// Its host; the rest of the address is a secret.
    url: String,
    severity: Severity,
    origin: Origin,
    /// Notices on their way to it.
    waiting: usize,
    /// How the last try failed, while that is so.
    error: Option<String>,
    /// The secret, once, when it was made here.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
}

/// Whether a test arrived.
#[derive(Debug, Serialize)]
pub struct Tried {
    id: String,
    delivered: bool,
    error: Option<String>,
}

/// Whether webhooks are kept whose secrets are sealed.
pub fn holds_secrets(state_dir: &Path) -> bool {
    std::fs::read(state_dir.join("alerts").join(Kept::FILE)).is_ok_and(|text| {
        store::parse::<Kept>(&text).map_or(!text.is_empty(), |kept| !kept.webhooks.is_empty())
    })
}

/// Loads what is remembered. The watcher must be run.
pub fn open(config: &Config, master: Arc<MasterKey>) -> (Alerts, Watcher) {
    let (folder, settings) = (Folder::of(&config.state_dir), &config.alerts);
    let caller = Caller::new(config.tls_ca_file.as_deref(), settings.allow_private);
    let (shared, (orders, inbox)) = (Shared::default(), mpsc::channel(ORDERS));
    let watcher = Watcher::open(folder, master, settings, caller.clone(), shared.clone(), inbox);
    (Alerts { shared, orders, caller }, watcher)
}

impl Alerts {
    /// Begins to ping, where somebody wants that.
    pub fn ping(&self, config: &Config, supervisor: &Handle) {
        let Some(address) = config.alerts.deadman_url.clone() else { return };
        let (every, shared) = (config.alerts.deadman_every, self.shared.clone());
        tokio::spawn(deadman::ping(address, every, self.caller.clone(), supervisor.clone(), shared));
    }

    /// All alerts.
    pub fn all(&self) -> AlertsShown {
        let shown = lock(&self.shared);
        AlertsShown {
            open: shown.pages.open.clone(),
            recent: shown.pages.recent.iter().cloned().collect(),
            waiting: shown.letters.waiting.len(),
            deadman: shown.deadman.clone(),
        }
    }

    /// What is wrong with a channel now.
    pub fn of(&self, channel: &ChannelId) -> Vec<Alert> {
        let shown = lock(&self.shared);
        let own = |alert: &&Alert| alert.subject.channel.as_ref() == Some(channel);
        shown.pages.open.iter().filter(own).cloned().collect()
    }

    /// What is wrong with the machine, in sentences.
    pub fn of_machine(&self) -> Vec<String> {
        let shown = lock(&self.shared);
        let own = shown.pages.open.iter().filter(|alert| alert.subject.kind.is_of_machine());
        own.map(|alert| alert.sentence.clone()).collect()
    }

    /// What was not delivered, newest first.
    pub fn dead_letters(&self) -> Vec<DeadLetter> {
        lock(&self.shared).letters.dead.iter().cloned().collect()
    }

    /// Everybody who is told.
    pub fn webhooks(&self) -> Vec<WebhookShown> {
        let shown = lock(&self.shared);
        shown.webhooks.iter().map(|webhook| of_webhook(webhook, &shown.letters)).collect()
    }

    /// Makes a webhook of what somebody wrote. A standard one without a secret is given one, which is shown this once.
    ///
    /// # Errors
    /// 422 what is wrong with it; 409 there are enough; 503 it cannot be saved.
    pub async fn add(&self, body: Value) -> Result<WebhookShown, Problem> {
        let mut written: Written = serde_json::from_value(body).map_err(|error| {
            let words = format!("cannot be understood: {error}");
            Problem::invalid(vec![FieldProblem::at("", words)])
        })?;
        let made = (written.kind == Shape::Standard && written.secret.is_none()).then(signature::new_secret);
        written.secret = made.clone().or(written.secret);
        let allow = self.caller.allows_private();
        Webhook::make(String::new(), written.clone(), Origin::Api, allow)
            .map_err(|problem| Problem::invalid(vec![problem]))?;
        let (done, answer) = oneshot::channel();
        let webhook = self.order(Order::Add { written, done }, answer).await?;
        let shown = of_webhook(&webhook, &outbox::Letters::default());
        Ok(WebhookShown { secret: made.as_ref().map(|secret: &Secret| secret.expose().to_owned()), ..shown })
    }

    /// Takes a webhook away.
    ///
    /// # Errors
    /// 404 there is none; 409 it is in the environment; 503 that cannot be saved.
    pub async fn remove(&self, id: String) -> Result<(), Problem> {
        let (done, answer) = oneshot::channel();
        self.order(Order::Remove { id, done }, answer).await
    }

    async fn order<T>(
        &self,
        order: Order,
        answer: oneshot::Receiver<Result<T, Problem>>,
    ) -> Result<T, Problem> {
        let busy = || Problem::unavailable("alerts are busy; ask again in a moment");
        self.orders.try_send(order).map_err(|_| busy())?;
        answer.await.map_err(|_| busy())?
    }

    /// Tells every webhook, or one, that somebody tries whether alerts arrive, and waits for the answers.
    ///
    /// # Errors
    /// 404 there is no such webhook, or none at all.
    pub async fn test(&self, only: Option<&str>) -> Result<Vec<Tried>, Problem> {
        let webhooks: Vec<_> = lock(&self.shared).webhooks.clone();
        let webhooks: Vec<_> =
            webhooks.into_iter().filter(|webhook| only.is_none_or(|only| only == webhook.id)).collect();
        if webhooks.is_empty() {
            return Err(Problem::not_found("there is no such webhook; POST /api/alerts/webhooks makes one"));
        }
        let mut tries = tokio::task::JoinSet::new();
        for webhook in webhooks {
            let caller = self.caller.clone();
            tries.spawn(async move { tell(&caller, webhook).await });
        }
        let mut tried = tries.join_all().await;
        tried.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(tried)
    }
}

async fn tell(caller: &Caller, webhook: Webhook) -> Tried {
    let now = state::now();
    let words = shape::words(&webhook, &Ulid::new(now), &test_notice(now), now);
    let error = caller.call(&webhook.address, words).await.err().map(|failure| failure.words);
    Tried { id: webhook.id, delivered: error.is_none(), error }
}

fn test_notice(now: Timestamp) -> Notice {
    let sentence = "This is a test of the stream controller; nothing is wrong.";
    let Finding { subject, sentence } = Finding::new(Kind::Test, sentence);
    let (id, severity) = (Ulid::new(now), Severity::Warning);
    let (since, told_at) = (now, now);
    let alert = Alert { id, subject, severity, sentence, since, told_at, ended_at: None, lasted_s: None };
    Notice { what: What::Test, at: now, alert }
}

fn of_webhook(webhook: &Webhook, letters: &outbox::Letters) -> WebhookShown {
    let own = || letters.waiting.iter().filter(|letter| letter.webhook == webhook.id);
    WebhookShown {
        id: webhook.id.clone(),
        kind: webhook.shape,
        url: webhook.address.shown(),
        severity: webhook.least,
        origin: webhook.origin,
        waiting: own().count(),
        error: own().next().and_then(|letter| letter.error.clone()),
        secret: None,
    }
}
