//! Settings of alerts: who is told, how often, and the dead-man ping.

use super::Reader;
use crate::alerts::{Address, Webhook, of_environment};
use std::time::Duration;

/// What the environment says about alerts.
#[derive(Debug, Clone)]
pub struct AlertSettings {
    /// Who is told.
    pub webhooks: Vec<Webhook>,
    /// Whether addresses in private networks, and plain HTTP, may be called.
    pub allow_private: bool,
    /// How often somebody is reminded of what lasts; `None` never.
    pub remind_every: Option<Duration>,
    /// What is called while all is well.
    pub deadman_url: Option<Address>,
    /// How often.
    pub deadman_every: Duration,
}

impl Reader<'_> {
    pub(super) fn alerts(&mut self) -> AlertSettings {
        let allow_private = self.allow_private();
        let hours = self.number("ALERT_REMINDER_HOURS", 12, 0, 720);
        AlertSettings {
            webhooks: self.webhooks(allow_private),
            allow_private,
            remind_every: (hours > 0).then(|| Duration::from_secs(hours * 3600)),
            deadman_url: self.deadman(allow_private),
            deadman_every: Duration::from_secs(self.number("DEADMAN_SECONDS", 60, 1, 86_400)),
        }
    }

    fn allow_private(&mut self) -> bool {
        match self.text("ALERT_ALLOW_PRIVATE").as_deref() {
            None | Some("0") => false,
            Some("1") => true,
            Some(other) => {
                self.problems.push(format!("ALERT_ALLOW_PRIVATE={other:?} must be 0 or 1"));
                false
            }
        }
    }

    fn webhooks(&mut self, allow_private: bool) -> Vec<Webhook> {
        let secret = self.secret("ALERT_WEBHOOK_SECRET");
        let Some(text) = self.secret("ALERT_WEBHOOKS") else { return Vec::new() };
        of_environment(&text, secret.as_ref(), allow_private).unwrap_or_else(|problems| {
            self.problems.extend(problems);
            Vec::new()
        })
    }

    fn deadman(&mut self, allow_private: bool) -> Option<Address> {
        let url = self.secret("DEADMAN_URL")?;
        let read = Address::parse(&url, allow_private);
        read.map_err(|words| self.problems.push(format!("DEADMAN_URL {words}"))).ok()
    }

    fn number(&mut self, name: &str, default: u64, least: u64, most: u64) -> u64 {
        let Some(text) = self.text(name) else { return default };
        let number = text.parse().ok().filter(|n| (least..=most).contains(n));
        number.unwrap_or_else(|| {
            self.problems.push(format!("{name}={text:?} must be a number from {least} to {most}"));
            default
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::super::tests::read;

    const SECRET: (&str, &str) = ("ALERT_WEBHOOK_SECRET", "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD");

    #[test]
    fn alerts_are_told_to_nobody_unless_somebody_says_so() {
        let config = read(&[]).unwrap();
        assert!(config.alerts.webhooks.is_empty() && config.alerts.deadman_url.is_none());
        assert_eq!(config.alerts.remind_every.map(|every| every.as_secs()), Some(43_200));
        let never = read(&[("ALERT_REMINDER_HOURS", "0")]).unwrap();
        assert_eq!(never.alerts.remind_every, None);
    }

    #[test]
    fn addresses_and_secrets_are_never_shown() {
        let config: Config = read(&[
            SECRET,
            ("ALERT_WEBHOOKS", "standard=https://example.org/hushhush,ntfy=https://ntfy.sh/hushhush"),
            ("DEADMAN_URL", "https://hc.example.org/hushhush"),
        ])
        .unwrap();
        let shown = format!("{config:?}");
        assert!(!shown.contains("hushhush") && !shown.contains("C2FVsBQ"), "{shown}");
        let problems = read(&[
            ("ALERT_WEBHOOKS", "standard=https://example.org/hushhush"),
            ("DEADMAN_URL", "http://127.0.0.1/hushhush"),
            ("DEADMAN_SECONDS", "0"),
            ("ALERT_ALLOW_PRIVATE", "yes"),
            ("ALERT_REMINDER_HOURS", "often"),
        ])
        .unwrap_err();
        assert_eq!(problems.len(), 5, "{problems:#?}");
        assert!(!problems.join("\n").contains("hushhush"), "{problems:#?}");
    }
}
