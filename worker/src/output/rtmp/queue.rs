//! What waits for a destination: a bounded run of tags that always begins where a decoder can begin.
//!
//! Pure bookkeeping; whoever holds it decides when to wake whom.

use crate::media::{Tag, Track, TrackConfig};
use std::collections::VecDeque;
use std::sync::Arc;

/// Most tags that wait: about ten seconds of 60 pictures and 47 audio frames a second.
const MAX_TAGS: usize = 1024;
/// Most bytes that wait: about ten seconds of 6 Mbit/s.
const MAX_BYTES: usize = 8 * 1024 * 1024;

/// Why an IDR is awaited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gap {
    /// A connection can begin nowhere else.
    Beginning,
    /// A slow peer made us drop what the next pictures refer to.
    Loss,
}

/// Tags in order. The first tag after `open`, and after every gap, is an IDR.
#[derive(Debug)]
pub(in crate::output) struct Queue {
    tags: VecDeque<Tag>,
    bytes: usize,
    connected: bool,
    /// Why everything up to the next IDR is of no use, if it is.
    gap: Option<Gap>,
    dropped: u64,
    /// Configuration of the newest audio tag, for the beginning of a connection.
    audio: Option<Arc<TrackConfig>>,
}

impl Queue {
    pub(in crate::output) fn new() -> Self {
        Self {
            tags: VecDeque::new(),
            bytes: 0,
            connected: false,
            gap: Some(Gap::Beginning),
            dropped: 0,
            audio: None,
        }
    }

    /// Adds a tag. Without a connection an IDR replaces all before it; with one, a full queue loses everything up
    /// to its newest IDR, or up to the next one to come, and counts the loss.
    pub(in crate::output) fn push(&mut self, tag: &Tag) {
        if tag.track == Track::Audio {
            self.audio = Some(Arc::clone(&tag.config));
        }
        if tag.idr && !self.connected {
            self.keep(0);
        }
        while self.is_full_for(tag) && !self.tags.is_empty() {
            self.make_room();
        }
        if self.gap == Some(Gap::Beginning) && !tag.idr {
            return;
        }
        if (self.gap.is_some() && !tag.idr) || self.is_full_for(tag) {
            return self.lose(1);
        }
        self.gap = None;
        self.bytes += tag.body.len();
        self.tags.push_back(tag.clone());
    }

    /// Takes tags up to about `bytes`, at least one if there is one.
    pub(in crate::output) fn take(&mut self, bytes: usize) -> Vec<Tag> {
        let mut sum = 0;
        let fits = |tag: &&Tag| {
            sum += tag.body.len();
            sum <= bytes
        };
        let count = self.tags.iter().take_while(fits).count().max(1).min(self.tags.len());
        let taken: Vec<Tag> = self.tags.drain(..count).collect();
        self.bytes -= size(&taken);
        taken
    }

    /// A connection begins: from now on nothing is forgotten that fits.
    pub(in crate::output) fn open(&mut self) {
        self.connected = true;
    }

    /// A connection ended as planned. `unsent` was taken and not sent; the next one begins with it and loses nothing.
    pub(in crate::output) fn hold(&mut self, unsent: Vec<Tag>) {
        self.bytes += size(&unsent);
        for tag in unsent.into_iter().rev() {
            self.tags.push_front(tag);
        }
    }

    /// There is no connection; what remains begins with the newest IDR.
    pub(in crate::output) fn shut(&mut self) {
        self.connected = false;
        let newest = self.tags.iter().rposition(|tag| tag.idr);
        self.keep(newest.map_or(0, |at| self.tags.len() - at));
        if self.tags.is_empty() {
            self.gap = Some(Gap::Beginning);
        }
    }

    /// Configuration of the newest audio.
    pub(in crate::output) fn audio(&self) -> Option<Arc<TrackConfig>> {
        self.audio.clone()
    }

    /// Tags lost while connected, since the beginning.
    pub(in crate::output) fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Media that wait for the connection, ms; 0 without one.
    pub(in crate::output) fn waiting_ms(&self) -> u32 {
        let ends = self.tags.front().zip(self.tags.back()).filter(|_| self.connected);
        ends.map_or(0, |(first, last)| u32::try_from(last.dts - first.dts).unwrap_or(0))
    }

    fn is_full_for(&self, tag: &Tag) -> bool {
        self.tags.len() >= MAX_TAGS || self.bytes + tag.body.len() > MAX_BYTES
    }

    fn make_room(&mut self) {
        let newest = self.tags.iter().rposition(|tag| tag.idr).filter(|at| *at > 0);
        let kept = newest.map_or(0, |at| self.tags.len() - at);
        self.lose(self.tags.len() - kept);
        self.keep(kept);
        if kept > 0 {
            self.gap = None;
        }
    }

    /// Forgets all but the newest `kept` tags.
    fn keep(&mut self, kept: usize) {
        let gone: Vec<Tag> = self.tags.drain(..self.tags.len() - kept).collect();
        self.bytes -= size(&gone);
    }

    /// So many tags are lost, and what follows them is of no use until an IDR.
    fn lose(&mut self, tags: usize) {
        if self.connected {
            self.dropped += tags as u64;
        }
        self.gap = Some(if self.connected { Gap::Loss } else { Gap::Beginning });
    }
}

fn size(tags: &[Tag]) -> usize {
    tags.iter().map(|tag| tag.body.len()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::Shape;
    use bytes::Bytes;
    use proptest::prelude::*;

    fn tag(track: Track, dts: i64, idr: bool, length: usize) -> Tag {
        let shape = Shape::Audio { sample_rate: 48_000, channels: 2, kbps: 0 };
        let config = Arc::new(TrackConfig { header: Bytes::new(), shape });
        Tag { track, dts, cts: 0, idr, next_idr: None, body: zeros(length), config }
    }

    fn zeros(length: usize) -> Bytes {
        static ZEROS: [u8; 3_000_000] = [0; 3_000_000];
        Bytes::from_static(&ZEROS[..length])
    }

    /// `I` an IDR, `p` another picture, `a` audio; times count from `from`.
    fn push(queue: &mut Queue, from: i64, kinds: &str) {
        for (dts, kind) in (from..).zip(kinds.chars()) {
            let track = if kind == 'a' { Track::Audio } else { Track::Video };
            queue.push(&tag(track, dts, kind == 'I', 10));
        }
    }

    fn times(tags: &[Tag]) -> Vec<i64> {
        tags.iter().map(|tag| tag.dts).collect()
    }

    #[test]
    fn without_a_connection_the_newest_gop_is_kept() {
        let mut queue = Queue::new();
        push(&mut queue, 0, "apaIapIpa");
        assert_eq!(queue.waiting_ms(), 0, "nothing waits for a connection that is not there");
        queue.open();
        assert_eq!(times(&queue.take(1000)), [6, 7, 8]);
        assert_eq!(queue.dropped(), 0);
    }

    #[test]
    fn with_a_connection_everything_that_fits_is_kept_in_order() {
        let mut queue = Queue::new();
        queue.open();
        push(&mut queue, 0, "apIapI");
        assert_eq!(queue.waiting_ms(), 3);
        assert_eq!(times(&queue.take(25)), [2, 3]);
        assert_eq!(times(&queue.take(1)), [4]);
        assert_eq!(times(&queue.take(1000)), [5]);
        assert!(queue.take(1000).is_empty());
    }

    #[test]
    fn a_full_queue_goes_on_with_its_newest_idr() {
        let mut queue = Queue::new();
        queue.open();
        push(&mut queue, 0, "Ipap");
        push(&mut queue, 4, &format!("I{}", "p".repeat(MAX_TAGS - 5)));
        assert_eq!(queue.dropped(), 0);
        push(&mut queue, 5000, "p");
        assert_eq!((queue.dropped(), queue.take(1)[0].dts), (4, 4));
    }

    #[test]
    fn a_full_queue_without_a_later_idr_waits_for_the_next() {
        let mut queue = Queue::new();
        queue.open();
        push(&mut queue, 0, &format!("I{}", "p".repeat(MAX_TAGS)));
        push(&mut queue, 5000, "apaIp");
        assert_eq!(queue.dropped(), MAX_TAGS as u64 + 4);
        assert_eq!(times(&queue.take(1000)), [5003, 5004]);
    }

    #[test]
    fn after_a_connection_the_next_begins_with_a_picture_too() {
        let mut queue = Queue::new();
        queue.open();
        push(&mut queue, 0, "IpapIpa");
        queue.take(20);
        queue.shut();
        assert_eq!(times(&queue.take(1000)), [4, 5, 6]);
        push(&mut queue, 7, "pa");
        queue.shut();
        push(&mut queue, 9, "paI");
        assert_eq!(times(&queue.take(1000)), [11]);
    }

    #[test]
    fn what_a_planned_reconnect_has_not_sent_is_sent_after_it() {
        let mut queue = Queue::new();
        queue.open();
        push(&mut queue, 0, "IpaIpa");
        let mut taken = queue.take(50);
        queue.hold(taken.split_off(3));
        push(&mut queue, 6, "Ipa");
        queue.open();
        assert_eq!(times(&queue.take(1000)), [3, 4, 5, 6, 7, 8]);
        assert_eq!((queue.dropped(), queue.bytes), (0, 0));
        push(&mut queue, 9, "IpaIp");
        queue.shut();
        assert_eq!(times(&queue.take(1000)), [12, 13], "where it fails, the newest picture is what counts");
    }

    proptest! {
        #[test]
        fn it_is_bounded_and_begins_with_an_idr(
            lengths in proptest::collection::vec((0..3usize, 0usize..3_000_000), 0..300),
            connected in any::<bool>(),
        ) {
            let mut queue = Queue::new();
            if connected {
                queue.open();
            }
            for (dts, (kind, length)) in (0..).zip(lengths) {
                let track = if kind == 0 { Track::Audio } else { Track::Video };
                queue.push(&tag(track, dts, kind == 2, length));
                prop_assert!(queue.bytes <= MAX_BYTES && queue.tags.len() <= MAX_TAGS);
                prop_assert_eq!(queue.bytes, queue.tags.iter().map(|t| t.body.len()).sum::<usize>());
                prop_assert!(queue.tags.front().is_none_or(|t| t.idr));
            }
        }
    }
}
