//! One POST of JSON to an address that a user has named: never to a place that is not public unless that is allowed,
//! never followed elsewhere, never long, never much.

use super::address::{self, Parts};
use super::tls;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::Request;
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, CONTENT_TYPE, HOST, USER_AGENT};
use hyper_util::rt::TokioIo;
use state::secret::Secret;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long all of it may take.
const DEADLINE: Duration = Duration::from_secs(10);

/// How long one address may take to answer a call.
const CONNECT: Duration = Duration::from_secs(5);

/// Longest answer, bytes.
const LONGEST: usize = 64 * 1024;

/// Where requests may go, and whom to trust.
#[derive(Debug, Clone)]
pub struct Policy {
    /// Also to addresses that are not public, and without TLS.
    pub private: bool,
    /// Authorities besides the system's, PEM.
    pub ca_file: Option<PathBuf>,
}

/// Sends `body` and gives the body of an answer that says yes (200 to 299).
///
/// # Errors
/// Why not, in words that name the host and no more of the address.
pub async fn post(url: &Secret, body: Vec<u8>, policy: &Policy) -> Result<Bytes, String> {
    let parts = address::parts(url.expose())?;
    let asked = timeout(DEADLINE, ask(&parts, body, policy)).await;
    asked.unwrap_or_else(|_| Err(format!("{} did not answer within {} s", parts.host, DEADLINE.as_secs())))
}

async fn ask(parts: &Parts, body: Vec<u8>, policy: &Policy) -> Result<Bytes, String> {
    if !parts.secure && !policy.private {
        return Err(format!(
            "{} is not asked without TLS: its address must begin with https://, unless KEY_URL_PRIVATE=on",
            parts.host
        ));
    }
    let tcp = connect(parts, &allowed(parts, policy).await?).await?;
    if parts.secure {
        talk(tls::secure(tcp, &parts.host, policy.ca_file.clone()).await?, parts, body).await
    } else {
        talk(tcp, parts, body).await
    }
}

/// The addresses of the host. What was looked at is what is called: a name that changes its mind changes nothing.
async fn allowed(parts: &Parts, policy: &Policy) -> Result<Vec<SocketAddr>, String> {
    let found = tokio::net::lookup_host((parts.host.as_str(), parts.port)).await;
    let found = found.map_err(|error| format!("{} is not known: {error}", parts.host))?;
    let found: Vec<SocketAddr> = found.collect();
    if !policy.private && found.iter().any(|at| !address::is_public(at.ip())) {
        return Err(format!(
            "{} is an address of this machine or its neighbours, which may be asked only with KEY_URL_PRIVATE=on",
            parts.host
        ));
    }
    Ok(found)
}

async fn connect(parts: &Parts, addresses: &[SocketAddr]) -> Result<TcpStream, String> {
    let mut why = "it has no address".to_owned();
    for at in addresses {
        match timeout(CONNECT, TcpStream::connect(at)).await {
            Ok(Ok(tcp)) => return Ok(tcp),
            Ok(Err(error)) => why = error.to_string(),
            Err(_) => why = format!("no answer within {} s", CONNECT.as_secs()),
        }
    }
    Err(format!("{} cannot be reached: {why}", parts.host))
}

async fn talk<S>(stream: S, parts: &Parts, body: Vec<u8>) -> Result<Bytes, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let broken = |error: hyper::Error| format!("{} broke off: {error}", parts.host);
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    let talking = tokio::spawn(connection);
    let answered = async {
        let request = Request::post(&parts.path)
            .header(HOST, &parts.authority)
            .header(CONTENT_TYPE, "application/json")
            .header(ACCEPT, "application/json")
            .header(USER_AGENT, concat!("stream-controller/", env!("CARGO_PKG_VERSION")))
            .body(Full::new(Bytes::from(body)))
            .map_err(|_| format!("{} cannot be asked with this address", parts.host))?;
        let answer = sender.send_request(request).await.map_err(broken)?;
        let status = answer.status();
        if status.is_redirection() {
            return Err(format!("{} leads elsewhere ({status}), and that is not followed", parts.host));
        }
        if !status.is_success() {
            return Err(format!("{} answered {status}", parts.host));
        }
        let body = Limited::new(answer.into_body(), LONGEST).collect().await;
        let too_much = |_| format!("{} broke off or answered more than {LONGEST} bytes", parts.host);
        body.map(http_body_util::Collected::to_bytes).map_err(too_much)
    };
    let answered = answered.await;
    talking.abort();
    answered
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    /// A server that gives this answer to everybody, and its address.
    async fn server(answer: Vec<u8>) -> Secret {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/s3cret-hook", listener.local_addr().unwrap());
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut asked = [0; 4096];
                let _ = stream.read(&mut asked).await;
                let _ = stream.write_all(&answer).await;
            }
        });
        Secret::new(url)
    }

    async fn ask(answer: &str, private: bool) -> Result<Bytes, String> {
        let url = server(answer.as_bytes().to_vec()).await;
        post(&url, b"{}".to_vec(), &Policy { private, ca_file: None }).await
    }

    #[tokio::test]
    async fn an_answer_that_says_yes_is_taken() {
        let answer = ask("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", true).await;
        assert_eq!(answer.as_deref(), Ok(&b"{}"[..]));
    }

    #[tokio::test]
    async fn every_other_answer_is_told_without_the_address() {
        let long = format!("HTTP/1.1 200 OK\r\nContent-Length: 70000\r\n\r\n{}", "x".repeat(70_000));
        for (answer, words) in [
            ("HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/\r\n\r\n", "not followed"),
            ("HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n", "500"),
            ("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}", "broke off"),
            ("nonsense\r\n\r\n", "broke off"),
            (&long, "more than"),
        ] {
            let said = ask(answer, true).await.unwrap_err();
            assert!(said.contains(words) && !said.contains("s3cret"), "{said}");
        }
    }

    #[tokio::test]
    async fn this_machine_is_not_asked_unless_that_is_allowed() {
        assert!(ask("HTTP/1.1 200 OK\r\n\r\n", false).await.unwrap_err().contains("TLS"));
        let policy = Policy { private: false, ca_file: None };
        for inside in [
            "https://127.0.0.1/",
            "https://2130706433/",
            "https://0x7f.1/",
            "https://127.1/",
            "https://[::1]/",
            "https://localhost:8080/",
            "https://[::ffff:7f00:1]/",
            "https://0/",
        ] {
            let said = post(&Secret::new(inside), Vec::new(), &policy).await.unwrap_err();
            assert!(said.contains("KEY_URL_PRIVATE"), "{inside}: {said}");
        }
    }
}
