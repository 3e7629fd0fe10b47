//! Whatever a server may say to a publisher: while it connects, and during the life of a connection.

#![no_main]

use libfuzzer_sys::fuzz_target;
use state::secret::Secret;
use std::cell::RefCell;
use stream_worker::output::rtmp::protocol::chunk::{self, Header};
use stream_worker::output::rtmp::protocol::handshake;
use stream_worker::output::rtmp::protocol::peer::{Event, Peer};
use stream_worker::output::rtmp::protocol::publish::publish;
use stream_worker::output::rtmp::protocol::url::Target;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::{Builder, Runtime};

thread_local! {
    static RUNTIME: RefCell<Runtime> =
        RefCell::new(Builder::new_current_thread().build().expect("a runtime"));
}

/// Bytes of an acknowledgement, with its header.
const ACKNOWLEDGEMENT: usize = 16;
/// A version and twice 1536 bytes.
const GREETING: usize = 1 + 2 * 1536;

fuzz_target!(|bytes: &[u8]| {
    let Some((choice, rest)) = bytes.split_first() else { return };
    // Bytes as they are, or messages whose chunks are in order: most bytes are no chunks.
    let talk = if choice & 1 == 0 { rest.to_vec() } else { messages(rest) };
    let target = Target::parse("rtmp://h/a", &Secret::new("key")).expect("an address");
    listen(&talk, usize::from(choice >> 1) * 8 + 1, &target);
    let told = RUNTIME.with_borrow(|runtime| runtime.block_on(publish_to(&talk, &target)));
    assert!(told < 6_000 + 8 * talk.len(), "{told} bytes for {}", talk.len());
});

/// Bytes as messages: kind, length and body of each.
fn messages(mut bytes: &[u8]) -> Vec<u8> {
    let mut talk = Vec::new();
    while let [kind, high, low, rest @ ..] = bytes {
        let length = usize::from(u16::from_be_bytes([*high, *low])).min(rest.len());
        let (body, rest) = rest.split_at(length);
        let header = Header { chunk_stream: 3, timestamp: 0, kind: *kind, stream: 0 };
        chunk::write(&mut talk, chunk::DEFAULT_SIZE, header, body);
        bytes = rest;
    }
    talk
}

/// Hears it in pieces of this size, as while media are sent.
fn listen(talk: &[u8], piece: usize, target: &Target) {
    let (mut peer, mut replies) = (Peer::default(), Vec::new());
    for part in talk.chunks(piece) {
        let Ok(events) = peer.receive(part, &mut replies) else { return };
        for event in events {
            if let Event::Reconnect(Some(url)) = event {
                let _ = target.redirected(&url);
            }
        }
    }
    // A server may want every piece acknowledged.
    let most = 8 * talk.len() + ACKNOWLEDGEMENT * (talk.len() / piece + 1) + 64;
    assert!(replies.len() <= most, "{} bytes for {}", replies.len(), talk.len());
}

/// Publishes to a server that shakes hands, says it and hangs up. How many bytes it was told.
async fn publish_to(talk: &[u8], target: &Target) -> usize {
    let mut said = vec![0; GREETING];
    said[0] = 3;
    said.extend_from_slice(talk);
    let (mut ours, theirs) = tokio::io::duplex(1 << 20);
    let (mut hears, mut says) = tokio::io::split(theirs);
    says.write_all(&said[..said.len().min(1 << 20)]).await.expect("room for it");
    says.shutdown().await.expect("an end");
    if let Ok(c2) = handshake::shake(&mut ours).await {
        let _ = publish(&mut ours, c2, target).await;
    }
    drop(ours);
    let mut told = Vec::new();
    hears.read_to_end(&mut told).await.expect("what was told");
    told.len()
}
