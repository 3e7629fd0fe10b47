//! The short set of faults. The whole set is `scripts/faults.sh`; what was measured is in docs/RELIABILITY.md.

use e2e::faults::{Scale, all, report, try_it};

/// Outages in tests are as short as they can be.
const SCALE: Scale = Scale(0.2);

/// Tries every fault of the short set that is in this group.
fn promises_are_kept(group: &str) {
    for fault in all().into_iter().filter(|fault| fault.short && fault.group == group) {
        let outcome = try_it(fault, &SCALE);
        let full = outcome.result.as_ref().err().map(|error| format!("{error:#}"));
        assert!(outcome.result.is_ok(), "{}\n{}", report::line(&outcome), full.unwrap_or_default());
    }
}

#[test]
fn what_happens_to_an_item_reaches_no_destination() {
    promises_are_kept("item");
}

#[test]
fn what_happens_to_a_destination_reaches_no_other() {
    promises_are_kept("destination");
}

#[test]
fn programs_that_die_are_replaced() {
    promises_are_kept("program");
}
