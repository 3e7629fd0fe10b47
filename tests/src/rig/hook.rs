//! A server that is told things over HTTP, notes everything, and answers as the test wants.

use super::program;
use anyhow::{Context, Result};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What came in.
#[derive(Debug, Clone)]
pub struct Said {
    /// Its path with the query.
    pub path: String,
    /// Headers by their names in lower case.
    pub headers: BTreeMap<String, String>,
    /// The body as it came.
    pub body: String,
}

impl Said {
    /// The body as JSON; `null` where it is none.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }
}

/// Status, reason and headers of the answer to what was said.
type Answer = Box<dyn Fn(&Said) -> String + Send>;

/// A listening server. Its thread ends with the test program.
#[derive(Clone)]
pub struct Hook {
    address: SocketAddr,
    shared: Arc<Mutex<Shared>>,
}

struct Shared {
    said: Vec<Said>,
    answer: Answer,
}

impl Hook {
    /// Starts it on a free port; it answers 204.
    pub fn start() -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("bind the hook")?;
        let address = listener.local_addr().context("ask for the hook's address")?;
        let answer: Answer = Box::new(|_| "204 No Content".to_owned());
        let hook = Self { address, shared: Arc::new(Mutex::new(Shared { said: Vec::new(), answer })) };
        let server = hook.clone();
        std::thread::spawn(move || {
            // What goes wrong with one caller is the caller's own business.
            listener.incoming().flatten().for_each(|caller| drop(server.serve(&caller)));
        });
        Ok(hook)
    }

    fn serve(&self, caller: &TcpStream) -> Result<()> {
        caller.set_read_timeout(Some(Duration::from_secs(5)))?;
        let said = read(&mut BufReader::new(caller))?;
        let answer = {
            let mut shared = self.lock();
            let answer = (shared.answer)(&said);
            shared.said.push(said);
            answer
        };
        let mut caller = caller;
        write!(caller, "HTTP/1.1 {answer}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")?;
        Ok(())
    }

    /// Answers like this from now on: status and reason, perhaps followed by headers.
    pub fn answers(&self, answer: impl Fn(&Said) -> String + Send + 'static) {
        self.lock().answer = Box::new(answer);
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its address with a path.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Everything that came in so far.
    pub fn said(&self) -> Vec<Said> {
        self.lock().said.clone()
    }

    /// Waits for something that is as wanted, and gives it.
    pub fn wait_for(&self, what: &str, limit: Duration, wanted: impl Fn(&Said) -> bool) -> Result<Said> {
        let found = program::wait_for(what, limit, || Ok(self.said().into_iter().find(|said| wanted(said))));
        found.with_context(|| format!("the hook was told {:#?}", self.said()))
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read(caller: &mut impl BufRead) -> Result<Said> {
    let mut line = String::new();
    caller.read_line(&mut line)?;
    let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        caller.read_line(&mut line)?;
        let Some((name, value)) = line.split_once(':') else { break };
        headers.insert(name.trim().to_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = String::new();
    caller.take(length).read_to_string(&mut body)?;
    Ok(Said { path, headers, body })
}
