//! The worker's own small HTTP server on the loopback: FFmpeg is given an address here, and every request for it is
//! answered with the address of the object, signed in that moment. So nothing signed is in an argument list, and a
//! link that has expired is never asked for twice.
//!
//! Whoever asks for a later part is told first whether the object is still what it was: parts of two contents are
//! never put together. That is asked here because not every service heeds a condition in a request.
//!
//! It speaks as much HTTP/1.1 (RFC 9112) as FFmpeg needs: a GET or HEAD, an answer without a body, the end.

use bytes::BufMut;
use state::ids;
use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use storage::Storage;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// Connections at once; each lasts for one answer.
const CONNECTIONS: usize = 32;
/// Longest request, bytes.
const LONGEST: usize = 8 * 1024;
/// Time for a request to arrive, and for its answer to be taken.
const DEADLINE: Duration = Duration::from_secs(5);
/// Time for an answer to be found: the bucket may have to be asked. FFmpeg waits less and asks again.
const ANSWER_DEADLINE: Duration = Duration::from_secs(15);
/// Characters of a token; 62^26 is more than 2^150.
const TOKEN: usize = 26;

/// The server. Dropping it ends it.
#[derive(Debug)]
pub struct LinkServer {
    address: SocketAddr,
    known: Known,
    task: JoinHandle<()>,
}

/// An object that may be asked for, and what its content was when it was opened.
#[derive(Debug, Clone)]
struct Pinned {
    key: String,
    content: String,
}

/// By token.
type Known = Arc<Mutex<HashMap<String, Pinned>>>;

fn lock(known: &Known) -> MutexGuard<'_, HashMap<String, Pinned>> {
    known.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An address of the server that answers for as long as this lives.
#[derive(Debug)]
pub struct Lease {
    url: String,
    token: String,
    known: Known,
}

impl Lease {
    /// The address, without anything secret but its own token.
    pub fn url(&self) -> &str {
        &self.url
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        lock(&self.known).remove(&self.token);
    }
}

impl LinkServer {
    /// Listens on a free port of the loopback and signs links that are valid for so long.
    ///
    /// # Errors
    /// When nothing can be listened on.
    pub async fn start(storage: Storage, valid: Duration) -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let known = Known::default();
        let desk = Arc::new(Desk { storage, valid, known: Arc::clone(&known) });
        let task = tokio::spawn(desk.serve(listener));
        Ok(Self { address, known, task })
    }

    /// An address for this content of a key. Its last part has the key's ending, because FFmpeg looks at it.
    pub fn lease(&self, key: &str, content: &str) -> Lease {
        let token = ids::random_base62(TOKEN);
        let url = format!("http://{}/{token}/media{}", self.address, ending(key));
        lock(&self.known).insert(token.clone(), Pinned { key: key.to_owned(), content: content.to_owned() });
        Lease { url, token, known: Arc::clone(&self.known) }
    }
}

impl Drop for LinkServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn ending(key: &str) -> String {
    let ending = key.rsplit_once('.').map_or("", |(_, ending)| ending);
    let plain = (1..=5).contains(&ending.len()) && ending.bytes().all(|b| b.is_ascii_alphanumeric());
    if plain { format!(".{}", ending.to_ascii_lowercase()) } else { String::new() }
}

struct Desk {
    storage: Storage,
    valid: Duration,
    known: Known,
}

impl Desk {
    async fn serve(self: Arc<Self>, listener: TcpListener) {
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Out of descriptors, most likely: others will close theirs.
                    tracing::warn!(%error, "a connection to the link server failed");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let desk = Arc::clone(&self);
            tokio::spawn(async move {
                // Whoever hangs up, or is too slow, has nobody else to blame.
                let _ = desk.answer(stream).await;
                drop(place);
            });
        }
    }

    async fn answer(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let Some(request) = timeout(DEADLINE, read_head(&mut stream)).await?? else { return Ok(()) };
        let found = timeout(ANSWER_DEADLINE, self.answer_to(&request)).await;
        let answer = found.unwrap_or_else(|_| head("503 Service Unavailable", ""));
        timeout(DEADLINE, stream.write_all(answer.as_bytes())).await??;
        stream.shutdown().await
    }

    async fn answer_to(&self, request: &[u8]) -> String {
        match asked(request) {
            Asked::For(token) => self.link(token, is_later_part(request)).await,
            Asked::Otherwise => head("405 Method Not Allowed", "Allow: GET, HEAD\r\n"),
            Asked::Nonsense => head("400 Bad Request", ""),
        }
    }

    async fn link(&self, token: &str, later_part: bool) -> String {
        let pinned = lock(&self.known).get(token).cloned();
        let Some(Pinned { key, content }) = pinned else { return head("404 Not Found", "") };
        if later_part {
            match self.storage.stat(&key).await {
                Ok(now) if now.content == content => {}
                Ok(_) => return head("412 Precondition Failed", ""),
                Err(error) if error.is_worth_retrying() => return head("503 Service Unavailable", ""),
                Err(_) => return head("404 Not Found", ""),
            }
        }
        match self.storage.stream_url(&key, self.valid).await {
            Ok(url) => head("302 Found", &format!("Location: {}\r\n", url.expose())),
            Err(error) => {
                tracing::warn!(item.key = %key, %error, "a link cannot be signed");
                head("502 Bad Gateway", "")
            }
        }
    }
}

fn head(status: &str, fields: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\n{fields}Cache-Control: no-store\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    )
}

/// Reads to the end of a request's head; `None` when it is too long or ends early.
async fn read_head(stream: &mut TcpStream) -> std::io::Result<Option<Vec<u8>>> {
    let mut request = Vec::with_capacity(1024);
    loop {
        if request.windows(4).any(|w| w == b"\r\n\r\n") {
            return Ok(Some(request));
        }
        let space = LONGEST - request.len();
        if space == 0 || stream.read_buf(&mut (&mut request).limit(space)).await? == 0 {
            return Ok(None);
        }
    }
}

/// Whether a request has a range that does not begin at 0 (RFC 9110, 14.2).
fn is_later_part(request: &[u8]) -> bool {
    let lines = request.split(|&b| b == b'\n').filter_map(|line| std::str::from_utf8(line).ok());
    let mut fields = lines.filter_map(|line| line.split_once(':'));
    let range = fields.find(|(name, _)| name.eq_ignore_ascii_case("range"));
    range.is_some_and(|(_, value)| !value.trim().starts_with("bytes=0-"))
}

#[derive(Debug, PartialEq, Eq)]
enum Asked<'a> {
    For(&'a str),
    Otherwise,
    Nonsense,
}

/// The token that a request asks for: the first part of its path.
fn asked(request: &[u8]) -> Asked<'_> {
    let line = request.split(|&b| b == b'\r').next().unwrap_or_default();
    let Ok(line) = std::str::from_utf8(line) else { return Asked::Nonsense };
    let mut words = line.split(' ');
    let (method, path, version) = (words.next(), words.next(), words.next());
    let known = version.is_some_and(|v| v.starts_with("HTTP/1.")) && words.next().is_none();
    match (method, path.and_then(|p| p.strip_prefix('/'))) {
        (Some("GET" | "HEAD"), Some(path)) if known => Asked::For(path.split('/').next().unwrap_or_default()),
        (Some(_), Some(_)) if known => Asked::Otherwise,
        _ => Asked::Nonsense,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use state::secret::Secret;
    use state::storage::{Provider, StorageSettings};

    /// Signing asks nobody, so nobody needs to be there.
    async fn server(valid_s: u64) -> LinkServer {
        let settings = StorageSettings {
            provider: Provider::S3,
            local_dir: "/nonexistent".into(),
            bucket: "media".into(),
            endpoint: "http://127.0.0.1:1".into(),
            region: "us-east-1".into(),
            access_key_id: Secret::new("id-of-key"),
            secret_access_key: Secret::new("never-shown"),
            prefix: String::new(),
            prepared_prefix: String::new(),
            link_ttl_s: valid_s,
        };
        let storage = Storage::open(settings, None).unwrap();
        LinkServer::start(storage, Duration::from_secs(valid_s)).await.unwrap()
    }

    async fn ask(server: &LinkServer, request: &[u8]) -> String {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(request).await.unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8(answer).unwrap()
    }

    fn get(lease: &Lease) -> Vec<u8> {
        let path = lease.url().splitn(4, '/').last().unwrap_or_default();
        format!("GET /{path} HTTP/1.1\r\nHost: x\r\nRange: bytes=0-\r\n\r\n").into_bytes()
    }

    fn field<'a>(answer: &'a str, name: &str) -> Option<&'a str> {
        answer.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    #[tokio::test]
    async fn every_request_is_led_to_the_object_and_none_is_remembered() {
        let server = server(3600).await;
        let lease = server.lease("shows/ä b+c.MP4", "0a1b");
        assert!(lease.url().ends_with("/media.mp4") && !lease.url().contains("shows"), "{}", lease.url());
        for request in [get(&lease), String::from_utf8(get(&lease)).unwrap().replace("GET", "HEAD").into()] {
            let answer = ask(&server, &request).await;
            assert!(answer.starts_with("HTTP/1.1 302 "), "{answer}");
            let to = field(&answer, "Location").unwrap();
            assert!(to.starts_with("http://127.0.0.1:1/media/shows/%C3%A4%20b%2Bc.MP4?"), "{to}");
            assert!(to.contains("X-Amz-Signature=") && to.contains("X-Amz-Expires=3600"), "{to}");
            assert_eq!(field(&answer, "Cache-Control"), Some("no-store"));
            assert_eq!(field(&answer, "Connection"), Some("close"));
        }
    }

    #[tokio::test]
    async fn a_token_that_is_guessed_or_given_back_leads_nowhere() {
        let server = server(3600).await;
        let (one, other) = (server.lease("a.mp4", "0a1b"), server.lease("a.mp4", "0a1b"));
        assert_ne!(one.url(), other.url());
        let request = get(&one);
        drop(one);
        assert!(ask(&server, &request).await.starts_with("HTTP/1.1 404 "));
        assert!(ask(&server, &get(&other)).await.starts_with("HTTP/1.1 302 "));
        for path in ["", "x", "a.mp4", "%2e%2e/a.mp4"] {
            let answer = ask(&server, format!("GET /{path} HTTP/1.1\r\n\r\n").as_bytes()).await;
            assert!(answer.starts_with("HTTP/1.1 404 "), "{path}: {answer}");
        }
    }

    #[tokio::test]
    async fn what_is_no_request_is_refused_and_what_never_ends_is_cut() {
        let server = server(3600).await;
        let lease = server.lease("a.mp4", "0a1b");
        let put = String::from_utf8(get(&lease)).unwrap().replace("GET", "PUT");
        assert!(ask(&server, put.as_bytes()).await.starts_with("HTTP/1.1 405 "));
        assert!(ask(&server, b"hello\r\n\r\n").await.starts_with("HTTP/1.1 400 "));
        let endless = [b"GET / HTTP/1.1\r\nX: ".to_vec(), vec![b'x'; LONGEST]].concat();
        assert_eq!(ask(&server, &endless).await, "");
    }

    #[tokio::test]
    async fn visitors_who_say_nothing_keep_nobody_out_for_long() {
        let server = server(3600).await;
        let lease = server.lease("a.mp4", "0a1b");
        let mut silent = Vec::new();
        for _ in 0..CONNECTIONS + 4 {
            silent.push(TcpStream::connect(server.address).await.unwrap());
        }
        let answer = timeout(DEADLINE * 4, ask(&server, &get(&lease))).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 302 "), "{answer}");
    }

    #[tokio::test]
    async fn a_link_that_cannot_be_signed_is_no_address() {
        let server = server(1).await;
        let lease = server.lease("a.mp4", "0a1b");
        assert!(ask(&server, &get(&lease)).await.starts_with("HTTP/1.1 502 "));
    }

    #[test]
    fn a_later_part_is_told_from_the_whole() {
        let asked = |fields: &str| is_later_part(format!("GET / HTTP/1.1\r\n{fields}\r\n").as_bytes());
        assert!(asked("Host: x\r\nRange: bytes=1-\r\n") && asked("range:bytes=-5\r\n"));
        assert!(!asked("Range: bytes=0-\r\n") && !asked("Host: x\r\n"));
    }

    proptest! {
        #[test]
        fn arbitrary_requests_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), key in ".{0,40}") {
            let _ = (asked(&bytes), is_later_part(&bytes));
            prop_assert!(ending(&key).len() <= 6);
        }
    }
}
