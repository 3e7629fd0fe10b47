//! A stretch of network in front of a server: it can be cut, frozen, slowed down or reset while connections are
//! open. What it carries it neither reads nor changes.

use anyhow::{Context, Result};
use rustix::net::sockopt::{set_socket_linger, set_socket_recv_buffer_size};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How the network is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weather {
    /// As it should be.
    Fair,
    /// New connections are refused and open ones are reset.
    Down,
    /// Nothing comes through in either direction, and nobody is told: half-open connections.
    Silent,
    /// What is sent is not taken any more: the peer's window closes. The answers still come.
    Frozen,
    /// Towards the server no more than this comes through.
    Slow {
        /// Bytes in a second.
        per_second: usize,
    },
}

/// Looks at the weather this often.
const TURN: Duration = Duration::from_millis(10);

/// A running wire. Its threads end with the program, or with their connections.
#[derive(Debug)]
pub struct Wire {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    weather: Mutex<Weather>,
    /// Counts the changes that reset what is open.
    resets: AtomicUsize,
    accepted: AtomicUsize,
}

impl Wire {
    /// Starts it before `server` (host and port) on a free port, in fair weather.
    pub fn start(server: &str) -> Result<Self> {
        let server: SocketAddr = server.parse().with_context(|| format!("{server} is no address"))?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("bind the wire")?;
        let address = listener.local_addr().context("ask for the wire's address")?;
        // Accepted connections inherit it: what is held up must be felt, and not lie in the kernel's memory.
        set_socket_recv_buffer_size(&listener, 64 * 1024).context("set the size of the buffer")?;
        let (weather, resets, accepted) =
            (Mutex::new(Weather::Fair), AtomicUsize::new(0), AtomicUsize::new(0));
        let shared = Arc::new(Shared { weather, resets, accepted });
        let carried = Arc::clone(&shared);
        std::thread::spawn(move || {
            for visitor in listener.incoming().flatten() {
                let shared = Arc::clone(&carried);
                // A connection that breaks ends its own threads and nothing else.
                std::thread::spawn(move || drop(shared.carry(visitor, server)));
            }
        });
        Ok(Self { address, shared })
    }

    /// Address of the application `live` behind it, without a key.
    pub fn url(&self) -> String {
        format!("rtmp://{}/live", self.address)
    }

    /// Changes the weather.
    pub fn turn(&self, weather: Weather) {
        *self.shared.weather() = weather;
        if weather == Weather::Down {
            self.reset();
        }
    }

    /// Resets every open connection, once.
    pub fn reset(&self) {
        self.shared.resets.fetch_add(1, Ordering::SeqCst);
    }

    /// How many connections were accepted so far.
    pub fn accepted(&self) -> usize {
        self.shared.accepted.load(Ordering::SeqCst)
    }
}

impl Shared {
    fn weather(&self) -> MutexGuard<'_, Weather> {
        self.weather.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn carry(self: Arc<Self>, visitor: TcpStream, server: SocketAddr) -> Result<()> {
        if *self.weather() == Weather::Down {
            return abort_on_close(&visitor);
        }
        self.accepted.fetch_add(1, Ordering::SeqCst);
        let upstream = TcpStream::connect(server)?;
        let (back_from, back_to) = (upstream.try_clone()?, visitor.try_clone()?);
        let shared = Arc::clone(&self);
        std::thread::spawn(move || drop(shared.pass(back_from, back_to, false)));
        self.pass(visitor, upstream, true)
    }

    /// Passes bytes on in one direction until the end, or until it is reset.
    fn pass(&self, mut from: TcpStream, mut to: TcpStream, forward: bool) -> Result<()> {
        let mine = self.resets.load(Ordering::SeqCst);
        from.set_read_timeout(Some(TURN))?;
        let mut buffer = [0; 16 * 1024];
        let (mut sent, mut since) = (0.0, Instant::now());
        loop {
            if self.resets.load(Ordering::SeqCst) != mine {
                // Both ends are told with a reset, and what was on its way is lost.
                abort_on_close(&from)?;
                return abort_on_close(&to);
            }
            let weather = *self.weather();
            let held = match weather {
                Weather::Silent => true,
                Weather::Frozen => forward,
                Weather::Slow { per_second } if forward => {
                    sent > since.elapsed().as_secs_f64() * per_second as f64
                }
                _ => false,
            };
            if !matches!(weather, Weather::Slow { .. }) {
                (sent, since) = (0.0, Instant::now());
            }
            if held {
                std::thread::sleep(TURN);
                continue;
            }
            match from.read(&mut buffer) {
                Ok(0) => {
                    let _ = to.shutdown(std::net::Shutdown::Write);
                    return Ok(());
                }
                Ok(n) => {
                    to.write_all(&buffer[..n])?;
                    sent += n as f64;
                }
                Err(error)
                    if matches!(
                        error.kind(),
                        std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
                    ) => {}
                Err(error) => {
                    let _ = abort_on_close(&to);
                    return Err(error.into());
                }
            }
        }
    }
}

/// Makes the end a reset in place of a goodbye, once the last handle is gone.
fn abort_on_close(stream: &TcpStream) -> Result<()> {
    set_socket_linger(stream, Some(Duration::ZERO)).context("set the linger time")
}
