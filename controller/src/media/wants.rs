//! In which order the channels of this machine will play what is in the bucket. Pure.

use state::channel::StreamConfig;
use state::ids::Ulid;
use state::wire::{ItemSpec, MediaAt};
use std::collections::HashSet;
use storage::MediaFile;
use storage::cache::Wants;

/// Items of each channel that must be here in time: the one on the air and the next two. Two short ones may pass
/// while a long one is fetched.
const NEAR: usize = 3;

/// One running channel's items and where it stands.
#[derive(Debug, Clone, Default)]
pub(super) struct Line {
    /// A round, in its order.
    pub items: Vec<ItemSpec>,
    /// The place of the item on the air, or of the first.
    pub at: usize,
    /// The item on the air comes over a link already: a copy is of use in the next round only.
    pub linked: bool,
    /// Whether there is a next round.
    pub looped: bool,
    /// Items that are played from what was prepared: their originals are not needed.
    pub prepared: HashSet<Ulid>,
}

impl Line {
    /// A channel that plays `items`, seen at `item`, whose bytes come from `source`.
    pub(super) fn new(wish: &StreamConfig, items: Vec<ItemSpec>, item: Option<&Ulid>, source: &str) -> Self {
        let at = item.and_then(|id| items.iter().position(|item| item.id == *id));
        let linked = at.is_some() && source == "bucket";
        Self { at: at.unwrap_or(0), linked, items, looped: wish.looped, prepared: HashSet::new() }
    }

    /// Its items in the order in which copies of them are needed.
    fn order(&self) -> Vec<&ItemSpec> {
        let (played, coming) = self.items.split_at(self.at.min(self.items.len()));
        let coming = coming.iter();
        let again = played.iter().filter(|_| self.looped);
        let mut order: Vec<_> = coming.chain(again).collect();
        if self.linked && !order.is_empty() {
            let current = order.remove(0);
            order.extend(self.looped.then_some(current));
        }
        order.retain(|item| !self.prepared.contains(&item.id));
        order
    }
}

/// What all channels need, one item of each in turn, each object once; without what `refused` says cannot be had.
pub(super) fn order(lines: &[Line], refused: impl Fn(&MediaFile) -> bool) -> Wants {
    let orders: Vec<Vec<&ItemSpec>> = lines.iter().map(Line::order).collect();
    let longest = orders.iter().map(Vec::len).max().unwrap_or(0);
    let mut known = HashSet::new();
    let mut wants = Wants::default();
    for place in 0..longest {
        let items = orders.iter().filter_map(|order| order.get(place).copied());
        let files = items.filter_map(object).filter(|file| !refused(file));
        wants.files.extend(files.filter(|file| known.insert(file.clone())));
        if place < NEAR {
            wants.near = wants.files.len();
        }
    }
    wants
}

/// The object behind an item, if it is one that a copy can be told by.
fn object(item: &ItemSpec) -> Option<MediaFile> {
    match item.at {
        MediaAt::Object { size } if size > 0 && !item.content.is_empty() => {
            Some(MediaFile { key: item.key.clone(), size, content: item.content.clone() })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use state::ids::ChannelId;

    fn item(key: char) -> ItemSpec {
        let at = if key == 'f' { MediaAt::Path("/f".into()) } else { MediaAt::Object { size: 1 } };
        ItemSpec { id: Ulid::from_text(&key.to_string()), key: key.into(), at, content: "e".into() }
    }

    fn line(keys: &str, at: char, source: &str, looped: bool) -> Line {
        let mut wish = StreamConfig::new(ChannelId::main());
        wish.looped = looped;
        let id = Ulid::from_text(&at.to_string());
        Line::new(&wish, keys.chars().map(item).collect(), Some(&id), source)
    }

    fn told(lines: &[Line]) -> (String, usize) {
        let wants = order(lines, |_| false);
        (wants.files.into_iter().map(|file| file.key).collect(), wants.near)
    }

    #[test]
    fn it_begins_with_what_is_on_the_air_and_goes_round() {
        assert_eq!(told(&[line("abcde", 'c', "cache", true)]), ("cdeab".into(), 3));
        assert_eq!(told(&[line("abcde", 'd', "cache", false)]), ("de".into(), 2));
        assert_eq!(told(&[line("abcde", '?', "", true)]), ("abcde".into(), 3), "nothing is on the air yet");
    }

    #[test]
    fn what_comes_over_a_link_already_is_wanted_last() {
        assert_eq!(told(&[line("abcd", 'b', "bucket", true)]), ("cdab".into(), 3));
        assert_eq!(told(&[line("abcd", 'c', "bucket", false)]), ("d".into(), 1));
        assert_eq!(told(&[line("a", 'a', "bucket", true)]), ("a".into(), 1));
    }

    #[test]
    fn what_cannot_be_had_is_nobodys_next() {
        let wants = order(&[line("abcde", 'a', "cache", true)], |file| file.key == "b");
        let keys: String = wants.files.iter().map(|file| file.key.as_str()).collect();
        assert_eq!((keys.as_str(), wants.near), ("acde", 2));
    }

    #[test]
    fn the_original_of_what_was_prepared_is_not_needed() {
        let mut line = line("abcd", 'b', "bucket", true);
        line.prepared = [Ulid::from_text("c")].into();
        assert_eq!(told(&[line]), ("dab".into(), 3));
    }

    #[test]
    fn channels_take_turns_and_share_what_they_both_play() {
        let lines = [line("abc", 'a', "cache", true), line("xbyz", 'x', "cache", true)];
        assert_eq!(told(&lines), ("axbcyz".into(), 5));
        assert_eq!(told(&[line("fab", 'f', "file", true)]), ("ab".into(), 2), "files need no copy");
        assert_eq!(told(&[]), (String::new(), 0));
    }
}
