//! What can be wrong: the kinds of alerts, how bad each is, and how long it must last before anybody is told.

use serde::{Deserialize, Serialize};
use std::time::Duration;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Viewers see something, but not what was meant, or not for ever.
    Warning,
    /// Viewers see nothing, or something will be lost.
    Critical,
}

/// What is wrong. The names are stable; programs may rely on them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Kind {
    /// A wanted channel is accepted by nobody.
    #[serde(rename = "channel.dark")]
    Dark,
    /// The fallback is on the air, and nobody ordered it.
    #[serde(rename = "channel.fallback")]
    Fallback,
    /// The channel plays, and its fallback is not ready.
    #[serde(rename = "channel.unprotected")]
    Unprotected,
    /// The policy of the channel leaves it alone.
    #[serde(rename = "channel.gave_up")]
    GaveUp,
    /// The worker fails again and again.
    #[serde(rename = "worker.failing")]
    WorkerFailing,
    /// Somebody holds the channel's lock and does not call.
    #[serde(rename = "worker.unknown")]
    WorkerUnknown,
    /// A destination does not accept what it is sent.
    #[serde(rename = "destination.failing")]
    DestinationFailing,
    /// The platform will not like what it is sent.
    #[serde(rename = "destination.warning")]
    DestinationWarning,
    /// A destination is not sent to at all: its key cannot be opened, or another channel uses it.
    #[serde(rename = "destination.left_out")]
    DestinationLeftOut,
    /// An item of the playlist cannot be played to its end.
    #[serde(rename = "item.failing")]
    ItemFailing,
    /// HLS cannot be written.
    #[serde(rename = "hls.unwritable")]
    HlsUnwritable,
    /// The media cannot be listed, or there are none.
    #[serde(rename = "media.unavailable")]
    MediaUnavailable,
    /// Copies of media cannot be kept.
    #[serde(rename = "cache.stuck")]
    CacheStuck,
    /// FFmpeg or the worker program cannot be used.
    #[serde(rename = "program.missing")]
    ProgramMissing,
    /// A disk is nearly full.
    #[serde(rename = "disk.low")]
    DiskLow,
    /// What is seen cannot be put on the disk.
    #[serde(rename = "state.unsaved")]
    StateUnsaved,
    /// A file of ours was broken and was put aside.
    #[serde(rename = "state.broken")]
    StateBroken,
    /// The key that opens stream keys is lost or broken.
    #[serde(rename = "master_key.lost")]
    MasterKeyLost,
    /// A process of ours has hardly any file descriptors left.
    #[serde(rename = "descriptors.low")]
    DescriptorsLow,
    /// The kernel ended a process because memory ran out.
    #[serde(rename = "memory.out")]
    MemoryOut,
    /// The wall clock was set.
    #[serde(rename = "clock.stepped")]
    ClockStepped,
    /// The next version of the controller cannot run.
    #[serde(rename = "reload.failed")]
    ReloadFailed,
    /// A webhook does not take what it is told.
    #[serde(rename = "webhook.failing")]
    WebhookFailing,
    /// Somebody tried whether alerts arrive.
    #[serde(rename = "test")]
    Test,
}

/// How a kind is treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Manner {
    /// How bad it is.
    pub severity: Severity,
    /// How long it must last before it is an alert.
    pub raise_after: Duration,
    /// How long it must be gone before the alert is over.
    pub clear_after: Duration,
    /// It happens rather than lasts: there is nothing to recover from, and its end is not told.
    pub happens: bool,
}

/// What happened once stays open this long, so that it is not told again meanwhile.
const HAPPENED: u64 = 3600;

impl Kind {
    /// How it is treated.
    pub fn manner(self) -> Manner {
        use Severity::{Critical, Warning};
        let (severity, raise_s, clear_s) = match self {
            Self::Dark => (Critical, 10, 5),
            Self::Fallback => (Warning, 30, 10),
            Self::Unprotected => (Warning, 120, 5),
            Self::GaveUp | Self::WorkerFailing | Self::WorkerUnknown => (Critical, 0, 5),
            Self::DestinationFailing => (Critical, 2, 20),
            Self::DestinationWarning => (Warning, 30, 60),
            Self::DestinationLeftOut | Self::ProgramMissing => (Critical, 10, 10),
            Self::ItemFailing => (Warning, 0, 60),
            Self::HlsUnwritable => (Critical, 10, 10),
            Self::MediaUnavailable => (Critical, 20, 10),
            Self::CacheStuck => (Warning, 20, 60),
            Self::DiskLow => (Critical, 5, 30),
            Self::StateUnsaved => (Critical, 3, 10),
            Self::DescriptorsLow => (Critical, 5, 30),
            Self::StateBroken | Self::MemoryOut => (Critical, 0, HAPPENED),
            Self::ClockStepped | Self::Test => (Warning, 0, HAPPENED),
            Self::MasterKeyLost => (Critical, 0, 5),
            Self::ReloadFailed | Self::WebhookFailing => (Warning, 0, 5),
        };
        let happens = matches!(self, Self::StateBroken | Self::MemoryOut | Self::ClockStepped | Self::Test);
        let (raise_after, clear_after) = (Duration::from_secs(raise_s), Duration::from_secs(clear_s));
        Manner { severity, raise_after, clear_after, happens }
    }

    /// Whether it lasts and is about this machine, not about a channel.
    pub fn is_of_machine(self) -> bool {
        matches!(self, Self::DiskLow | Self::DescriptorsLow)
    }

    /// Its name, as programs see it.
    pub fn name(self) -> String {
        serde_json::to_value(self).ok().and_then(|name| Some(name.as_str()?.to_owned())).unwrap_or_default()
    }
}
