//! A server that must not be asked, and counts who does.

use anyhow::{Context, Result};
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A listening trap. Its thread ends with the test program.
#[derive(Debug)]
pub struct Trap {
    address: SocketAddr,
    visits: Arc<AtomicUsize>,
}

impl Trap {
    /// Sets it on a free port.
    pub fn set() -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("bind the trap")?;
        let address = listener.local_addr().context("ask for the trap's address")?;
        let visits = Arc::new(AtomicUsize::new(0));
        let counter = visits.clone();
        std::thread::spawn(move || {
            for mut visitor in listener.incoming().flatten() {
                counter.fetch_add(1, Ordering::SeqCst);
                let _ = visitor.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
            }
        });
        Ok(Self { address, visits })
    }

    /// Its address.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// How many came.
    pub fn visits(&self) -> usize {
        self.visits.load(Ordering::SeqCst)
    }
}
