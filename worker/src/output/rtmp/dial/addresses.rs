//! The addresses of a server's name: looked up on a thread of its own, and remembered from one connection to the
//! next, so that one that works is taken first and one that failed last.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::timeout;

/// Most addresses of a name that are tried for one connection.
const MOST_TRIED: usize = 6;
/// Most addresses that are remembered for having failed.
const MOST_BAD: usize = 16;

type Answer = io::Result<Vec<SocketAddr>>;

/// What is remembered of one server.
#[derive(Debug, Default)]
pub(in super::super) struct Addresses {
    /// A question that is still open. One at a time, however long the name servers take.
    asked: Option<oneshot::Receiver<Answer>>,
    /// The newest answer, for the time when name servers are out of reach.
    known: Vec<SocketAddr>,
    good: Option<SocketAddr>,
    /// Those that failed, the newest last.
    bad: VecDeque<SocketAddr>,
}

impl Addresses {
    /// Addresses in the order in which they are to be tried, never none. When the name cannot be resolved within
    /// `limit`, those of the last time are given.
    ///
    /// # Errors
    /// When the name cannot be resolved and never was.
    pub(in super::super) async fn find(&mut self, host: &str, port: u16, limit: Duration) -> Answer {
        if let Ok(address) = host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(address, port)]);
        }
        let answer = timeout(limit, self.ask(host, port)).await;
        match answer.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok(found) => self.known = found,
            Err(error) if self.known.is_empty() => return Err(error),
            Err(error) => {
                tracing::warn!(%error, host, "the name cannot be resolved; its old addresses are used")
            }
        }
        Ok(order(&self.known, self.good, &self.bad))
    }

    /// The system's resolver blocks its thread, with dead name servers for half a minute. So it gets one of its
    /// own: in a pool it would keep others waiting.
    async fn ask(&mut self, host: &str, port: u16) -> Answer {
        let asked = match self.asked.as_mut() {
            Some(asked) => asked,
            None => {
                let (tell, asked) = oneshot::channel();
                let name = host.to_owned();
                std::thread::Builder::new().name("resolve".to_owned()).spawn(move || {
                    let _ = tell.send(resolve(&name, port));
                })?;
                self.asked.insert(asked)
            }
        };
        let answer = asked.await;
        self.asked = None;
        answer.unwrap_or_else(|_| Err(io::Error::other("the resolver broke off")))
    }

    /// A publication was accepted there.
    pub(in super::super) fn worked(&mut self, address: SocketAddr) {
        self.bad.retain(|bad| *bad != address);
        self.good = Some(address);
    }

    /// A connection there led to nothing, or broke.
    pub(in super::super) fn failed(&mut self, address: SocketAddr) {
        self.good = self.good.filter(|good| *good != address);
        self.bad.retain(|bad| *bad != address);
        self.bad.push_back(address);
        if self.bad.len() > MOST_BAD {
            self.bad.pop_front();
        }
    }
}

fn resolve(host: &str, port: u16) -> Answer {
    let found: Vec<SocketAddr> = (host, port).to_socket_addrs()?.collect();
    if found.is_empty() { Err(io::Error::other("it has no address")) } else { Ok(found) }
}

/// The one that worked first, those that failed last, the longest ago before the newest; between them the
/// system's order, the two families by turns (RFC 8305, section 4).
fn order(found: &[SocketAddr], good: Option<SocketAddr>, bad: &VecDeque<SocketAddr>) -> Vec<SocketAddr> {
    let (mut first, mut second): (VecDeque<_>, VecDeque<_>) =
        found.iter().copied().partition(|a| a.is_ipv6() == found.first().is_some_and(SocketAddr::is_ipv6));
    let mut turns = Vec::new();
    while !first.is_empty() || !second.is_empty() {
        turns.extend(first.pop_front().into_iter().chain(second.pop_front()));
    }
    turns.sort_by_key(|address| match bad.iter().position(|bad| bad == address) {
        _ if good == Some(*address) => 0,
        None => 1,
        Some(at) => 2 + at,
    });
    turns.dedup();
    turns.truncate(MOST_TRIED);
    turns
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_secs(5);

    fn addresses(list: &[&str]) -> Vec<SocketAddr> {
        list.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn what_worked_comes_first_and_what_failed_comes_last() {
        let found = addresses(&["[::1]:1", "[::2]:1", "[::3]:1", "1.0.0.1:1", "1.0.0.2:1"]);
        let fresh = addresses(&["[::1]:1", "1.0.0.1:1", "[::2]:1", "1.0.0.2:1", "[::3]:1"]);
        assert_eq!(order(&found, None, &VecDeque::new()), fresh, "the families by turns");
        let bad = VecDeque::from(addresses(&["1.0.0.1:1", "[::1]:1"]));
        let after = addresses(&["[::3]:1", "[::2]:1", "1.0.0.2:1", "1.0.0.1:1", "[::1]:1"]);
        assert_eq!(order(&found, Some(found[2]), &bad), after);
    }

    #[tokio::test]
    async fn an_address_that_failed_is_tried_after_the_others_until_it_works_again() {
        let known = addresses(&["1.0.0.1:1", "1.0.0.2:1"]);
        let mut memory = Addresses { known: known.clone(), ..Addresses::default() };
        memory.failed(known[0]);
        assert_eq!(order(&known, memory.good, &memory.bad), [known[1], known[0]]);
        memory.failed(known[1]);
        memory.worked(known[0]);
        assert_eq!(order(&known, memory.good, &memory.bad), [known[0], known[1]]);
        memory.failed(known[0]);
        assert_eq!(memory.good, None);
    }

    #[tokio::test]
    async fn without_name_servers_the_old_addresses_are_used() {
        let known = addresses(&["127.0.0.9:1"]);
        let mut memory = Addresses { known: known.clone(), ..Addresses::default() };
        assert_eq!(memory.find("no-such-host.invalid", 1, SHORT).await.unwrap(), known);
        let mut fresh = Addresses::default();
        assert!(fresh.find("no-such-host.invalid", 1, SHORT).await.is_err());
        assert_eq!(fresh.find("127.0.0.1", 7, SHORT).await.unwrap(), addresses(&["127.0.0.1:7"]));
    }
}
