//! Where an item's bytes come from: a file of this machine, or an object behind a link of the worker's own server.
//! How FFmpeg is told, and what the bucket says of an object.

use super::child;
use super::disk;
use super::link_server::{Lease, LinkServer};
use super::mp4::Parts;
use super::resume::Object;
use super::stream::Stream;
use state::storage::{Provider, StorageSettings};
use state::wire::{ItemSpec, MediaAt, WorkerSpec};
use state::{atomic, prepared};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use storage::Storage;

/// Read ahead from a link, ms: a silent connection is given up after [`SILENCE`], and a new one must bring media
/// before these are played.
const LINK_AHEAD_MS: i64 = 15_000;
/// Longest time that a connection may bring nothing while something is wanted, as FFmpeg wants it: microseconds.
const SILENCE: &str = "4000000";

/// FFmpeg comes back to a link by itself after a lost connection and for a server that is busy, for a few seconds.
const RECONNECT: [&str; 12] = [
    "-reconnect",
    "1",
    "-reconnect_streamed",
    "1",
    "-reconnect_on_network_error",
    "1",
    "-reconnect_on_http_error",
    "5xx,429",
    "-reconnect_delay_max",
    "5",
    "-rw_timeout",
    SILENCE,
];

/// Most bytes that are kept between the look at an object and its opening.
const MOST_KEPT: usize = 2 << 20;

/// Where certificates of the system are kept in one file: Debian, Red Hat, Alpine and others.
const SYSTEM_BUNDLES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// An item's bytes, for FFmpeg.
#[derive(Debug)]
pub enum Input {
    /// A file of this machine.
    File(PathBuf),
    /// An object of the bucket.
    Link(Link),
}

impl Input {
    /// FFmpeg's arguments for it, from its limits to `-i`. Options for links are fatal before a file's name.
    pub fn arguments(&self) -> Vec<OsString> {
        let mut list: Vec<OsString> = Vec::new();
        match self {
            Self::File(path) => {
                list.extend(["-protocol_whitelist", "file"].map(OsString::from));
                list.extend(child::INPUT_LIMITS.map(OsString::from));
                list.extend(["-i".into(), child::file_argument(path)]);
            }
            Self::Link(link) => {
                list.extend(["-protocol_whitelist", "http,https,tcp,tls"].map(OsString::from));
                list.extend(child::INPUT_LIMITS.map(OsString::from));
                list.extend(RECONNECT.map(OsString::from));
                list.extend(link.objects.tls_arguments());
                list.extend(["-i".into(), link.lease.url().into()]);
            }
        }
        list
    }

    /// Where an item's bytes come from, in one word: `file`, `cache` or `bucket`.
    pub fn source_of(&self, item: &ItemSpec) -> &'static str {
        match (self, &item.at) {
            (Self::Link(_), _) => "bucket",
            (Self::File(_), MediaAt::Object { .. }) => "cache",
            (Self::File(_), MediaAt::Path(_)) => "file",
        }
    }

    /// What tells the bytes from others under the same key; empty where nothing does.
    pub(super) async fn content_of(&self, item: &ItemSpec) -> String {
        match (self, &item.at) {
            (Self::Link(link), _) => link.content.clone(),
            // When a copy was changed says when it was used; it is found by its content.
            (Self::File(_), MediaAt::Object { .. }) => item.content.clone(),
            (Self::File(path), MediaAt::Path(_)) => {
                let file = disk::metadata(path).await;
                file.map(|file| prepared::content_of(&file)).unwrap_or_default()
            }
        }
    }

    /// How much is read ahead, ms.
    pub fn read_ahead_ms(&self) -> i64 {
        match self {
            Self::File(_) => super::buffer::HIGH_MS,
            Self::Link(_) => LINK_AHEAD_MS,
        }
    }
}

/// An object that is being read. Its address is forgotten with it.
#[derive(Debug)]
pub struct Link {
    objects: Arc<Objects>,
    lease: Lease,
    key: String,
    /// What it was when it was opened.
    content: String,
    size: u64,
}

impl Link {
    /// Its bytes, for whoever reads them without FFmpeg, with what came of them when they were looked at just before.
    pub fn parts(&self) -> Parts {
        let begun = self.objects.begun().take();
        let same = begun.filter(|(key, content, _)| *key == self.key && *content == self.content);
        same.map(|(.., parts)| parts).unwrap_or_else(|| {
            let storage = self.objects.storage.clone();
            Parts::new(Stream::new(storage, self.key.clone(), self.content.clone(), self.size))
        })
    }

    /// Keeps what came of its bytes until they are wanted again, or others are.
    pub fn keep(&self, parts: Parts) {
        let few = parts.in_hand() <= MOST_KEPT;
        *self.objects.begun() = few.then(|| (self.key.clone(), self.content.clone(), parts));
    }

    /// Asks the bucket whether the object is there and is what it was.
    pub async fn look(&self) -> Object {
        match self.objects.storage.stat(&self.key).await {
            Ok(now) if now.content == self.content => Object::Same,
            Ok(_) => Object::Gone("was replaced in the bucket while it was read".to_owned()),
            Err(error) if error.is_worth_retrying() => Object::Unknown(error.to_string()),
            Err(error) => Object::Gone(error.to_string()),
        }
    }
}

/// The bucket of a channel.
#[derive(Debug)]
pub struct Objects {
    storage: Storage,
    settings: StorageSettings,
    cache_dir: PathBuf,
    links: LinkServer,
    /// What FFmpeg trusts, where the bucket is reached over TLS.
    trusted: Option<PathBuf>,
    /// What came of the object that was looked at last, with its key and content.
    begun: Mutex<Option<(String, String, Parts)>>,
}

impl Objects {
    fn begun(&self) -> MutexGuard<'_, Option<(String, String, Parts)>> {
        self.begun.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens the bucket that a worker was told of; `None` where media are files.
    ///
    /// # Errors
    /// Why objects cannot be had, in words.
    pub async fn open(spec: &WorkerSpec) -> Result<Option<Arc<Self>>, String> {
        match &spec.storage {
            Some(settings) => Self::of(settings, spec.tls_ca_file.as_deref(), &spec.cache_dir).await,
            None => Ok(None),
        }
    }

    /// Opens the bucket of these settings; `None` where media are files. `tls_ca_file` is trusted besides the
    /// system's certificates; copies are looked for in `cache_dir`, and a file of certificates is written there.
    ///
    /// # Errors
    /// Why objects cannot be had, in words.
    pub async fn of(
        settings: &StorageSettings,
        tls_ca_file: Option<&Path>,
        cache_dir: &Path,
    ) -> Result<Option<Arc<Self>>, String> {
        if settings.provider == Provider::Local {
            return Ok(None);
        }
        let settings = settings.clone();
        let storage = Storage::open(settings.clone(), tls_ca_file)
            .map_err(|error| format!("the bucket cannot be used: {error}"))?;
        let valid = Duration::from_secs(settings.link_ttl_s);
        // Whoever gave the settings has checked them; tests want links that expire while they look.
        let storage = storage.with_shortest_link(valid.min(storage::SHORTEST_LINK));
        let links = LinkServer::start(storage.clone(), valid)
            .await
            .map_err(|error| format!("the link server cannot listen: {error}"))?;
        let secure = !settings.endpoint.starts_with("http://");
        let trusted = if secure { trusted(tls_ca_file, cache_dir)? } else { None };
        let (cache_dir, begun) = (cache_dir.to_owned(), Mutex::default());
        Ok(Some(Arc::new(Self { storage, settings, cache_dir, links, trusted, begun })))
    }

    /// An object's bytes: its copy on this machine, or a link to it.
    ///
    /// # Errors
    /// Why there are none, in words.
    pub async fn input(self: &Arc<Self>, item: &ItemSpec) -> Result<Input, String> {
        if let Some(copy) = copy_of(&self.cache_dir, &self.settings.bucket, item) {
            return Ok(Input::File(copy));
        }
        let now = self.storage.stat(&item.key).await.map_err(|error| error.to_string())?;
        if now.size == 0 {
            return Err("is empty (0 bytes)".to_owned());
        }
        let lease = self.links.lease(&item.key, &now.content);
        Ok(Input::Link(Link {
            objects: Arc::clone(self),
            lease,
            key: item.key.clone(),
            content: now.content,
            size: now.size,
        }))
    }

    /// Whether the bucket cannot be reached now.
    pub async fn is_away(&self, key: &str) -> bool {
        self.storage.stat(key).await.is_err_and(|error| error.is_worth_retrying())
    }

    /// FFmpeg believes every certificate unless it is told not to.
    fn tls_arguments(&self) -> Vec<OsString> {
        if self.settings.endpoint.starts_with("http://") {
            return Vec::new();
        }
        let mut list: Vec<OsString> = vec!["-tls_verify".into(), "1".into()];
        if let Some(file) = &self.trusted {
            list.extend(["-ca_file".into(), file.into()]);
        }
        list
    }
}

/// The bytes of an item, wherever they are.
///
/// # Errors
/// Why there are none, in words.
pub async fn input_of(item: &ItemSpec, objects: Option<&Arc<Objects>>) -> Result<Input, String> {
    match (&item.at, objects) {
        (MediaAt::Path(path), _) => Ok(Input::File(path.clone())),
        (MediaAt::Object { .. }, Some(objects)) => objects.input(item).await,
        (MediaAt::Object { .. }, None) => Err("is in a bucket, and no bucket can be used".to_owned()),
    }
}

/// The copy that is on this machine, if there is one.
fn copy_of(cache_dir: &Path, bucket: &str, item: &ItemSpec) -> Option<PathBuf> {
    storage::cache::find(cache_dir, bucket, &item.key, &item.content)
}

/// The system's certificates and those of `TLS_CA_FILE` in one file, because FFmpeg takes only one.
fn trusted(tls_ca_file: Option<&Path>, cache_dir: &Path) -> Result<Option<PathBuf>, String> {
    let system = SYSTEM_BUNDLES.iter().map(PathBuf::from).find(|path| path.is_file());
    let Some(own) = tls_ca_file else { return Ok(system) };
    let read = |path: &Path| {
        std::fs::read(path).map_err(|error| format!("{} cannot be read: {error}", path.display()))
    };
    let mut bundle = read(own)?;
    if let Some(system) = system {
        bundle.push(b'\n');
        bundle.extend(read(&system)?);
    }
    let path = cache_dir.join("trusted.pem");
    atomic::private_folder(cache_dir)
        .and_then(|()| atomic::replace(&path, &bundle))
        .map_err(|error| format!("{} cannot be written: {error}", path.display()))?;
    Ok(Some(path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use state::secret::Secret;
    use state::wire::HlsSpec;

    fn spec(endpoint: &str, cache_dir: &Path) -> WorkerSpec {
        let text = serde_json::json!({"channel": "main", "name": "Main", "run": "r", "epoch": 1, "items": [],
            "ffmpeg": "ffmpeg", "ffprobe": "ffprobe", "cache_dir": cache_dir});
        let settings = StorageSettings {
            provider: Provider::S3,
            local_dir: PathBuf::new(),
            bucket: "media".into(),
            endpoint: endpoint.into(),
            region: "us-east-1".into(),
            access_key_id: Secret::new("id-of-key"),
            secret_access_key: Secret::new("never-shown"),
            prefix: String::new(),
            prepared_prefix: String::new(),
            link_ttl_s: 86_400,
        };
        WorkerSpec { storage: Some(settings), hls: None::<HlsSpec>, ..serde_json::from_value(text).unwrap() }
    }

    async fn arguments(spec: &WorkerSpec) -> Vec<String> {
        let objects = Objects::open(spec).await.unwrap().unwrap();
        let lease = objects.links.lease("a.mp4", "0a1b");
        let link = Link { objects, lease, key: "a.mp4".into(), content: "0a1b".into(), size: 1 };
        let list = Input::Link(link).arguments();
        list.into_iter().map(|a| a.into_string().unwrap()).collect()
    }

    fn value<'a>(list: &'a [String], name: &str) -> Option<&'a str> {
        let at = list.iter().position(|a| a == name)?;
        list.get(at + 1).map(String::as_str)
    }

    #[tokio::test]
    async fn a_link_has_no_secret_in_it_and_opens_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let list = arguments(&spec("http://127.0.0.1:1", folder.path())).await;
        assert!(value(&list, "-i").unwrap().starts_with("http://127.0.0.1:"), "{list:?}");
        assert_eq!(value(&list, "-protocol_whitelist"), Some("http,https,tcp,tls"));
        assert!(value(&list, "-format_whitelist").is_some() && value(&list, "-tls_verify").is_none());
        assert!(!format!("{list:?}").contains("never-shown") && !format!("{list:?}").contains("id-of-key"));
    }

    #[tokio::test]
    async fn certificates_are_verified_with_the_owners_besides_the_systems() {
        let folder = tempfile::tempdir().unwrap();
        let own = folder.path().join("own.pem");
        std::fs::write(&own, "OWN").unwrap();
        let spec = spec("https://bucket.example", &folder.path().join("cache"));
        let list = arguments(&spec).await;
        assert_eq!(value(&list, "-tls_verify"), Some("1"));
        let bundle = trusted(Some(&own), &spec.cache_dir).unwrap().unwrap();
        assert!(std::fs::read(bundle).unwrap().starts_with(b"OWN"));
    }

    #[test]
    fn a_file_gets_none_of_the_options_that_are_fatal_for_it() {
        let list = Input::File("/m/a.mp4".into()).arguments();
        let list: Vec<String> = list.into_iter().map(|a| a.into_string().unwrap()).collect();
        assert!(!list.iter().any(|a| a.contains("reconnect") || a == "-rw_timeout"));
        assert_eq!(value(&list, "-protocol_whitelist"), Some("file"));
        assert_eq!(value(&list, "-i"), Some("file:/m/a.mp4"));
    }
}
