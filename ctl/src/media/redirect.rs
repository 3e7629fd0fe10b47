//! A server on the loopback that leads ffprobe to a signed link, so that the link is in no argument list.

use state::ids;
use std::net::Ipv4Addr;
use std::time::Duration;
use storage::StreamUrl;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// Longest request, bytes, and the time for it and its answer.
const LONGEST: usize = 8 * 1024;
const DEADLINE: Duration = Duration::from_secs(5);

/// Leads to one link until it is dropped.
pub(super) struct Redirect {
    /// What ffprobe is told.
    pub(super) address: String,
    task: JoinHandle<()>,
}

impl Redirect {
    pub(super) async fn to(link: StreamUrl) -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let token = ids::random_base62(26);
        let address = format!("http://{}/{token}", listener.local_addr()?);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // One at a time: ffprobe asks one thing after the other.
                let _ = timeout(DEADLINE, answer(stream, &token, &link)).await;
            }
        });
        Ok(Self { address, task })
    }
}

impl Drop for Redirect {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(mut stream: TcpStream, token: &str, link: &StreamUrl) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.windows(4).any(|four| four == b"\r\n\r\n") && head.len() < LONGEST {
        if stream.read_buf(&mut head).await? == 0 {
            return Ok(());
        }
    }
    let asked = String::from_utf8_lossy(&head);
    let known = asked.split(' ').nth(1).is_some_and(|path| path.strip_prefix('/') == Some(token));
    let reply = if known {
        format!("302 Found\r\nLocation: {}\r\nCache-Control: no-store", link.expose())
    } else {
        "404 Not Found".to_owned()
    };
    let reply = format!("HTTP/1.1 {reply}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    stream.write_all(reply.as_bytes()).await?;
    stream.shutdown().await
}
