//! Who is told: webhooks of the environment, and those that were made over the API, which are kept sealed in
//! `alerts/webhooks.json`. Addresses are secrets: the tokens of Discord, Telegram and ntfy are in them.

use super::address::Address;
use super::kind::Severity;
use super::signature;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use state::Timestamp;
use state::channel::FieldProblem;
use state::seal::{MasterKey, SealError};
use state::secret::Secret;
use state::store::Document;

/// Most webhooks that are made over the API.
pub const MOST: usize = 20;

/// Whom a webhook belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shape {
    /// A program of one's own (Standard Webhooks 1.0.0).
    Standard,
    /// A channel of Discord.
    Discord,
    /// A chat of Telegram.
    Telegram,
    /// A topic of ntfy.
    Ntfy,
}

/// Who made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// It is in the environment.
    Environment,
    /// It was made over the API.
    Api,
}

/// One that is told.
#[derive(Debug, Clone)]
pub struct Webhook {
    /// Names it.
    pub id: String,
    /// How it is told.
    pub shape: Shape,
    /// Where it is.
    pub address: Address,
    /// The chat or the topic, where that is part of what is said.
    pub room: Secret,
    /// Signs what is said to a standard one; ntfy's access token.
    pub secret: Option<Secret>,
    /// What is less bad is not told.
    pub least: Severity,
    /// Who made it.
    pub origin: Origin,
}

impl Webhook {
    /// Makes one of what somebody wrote.
    ///
    /// # Errors
    /// What is wrong with which field, in words that show no secret.
    pub fn make(
        id: String,
        written: Written,
        origin: Origin,
        allow_private: bool,
    ) -> Result<Self, FieldProblem> {
        let Written { kind: shape, url, secret, severity } = written;
        let at_url = |words| FieldProblem::at("/url", words);
        let (url, room) = split(shape, &url).map_err(at_url)?;
        let address = Address::parse(&url, allow_private).map_err(at_url)?;
        if let Some(words) = secret_problem(shape, secret.as_ref()) {
            return Err(FieldProblem::at("/secret", words));
        }
        Ok(Self { id, shape, address, room, secret, least: severity, origin })
    }

    /// Whether it wants to hear of this; nobody is told of its own failures.
    pub fn wants(&self, severity: Severity, about: Option<&str>) -> bool {
        severity >= self.least && about != Some(self.id.as_str())
    }
}

/// A webhook as somebody writes it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Written {
    /// How it is told.
    pub kind: Shape,
    /// Where it is.
    pub url: Secret,
    /// See [`Webhook::secret`].
    #[serde(default)]
    pub secret: Option<Secret>,
    /// What is less bad is not told.
    #[serde(default = "everything")]
    pub severity: Severity,
}

fn everything() -> Severity {
    Severity::Warning
}

fn secret_problem(shape: Shape, secret: Option<&Secret>) -> Option<&'static str> {
    match (shape, secret) {
        (Shape::Standard, None) => Some("is needed by a standard webhook"),
        (Shape::Standard, Some(secret)) => signature::secret_problem(secret),
        (Shape::Discord | Shape::Telegram, Some(_)) => Some("is of no use here: the address holds it"),
        (Shape::Ntfy, Some(token)) => {
            let fits = (1..=256).contains(&token.expose().len());
            let fits = fits && token.expose().bytes().all(|b| b.is_ascii_graphic());
            (!fits).then_some("must be an access token of 1 to 256 visible characters")
        }
        (_, None) => None,
    }
}

/// Where to call, and the chat or topic to name there.
fn split(shape: Shape, url: &Secret) -> Result<(Secret, Secret), &'static str> {
    let text = url.expose();
    match shape {
        Shape::Standard | Shape::Discord => Ok((url.clone(), Secret::default())),
        Shape::Telegram => {
            let form = "must look like https://api.telegram.org/bot<token>/sendMessage?chat_id=<chat>";
            let (call, query) = text.split_once('?').ok_or(form)?;
            let chat = query.strip_prefix("chat_id=").filter(|chat| !chat.is_empty()).ok_or(form)?;
            let plain = chat.chars().all(|c| c.is_ascii_alphanumeric() || "-_@".contains(c));
            (plain && call.ends_with("/sendMessage")).then_some(()).ok_or(form)?;
            Ok((Secret::new(call), Secret::new(chat)))
        }
        Shape::Ntfy => {
            let form = "must look like https://ntfy.sh/<topic>";
            let (server, topic) = text.rsplit_once('/').filter(|(s, _)| s.len() > 8).ok_or(form)?;
            let plain = topic.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c));
            (plain && (1..=64).contains(&topic.len())).then_some(()).ok_or(form)?;
            Ok((Secret::new(format!("{server}/")), Secret::new(topic)))
        }
    }
}

/// The webhooks of `ALERT_WEBHOOKS`: `kind=address`, separated by commas or blanks. Their secrets stand beside them in
/// `ALERT_WEBHOOK_SECRET`.
///
/// # Errors
/// What is wrong with which of them, counted from 1.
pub fn of_environment(
    text: &Secret,
    secret: Option<&Secret>,
    allow_private: bool,
) -> Result<Vec<Webhook>, Vec<String>> {
    let words = text.expose().split(|c: char| c == ',' || c.is_whitespace()).filter(|word| !word.is_empty());
    let read = words.enumerate().map(|(n, word)| {
        one_of_environment(word, secret, allow_private)
            .map_err(|why| format!("ALERT_WEBHOOKS, number {}: {why}", n + 1))
    });
    let (good, bad): (Vec<_>, Vec<_>) = read.partition(Result::is_ok);
    if bad.is_empty() {
        Ok(good.into_iter().filter_map(Result::ok).collect())
    } else {
        Err(bad.into_iter().filter_map(Result::err).collect())
    }
}

fn one_of_environment(word: &str, secret: Option<&Secret>, allow_private: bool) -> Result<Webhook, String> {
    let form = "must be standard=, discord=, telegram= or ntfy= and an address";
    let (kind, url) = word.split_once('=').ok_or(form)?;
    let shape: Shape = serde_json::from_value(Value::String(kind.to_owned())).map_err(|_| form)?;
    if shape == Shape::Standard && secret.is_none() {
        return Err("needs ALERT_WEBHOOK_SECRET".to_owned());
    }
    let secret = secret.filter(|_| shape == Shape::Standard).cloned();
    // The address itself names it, so that what waits for it finds it again whatever stands before it.
    let print = ring::digest::digest(&ring::digest::SHA256, url.as_bytes());
    let print: String = print.as_ref()[..4].iter().map(|byte| format!("{byte:02x}")).collect();
    let written = Written { kind: shape, url: Secret::new(url), secret, severity: everything() };
    let made = Webhook::make(format!("{kind}-{print}"), written, Origin::Environment, allow_private);
    made.map_err(|problem| problem.detail)
}

/// The webhooks that were made over the API, as they are on disk.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Kept {
    version: u32,
    revision: u64,
    /// One after the other.
    #[serde(default)]
    pub webhooks: Vec<Sealed>,
    /// Fields that a newer version wrote.
    #[serde(flatten)]
    other: Map<String, Value>,
}

impl Default for Kept {
    fn default() -> Self {
        Self { version: Self::VERSION, revision: 0, webhooks: Vec::new(), other: Map::new() }
    }
}

state::document!(Kept, "webhooks.json", version 1);

/// One webhook with its secrets sealed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Sealed {
    /// Names it.
    pub id: String,
    kind: Shape,
    sealed_url: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sealed_secret: Option<String>,
    severity: Severity,
    made_at: Timestamp,
}

impl Sealed {
    /// Seals what somebody wrote.
    ///
    /// # Errors
    /// Those of [`MasterKey::seal`].
    pub fn new(id: String, written: &Written, master: &MasterKey, now: Timestamp) -> Result<Self, SealError> {
        let seal = |what, secret| master.seal(secret, &context(&id, what));
        Ok(Self {
            kind: written.kind,
            sealed_url: seal("url", &written.url)?,
            sealed_secret: written.secret.as_ref().map(|secret| seal("secret", secret)).transpose()?,
            severity: written.severity,
            made_at: now,
            id,
        })
    }

    /// Opens it again.
    ///
    /// # Errors
    /// [`SealError::CannotOpen`] when the master key has changed.
    pub fn open(&self, master: &MasterKey) -> Result<Written, SealError> {
        let open = |what, sealed: &str| master.open(sealed, &context(&self.id, what));
        Ok(Written {
            kind: self.kind,
            url: open("url", &self.sealed_url)?,
            secret: self.sealed_secret.as_deref().map(|sealed| open("secret", sealed)).transpose()?,
            severity: self.severity,
        })
    }
}

fn context(id: &str, what: &str) -> String {
    format!("webhook/{id}/{what}")
}

/// A webhook of each shape, with a secret where one is needed.
#[cfg(test)]
pub fn test_webhook(shape: Shape, url: &str) -> Webhook {
    let secret = match shape {
        Shape::Standard => Some(Secret::new("whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD")),
        Shape::Ntfy => Some(Secret::new("tk_secret")),
        Shape::Discord | Shape::Telegram => None,
    };
    let written = Written { kind: shape, url: Secret::new(url), secret, severity: everything() };
    Webhook::make("w".to_owned(), written, Origin::Api, false).unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(text: &str) -> Result<Vec<Webhook>, Vec<String>> {
        let secret = Secret::new("whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD");
        of_environment(&Secret::new(text), Some(&secret), false)
    }

    #[test]
    fn the_environment_names_any_number_of_them() {
        let text = "standard=https://example.org/a, discord=https://discord.com/api/webhooks/1/t\n\
                    telegram=https://api.telegram.org/bot1:t/sendMessage?chat_id=@me ntfy=https://ntfy.sh/topic";
        let all = environment(text).unwrap();
        assert_eq!(all.iter().map(|w| w.room.expose()).collect::<Vec<_>>(), ["", "", "@me", "topic"]);
        assert_eq!(all[2].address.text().expose(), "https://api.telegram.org/bot1:t/sendMessage");
        let again = environment("ntfy=https://ntfy.sh/topic").unwrap();
        assert_eq!(again[0].id, all[3].id, "the same one has the same name");
        assert!(environment("").unwrap().is_empty());
    }

    #[test]
    fn what_cannot_be_used_is_named_without_its_secrets() {
        let text = "pager=https://example.org/s3cret standard=http://10.0.0.1/s3cret \
                    telegram=https://api.telegram.org/bots3cret/sendMessage ntfy=https://ntfy.sh/";
        let problems = environment(text).unwrap_err();
        assert_eq!(problems.len(), 4, "{problems:#?}");
        assert!(!problems.join(" ").contains("s3cret"), "{problems:#?}");
        let unsigned = of_environment(&Secret::new("standard=https://example.org/a"), None, false);
        assert!(unsigned.unwrap_err()[0].contains("ALERT_WEBHOOK_SECRET"));
    }

    #[test]
    fn what_is_kept_shows_neither_address_nor_secret() {
        let master = MasterKey::from_hex(&Secret::new("7".repeat(64))).unwrap();
        let written: Written = serde_json::from_value(serde_json::json!({
            "kind": "ntfy", "url": "https://ntfy.sh/hidden-topic", "secret": "tk_hidden", "severity": "critical",
        }))
        .unwrap();
        let sealed = Sealed::new("w1".into(), &written, &master, state::now()).unwrap();
        let text = serde_json::to_string(&sealed).unwrap();
        assert!(!text.contains("hidden"), "{text}");
        let read: Sealed = serde_json::from_str(&text).unwrap();
        let open = read.open(&master).unwrap();
        assert_eq!((open.url, open.secret), (written.url, written.secret));
        let moved = Sealed { id: "w2".into(), ..read };
        assert!(moved.open(&master).is_err(), "it opens in its own place only");
    }

    #[test]
    fn a_webhook_hears_what_is_bad_enough_and_not_of_itself() {
        let webhook = Webhook {
            least: Severity::Critical,
            ..test_webhook(Shape::Discord, "https://discord.com/api/webhooks/1/t")
        };
        assert!(webhook.wants(Severity::Critical, None) && !webhook.wants(Severity::Warning, None));
        assert!(!webhook.wants(Severity::Critical, Some("w")));
    }
}
