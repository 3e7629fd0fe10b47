//! Any bytes where a document of ours, a line on the socket between controller and worker, or an address is expected.

#![no_main]

use libfuzzer_sys::fuzz_target;
use state::channel::StreamConfig;
use state::mask;
use state::runs::Runs;
use state::secret::Secret;
use state::seen::StreamState;
use state::store::{Document, parse};
use state::totals::Totals;
use state::wire::{ToController, ToWorker, WorkerSpec};
use stream_worker::output::rtmp::protocol::url::Target;

fuzz_target!(|bytes: &[u8]| {
    document::<StreamConfig>(bytes);
    document::<StreamState>(bytes);
    document::<Runs>(bytes);
    document::<Totals>(bytes);
    let _ = serde_json::from_slice::<ToWorker>(bytes);
    let _ = serde_json::from_slice::<ToController>(bytes);
    let _ = serde_json::from_slice::<WorkerSpec>(bytes);
    if let Ok(text) = std::str::from_utf8(bytes) {
        address(text);
    }
});

/// What is read is written and read again as the same.
fn document<T: Document>(bytes: &[u8]) {
    let Ok(read) = parse::<T>(bytes) else { return };
    let written = serde_json::to_vec(&read).expect("a document that can be written");
    let again = parse::<T>(&written).expect("a document that can be read again");
    assert_eq!(serde_json::to_vec(&again).ok(), Some(written));
}

fn address(text: &str) {
    let key = Secret::new("k3y-k3y");
    if let Ok(target) = Target::parse(text, &key) {
        assert!(!format!("{target:?}").contains('?'));
        assert!(
            !mask::line(&format!("{} {}", target.tc_url(), key.expose()), &target.secrets())
                .contains("k3y-k3y")
        );
    }
    let tls = Target::parse("rtmps://h/a", &key).expect("an address");
    if let Ok(target) = tls.redirected(text) {
        assert!(target.tls);
    }
    let _ = mask::url(text);
}
