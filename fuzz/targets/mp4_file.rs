//! Any bytes as an MP4 file that is read natively: from a disk and as an object, from the beginning and from places
//! within. Both ways must give the same tags.

#![no_main]

use libfuzzer_sys::{fuzz_mutator, fuzz_target};
use stream_fuzz::memory::MemoryFile;
use stream_fuzz::mp4::mutate_either_way;
use stream_fuzz::object;
use stream_fuzz::play::play;
use stream_worker::source::flv::RawTag;
use stream_worker::source::mp4::{Amount, Ask, Reader};

/// Asked for at once, bytes.
const PIECE: usize = 64 * 1024;
const AMOUNT: Amount = Amount { ms: 500, bytes: PIECE };
/// Pieces that are read at most: some bytes claim samples for hours.
const PIECES: usize = 24;
/// The largest sample, with what is written before it.
const LARGEST_TAG: usize = 1 << 24;

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    mutate_either_way(data, size, max_size, seed)
});

fuzz_target!(|bytes: &[u8]| {
    object::in_memory(bytes, |file, runtime| {
        let order = [(0, Some(1)), (1, Some(0)), (0, None)];
        let begin = order
            .into_iter()
            .find(|&(video, audio)| Reader::open(&file.path(), Ask { video, audio, from_ms: 0 }).is_ok());
        let Some((video, audio)) = begin else { return };
        for from_ms in [0, 480, 3_600_000, u64::MAX] {
            let ask = Ask { video, audio, from_ms };
            let Some(of_file) = read_file(file, ask) else { continue };
            if from_ms <= 480 {
                let of_object = runtime.block_on(read_object(file, ask));
                compare(&of_file, &of_object);
            }
            if from_ms == 0 {
                play(of_file.iter().map(copy));
            }
        }
    });
});

/// Reads the file; `None` when it is refused.
fn read_file(file: &MemoryFile, ask: Ask) -> Option<Vec<RawTag>> {
    let mut reader = Reader::open(&file.path(), ask).ok()?;
    let mut tags = Vec::new();
    for _ in 0..PIECES {
        let before = tags.len();
        let more = reader.read(AMOUNT, &mut tags);
        let sum: usize = tags[before..].iter().map(|tag| tag.body.len()).sum();
        assert!(sum <= PIECE + LARGEST_TAG, "{sum} bytes at once");
        if !matches!(more, Ok(true)) {
            break;
        }
    }
    Some(tags)
}

/// The same as an object of a bucket.
async fn read_object(file: &MemoryFile, ask: Ask) -> Vec<RawTag> {
    let mut tags = Vec::new();
    // An object may be refused where a file is not: for an empty sample behind its end.
    let Ok(mut reader) = object::parts(file).await.open(ask).await else { return tags };
    // It stops wherever something is missing, so it takes more rounds.
    for _ in 0..8 * PIECES {
        if !matches!(reader.read(AMOUNT, &mut tags).await, Ok(true)) {
            break;
        }
    }
    tags
}

/// As far as both were read they are the same.
fn compare(of_file: &[RawTag], of_object: &[RawTag]) {
    for (number, (a, b)) in of_file.iter().zip(of_object).enumerate() {
        assert!(a.kind == b.kind && a.at_ms == b.at_ms && a.body == b.body, "tag {number} differs");
    }
}

fn copy(tag: &RawTag) -> RawTag {
    RawTag { kind: tag.kind, at_ms: tag.at_ms, body: tag.body.clone(), next_idr: tag.next_idr }
}
