//! What may be said on the command line.

use clap::{Parser, Subcommand};
use state::ids::{ChannelId, DestinationId};
use std::path::PathBuf;

/// The command line of stream-controller.
#[derive(Debug, Parser)]
#[command(name = "streamctl", version, about, arg_required_else_help = true, after_help = AFTER)]
pub(crate) struct Args {
    /// Read variables from this file first (NAME=value lines, as for systemd)
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) env_file: Option<PathBuf>,
    /// Print one JSON document instead of lines
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

const AFTER: &str = "\
Environment: STORAGE_PROVIDER (local, r2 or s3), STORAGE_LOCAL_DIR, STORAGE_BUCKET, STORAGE_ACCOUNT_ID, \
STORAGE_ENDPOINT, STORAGE_REGION, STORAGE_ACCESS_KEY_ID, STORAGE_SECRET_ACCESS_KEY, STORAGE_PREFIX, STORAGE_PREPARED_PREFIX, TLS_CA_FILE, \
FFPROBE_PATH; for prepare and destination also STATE_DIR and CONTROLLER_BIND; the same as the controller's. Secrets may be files in CREDENTIALS_DIRECTORY instead.
Exit codes: 0 done, 1 something failed, 2 called or configured wrongly.";

/// Rooms of the house.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Media files in storage: the folder or the bucket of the environment
    Media {
        /// What to do with them.
        #[command(subcommand)]
        action: Media,
    },
    /// Where a channel is sent; asks the running controller
    Destination {
        /// Of this channel
        #[arg(long, global = true, value_name = "ID", default_value = "main")]
        channel: ChannelId,
        /// What to do with them.
        #[command(subcommand)]
        action: Destination,
    },
    /// Channels of the running controller
    Channel {
        /// What to do with them.
        #[command(subcommand)]
        action: Channel,
    },
}

/// What can be done with destinations.
#[derive(Debug, Subcommand)]
pub(crate) enum Destination {
    /// List them, with how they do
    List,
    /// Add one; on the air it begins at its next keyframe
    Add {
        /// Its name in the channel; one is made up otherwise
        #[arg(long, value_name = "ID")]
        id: Option<DestinationId>,
        /// What it is.
        #[command(flatten)]
        fields: Box<DestinationFields>,
    },
    /// Change what is named of one; the others notice nothing
    Set {
        /// As list shows it
        id: DestinationId,
        /// What it shall be.
        #[command(flatten)]
        fields: Box<DestinationFields>,
    },
    /// Remove one, and those that are linked to it
    Remove {
        /// As list shows it
        id: DestinationId,
    },
    /// Try the way to one without publishing
    Test {
        /// As list shows it
        id: DestinationId,
        /// Its other way in
        #[arg(long)]
        backup: bool,
    },
}

/// What a destination is.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct DestinationFields {
    /// What people call it
    #[arg(long, value_name = "TEXT")]
    pub(crate) name: Option<String>,
    /// youtube, facebook, twitch or custom
    #[arg(long, value_name = "P")]
    pub(crate) platform: Option<String>,
    /// rtmps://host[:port]/app, without the stream key
    #[arg(long)]
    pub(crate) url: Option<String>,
    /// File that holds the stream key; - is stdin
    #[arg(long, value_name = "FILE")]
    pub(crate) key_file: Option<PathBuf>,
    /// Another way in, tried when the first fails; an empty text is none
    #[arg(long, value_name = "URL")]
    pub(crate) backup_url: Option<String>,
    /// The destination whose second ingest this is; an empty text is none
    #[arg(long, value_name = "ID")]
    pub(crate) linked_to: Option<String>,
    /// continuous, uniform or reconnect
    #[arg(long, value_name = "B")]
    pub(crate) boundary: Option<String>,
    /// Longest session in seconds; 0 is the platform's own limit
    #[arg(long, value_name = "S")]
    pub(crate) max_session_s: Option<u64>,
    /// File that holds the address that hands out the next key; - is stdin
    #[arg(long, value_name = "FILE")]
    pub(crate) key_url_file: Option<PathBuf>,
    /// Want it
    #[arg(long, conflicts_with = "disable")]
    pub(crate) enable: bool,
    /// Do not want it for now
    #[arg(long)]
    pub(crate) disable: bool,
}

/// What can be done with a channel.
#[derive(Debug, Subcommand)]
pub(crate) enum Channel {
    /// Put the fallback on the air, or let the programme go on where it stood
    Slate {
        /// Which channel
        #[arg(value_name = "ID")]
        channel: String,
        /// On the air or not
        #[arg(value_name = "on|off")]
        state: Switch,
    },
}

/// On or off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Switch {
    /// On the air.
    On,
    /// Not any more.
    Off,
}

/// What can be done with media.
#[derive(Debug, Subcommand)]
pub(crate) enum Media {
    /// Upload files; a broken upload goes on where it stopped when it is started again
    Upload {
        /// Files of this machine
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// Folder in storage to put them in, below STORAGE_PREFIX
        #[arg(long, value_name = "P", default_value = "")]
        prefix: String,
        /// Leave out files that storage already has in the same size
        #[arg(long)]
        skip_existing: bool,
    },
    /// List media files
    List,
    /// Read what media files are, and whether they fit a 720p channel without transcoding
    Probe {
        /// Keys as list shows them
        #[arg(required = true, value_name = "KEY")]
        keys: Vec<String>,
    },
    /// Have the running controller prepare files that do not fit a channel, or show what it prepares
    Prepare {
        /// Keys as list shows them; none, and no --all, shows what is being prepared
        #[arg(value_name = "KEY", conflicts_with = "all")]
        keys: Vec<String>,
        /// Everything that the channel plays
        #[arg(long)]
        all: bool,
        /// For this channel's profile
        #[arg(long, value_name = "ID", default_value = "main")]
        channel: String,
        /// Set the loudness even of files that fit
        #[arg(long)]
        loudness: bool,
        /// Wait until they are prepared
        #[arg(long)]
        wait: bool,
    },
    /// Delete media files for good
    Delete {
        /// Keys as list shows them
        #[arg(required = true, value_name = "KEY")]
        keys: Vec<String>,
    },
}
