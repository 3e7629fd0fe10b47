//! How to reach the place where media live, as plain data: read from the environment by the controller, handed to
//! workers over the socket, never on a disk.

use crate::secret::{self, Secret};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Where media live.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StorageSettings {
    /// Whose.
    pub provider: Provider,
    /// The folder, for [`Provider::Local`].
    pub local_dir: PathBuf,
    /// The bucket's name, for the others.
    #[serde(default)]
    pub bucket: String,
    /// `https://…` of the service; empty for AWS's own address of the region.
    #[serde(default)]
    pub endpoint: String,
    /// For example `eu-central-1`; `auto` for R2.
    #[serde(default)]
    pub region: String,
    /// Who signs.
    #[serde(with = "secret::exposed", default)]
    pub access_key_id: Secret,
    /// With what.
    #[serde(with = "secret::exposed", default)]
    pub secret_access_key: Secret,
    /// Only keys that begin with this belong to the library.
    #[serde(default)]
    pub prefix: String,
    /// Where prepared files are kept in the bucket, beside this machine's cache; empty keeps none there. Keys that
    /// begin with it are no media.
    #[serde(default)]
    pub prepared_prefix: String,
    /// How long a signed link is valid, seconds: 60 to 604,800 for operators, less for tests.
    #[serde(default = "a_day")]
    pub link_ttl_s: u64,
}

fn a_day() -> u64 {
    86_400
}

impl StorageSettings {
    /// A folder of this machine.
    pub fn local(folder: impl Into<PathBuf>) -> Self {
        Self {
            provider: Provider::Local,
            local_dir: folder.into(),
            bucket: String::new(),
            endpoint: String::new(),
            region: String::new(),
            access_key_id: Secret::default(),
            secret_access_key: Secret::default(),
            prefix: String::new(),
            prepared_prefix: String::new(),
            link_ttl_s: a_day(),
        }
    }
}

/// Whose storage it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Provider {
    /// A folder on this machine.
    Local,
    /// Cloudflare R2.
    R2,
    /// AWS S3, or anything that speaks like it.
    S3,
}
