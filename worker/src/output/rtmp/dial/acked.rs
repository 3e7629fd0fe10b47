//! How much of what was sent has arrived, as the kernel knows it (TCP_INFO, see tcp(7) and linux/tcp.h).

use std::os::fd::AsRawFd;
use tokio::net::TcpStream;

/// Offsets in the kernel's `struct tcp_info`, which only ever grows at its end.
const UNACKED: usize = 24;
const RTT: usize = 68;
const BYTES_ACKED: usize = 120;
const NOTSENT_BYTES: usize = 144;
const LENGTH: usize = 148;

/// What the peer's kernel has acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Acked {
    /// Bytes acknowledged since the connection was opened (`tcpi_bytes_acked`).
    pub bytes: u64,
    /// Whether bytes are on the way or wait in the send buffer.
    pub outstanding: bool,
    /// Smoothed round-trip time in ms (`tcpi_rtt`), rounded up.
    pub rtt_ms: u32,
}

/// Asks the kernel; `None` where it is too old to know.
pub fn of(tcp: &TcpStream) -> Option<Acked> {
    let info = tcp_info(tcp.as_raw_fd())?;
    let word = |at: usize| info[at..].first_chunk().map(|bytes| u32::from_ne_bytes(*bytes));
    let bytes = u64::from_ne_bytes(*info[BYTES_ACKED..].first_chunk()?);
    let outstanding = word(UNACKED)? > 0 || word(NOTSENT_BYTES)? > 0;
    Some(Acked { bytes, outstanding, rtt_ms: word(RTT)?.div_ceil(1000) })
}

#[allow(unsafe_code)]
fn tcp_info(socket: std::os::fd::RawFd) -> Option<[u8; LENGTH]> {
    let mut info = [0u8; LENGTH];
    let mut length = LENGTH as libc::socklen_t;
    // SAFETY: `info` is writable for the `length` bytes announced, the kernel writes no more than that, and both
    // pointers live for the whole call. A socket that is not TCP makes the call fail.
    let result = unsafe {
        libc::getsockopt(socket, libc::IPPROTO_TCP, libc::TCP_INFO, info.as_mut_ptr().cast(), &raw mut length)
    };
    (result == 0 && length as usize >= LENGTH).then_some(info)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    async fn settle(tcp: &TcpStream, wanted: impl Fn(Acked) -> bool) -> Acked {
        for _ in 0..1000 {
            let seen = of(tcp).unwrap();
            if wanted(seen) {
                return seen;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("still {:?}", of(tcp));
    }

    #[tokio::test]
    async fn sent_bytes_are_acknowledged_until_the_peer_takes_no_more() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut tcp = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (_peer, _) = listener.accept().await.unwrap();
        let before = of(&tcp).unwrap().bytes;
        tcp.write_all(&[0; 1000]).await.unwrap();
        let after = settle(&tcp, |seen| !seen.outstanding).await;
        assert_eq!(after.bytes - before, 1000);
        assert!((1..5_000).contains(&after.rtt_ms), "{after:?}");

        let flood = [0; 64 * 1024];
        while tokio::time::timeout(Duration::from_millis(300), tcp.write_all(&flood)).await.is_ok() {}
        settle(&tcp, |seen| seen.outstanding).await;
    }
}
