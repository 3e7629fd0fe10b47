//! MP4 files changed so that they stay MP4 files: bytes changed anywhere are mostly refused at the first box, and what
//! is behind it would never be tried. Knows of boxes only what is needed to find and write them.

mod chance;
mod edit;
mod tables;
mod tree;

use chance::Chance;
use tree::Tree;

/// One time in eight as libFuzzer changes any bytes, else [`mutate`].
pub fn mutate_either_way(data: &mut [u8], size: usize, max_size: usize, seed: u32) -> usize {
    if seed.is_multiple_of(8) {
        libfuzzer_sys::fuzzer_mutate(data, size, max_size)
    } else {
        mutate(data, size, max_size, seed)
    }
}

/// Changes a file within `data`, whose first `size` bytes it is; it may grow to `max_size`. Its new size.
pub fn mutate(data: &mut [u8], size: usize, max_size: usize, seed: u32) -> usize {
    let mut chance = Chance::new(seed);
    let mut tree = Tree::read(&data[..size]);
    for _ in 0..1 + chance.below(3) {
        edit::one(&mut tree, size as u64, &mut chance);
    }
    let mut written = tree.write();
    written.truncate(max_size.min(data.len()));
    data[..written.len()].copy_from_slice(&written);
    written.len()
}
