//! The way to a server: names, TCP with the options that live media wants, and TLS where the URL says so.

pub mod acked;
pub mod tls;

use super::failure::Failure;
use super::protocol::url::Target;
use acked::Acked;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpSocket, TcpStream, lookup_host};
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

/// Small, so that what waits does so in our queue, where it can be dropped at an IDR.
const SEND_BUFFER: u32 = 256 * 1024;
/// Longest time that sent data may go unacknowledged before the kernel gives the connection up, in ms.
const USER_TIMEOUT_MS: u32 = 10_000;
/// Most addresses of a name that are tried.
const MAX_ADDRESSES: usize = 4;

/// An open connection, in TLS or not.
#[derive(Debug)]
pub(super) enum Link {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// Opens a connection: `limit` for resolving and connecting, and again for TLS.
pub(super) async fn open(target: &Target, ca_file: Option<&Path>, limit: Duration) -> Result<Link, Failure> {
    let tcp = timeout(limit, connect(target, limit))
        .await
        .unwrap_or_else(|_| Err(Failure::timeout(target, "be found and connected", limit)))?;
    if !target.tls {
        return Ok(Link::Plain(tcp));
    }
    let secured = timeout(limit, tls::secure(tcp, target, ca_file))
        .await
        .unwrap_or_else(|_| Err(Failure::timeout(target, "finish the TLS handshake", limit)))?;
    Ok(Link::Tls(Box::new(secured)))
}

/// Tries the addresses of the name one after another; each gets its share of the time, so that one that
/// leads into a black hole does not keep the others from their turn.
async fn connect(target: &Target, limit: Duration) -> Result<TcpStream, Failure> {
    let found = lookup_host((target.host.as_str(), target.port)).await;
    let found = found.map_err(|error| Failure::resolve(target, &error))?;
    let addresses: Vec<SocketAddr> = found.take(MAX_ADDRESSES).collect();
    let share = limit.mul_f64(0.9) / addresses.len().max(1) as u32;
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in addresses {
        match timeout(share, connect_to(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => last = error,
            Err(_) => last = io::ErrorKind::TimedOut.into(),
        }
    }
    match last.kind() {
        io::ErrorKind::TimedOut => Err(Failure::timeout(target, "answer", limit)),
        _ => Err(Failure::connect(target, &last)),
    }
}

async fn connect_to(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = if address.is_ipv6() { TcpSocket::new_v6()? } else { TcpSocket::new_v4()? };
    socket.set_send_buffer_size(SEND_BUFFER)?;
    let stream = socket.connect(address).await?;
    stream.set_nodelay(true)?;
    rustix::net::sockopt::set_tcp_user_timeout(&stream, USER_TIMEOUT_MS)?;
    Ok(stream)
}

impl Link {
    /// What the peer's kernel has acknowledged; `None` if ours does not tell.
    pub(super) fn acked(&self) -> Option<Acked> {
        acked::of(match self {
            Self::Plain(tcp) => tcp,
            Self::Tls(tls) => tls.get_ref().0,
        })
    }
}

impl AsyncRead for Link {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_read(cx, buf),
            Self::Tls(tls) => Pin::new(tls).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Link {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_write(cx, bytes),
            Self::Tls(tls) => Pin::new(tls).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_flush(cx),
            Self::Tls(tls) => Pin::new(tls).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Self::Tls(tls) => Pin::new(tls).poll_shutdown(cx),
        }
    }
}
