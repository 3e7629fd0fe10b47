//! What the controller orders, and how the session obeys.

use super::{Session, Stage};
use crate::takeover::Turn;
use state::destination::Boundary;
use state::ids::DestinationId;
use state::wire::{DestinationSpec, ToWorker};
use tokio::time::Instant;

impl Session {
    /// True when the order is to stop.
    pub(super) fn obey(&mut self, order: ToWorker) -> bool {
        match (order, &mut self.stage) {
            (ToWorker::Stop, _) => return true,
            (ToWorker::Items { generation, items }, Stage::Playing { programme, .. }) => {
                programme.offer(generation, items);
            }
            (ToWorker::Destinations { mut list, keep }, stage) => {
                list.extend(kept(&self.spec.destinations, &keep, &list));
                if let Stage::Playing { programme, .. } = stage {
                    programme.keep_uniform(wants_uniform(&list));
                }
                self.spec.destinations.clone_from(&list);
                // One that waits for its turn must not be heard before it.
                if !matches!(self.turn, Turn::Awaited) {
                    self.outputs.update(list);
                }
            }
            (ToWorker::GiveWay, Stage::Playing { air, .. }) => air.give_way(),
            (ToWorker::Skip, Stage::Playing { air, .. }) => air.skip(),
            (ToWorker::Slate { on }, stage) => {
                self.spec.slate_on = on;
                if let Stage::Playing { air, .. } = stage {
                    air.hold(on);
                }
                self.changed.notify_one();
            }
            (ToWorker::Fallback { item }, stage) => {
                if let Stage::Playing { air, .. } = stage {
                    air.fallback().want(item.clone(), Instant::now());
                }
                self.spec.fallback = item;
                self.changed.notify_one();
            }
            (ToWorker::Spec(spec), _) if spec.run == self.spec.run => tracing::debug!("the same spec again"),
            // What it says may hold addresses with keys.
            (order, _) => tracing::warn!(order = kind_of(&order), "an order does not fit here"),
        }
        self.next_look = Instant::now();
        false
    }
}

/// Destinations whose keys the controller cannot open at present: what is known of them here is good.
fn kept(known: &[DestinationSpec], keep: &[DestinationId], list: &[DestinationSpec]) -> Vec<DestinationSpec> {
    let wanted =
        |spec: &&DestinationSpec| keep.contains(&spec.id) && !list.iter().any(|new| new.id == spec.id);
    known.iter().filter(wanted).cloned().collect()
}

/// An order's name, without what it says.
fn kind_of(order: &ToWorker) -> &'static str {
    match order {
        ToWorker::Spec(_) => "spec",
        ToWorker::Items { .. } => "items",
        ToWorker::Stop => "stop",
        ToWorker::Skip => "skip",
        ToWorker::Destinations { .. } => "destinations",
        ToWorker::Slate { .. } => "slate",
        ToWorker::Fallback { .. } => "fallback",
        ToWorker::GiveWay => "give_way",
        ToWorker::Ack { .. } => "ack",
    }
}

/// Whether some destination may see only one set of parameters.
pub(super) fn wants_uniform(destinations: &[DestinationSpec]) -> bool {
    destinations.iter().any(|destination| destination.boundary == Boundary::Uniform)
}

#[cfg(test)]
mod tests {
    use super::*;
    use state::destination::Platform;
    use state::secret::Secret;

    #[test]
    fn a_destination_whose_key_cannot_be_opened_stays_as_it_is_and_others_go() {
        let spec = |id: &str, key: &str| {
            let url = "rtmp://127.0.0.1/live".to_owned();
            DestinationSpec::new(id.parse().unwrap(), id.to_owned(), Platform::Custom, url, Secret::new(key))
        };
        let known = [spec("closed", "old"), spec("gone", "old"), spec("anew", "old")];
        let keep = ["closed", "anew", "unknown"].map(|id| id.parse().unwrap());
        assert_eq!(kept(&known, &keep, &[spec("anew", "new")]), [spec("closed", "old")]);
    }
}
