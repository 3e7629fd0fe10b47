//! Connections: taking them, reading HTTP/1.1 from them, and ending them well. Also answers what is not HTTP at
//! all, which never reaches a route.

use crate::crowd::{Crowd, Seldom};
use crate::error::Problem;
use anyhow::Context;
use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use std::io::{self, ErrorKind, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// Connections that wait to be taken. With the usual 128, ten thousand viewers needed 10–20 s to get in.
const BACKLOG: u32 = 4096;

/// How long a client may take for the head of a request, and rest between two.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a client that was just taken may need for its first words.
const FRESH: Duration = Duration::from_millis(250);

/// How long requests that are under way at the end may take.
const LAST_REQUESTS: Duration = Duration::from_secs(2);

/// Opens the port. Within the runtime.
///
/// # Errors
/// The port is in use or may not be used; the message says which.
pub fn listen(address: SocketAddr) -> anyhow::Result<std::net::TcpListener> {
    let open = || -> io::Result<std::net::TcpListener> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)?.into_std()
    };
    open().with_context(|| format!("cannot listen on {address}; choose another with CONTROLLER_BIND"))
}

/// Serves until `stop` is ready, and then lets requests under way finish. Who finds no place waits at the door.
pub async fn serve(listener: TcpListener, routes: Router, crowd: &Crowd, stop: impl Future<Output = ()>) {
    let connections = GracefulShutdown::new();
    let mut stop = std::pin::pin!(stop);
    let mut troubles = Seldom::default();
    loop {
        let (place, accepted) = tokio::select! {
            accepted = async { (crowd.place().await, listener.accept().await) } => accepted,
            () = &mut stop => break,
        };
        match accepted {
            Ok((stream, _)) => {
                let _ = stream.set_nodelay(true);
                let connection = http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(HEAD_TIMEOUT)
                    .serve_connection(
                        TokioIo::new(Spoken::new(stream)),
                        TowerToHyperService::new(routes.clone()),
                    );
                let connection = connections.watch(connection);
                // How a client's connection ends is its own business.
                tokio::spawn(async move { drop((connection.await, place)) });
            }
            Err(error) if is_theirs(&error) => {}
            Err(error) => {
                if troubles.may() {
                    tracing::error!(%error, "connections cannot be taken");
                }
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    }
    drop(listener);
    // Whoever was taken a moment ago has not asked yet, and would be hung up on without an answer.
    tokio::time::sleep(FRESH).await;
    let _ = tokio::time::timeout(LAST_REQUESTS, connections.shutdown()).await;
}

/// The client gave up before it was taken.
fn is_theirs(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset | ErrorKind::ConnectionRefused
    )
}

/// A connection whose every refusal has words. What cannot be parsed as HTTP is refused by the HTTP library itself,
/// with an empty body and without a request id; such an answer is replaced here on its way out.
struct Spoken {
    stream: TcpStream,
    instead: Option<Instead>,
}

struct Instead {
    answer: Vec<u8>,
    written: usize,
    /// Bytes of the answer that is replaced.
    covers: usize,
}

impl Spoken {
    fn new(stream: TcpStream) -> Self {
        Self { stream, instead: None }
    }

    fn poll_instead(&mut self, cx: &mut TaskContext<'_>) -> Option<Poll<io::Result<usize>>> {
        let instead = self.instead.as_mut()?;
        while instead.written < instead.answer.len() {
            match Pin::new(&mut self.stream).poll_write(cx, &instead.answer[instead.written..]) {
                Poll::Ready(Ok(0)) => return Some(Poll::Ready(Err(ErrorKind::WriteZero.into()))),
                Poll::Ready(Ok(written)) => instead.written += written,
                other => return Some(other),
            }
        }
        let covers = instead.covers;
        self.instead = None;
        Some(Poll::Ready(Ok(covers)))
    }
}

/// The problem to send instead of a bare refusal; `None` for every other write.
fn instead_of(bytes: &[u8]) -> Option<Instead> {
    if !bytes.starts_with(b"HTTP/1.1 4") || !bytes.ends_with(b"\r\n\r\n") {
        return None;
    }
    let head = std::str::from_utf8(bytes).ok()?.to_ascii_lowercase();
    if head.contains("\r\nx-request-id:") {
        return None;
    }
    let status: u16 = head.split(' ').nth(1)?.parse().ok()?;
    let id = state::ids::Ulid::new(state::now()).to_string();
    let problem = Problem::new(status, "this is not a request that can be understood");
    let body = problem.body(&id);
    let mut answer = format!(
        "HTTP/1.1 {status} {}\r\ncontent-type: application/problem+json\r\ncontent-length: {}\r\n\
         x-request-id: {id}\r\ncache-control: no-store\r\nconnection: close\r\n\r\n",
        problem.title,
        body.len()
    )
    .into_bytes();
    answer.extend(body);
    tracing::info!(request.id = id, status, "not HTTP");
    Some(Instead { answer, written: 0, covers: bytes.len() })
}

impl AsyncWrite for Spoken {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.instead.is_none() {
            self.instead = instead_of(bytes);
        }
        match self.poll_instead(cx) {
            Some(poll) => poll,
            None => Pin::new(&mut self.stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        // A bare refusal has no body, so that it is one part.
        match parts {
            [one] => self.poll_write(cx, one),
            parts => Pin::new(&mut self.stream).poll_write_vectored(cx, parts),
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        if let Some(poll) = self.poll_instead(cx) {
            ready!(poll)?;
        }
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl AsyncRead for Spoken {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_bare_refusals_are_replaced() {
        let bare =
            b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
        let instead = instead_of(bare).unwrap();
        let text = String::from_utf8(instead.answer).unwrap();
        assert!(text.starts_with("HTTP/1.1 431 ") && text.contains("\"request_id\":\""), "{text}");
        assert_eq!(instead.covers, bare.len());
        for other in [
            &b"HTTP/1.1 200 OK\r\n\r\n"[..],
            b"HTTP/1.1 404 Not Found\r\nX-Request-Id: a\r\n\r\n",
            b"HTTP/1.1 404 Not Found\r\nconten",
            b"",
        ] {
            assert!(instead_of(other).is_none());
        }
    }
}
