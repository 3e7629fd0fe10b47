//! A web server for the files of one folder, as players on any page need it: enough for HLS that no controller serves.

use anyhow::{Context, Result};
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};

/// A running server. Its thread ends with the program.
#[derive(Debug)]
pub struct Files {
    address: SocketAddr,
}

impl Files {
    /// Serves `folder` on a free port.
    pub fn serve(folder: PathBuf) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("bind the file server")?;
        let address = listener.local_addr().context("ask for its address")?;
        std::thread::spawn(move || {
            for visitor in listener.incoming().flatten() {
                let folder = folder.clone();
                // Whoever hangs up early ends his own thread and nothing else.
                std::thread::spawn(move || drop(answer(visitor, &folder)));
            }
        });
        Ok(Self { address })
    }

    /// Address of a file.
    pub fn url(&self, name: &str) -> String {
        format!("http://{}/{name}", self.address)
    }
}

fn answer(mut visitor: TcpStream, folder: &Path) -> Result<()> {
    let mut reader = BufReader::new(visitor.try_clone()?);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let path = line.split_whitespace().nth(1).unwrap_or("/").split('?').next().unwrap_or("/").to_owned();
    while line.trim() != "" {
        line.clear();
        reader.read_line(&mut line)?;
    }
    let name = path.trim_start_matches('/');
    let body = (!name.contains('/')).then(|| std::fs::read(folder.join(name)).ok()).flatten();
    let (status, body) = body.map_or(("404 Not Found", Vec::new()), |body| ("200 OK", body));
    let kind = if name.ends_with(".m3u8") { "application/vnd.apple.mpegurl" } else { "video/mp2t" };
    let length = body.len();
    write!(
        visitor,
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\
         Access-Control-Allow-Origin: *\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n"
    )?;
    visitor.write_all(&body)?;
    Ok(())
}
