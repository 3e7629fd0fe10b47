//! What is told of what goes on the air and off it.

use super::item::OnItem;
use super::{Air, Happened, On};
use crate::played::{Exit, Left};
use state::wire::ItemSeen;

impl Air {
    /// The session ends: what is on the air is left where it stands.
    pub fn stop(&mut self) {
        if let On::Item(item) = std::mem::replace(&mut self.on, On::Nothing) {
            let left = self.left(&item, self.position_of(&item), Exit::Ordered, None);
            self.happened.push(Happened::Ended(Box::new(left)));
        }
    }

    pub(super) fn started(&mut self, at: i64, again: bool) {
        let On::Item(on) = &self.on else { return };
        let first = u64::try_from(self.group.feed_ms(at).saturating_add_unsigned(on.from_ms)).unwrap_or(0);
        if let Some(seen) = self.item_seen() {
            let seen = ItemSeen { position_ms: first, ..seen };
            self.happened.push(Happened::Started(Box::new(seen), at, again));
        }
    }

    pub(super) fn left(&self, item: &OnItem, position_ms: u64, how: Exit, why: Option<String>) -> Left {
        let (id, key) = (item.item.id.clone(), item.item.key.clone());
        Left { id, key, at_ms: self.group.end_ms(), position_ms, how, why }
    }
}
