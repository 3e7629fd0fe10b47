//! The environment, read once: every variable of this program, its default, and what is wrong with it.
//!
//! Nothing here touches the disk except for credential files, and nothing else reads the environment.

mod alerts;
mod help;
#[cfg(test)]
mod tests;

pub use alerts::AlertSettings;
pub use help::HELP;

use state::channel::ingest_url_problem;
use state::prepared::LoudnessTarget;
use state::secret::Secret;
use state::storage::{Provider, StorageSettings};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use tracing_subscriber::EnvFilter;

/// Where YouTube takes RTMPS unless told otherwise.
pub const YOUTUBE_URL: &str = "rtmps://a.rtmps.youtube.com:443/live2";

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines.
    Json,
}

impl LogFormat {
    /// As it is written in the environment.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
        }
    }
}

/// Everything that the environment says.
#[derive(Debug, Clone)]
pub struct Config {
    /// Absolute.
    pub state_dir: PathBuf,
    /// Absolute.
    pub hls_dir: PathBuf,
    /// Where the API listens.
    pub bind: SocketAddr,
    /// Addresses whose forwarding headers may be believed.
    pub trusted_proxies: Vec<String>,
    /// Origins that may call the API from a browser.
    pub cors_origins: Vec<String>,
    /// Where media live; its folder is absolute.
    pub storage: StorageSettings,
    /// Most bytes of copies of bucket media; `None` looks at the disk, 0 keeps none.
    pub cache_bytes: Option<u64>,
    /// How fast they may be fetched; 0 is no limit.
    pub cache_bytes_per_s: u64,
    /// Sends `main` to YouTube.
    pub youtube_key: Option<Secret>,
    /// YouTube's ingest.
    pub youtube_url: String,
    /// Name or path.
    pub ffmpeg: String,
    /// Name or path.
    pub ffprobe: String,
    /// Extra certificates; absolute.
    pub tls_ca_file: Option<PathBuf>,
    /// Seals stream keys; `None` uses the key file.
    pub master_key: Option<Secret>,
    /// The worker program; absolute.
    pub worker: PathBuf,
    /// Whether files that do not fit are prepared.
    pub prepares: bool,
    /// Whether the next key may be asked for at addresses that are not public, and without TLS.
    pub key_url_private: bool,
    /// Length of the parts in which they are, s.
    pub prepare_part_s: u32,
    /// How loud prepared files shall be.
    pub loudness: LoudnessTarget,
    /// A filter for `tracing`.
    pub log_level: String,
    /// How log lines look.
    pub log_format: LogFormat,
    /// Who is told of what is wrong.
    pub alerts: AlertSettings,
    /// What an operator should know but need not act on.
    pub notices: Vec<String>,
}

/// Where the words come from: variables, the folder we are in, and our own program file.
pub struct Surroundings<'a> {
    /// A variable's text, `None` when it is not set; `Err` when it is not UTF-8.
    pub variable: &'a dyn Fn(&str) -> Result<Option<String>, String>,
    /// Relative paths start here.
    pub folder: PathBuf,
    /// Where our own program is.
    pub program: PathBuf,
}

impl Config {
    /// Reads the environment of this process.
    ///
    /// # Errors
    /// Every problem, one line each.
    pub fn of_this_process() -> Result<Self, Vec<String>> {
        let variable = |name: &str| match std::env::var(name) {
            Ok(text) => Ok(Some(text)),
            Err(std::env::VarError::NotPresent) => Ok(None),
            Err(std::env::VarError::NotUnicode(_)) => Err(format!("{name} is not UTF-8")),
        };
        let folder = std::env::current_dir().map_err(|e| vec![format!("the current folder: {e}")])?;
        let program = std::env::current_exe().unwrap_or_default();
        Self::read(&Surroundings { variable: &variable, folder, program })
    }

    /// Reads the environment.
    ///
    /// # Errors
    /// Every problem, one line each.
    pub fn read(surroundings: &Surroundings<'_>) -> Result<Self, Vec<String>> {
        let mut read = Reader { surroundings, problems: Vec::new() };
        let state_dir = read.path("STATE_DIR", "data");
        let storage = read.storage();
        let config = Self {
            hls_dir: read.path_or("HLS_DIR", state_dir.join("hls")),
            state_dir,
            bind: read.parsed(
                "CONTROLLER_BIND",
                "127.0.0.1:8080",
                "an address and a port, for example 127.0.0.1:8080",
            ),
            trusted_proxies: read.list(
                "TRUSTED_PROXIES",
                "an address or a network such as 10.0.0.0/8",
                is_network,
            ),
            cors_origins: read.list(
                "CORS_ORIGINS",
                "an origin such as https://example.org, without a path",
                is_origin,
            ),
            cache_bytes: read.amount("CACHE_BYTES"),
            cache_bytes_per_s: read.amount("CACHE_BYTES_PER_S").unwrap_or(0),
            youtube_key: read.stream_key("YOUTUBE_STREAM_KEY"),
            youtube_url: read.ingest("YOUTUBE_RTMP_URL"),
            ffmpeg: read.text("FFMPEG_PATH").unwrap_or_else(|| "ffmpeg".to_owned()),
            ffprobe: read.text("FFPROBE_PATH").unwrap_or_else(|| "ffprobe".to_owned()),
            tls_ca_file: read.file("TLS_CA_FILE"),
            master_key: read.master_key(),
            worker: read.path_or("WORKER_PATH", surroundings.program.with_file_name("stream-worker")),
            prepares: read.switch("PREPARE", true),
            key_url_private: read.switch("KEY_URL_PRIVATE", false),
            prepare_part_s: read.prepare_part_s(),
            loudness: LoudnessTarget {
                lufs: read.level("PREPARE_LOUDNESS_LUFS", -14.0, -31.0..=-5.0),
                peak_dbtp: read.level("PREPARE_PEAK_DBTP", -1.0, -9.0..=-1.0),
            },
            log_level: read.log_level(),
            log_format: read.log_format(),
            alerts: read.alerts(),
            notices: read.notices(storage.provider),
            storage,
        };
        if read.problems.is_empty() { Ok(config) } else { Err(read.problems) }
    }

    /// The folder of a channel's documents.
    pub fn channel_dir(&self, channel: &state::ids::ChannelId) -> PathBuf {
        self.state_dir.join("channels").join(channel.as_str())
    }
}

struct Reader<'a> {
    surroundings: &'a Surroundings<'a>,
    problems: Vec<String>,
}

impl Reader<'_> {
    /// The variable's text; empty counts as unset.
    fn text(&mut self, name: &str) -> Option<String> {
        match (self.surroundings.variable)(name) {
            Ok(text) => text.map(|t| t.trim().to_owned()).filter(|t| !t.is_empty()),
            Err(problem) => {
                self.problems.push(problem);
                None
            }
        }
    }

    /// The variable, or the credential file of its name.
    fn secret(&mut self, name: &str) -> Option<Secret> {
        if let Some(text) = self.text(name) {
            return Some(Secret::new(text));
        }
        let file = Path::new(&self.text("CREDENTIALS_DIRECTORY")?).join(name.to_lowercase());
        match std::fs::read_to_string(&file) {
            Ok(text) => Some(text.trim()).filter(|t| !t.is_empty()).map(Secret::new),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => {
                self.problems.push(format!("{}: {error}", file.display()));
                None
            }
        }
    }

    fn path(&mut self, name: &str, default: &str) -> PathBuf {
        self.path_or(name, PathBuf::from(default))
    }

    fn path_or(&mut self, name: &str, default: PathBuf) -> PathBuf {
        self.surroundings.folder.join(self.text(name).map_or(default, PathBuf::from))
    }

    fn file(&mut self, name: &str) -> Option<PathBuf> {
        let path = self.surroundings.folder.join(self.text(name)?);
        if !path.is_file() {
            self.problems.push(format!("{name}: {} is not a file", path.display()));
        }
        Some(path)
    }

    fn parsed(&mut self, name: &str, default: &str, form: &str) -> SocketAddr {
        let text = self.text(name).unwrap_or_else(|| default.to_owned());
        text.parse().unwrap_or_else(|_| {
            self.problems.push(format!("{name}={text:?} must be {form}"));
            SocketAddr::from(([127, 0, 0, 1], 0))
        })
    }

    fn list(&mut self, name: &str, form: &str, fits: fn(&str) -> bool) -> Vec<String> {
        let text = self.text(name).unwrap_or_default();
        let parts: Vec<_> =
            text.split(',').map(str::trim).filter(|p| !p.is_empty()).map(str::to_owned).collect();
        for part in parts.iter().filter(|part| !fits(part)) {
            self.problems.push(format!("{name}: {part:?} must be {form}"));
        }
        parts
    }

    fn stream_key(&mut self, name: &str) -> Option<Secret> {
        let key = self.secret(name)?;
        if let Some(problem) = crate::wishes::destinations::key_problem(key.expose()) {
            self.problems.push(format!("{name} {problem}"));
        }
        Some(key)
    }

    fn ingest(&mut self, name: &str) -> String {
        let url = self.text(name).unwrap_or_else(|| YOUTUBE_URL.to_owned());
        if let Some(problem) = ingest_url_problem(&url) {
            self.problems.push(format!("{name} {problem}"));
        }
        url
    }

    fn master_key(&mut self) -> Option<Secret> {
        let key = self.secret("MASTER_KEY")?;
        if let Err(error) = state::seal::MasterKey::from_hex(&key) {
            self.problems.push(format!("MASTER_KEY: {error}"));
        }
        Some(key)
    }

    fn switch(&mut self, name: &str, usual: bool) -> bool {
        match self.text(name).as_deref() {
            None => usual,
            Some("on") => true,
            Some("off") => false,
            Some(other) => {
                self.problems.push(format!("{name}={other:?} must be on or off"));
                usual
            }
        }
    }

    fn prepare_part_s(&mut self) -> u32 {
        let text = self.text("PREPARE_PART_SECONDS").unwrap_or_else(|| "60".to_owned());
        let seconds = text.parse().ok().filter(|s| (2..=3600).contains(s));
        seconds.unwrap_or_else(|| {
            self.problems
                .push(format!("PREPARE_PART_SECONDS={text:?} must be a number of seconds, 2 to 3600"));
            60
        })
    }

    /// A level in dB.
    fn level(&mut self, name: &str, default: f64, range: RangeInclusive<f64>) -> f64 {
        let Some(text) = self.text(name) else { return default };
        text.parse().ok().filter(|level| range.contains(level)).unwrap_or_else(|| {
            let (least, most) = (range.start(), range.end());
            self.problems.push(format!("{name}={text:?} must be a number from {least} to {most}"));
            default
        })
    }

    fn log_level(&mut self) -> String {
        let text = self.text("LOG_LEVEL").unwrap_or_else(|| "info".to_owned());
        if EnvFilter::try_new(&text).is_err() {
            self.problems.push(format!("LOG_LEVEL={text:?} must be trace, debug, info, warn or error"));
        }
        text
    }

    fn log_format(&mut self) -> LogFormat {
        match self.text("LOG_FORMAT").as_deref() {
            None | Some("text") => LogFormat::Text,
            Some("json") => LogFormat::Json,
            Some(other) => {
                self.problems.push(format!("LOG_FORMAT={other:?} must be text or json"));
                LogFormat::Text
            }
        }
    }

    fn storage(&mut self) -> StorageSettings {
        let set: BTreeMap<_, _> =
            storage::VARIABLES.into_iter().filter_map(|name| Some((name, self.secret(name)?))).collect();
        match storage::settings_from(&|name| set.get(name).map(|text| text.expose().to_owned())) {
            Ok(settings) => {
                StorageSettings { local_dir: self.surroundings.folder.join(&settings.local_dir), ..settings }
            }
            Err(problems) => {
                self.problems.extend(problems);
                StorageSettings::local("")
            }
        }
    }

    fn amount(&mut self, name: &str) -> Option<u64> {
        let text = self.text(name)?;
        let read = crate::media::amount::parse(&text);
        read.map_err(|form| self.problems.push(format!("{name}={text:?} must be {form}"))).ok()
    }

    fn notices(&mut self, provider: Provider) -> Vec<String> {
        let unused = [("DATABASE_URL", "this build does not use it")];
        let for_buckets =
            ["STORAGE_BUCKET", "STORAGE_ENDPOINT", "STORAGE_ACCESS_KEY_ID", "STORAGE_PREPARED_PREFIX"];
        let for_buckets = for_buckets.map(|name| (name, "STORAGE_PROVIDER is local"));
        let for_buckets = for_buckets.into_iter().filter(|_| provider == Provider::Local);
        let set: Vec<_> =
            unused.into_iter().chain(for_buckets).filter(|(name, _)| self.text(name).is_some()).collect();
        set.into_iter().map(|(name, why)| format!("{name} is set, but {why}")).collect()
    }
}

fn is_network(text: &str) -> bool {
    let (address, bits) = text.split_once('/').map_or((text, None), |(a, b)| (a, Some(b)));
    let Ok(address) = address.parse::<IpAddr>() else { return false };
    let most = if address.is_ipv4() { 32 } else { 128 };
    bits.is_none_or(|bits| bits.parse::<u8>().is_ok_and(|bits| bits <= most))
}

fn is_origin(text: &str) -> bool {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    text == "*"
        || rest.is_some_and(|rest| {
            !rest.is_empty() && rest.chars().all(|c| c.is_ascii_alphanumeric() || "-._:[]".contains(c))
        })
}
