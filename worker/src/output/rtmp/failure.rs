//! Why a destination failed, in words that say what happened and what to do.

use super::protocol::peer::Status;
use super::protocol::publish::PublishError;
use super::protocol::url::{BadUrl, Target};
use super::ways::Broke;
use state::mask;
use std::io::{self, ErrorKind};
use std::time::Duration;
use tokio_rustls::rustls;

const LONGEST_WORDS: usize = 300;

/// Which table of waits applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The way there; it may be better in a second.
    Network,
    /// Somebody said no, and will likely say it again.
    Refused,
    /// The key is taken, most likely by our own connection that the server has not given up yet.
    Busy,
}

/// A failure as it is shown. The words carry no secret once they went through [`Failure::cleaned`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) kind: Kind,
    pub(super) code: String,
    pub(super) words: String,
}

/// What was being done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Handshake,
    Publish,
    Sending,
}

impl Failure {
    pub(super) fn network(code: &str, words: String) -> Self {
        Self { kind: Kind::Network, code: code.to_owned(), words }
    }

    pub(super) fn refused(code: &str, words: String) -> Self {
        Self { kind: Kind::Refused, code: code.to_owned(), words }
    }

    pub(super) fn bad_url(error: &BadUrl) -> Self {
        Self::refused("url", format!("The address cannot be used: {error}. Correct the destination's URL."))
    }

    pub(super) fn resolve(target: &Target, error: &io::Error) -> Self {
        let words = format!(
            "The name {} cannot be resolved ({error}). Check the destination's URL and this machine's DNS.",
            target.host
        );
        Self::network("resolve", words)
    }

    pub(super) fn connect(target: &Target, error: &io::Error) -> Self {
        let words = format!(
            "{} does not answer ({error}). Check the destination's URL and port; the server may be down.",
            target.address()
        );
        Self::network("connect", words)
    }

    pub(super) fn tls(target: &Target, error: &io::Error) -> Self {
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        match inner {
            Some(rustls::Error::InvalidCertificate(why)) => Self::refused(
                "tls",
                format!(
                    "The certificate of {} is not trusted ({why:?}). Check the host name in the URL; for a private \
                     authority, give its certificate in TLS_CA_FILE.",
                    target.host
                ),
            ),
            Some(other) => Self::refused(
                "tls",
                format!(
                    "{} does not speak TLS as it should ({other}). Check the port, or use rtmp://.",
                    target.address()
                ),
            ),
            None => {
                Self::network("tls", format!("{} broke off the TLS handshake ({error}).", target.address()))
            }
        }
    }

    pub(super) fn tls_setup(words: String) -> Self {
        Self::refused("tls", words)
    }

    /// Nothing happened for `waited` where `what` should have.
    pub(super) fn timeout(target: &Target, what: &str, waited: Duration) -> Self {
        let seconds = waited.as_secs_f64().ceil();
        let words = format!(
            "{} took more than {seconds} s to {what}. The server may be overloaded or the way to it blocked.",
            target.address()
        );
        Self::network("timeout", words)
    }

    pub(super) fn publish(target: &Target, stage: Stage, error: &PublishError) -> Self {
        match error {
            PublishError::Refused(status) => Self::server(status),
            PublishError::Malformed(why) => Self::network(
                "handshake",
                format!(
                    "{} does not answer in RTMP ({why}). Check the destination's URL and port.",
                    target.address()
                ),
            ),
            PublishError::Io(error) => Self::broken(target, stage, error),
        }
    }

    /// The connection broke, or the server closed it without a word.
    fn broken(target: &Target, stage: Stage, error: &io::Error) -> Self {
        if error.kind() == ErrorKind::TimedOut {
            return Self::network("timeout", format!("{} stopped taking data ({error}).", target.address()));
        }
        let words = match stage {
            Stage::Handshake => "closed the connection during the handshake; it may not be an RTMP server",
            Stage::Publish => {
                "closed the connection without a reason when asked to publish. That mostly means an unknown \
                 application or stream key: check both"
            }
            Stage::Sending => "closed the connection while the stream was being sent",
        };
        let detail =
            if error.kind() == ErrorKind::UnexpectedEof { String::new() } else { format!(" ({error})") };
        Self::network("closed", format!("{} {words}{detail}.", target.address()))
    }

    /// The server said no.
    fn server(status: &Status) -> Self {
        let code = if status.code.is_empty() { "refused" } else { &status.code };
        let said = match status.description.trim().trim_end_matches('.') {
            "" => code.to_owned(),
            description => format!("{code}: {description}"),
        };
        Self::refused(code, format!("The server refused ({said}). {}", advice(code)))
    }

    /// The server sent us on and on.
    pub(super) fn in_circles() -> Self {
        let words =
            "The server asks for a new connection again and again. Ask the platform, or use another address.";
        Self::refused("NetConnection.Connect.ReconnectRequest", words.to_owned())
    }

    /// How a publication that had been stable broke with it.
    pub(super) fn broke(&self) -> Broke {
        if self.code == "timeout" { Broke::Stalled } else { Broke::Closed }
    }

    /// The same without secrets, cut to a length that fits a status.
    pub(super) fn cleaned(self, target: &Target) -> Self {
        let secrets = target.secrets();
        let clean = |text: &str| mask::line(text, &secrets).chars().take(LONGEST_WORDS).collect();
        Self { kind: self.kind, code: clean(&self.code), words: clean(&self.words) }
    }
}

fn advice(code: &str) -> &'static str {
    if is_busy(code) {
        return "The stream key is in use: end the other stream, or use another key.";
    }
    match code.rsplit('.').next().unwrap_or_default() {
        "Rejected" | "InvalidApp" => "Check the application in the destination's URL, and the stream key.",
        "Denied" | "Unauthorized" => "Check the stream key; it may have expired.",
        _ => "Check the destination's URL and stream key.",
    }
}

/// Whether the server says that somebody is publishing under this key already.
pub(super) fn is_busy(code: &str) -> bool {
    code == "NetStream.Publish.BadName"
}

#[cfg(test)]
mod tests {
    use super::*;
    use state::secret::Secret;

    fn target() -> Target {
        Target::parse("rtmp://h/live", &Secret::new("k3y-k3y")).unwrap()
    }

    fn refused(code: &str, description: &str) -> Failure {
        let status = Status { level: "error".into(), code: code.into(), description: description.into() };
        Failure::publish(&target(), Stage::Publish, &PublishError::Refused(status)).cleaned(&target())
    }

    #[test]
    fn what_the_server_said_is_shown_without_the_key_and_cut() {
        let failure = refused("NetStream.Publish.Denied", &format!("no stream k3y-k3y {}", "x".repeat(400)));
        assert_eq!(failure.kind, Kind::Refused);
        assert_eq!(failure.code, "NetStream.Publish.Denied");
        assert!(failure.words.starts_with("The server refused (NetStream.Publish.Denied: no stream *** xxx"));
        assert_eq!(failure.words.chars().count(), LONGEST_WORDS);
    }

    #[test]
    fn a_busy_key_is_said_to_be_busy() {
        assert!(refused("NetStream.Publish.BadName", "Already publishing").words.contains("in use"));
        assert_eq!(refused("", "").code, "refused");
    }

    #[test]
    fn a_close_without_a_word_points_at_application_and_key() {
        let error = PublishError::Io(ErrorKind::UnexpectedEof.into());
        let failure = Failure::publish(&target(), Stage::Publish, &error);
        assert_eq!((failure.kind, failure.code.as_str()), (Kind::Network, "closed"));
        assert!(failure.words.contains("application or stream key"), "{}", failure.words);
    }
}
