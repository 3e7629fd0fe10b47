//! What a channel plays.

use crate::ids::Ulid;
use serde::{Deserialize, Serialize};

/// Where a channel's items come from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
#[serde(tag = "from", rename_all = "snake_case")]
pub enum Playlist {
    /// Every media file in storage, in natural order, listed anew at each round.
    #[default]
    Storage,
    /// These items, in this order.
    List {
        /// The items; a key may appear more than once, each with its own id.
        items: Vec<Item>,
    },
}

/// One entry of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// Names this entry for good, so that a position survives edits of the list.
    pub id: Ulid,
    /// The media file's key in storage, with `/` between folders.
    pub key: String,
}
