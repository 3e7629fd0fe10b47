//! One HTTP call to somebody else's server: the name is resolved once, every address is checked, and the one that was
//! checked is dialled. No redirects are followed, the answer's body is not read, and a deadline covers all of it.

use super::address::{Address, is_public};
use super::outbox::Failure;
use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, HOST, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER, USER_AGENT};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// How long a call may take, from the look-up of the name to the head of the answer.
const DEADLINE: Duration = Duration::from_secs(10);

/// Largest head of an answer, in bytes.
const HEAD: usize = 64 * 1024;

/// What is said to the server.
#[derive(Clone)]
pub struct Words {
    /// GET or POST.
    pub method: Method,
    /// Headers besides the usual ones.
    pub headers: Vec<(&'static str, String)>,
    /// The body; empty for GET.
    pub body: Vec<u8>,
}

/// Makes calls.
#[derive(Debug, Clone)]
pub struct Caller {
    /// Certificates to trust besides the system's.
    tls_ca_file: Option<PathBuf>,
    /// Whether our own network may be called.
    allow_private: bool,
}

impl Caller {
    /// A caller that trusts the system's authorities and those in `tls_ca_file`.
    pub fn new(tls_ca_file: Option<&Path>, allow_private: bool) -> Self {
        Self { tls_ca_file: tls_ca_file.map(Path::to_owned), allow_private }
    }

    /// Whether our own network may be called.
    pub fn allows_private(&self) -> bool {
        self.allow_private
    }

    /// Calls, and gives whether the server took it.
    ///
    /// # Errors
    /// How it failed, in words without the address.
    pub async fn call(&self, address: &Address, words: Words) -> Result<(), Failure> {
        match tokio::time::timeout(DEADLINE, self.converse(address, words)).await {
            Ok(result) => result,
            Err(_) => Err(Failure::passing(format!("no answer within {} s", DEADLINE.as_secs()))),
        }
    }

    async fn converse(&self, address: &Address, words: Words) -> Result<(), Failure> {
        let tcp = dial(&self.resolve(address).await?).await?;
        let request = request(address, words)?;
        let response = if address.is_secure() {
            let name = ServerName::try_from(address.host().to_owned());
            let name = name.map_err(|_| Failure::passing("the host cannot be the name in a certificate"))?;
            let tls = self.connector().await?.connect(name, tcp).await;
            say(tls.map_err(|error| Failure::passing(format!("TLS failed: {error}")))?, request).await?
        } else {
            say(tcp, request).await?
        };
        judge(response.status(), response.headers())
    }

    /// Every address that the name has; one that is not public makes the name unusable, because a name with two
    /// faces is how such checks are fooled.
    async fn resolve(&self, address: &Address) -> Result<Vec<SocketAddr>, Failure> {
        let found = tokio::net::lookup_host((address.host(), address.port())).await;
        let found: Vec<_> =
            found.map_err(|_| Failure::passing("the host's name cannot be resolved"))?.collect();
        if !self.allow_private && found.iter().any(|found| !is_public(found.ip())) {
            let words = "the host is in a private network; ALERT_ALLOW_PRIVATE=1 lifts that";
            return Err(Failure::passing(words));
        }
        Ok(found)
    }

    /// The authorities are read anew for each call: this program runs for months, and they change.
    async fn connector(&self) -> Result<TlsConnector, Failure> {
        let file = self.tls_ca_file.clone();
        let config = crate::off_thread(move || trust(file.as_deref())).await;
        config.map(|config| TlsConnector::from(Arc::new(config))).map_err(Failure::passing)
    }
}

fn trust(file: Option<&Path>) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let more = rustls_native_certs::load_certs_from_paths(file, None);
    roots.add_parsable_certificates(more.certs);
    if roots.is_empty() {
        return Err("this machine has no TLS authorities: install its ca-certificates package".to_owned());
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| format!("TLS cannot be set up: {error}"))?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

async fn dial(addresses: &[SocketAddr]) -> Result<TcpStream, Failure> {
    let connected = TcpStream::connect(addresses).await;
    connected.map_err(|error| Failure::passing(format!("cannot connect: {}", error.kind())))
}

fn request(address: &Address, words: Words) -> Result<Request<Full<Bytes>>, Failure> {
    let broken = |_| Failure::passing("the request cannot be written");
    let uri = address.uri();
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let mut request = Request::builder().method(words.method).uri(path);
    let host = uri.authority().map_or("", |authority| authority.as_str());
    request = request.header(HOST, host).header(CONNECTION, "close");
    request = request.header(USER_AGENT, concat!("stream-controller/", env!("CARGO_PKG_VERSION")));
    for (name, value) in words.headers {
        let mut value = HeaderValue::try_from(value)
            .map_err(|_| Failure::passing("a header cannot hold what it should"))?;
        value.set_sensitive(true);
        request = request.header(HeaderName::from_static(name), value);
    }
    request.body(Full::new(Bytes::from(words.body))).map_err(broken)
}

/// The connection ends with the answer's head: nobody needs its body.
async fn say(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    request: Request<Full<Bytes>>,
) -> Result<Response<hyper::body::Incoming>, Failure> {
    let spoke = http1::Builder::new().max_buf_size(HEAD).handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = spoke.map_err(|error| Failure::passing(unspoken(&error)))?;
    let answer = sender.send_request(request);
    tokio::pin!(connection, answer);
    let answered = tokio::select! {
        biased;
        answered = &mut answer => answered,
        ended = &mut connection => match ended {
            Ok(()) => answer.await,
            Err(error) => Err(error),
        },
    };
    answered.map_err(|error| Failure::passing(unspoken(&error)))
}

fn unspoken(error: &hyper::Error) -> String {
    format!("no usable answer: {error}")
}

/// 2xx is taken. 400, 410, 413 and 422 will be the same next time; everything else may change.
fn judge(status: StatusCode, headers: &HeaderMap) -> Result<(), Failure> {
    if status.is_success() {
        return Ok(());
    }
    let hint = match status.as_u16() {
        300..=399 => " (redirects are not followed)",
        401 | 403 | 404 => " (is the address still right?)",
        410 => " (nobody is there any more: take the webhook away)",
        _ => "",
    };
    let wait = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
    Err(Failure {
        words: format!("answered {}{hint}", status.as_u16()),
        for_good: matches!(status.as_u16(), 400 | 410 | 413 | 422),
        wait: wait.map(Duration::from_secs),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use state::secret::Secret;

    #[test]
    fn only_two_hundred_and_something_is_a_yes() {
        let answered = |status: u16| judge(StatusCode::from_u16(status).unwrap(), &HeaderMap::new());
        assert!(answered(200).is_ok() && answered(204).is_ok());
        assert!(answered(302).unwrap_err().words.contains("not followed"));
        assert!(answered(410).unwrap_err().for_good && !answered(503).unwrap_err().for_good);
        let slow: HeaderMap = [(RETRY_AFTER, HeaderValue::from_static("30"))].into_iter().collect();
        let failure = judge(StatusCode::TOO_MANY_REQUESTS, &slow).unwrap_err();
        assert_eq!(failure.wait, Some(Duration::from_secs(30)));
    }

    #[tokio::test]
    async fn a_name_that_leads_home_is_not_called() {
        let address = Address::parse(&Secret::new("http://localhost:9/"), true).unwrap();
        let words = Words { method: Method::GET, headers: Vec::new(), body: Vec::new() };
        let failure = Caller::new(None, false).call(&address, words).await.unwrap_err();
        assert!(failure.words.contains("private network"), "{failure:?}");
    }
}
