//! The dead-man ping: an address is called every minute while the controller really does its work, so that somebody
//! else notices when it does not come any more. A dead machine cannot alert.

use super::address::Address;
use super::call::{Caller, Words};
use super::kind::Kind;
use super::{Shared, lock};
use crate::supervisor::Handle;
use crate::supervisor::air::Is;
use crate::supervisor::seen::Sight;
use hyper::Method;
use serde::Serialize;
use state::Timestamp;
use std::time::Duration;

/// The supervisor must answer this soon.
const TURNING_WITHIN: Duration = Duration::from_secs(5);

/// What is told of the ping.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Ping {
    /// When it last arrived.
    pub arrived_at: Option<Timestamp>,
    /// Why it was not sent or did not arrive the last time.
    pub problem: Option<String>,
}

/// Pings for as long as the controller lives.
pub(super) async fn ping(
    address: Address,
    every: Duration,
    caller: Caller,
    supervisor: Handle,
    shared: Shared,
) {
    let mut said = false;
    loop {
        let result = match health(&supervisor).await {
            Ok(()) => {
                let words = Words { method: Method::GET, headers: Vec::new(), body: Vec::new() };
                caller.call(&address, words).await.map_err(|failure| failure.words)
            }
            Err(words) => Err(format!("not sent: {words}")),
        };
        match (&result, said) {
            (Err(words), false) => {
                tracing::warn!(address = address.shown(), words, "the dead-man ping does not arrive")
            }
            (Ok(()), true) => tracing::info!(address = address.shown(), "the dead-man ping arrives again"),
            _ => {}
        }
        said = result.is_err();
        note(&shared, result);
        tokio::time::sleep(every).await;
    }
}

fn note(shared: &Shared, result: Result<(), String>) {
    let mut shown = lock(shared);
    let ping = shown.deadman.get_or_insert_default();
    if result.is_ok() {
        ping.arrived_at = Some(state::now());
    }
    ping.problem = result.err();
}

/// Whether the controller does its work; if not, why.
async fn health(supervisor: &Handle) -> Result<(), String> {
    if supervisor.is_leaving() {
        return Err("the controller is ending".to_owned());
    }
    if !supervisor.is_turning(TURNING_WITHIN).await {
        return Err("the supervisor does not answer".to_owned());
    }
    on_air(supervisor.sights().iter().map(AsRef::as_ref), state::now())
}

/// Every wanted channel is on the air, or was until a moment ago.
fn on_air<'a>(sights: impl IntoIterator<Item = &'a Sight>, now: Timestamp) -> Result<(), String> {
    let patience = Kind::Dark.manner().raise_after.as_secs();
    let off = sights.into_iter().find(|sight| {
        let dark = matches!(sight.air.is, Is::Dark | Is::Unknown);
        dark && super::book::seconds_between(sight.air.since, now) >= patience
    });
    off.map_or(Ok(()), |sight| Err(format!("channel {} is dark", sight.state.id)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::supervisor::air::Air;
    use state::ids::ChannelId;
    use state::seen::StreamState;

    #[test]
    fn one_dark_channel_stops_the_ping_and_one_that_begins_does_not() {
        let at = |second: i64| jiff::Timestamp::from_second(1_800_000_000 + second).unwrap();
        let seen = |is, since| {
            let air = Air { is, since: at(since), because: String::new() };
            Sight::of(StreamState::new(ChannelId::main()), air)
        };
        assert!(on_air(&[], at(100)).is_ok());
        assert!(on_air(&[seen(Is::On, 0), seen(Is::Fallback, 0), seen(Is::Off, 0)], at(100)).is_ok());
        assert!(on_air(&[seen(Is::Dark, 95)], at(100)).is_ok());
        assert!(on_air(&[seen(Is::On, 0), seen(Is::Dark, 90)], at(100)).is_err());
        assert!(on_air(&[seen(Is::Unknown, 90)], at(100)).is_err());
    }
}
