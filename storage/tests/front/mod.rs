//! A server that speaks just enough S3 to give one object, as badly as a test wants. It does not look at signatures.

#![allow(clippy::unwrap_used, unreachable_pub, dead_code)] // A test that cannot go on has to fail.

use state::secret::Secret;
use state::storage::{Provider, StorageSettings};
use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How to answer.
#[derive(Debug, Clone, Copy)]
pub enum Reply {
    /// As it should be.
    Well,
    /// The connection ends after so many bytes.
    CutAfter(usize),
    /// Nothing more comes after so many bytes.
    StallAfter(usize),
    /// This status, without a body.
    Refuse(u16),
}

/// The object as it is now.
#[derive(Debug, Clone)]
pub struct Object {
    pub bytes: Vec<u8>,
    pub etag: String,
}

/// A running server.
#[derive(Clone)]
pub struct Front {
    address: SocketAddr,
    now: Arc<Mutex<Object>>,
    script: Arc<Mutex<VecDeque<Reply>>>,
    ranges: Arc<Mutex<Vec<u64>>>,
}

impl Front {
    pub fn start(bytes: Vec<u8>, etag: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let front = Self {
            address: listener.local_addr().unwrap(),
            now: Arc::new(Mutex::new(Object { bytes, etag: etag.to_owned() })),
            script: Arc::default(),
            ranges: Arc::default(),
        };
        let server = front.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let server = server.clone();
                // A client that leaves early is what some tests are about.
                std::thread::spawn(move || drop(server.answer(stream)));
            }
        });
        front
    }

    /// What it answers to the next requests, before it goes on well.
    pub fn script(&self, replies: &[Reply]) {
        self.script.lock().unwrap().extend(replies);
    }

    pub fn replace(&self, bytes: Vec<u8>, etag: &str) {
        *self.now.lock().unwrap() = Object { bytes, etag: etag.to_owned() };
    }

    /// Where the requests began that were answered with bytes, in bytes.
    pub fn ranges(&self) -> Vec<u64> {
        self.ranges.lock().unwrap().clone()
    }

    pub fn settings(&self) -> StorageSettings {
        settings(&self.address.to_string())
    }

    fn answer(&self, stream: TcpStream) -> std::io::Result<()> {
        let mut head = String::new();
        let mut reader = BufReader::new(stream.try_clone()?);
        while !head.ends_with("\r\n\r\n") && reader.read_line(&mut head)? > 0 {}
        let field = |name: &str| {
            let line = head.lines().find(|line| line.to_ascii_lowercase().starts_with(name));
            line.and_then(|line| line.split_once(": ")).map(|(_, value)| value.trim().to_owned())
        };
        let from = field("range").map_or(0, |range| range["bytes=".len()..range.len() - 1].parse().unwrap());
        let now = self.now.lock().unwrap().clone();
        let reply = self.script.lock().unwrap().pop_front().unwrap_or(Reply::Well);
        let changed = field("if-match").is_some_and(|tag| tag.trim_matches('"') != now.etag);
        send(stream, &now, from, if changed { Reply::Refuse(412) } else { reply }, || {
            self.ranges.lock().unwrap().push(from as u64);
        })
    }
}

/// How to reach a server on this machine.
pub fn settings(address: &str) -> StorageSettings {
    let mut settings: StorageSettings = serde_json::from_value(serde_json::json!({
        "provider": "s3", "local_dir": "", "bucket": "media", "region": "us-east-1",
    }))
    .unwrap();
    settings.provider = Provider::S3;
    settings.endpoint = format!("http://{address}");
    settings.access_key_id = Secret::new("id");
    settings.secret_access_key = Secret::new("secret");
    settings
}

fn send(
    mut stream: TcpStream,
    object: &Object,
    from: usize,
    reply: Reply,
    given: impl FnOnce(),
) -> std::io::Result<()> {
    if let Reply::Refuse(status) = reply {
        return write!(stream, "HTTP/1.1 {status} No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    }
    given();
    let (all, rest) = (object.bytes.len(), &object.bytes[from..]);
    write!(
        stream,
        "HTTP/1.1 206 Partial Content\r\nETag: \"{}\"\r\nContent-Length: {}\r\nContent-Range: bytes {from}-{}/{all}\r\n\
         Connection: close\r\n\r\n",
        object.etag,
        rest.len(),
        all - 1,
    )?;
    match reply {
        Reply::CutAfter(bytes) => stream.write_all(&rest[..bytes.min(rest.len())]),
        Reply::StallAfter(bytes) => {
            stream.write_all(&rest[..bytes.min(rest.len())])?;
            std::thread::sleep(Duration::from_secs(60));
            Ok(())
        }
        _ => stream.write_all(rest),
    }
}
