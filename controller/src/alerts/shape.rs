//! How a notice looks to whoever gets it: Standard Webhooks, Discord, Telegram and ntfy. Pure.

use super::book::{Alert, Notice, What};
use super::call::Words;
use super::kind::Severity;
use super::signature;
use super::webhooks::{Shape, Webhook};
use hyper::Method;
use serde_json::{Value, json};
use state::Timestamp;
use state::ids::Ulid;

/// Longest sentence that is passed on, in characters: Discord takes 2000 in all, Telegram 4096.
const LONGEST: usize = 1500;

/// The call that tells `webhook` of `notice`. `id` is the same for every try, `now` is not.
pub fn words(webhook: &Webhook, id: &Ulid, notice: &Notice, now: Timestamp) -> Words {
    let (body, mut headers) = match webhook.shape {
        Shape::Standard => (standard(notice), Vec::new()),
        Shape::Discord => (discord(notice), Vec::new()),
        Shape::Telegram => (telegram(webhook, notice), Vec::new()),
        Shape::Ntfy => (ntfy(webhook, notice), bearer(webhook)),
    };
    let body = body.to_string().into_bytes();
    headers.push(("content-type", "application/json".to_owned()));
    if webhook.shape == Shape::Standard {
        headers.extend(signed(webhook, id, &body, now));
    }
    Words { method: Method::POST, headers, body }
}

/// Headers of Standard Webhooks; the time is that of this try.
fn signed(webhook: &Webhook, id: &Ulid, body: &[u8], now: Timestamp) -> Vec<(&'static str, String)> {
    let (id, at) = (format!("msg_{id}"), now.as_second());
    let signature = webhook.secret.as_ref().and_then(|secret| signature::sign(secret, &id, at, body));
    let mut headers = vec![("webhook-id", id), ("webhook-timestamp", at.to_string())];
    headers.extend(signature.map(|signature| ("webhook-signature", signature)));
    headers
}

fn bearer(webhook: &Webhook) -> Vec<(&'static str, String)> {
    let token = webhook.secret.iter();
    token.map(|token| ("authorization", format!("Bearer {}", token.expose()))).collect()
}

fn standard(notice: &Notice) -> Value {
    let kind = match notice.what {
        What::Opened => "alert.opened",
        What::Reminder => "alert.reminder",
        What::Ended => "alert.ended",
        What::Test => "alert.test",
    };
    json!({"type": kind, "timestamp": notice.at, "data": notice.alert})
}

/// Nobody is mentioned, whatever a name in the sentence looks like.
fn discord(notice: &Notice) -> Value {
    let text = format!("**{}**\n{}", title(notice), sentence(notice));
    json!({"content": text, "allowed_mentions": {"parse": []}})
}

fn telegram(webhook: &Webhook, notice: &Notice) -> Value {
    let text = format!("{}\n{}", title(notice), sentence(notice));
    json!({"chat_id": webhook.room.expose(), "text": text, "link_preview_options": {"is_disabled": true}})
}

/// Priorities are 1 to 5; tags become pictures.
fn ntfy(webhook: &Webhook, notice: &Notice) -> Value {
    let (priority, tag) = match (notice.what, notice.alert.severity) {
        (What::Ended, _) => (3, "white_check_mark"),
        (What::Test, _) => (3, "bell"),
        (_, Severity::Critical) => (5, "rotating_light"),
        (_, Severity::Warning) => (4, "warning"),
    };
    json!({"topic": webhook.room.expose(), "title": title(notice), "message": sentence(notice), "priority": priority,
        "tags": [tag]})
}

fn title(notice: &Notice) -> String {
    let Alert { subject, severity, lasted_s, .. } = &notice.alert;
    let word = match (notice.what, severity) {
        (What::Test, _) => return "Test: alerts arrive here".to_owned(),
        (What::Ended, _) => {
            return format!("Over after {}: {}", length(lasted_s.unwrap_or(0)), subject.kind.name());
        }
        (What::Reminder, _) => "Still",
        (What::Opened, Severity::Critical) => "Critical",
        (What::Opened, Severity::Warning) => "Warning",
    };
    format!("{word}: {}", subject.kind.name())
}

fn sentence(notice: &Notice) -> String {
    let text: String = notice.alert.sentence.chars().take(LONGEST).collect();
    match notice.what {
        What::Reminder => format!("{text} (since {})", notice.alert.since.strftime("%Y-%m-%d %H:%M UTC")),
        What::Ended => format!("It was: {text}"),
        What::Opened | What::Test => text,
    }
}

/// A length of time for people.
pub fn length(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::super::book::Finding;
    use super::super::kind::Kind;
    use super::super::webhooks::test_webhook;
    use super::*;

    fn notice(what: What) -> Notice {
        let now = jiff::Timestamp::from_second(1_800_000_000).unwrap();
        let finding = Finding::new(Kind::Dark, "Channel main is dark: @everyone refuses; look at it.");
        let alert = Alert {
            id: Ulid::from_text("01A"),
            subject: finding.subject,
            severity: Severity::Critical,
            sentence: finding.sentence,
            since: now,
            told_at: now,
            ended_at: (what == What::Ended).then_some(now),
            lasted_s: (what == What::Ended).then_some(130),
        };
        Notice { what, at: now, alert }
    }

    fn said(shape: Shape, url: &str, what: What) -> (Value, Words) {
        let webhook = test_webhook(shape, url);
        let words = words(&webhook, &Ulid::from_text("01B"), &notice(what), notice(what).at);
        (serde_json::from_slice(&words.body).unwrap(), words)
    }

    #[test]
    fn a_standard_webhook_is_signed_over_what_is_sent() {
        let (body, words) = said(Shape::Standard, "https://example.org/hook", What::Opened);
        assert_eq!(
            (body["type"].as_str(), body["data"]["kind"].as_str()),
            (Some("alert.opened"), Some("channel.dark"))
        );
        let header =
            |name: &str| words.headers.iter().find(|(n, _)| *n == name).map(|(_, v)| v.clone()).unwrap();
        let secret = test_webhook(Shape::Standard, "https://example.org/hook").secret.unwrap();
        let expected = signature::sign(&secret, "msg_01B", 1_800_000_000, &words.body).unwrap();
        assert_eq!((header("webhook-id"), header("webhook-signature")), ("msg_01B".to_owned(), expected));
    }

    #[test]
    fn each_service_gets_its_own_shape() {
        let (body, _) = said(Shape::Discord, "https://discord.com/api/webhooks/1/tok", What::Opened);
        assert!(body["content"].as_str().unwrap().starts_with("**Critical: channel.dark**\nChannel main"));
        assert_eq!(body["allowed_mentions"]["parse"], json!([]));
        let url = "https://api.telegram.org/bot1:tok/sendMessage?chat_id=-100";
        let (body, _) = said(Shape::Telegram, url, What::Ended);
        assert_eq!(body["chat_id"], "-100");
        assert!(body["text"].as_str().unwrap().starts_with("Over after 2 min: channel.dark\nIt was: "));
        let (body, words) = said(Shape::Ntfy, "https://ntfy.sh/my-topic", What::Reminder);
        assert_eq!((body["topic"].as_str(), body["priority"].as_u64()), (Some("my-topic"), Some(5)));
        assert!(words.headers.contains(&("authorization", "Bearer tk_secret".to_owned())));
    }

    #[test]
    fn a_length_is_told_in_one_glance() {
        let told = [5, 119, 600, 9000, 200_000].map(length);
        assert_eq!(told, ["5 s", "119 s", "10 min", "2 h 30 min", "2 days"]);
    }
}
