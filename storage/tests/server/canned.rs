//! A server that gives the same answer to everything, for what a healthy server never says.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;

/// Answers every request with this text and closes the connection; gives the endpoint.
pub(crate) fn answering(text: String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            let text = text.clone();
            thread::spawn(move || {
                let mut head = [0; 8192];
                let _ = client.read(&mut head);
                let _ = client.write_all(text.as_bytes());
            });
        }
    });
    endpoint
}

/// An error of the S3 API.
pub(crate) fn refusal(status: u16, code: &str) -> String {
    let xml = format!("<Error><Code>{code}</Code><Message>secret things</Message></Error>");
    format!("HTTP/1.1 {status} Told\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{xml}", xml.len())
}

/// Takes connections and never says a word.
pub(crate) fn silent() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || listener.incoming().collect::<Vec<_>>());
    endpoint
}

/// An address where nobody listens.
pub(crate) fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}
