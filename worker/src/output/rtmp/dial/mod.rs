//! The way to a server: names, TCP with the options that live media wants, and TLS where the URL says so.

pub mod acked;
mod addresses;
pub mod tls;

pub(super) use addresses::Addresses;

use super::failure::Failure;
use super::protocol::url::Target;
use acked::Acked;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

/// Small, so that what waits does so in our queue, where it can be dropped at an IDR.
const SEND_BUFFER: u32 = 256 * 1024;
/// Longest time that sent data may go unacknowledged before the kernel gives the connection up, in ms.
const USER_TIMEOUT_MS: u32 = 10_000;
/// Head start of an address before the next one is tried (RFC 8305, section 5).
const STAGGER: Duration = Duration::from_millis(250);

/// An open connection, in TLS or not.
#[derive(Debug)]
pub(super) enum Link {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// Opens a connection: `limit` for resolving and connecting, and again for TLS. `addresses` remembers where.
pub(super) async fn open(
    target: &Target,
    addresses: &mut Addresses,
    ca_file: Option<&Path>,
    limit: Duration,
) -> Result<(Link, SocketAddr), Failure> {
    let began = Instant::now();
    let found = resolve(target, addresses, limit / 2).await?;
    let (tcp, address) = connect(target, &found, limit.saturating_sub(began.elapsed())).await?;
    let link = secure(target, tcp, ca_file, limit).await.inspect_err(|_| addresses.failed(address))?;
    Ok((link, address))
}

/// The addresses of the server's name, in the order in which they are to be tried.
pub(super) async fn resolve(
    target: &Target,
    addresses: &mut Addresses,
    limit: Duration,
) -> Result<Vec<SocketAddr>, Failure> {
    let found = addresses.find(&target.host, target.port, limit).await;
    found.map_err(|error| match error.kind() {
        io::ErrorKind::TimedOut => Failure::timeout(target, "be found", limit),
        _ => Failure::resolve(target, &error),
    })
}

/// Connects to the first address that answers. The next one is tried [`STAGGER`] after the one before, so that one
/// that leads into a black hole keeps none of the others from its turn.
pub(super) async fn connect(
    target: &Target,
    addresses: &[SocketAddr],
    limit: Duration,
) -> Result<(TcpStream, SocketAddr), Failure> {
    let won = timeout(limit, race(addresses)).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    won.map_err(|error| match error.kind() {
        io::ErrorKind::TimedOut => Failure::timeout(target, "answer", limit),
        _ => Failure::connect(target, &error),
    })
}

/// Puts TLS around the connection where the URL says so.
pub(super) async fn secure(
    target: &Target,
    tcp: TcpStream,
    ca_file: Option<&Path>,
    limit: Duration,
) -> Result<Link, Failure> {
    if !target.tls {
        return Ok(Link::Plain(tcp));
    }
    let secured = timeout(limit, tls::secure(tcp, target, ca_file))
        .await
        .unwrap_or_else(|_| Err(Failure::timeout(target, "finish the TLS handshake", limit)))?;
    Ok(Link::Tls(Box::new(secured)))
}

async fn race(addresses: &[SocketAddr]) -> io::Result<(TcpStream, SocketAddr)> {
    let (mut tries, mut rest) = (JoinSet::new(), addresses.iter().copied());
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    loop {
        let patience = match rest.next() {
            Some(address) => {
                tries.spawn(async move { (connect_to(address).await, address) });
                STAGGER
            }
            None if tries.is_empty() => return Err(last),
            None => Duration::MAX,
        };
        match timeout(patience, tries.join_next()).await {
            Ok(Some(Ok((Ok(stream), address)))) => return Ok((stream, address)),
            Ok(Some(Ok((Err(error), _)))) => last = error,
            Ok(Some(Err(error))) => last = io::Error::other(error),
            Ok(None) | Err(_) => {}
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    /// A socket that listens and whose queue is full: whoever knocks gets no answer at all.
    async fn black_hole() -> (std::net::TcpListener, Vec<TcpStream>) {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(1).unwrap().into_std().unwrap();
        let address = listener.local_addr().unwrap();
        let mut knocking = Vec::new();
        while let Ok(Ok(stream)) = timeout(Duration::from_millis(300), TcpStream::connect(address)).await {
            knocking.push(stream);
        }
        (listener, knocking)
    }

    #[tokio::test]
    async fn a_dead_address_and_a_black_hole_keep_no_other_from_its_turn() {
        let dead = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let (hole, _knocking) = black_hole().await;
        let alive = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let tried = [dead, hole.local_addr().unwrap(), alive.local_addr().unwrap()];
        let (_, won) = timeout(Duration::from_secs(20), race(&tried)).await.unwrap().unwrap();
        assert_eq!(won, alive.local_addr().unwrap());
        assert_eq!(race(&[dead, dead]).await.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        assert!(race(&[]).await.is_err());
    }
}
