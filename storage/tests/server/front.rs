//! A front before the S3 server. It adds what s3s-fs lacks, the lists of unfinished uploads and of their parts, from
//! what it has seen pass, and forwards everything else byte for byte, so that signatures hold.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

#[derive(Default)]
struct Seen {
    /// Key and upload id.
    uploads: Vec<(String, String)>,
    parts: Vec<Part>,
}

#[derive(Clone)]
struct Part {
    id: String,
    number: u32,
    size: u64,
    etag: String,
}

/// Lives as long as the test program.
pub(crate) struct Front {
    pub(crate) endpoint: String,
    seen: Arc<Mutex<Seen>>,
}

impl Front {
    pub(crate) fn before(server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(Seen::default()));
        let (known, server) = (seen.clone(), server.trim_start_matches("http://").to_owned());
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (known, server) = (known.clone(), server.clone());
                thread::spawn(move || serve(client, &server, &known));
            }
        });
        Self { endpoint, seen }
    }

    /// How often each part was stored: the number of part 1 first.
    pub(crate) fn stored(&self) -> Vec<usize> {
        let seen = self.seen.lock().unwrap();
        let last = seen.parts.iter().map(|part| part.number).max().unwrap_or_default();
        (1..=last).map(|number| seen.parts.iter().filter(|part| part.number == number).count()).collect()
    }
}

/// One request per connection.
fn serve(mut client: TcpStream, server: &str, seen: &Mutex<Seen>) -> io::Result<()> {
    let (head, rest) = read_head(&mut client)?;
    let mut words = head.split_whitespace();
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default().to_owned());
    let query = target.split_once('?').map_or("", |(_, query)| query);
    match method {
        "GET" if has(query, "uploads") => answer(&mut client, &uploads(seen)),
        "GET" if value(query, "uploadId").is_some() => {
            answer(&mut client, &parts(seen, value(query, "uploadId").unwrap_or_default()))
        }
        _ => {
            let reply = forward(client, server, &head, &rest)?;
            remember(method, &target, &head, &reply, &mut seen.lock().unwrap());
            Ok(())
        }
    }
}

fn read_head(client: &mut TcpStream) -> io::Result<(String, Vec<u8>)> {
    let (mut got, mut piece) = (Vec::new(), [0; 4096]);
    loop {
        if let Some(end) = got.windows(4).position(|four| four == b"\r\n\r\n") {
            let rest = got.split_off(end + 2);
            return Ok((String::from_utf8_lossy(&got).into_owned(), rest));
        }
        match client.read(&mut piece)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => got.extend_from_slice(&piece[..count]),
        }
    }
}

/// Gives the start of the reply.
fn forward(client: TcpStream, server: &str, head: &str, rest: &[u8]) -> io::Result<String> {
    let mut upstream = TcpStream::connect(server)?;
    upstream.write_all(head.as_bytes())?;
    upstream.write_all(b"connection: close\r\n")?;
    upstream.write_all(rest)?;
    let (mut from, mut to) = (client.try_clone()?, upstream.try_clone()?);
    thread::spawn(move || {
        let _ = io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Write);
    });
    let (mut reply, mut client, mut piece) = (Vec::new(), client, [0; 16 * 1024]);
    loop {
        let count = upstream.read(&mut piece)?;
        if count == 0 {
            let _ = client.shutdown(Shutdown::Both);
            return Ok(String::from_utf8_lossy(&reply).into_owned());
        }
        let room = 8192_usize.saturating_sub(reply.len()).min(count);
        reply.extend_from_slice(&piece[..room]);
        // A client that is gone must not keep us from hearing how it ended.
        let _ = client.write_all(&piece[..count]);
    }
}

fn remember(method: &str, target: &str, head: &str, reply: &str, seen: &mut Seen) {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    if method == "POST" && has(query, "uploads") {
        let id = between(reply, "<UploadId>", "</UploadId>").unwrap_or_default();
        let key = path.trim_start_matches('/').split_once('/').map_or("", |(_, key)| key);
        seen.uploads.push((key.to_owned(), id.to_owned()));
    } else if let (Some(number), Some(id), true) =
        (value(query, "partNumber"), value(query, "uploadId"), reply.contains(" 200 OK"))
    {
        let etag = field(reply, "etag").unwrap_or_default();
        let size = field(head, "content-length").and_then(|text| text.parse().ok()).unwrap_or_default();
        seen.parts.push(Part { id: id.to_owned(), number: number.parse().unwrap(), size, etag });
    } else if let (Some(id), "POST" | "DELETE") = (value(query, "uploadId"), method) {
        seen.uploads.retain(|(_, known)| known != id);
    }
}

fn uploads(seen: &Mutex<Seen>) -> String {
    let one = |(key, id): &(String, String)| {
        format!(
            "<Upload><Key>{key}</Key><UploadId>{id}</UploadId><Initiated>2026-11-20T10:00:00Z</Initiated></Upload>"
        )
    };
    let all: String = seen.lock().unwrap().uploads.iter().map(one).collect();
    format!("<ListMultipartUploadsResult>{all}</ListMultipartUploadsResult>")
}

fn parts(seen: &Mutex<Seen>, id: &str) -> String {
    let one = |part: Part| {
        let Part { number, size, etag, .. } = part;
        format!("<Part><PartNumber>{number}</PartNumber><Size>{size}</Size><ETag>{etag}</ETag></Part>")
    };
    let known = seen.lock().unwrap().parts.clone();
    let all: String = known.into_iter().filter(|part| part.id == id).map(one).collect();
    format!("<ListPartsResult>{all}</ListPartsResult>")
}

fn answer(client: &mut TcpStream, xml: &str) -> io::Result<()> {
    write!(
        client,
        "HTTP/1.1 200 OK\r\ncontent-type: application/xml\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{xml}",
        xml.len()
    )
}

fn has(query: &str, name: &str) -> bool {
    query.split('&').any(|pair| pair.split('=').next() == Some(name))
}

fn value<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
}

fn between<'a>(text: &'a str, from: &str, to: &str) -> Option<&'a str> {
    text.split_once(from)?.1.split_once(to).map(|(inside, _)| inside)
}

fn field(head: &str, name: &str) -> Option<String> {
    let lines = head.lines().filter_map(|line| line.split_once(':'));
    lines.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, text)| text.trim().to_owned()).next()
}
