//! A crash at any write step leaves the old or the new document, never anything else.

#![allow(clippy::unwrap_used, missing_docs)]

use proptest::prelude::*;
use state::atomic::Step;
use state::channel::StreamConfig;
use state::destination::{Destination, Platform};
use state::ids::ChannelId;
use state::phase::Wish;
use state::store;
use std::io;

const STEPS: [Step; 6] =
    [Step::Created, Step::HalfWritten, Step::Written, Step::Synced, Step::KeptPrevious, Step::Renamed];

#[derive(Debug, Clone)]
struct Update {
    name: String,
    on: bool,
    destinations: usize,
    crash_after: Option<usize>,
}

fn updates() -> impl Strategy<Value = Vec<Update>> {
    let one = ("[a-zäß ]{1,30}x", any::<bool>(), 0usize..4, prop::option::weighted(0.6, 0usize..STEPS.len()));
    let update =
        one.prop_map(|(name, on, destinations, crash_after)| Update { name, on, destinations, crash_after });
    prop::collection::vec(update, 1..12)
}

fn changed(config: &StreamConfig, update: &Update) -> StreamConfig {
    let destination = |n: usize| Destination {
        name: update.name.clone(),
        sealed_key: Some("v1.x".into()),
        enabled: update.on,
        ..Destination::new(format!("d{n}").parse().unwrap(), Platform::Custom, "rtmp://host/app")
    };
    let wish = if update.on { Wish::On } else { Wish::Off };
    let destinations = (0..update.destinations).map(destination).collect();
    StreamConfig { name: update.name.clone(), wish, destinations, ..config.clone() }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn load_gives_the_old_or_the_new_document(updates in updates()) {
        let folder = tempfile::tempdir().unwrap();
        let mut old = store::put(folder.path(), &StreamConfig::new(ChannelId::main())).unwrap();
        for update in updates {
            let wanted = changed(&old, &update);
            let result = store::put_step_by_step(folder.path(), &wanted, &mut |step| {
                let crash = update.crash_after.is_some_and(|n| STEPS[n] == step);
                if crash { Err(io::Error::other("crash")) } else { Ok(()) }
            });
            let new = StreamConfig { revision: old.revision + 1, ..wanted };
            let loaded = store::load::<StreamConfig>(folder.path(), state::now()).unwrap();
            prop_assert!(loaded.alerts.is_empty(), "{:?}", loaded.alerts);
            let found = loaded.document.unwrap();
            if result.is_ok() {
                prop_assert_eq!(&found, &new);
            } else {
                prop_assert!(found == old || found == new, "neither the old nor the new document");
            }
            old = found;
        }
    }
}
