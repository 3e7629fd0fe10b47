//! A server in front of another one that does to its answers what networks and services do on a bad day. The test
//! says what, request by request.

use super::program;
use anyhow::{Context, Result};
use std::fmt;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What is done to a request.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Fault {
    /// Nothing.
    None,
    /// It is answered with this status and nothing else.
    Status(u16),
    /// The connection is reset after so many bytes of the body.
    Reset {
        /// Bytes.
        after: usize,
    },
    /// The connection ends after so many bytes of the body, as if that were all.
    EndEarly {
        /// Bytes.
        after: usize,
    },
    /// After so many bytes of the body nothing comes for a while.
    Stall {
        /// Bytes.
        after: usize,
        /// How long.
        lasting: Duration,
    },
    /// The body comes no faster than this.
    Slow {
        /// Bytes in a second.
        per_second: usize,
    },
}

/// A request as the script sees it.
#[derive(Debug, Clone)]
pub struct Request {
    /// GET, HEAD and so on.
    pub method: String,
    /// Path and query; signatures are in it.
    pub path: String,
    /// First byte asked for, where there is a range.
    pub from: Option<u64>,
    /// How many requests came before it.
    pub number: usize,
    /// Since the front was started.
    pub at: Duration,
}

impl Request {
    /// Whether media are read with it.
    pub fn reads(&self, key: &str) -> bool {
        self.method == "GET" && self.path.split('?').next().is_some_and(|path| path.ends_with(key))
    }
}

/// What came and what was answered.
#[derive(Debug, Clone)]
pub struct Answered {
    /// The request.
    pub request: Request,
    /// The status of the answer; 0 where there was none.
    pub status: u16,
    /// What was done to it.
    pub fault: Fault,
}

type Script = Box<dyn FnMut(&Request) -> Fault + Send>;

/// A running front. Its threads end with the test program.
pub struct Front {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    upstream: (&'static str, u16),
    began: Instant,
    script: Mutex<Script>,
    answered: Mutex<Vec<Answered>>,
    seen: Mutex<usize>,
}

impl fmt::Debug for Front {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Front at {}", self.address)
    }
}

impl Front {
    /// Starts it before `upstream` on a free port, with nothing to be done.
    pub fn start(upstream: (&'static str, u16)) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("bind the front")?;
        let address = listener.local_addr().context("ask for the front's address")?;
        let shared = Arc::new(Shared {
            upstream,
            began: Instant::now(),
            script: Mutex::new(Box::new(|_| Fault::None)),
            answered: Mutex::default(),
            seen: Mutex::default(),
        });
        let visitors = Arc::clone(&shared);
        std::thread::spawn(move || {
            for visitor in listener.incoming().flatten() {
                let shared = Arc::clone(&visitors);
                // Whoever hangs up early ends his own thread and nothing else.
                std::thread::spawn(move || drop(shared.serve(visitor)));
            }
        });
        Ok(Self { address, shared })
    }

    /// Says what is done to each request from now on.
    pub fn tell(&self, script: impl FnMut(&Request) -> Fault + Send + 'static) {
        *lock(&self.shared.script) = Box::new(script);
    }

    /// Its address.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Everything so far.
    pub fn answered(&self) -> Vec<Answered> {
        lock(&self.shared.answered).clone()
    }

    /// Waits until something was answered.
    pub fn wait_for(&self, what: &str, limit: Duration, wanted: impl Fn(&Answered) -> bool) -> Result<()> {
        program::wait_for(what, limit, || Ok(lock(&self.shared.answered).iter().any(&wanted).then_some(())))
            .with_context(|| format!("answered so far: {}", self.table()))
    }

    /// What was answered, a line each and without signatures.
    pub fn table(&self) -> String {
        let line = |a: &Answered| {
            let Request { method, path, from, at, .. } = &a.request;
            let path = path.split('?').next().unwrap_or_default();
            let from = from.map(|from| format!(" from {from}")).unwrap_or_default();
            format!("\n{:7.2} s {method} {path}{from}: {} {:?}", at.as_secs_f64(), a.status, a.fault)
        };
        self.answered().iter().map(line).collect()
    }
}

fn lock<T: ?Sized>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// One request, one answer.
    fn serve(&self, mut visitor: TcpStream) -> std::io::Result<()> {
        let mut from_visitor = BufReader::new(visitor.try_clone()?);
        let head = read_head(&mut from_visitor)?;
        let Some(request) = self.understand(&head) else { return Ok(()) };
        let fault = (lock(&self.script))(&request);
        let note = |status| {
            let request = request.clone();
            lock(&self.answered).push(Answered { request, status, fault });
        };
        if let Fault::Status(status) = fault {
            note(status);
            let empty = "Content-Length: 0\r\nConnection: close";
            return write!(visitor, "HTTP/1.1 {status} Scripted\r\n{empty}\r\n\r\n");
        }
        let asked = TcpStream::connect(self.upstream).and_then(|mut upstream| {
            upstream.write_all(closing(&head).as_bytes())?;
            let mut answer = BufReader::new(upstream);
            read_head(&mut answer).map(|head| (head, answer))
        });
        let Ok((head, mut body)) = asked else {
            note(0);
            return Ok(());
        };
        note(head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0));
        visitor.write_all(closing(&head).as_bytes())?;
        hand_on(&mut body, &mut visitor, fault)
    }

    fn understand(&self, head: &str) -> Option<Request> {
        let mut words = head.split(' ');
        let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
        let range = head.lines().find(|line| line.to_ascii_lowercase().starts_with("range: bytes="));
        let from = range.and_then(|line| line.split(['=', '-']).nth(1)?.parse().ok());
        let mut seen = lock(&self.seen);
        *seen += 1;
        Some(Request { method, path, from, number: *seen - 1, at: self.began.elapsed() })
    }
}

fn read_head(from: &mut impl BufRead) -> std::io::Result<String> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if from.read_line(&mut head)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(head)
}

/// A head that says that nothing follows after this exchange. `Connection` is never part of a signature.
fn closing(head: &str) -> String {
    let kept = head.trim_end().lines().filter(|line| !line.to_ascii_lowercase().starts_with("connection:"));
    kept.map(|line| format!("{line}\r\n")).collect::<String>() + "Connection: close\r\n\r\n"
}

fn hand_on(body: &mut impl Read, visitor: &mut TcpStream, fault: Fault) -> std::io::Result<()> {
    let mut buffer = [0; 16 * 1024];
    let (mut sent, began) = (0, Instant::now());
    loop {
        let most = match fault {
            Fault::Reset { after } | Fault::EndEarly { after } => after - sent,
            Fault::Stall { after, .. } if sent < after => after - sent,
            Fault::Slow { per_second } => (per_second / 20).max(1),
            _ => buffer.len(),
        };
        if most == 0 {
            return if matches!(fault, Fault::Reset { .. }) { reset(visitor) } else { Ok(()) };
        }
        let read = body.read(&mut buffer[..most.min(16 * 1024)])?;
        if read == 0 {
            return visitor.shutdown(Shutdown::Write);
        }
        visitor.write_all(&buffer[..read])?;
        sent += read;
        match fault {
            Fault::Stall { after, lasting } if sent == after => std::thread::sleep(lasting),
            Fault::Slow { per_second } => {
                let due = Duration::from_secs_f64(sent as f64 / per_second as f64);
                std::thread::sleep(due.saturating_sub(began.elapsed()));
            }
            _ => {}
        }
    }
}

/// An end without a goodbye: what is still on its way is thrown away.
fn reset(visitor: &TcpStream) -> std::io::Result<()> {
    rustix::net::sockopt::set_socket_linger(visitor, Some(Duration::ZERO))?;
    visitor.shutdown(Shutdown::Both)
}
