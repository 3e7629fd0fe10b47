//! Any bytes where FFmpeg's FLV is expected: cut into tags, read ahead, spliced, segmented.

#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use stream_fuzz::play::play;
use stream_worker::source::flv::{Cutter, RawTag};

/// A tag at most, and what came with its end.
const MOST_HELD: usize = (1 << 24) + 64 * 1024;

fuzz_target!(|bytes: &[u8]| {
    let piece = usize::from(*bytes.last().unwrap_or(&0)) * 16 + 1;
    let tags = cut(bytes, piece);
    let again = || tags.iter().map(|tag| RawTag { kind: tag.kind, at_ms: tag.at_ms, body: tag.body.clone(), next_idr: tag.next_idr });
    play(again());
});

fn cut(bytes: &[u8], piece: usize) -> Vec<RawTag> {
    let (mut cutter, mut buffer, mut tags) = (Cutter::default(), BytesMut::new(), Vec::new());
    for part in bytes.chunks(piece) {
        buffer.extend_from_slice(part);
        loop {
            match cutter.next(&mut buffer) {
                Ok(Some(tag)) => tags.push(tag),
                Ok(None) => break,
                Err(_) => return tags,
            }
        }
        assert!(buffer.len() <= MOST_HELD);
    }
    tags
}
