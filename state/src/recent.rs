//! What moves all the time, of all channels in one file, `recent.json`: written every few seconds, where a file for
//! each channel would keep a disk busy. A channel's own documents are written when something happens and every now
//! and then; an entry here counts only for as long as they are those that it was made after.

use crate::channel::FieldProblem;
use crate::ids::ChannelId;
use crate::seen::StreamState;
use crate::totals::Totals;
use crate::wire::Cursor;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// The document.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Recent {
    /// Shape of this document; [`Self::VERSION`].
    pub version: u32,
    /// Counts the changes of this document.
    pub revision: u64,
    /// Every channel that moves.
    #[serde(default)]
    pub channels: BTreeMap<ChannelId, Newest>,
    /// Fields that a newer version wrote; kept so that a rollback loses nothing.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// What is newer of a channel than its own documents.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Newest {
    /// The revision of the `stream_state.json` that `cursor` is newer than.
    pub state_revision: u64,
    /// Where the programme stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<Cursor>,
    /// The sums, with the revision of the `totals.json` that they are newer than.
    pub totals: Totals,
}

impl Recent {
    /// The newest shape that this program writes.
    pub const VERSION: u32 = 1;

    /// Nothing moves.
    pub fn new() -> Self {
        Self { version: Self::VERSION, revision: 0, channels: BTreeMap::new(), other: Map::new() }
    }

    /// Brings a state up to date that was loaded from the disk.
    pub fn renew(&self, state: &mut StreamState) {
        let newest = self.channels.get(&state.id).filter(|newest| newest.state_revision == state.revision);
        if let Some(newest) = newest {
            state.cursor.clone_from(&newest.cursor);
        }
    }

    fn problems(&self) -> Vec<FieldProblem> {
        let strange = self.channels.iter().filter(|(id, newest)| **id != newest.totals.id);
        let words = |(id, newest): (&ChannelId, &Newest)| FieldProblem {
            pointer: format!("/channels/{id}/totals/id"),
            detail: format!("is {}", newest.totals.id),
        };
        strange.map(words).collect()
    }

    /// The newer ones of these sums that were loaded from the disk.
    pub fn newer(&self, totals: Totals) -> Totals {
        let newest = self.channels.get(&totals.id).map(|newest| &newest.totals);
        newest.filter(|newest| newest.revision == totals.revision).cloned().unwrap_or(totals)
    }
}

impl Default for Recent {
    fn default() -> Self {
        Self::new()
    }
}

crate::document!(Recent, "recent.json", version Self::VERSION, problems Self::problems);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Ulid;
    use crate::totals::Moment;

    fn cursor(offset_ms: u64) -> Cursor {
        Cursor { item: Ulid::from_text("a"), key: "a.mp4".into(), offset_ms }
    }

    fn totals(revision: u64, on_ms: u64) -> Totals {
        let now = Moment { wall: crate::now(), boot: String::new(), boot_ms: 0 };
        let mut totals = Totals { revision, ..Totals::new(ChannelId::main(), now) };
        totals.channel.on_ms = on_ms;
        totals
    }

    #[test]
    fn what_is_newer_than_the_documents_counts_and_nothing_else() {
        let mut recent = Recent::new();
        let newest = Newest { state_revision: 7, cursor: Some(cursor(9)), totals: totals(3, 50) };
        recent.channels.insert(ChannelId::main(), newest);
        for (revision, offset) in [(6, 1), (7, 9), (8, 1)] {
            let mut state = StreamState::new(ChannelId::main());
            (state.revision, state.cursor) = (revision, Some(cursor(1)));
            recent.renew(&mut state);
            assert_eq!(state.cursor.unwrap().offset_ms, offset, "revision {revision}");
        }
        let on_ms = |revision| recent.newer(totals(revision, 10)).channel.on_ms;
        assert_eq!((on_ms(2), on_ms(3), on_ms(4)), (10, 50, 10));
        let of_another = Totals { id: "other".parse().unwrap(), ..totals(3, 10) };
        assert_eq!(recent.newer(of_another.clone()), of_another);
    }
}
