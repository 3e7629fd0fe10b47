//! Why storage could not do it, by kind. Every text says what to do, and none holds a key, a secret or a signed link.

use std::io;

/// Why it did not work. The text is a whole sentence for the operator.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StorageError {
    /// No answer, or no further bytes, within the deadline.
    #[error("{0}")]
    TimedOut(String),
    /// The key id, the secret, or what they may do.
    #[error("{0}")]
    RefusedCredentials(String),
    /// The clocks differ too much for signatures to count.
    #[error("{0}")]
    ClockSkew(String),
    /// No such bucket, or no such folder.
    #[error("{0}")]
    NoBucket(String),
    /// No such media file.
    #[error("{0}")]
    NoKey(String),
    /// Asked too often.
    #[error("{0}")]
    Throttled(String),
    /// Full.
    #[error("{0}")]
    NoSpace(String),
    /// It is no longer the content that was asked for.
    #[error("{0}")]
    Changed(String),
    /// It is shorter than the offset that was asked for.
    #[error("{0}")]
    Range(String),
    /// The way there is broken, or the service is.
    #[error("{0}")]
    Unreachable(String),
    /// This build or this service cannot do it.
    #[error("{0}")]
    Unsupported(String),
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

impl StorageError {
    /// Whether the same request may succeed later without anybody doing anything.
    pub fn is_worth_retrying(&self) -> bool {
        matches!(self, Self::TimedOut(_) | Self::Throttled(_) | Self::Unreachable(_))
    }

    /// The kind in one word, for logs and JSON.
    pub fn code(&self) -> &'static str {
        match self {
            Self::TimedOut(_) => "timed_out",
            Self::RefusedCredentials(_) => "refused_credentials",
            Self::ClockSkew(_) => "clock_skew",
            Self::NoBucket(_) => "no_bucket",
            Self::NoKey(_) => "no_key",
            Self::Throttled(_) => "throttled",
            Self::NoSpace(_) => "no_space",
            Self::Changed(_) => "changed",
            Self::Range(_) => "range",
            Self::Unreachable(_) => "unreachable",
            Self::Unsupported(_) => "unsupported",
            Self::Other(_) => "other",
        }
    }

    pub(crate) fn no_key(key: &str) -> Self {
        Self::NoKey(format!(
            "there is no media file {key:?} in storage; streamctl media list shows what there is"
        ))
    }

    pub(crate) fn changed(key: &str) -> Self {
        Self::Changed(format!(
            "{key:?} is not what it was: somebody has replaced it; read it again from its start"
        ))
    }

    pub(crate) fn range(key: &str, from: u64) -> Self {
        Self::Range(format!("{key:?} has no byte {from}: it is shorter; look at its size again"))
    }

    /// For a file of this machine.
    pub(crate) fn file(doing: &str, error: &io::Error) -> Self {
        let words = format!("cannot {doing}: {error}");
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::NoSpace(format!("{words}; make room on that disk"))
            }
            io::ErrorKind::PermissionDenied => {
                Self::RefusedCredentials(format!("{words}; give this user access to it"))
            }
            _ => Self::Other(words),
        }
    }
}
