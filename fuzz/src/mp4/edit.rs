//! One change of a file.

use super::chance::Chance;
use super::tables;
use super::tree::{Node, Size, Tree};

const KINDS: [&[u8; 4]; 20] = [
    b"ftyp", b"moov", b"mvhd", b"trak", b"tkhd", b"edts", b"elst", b"mdia", b"mdhd", b"hdlr", b"minf",
    b"stbl", b"stts", b"ctts", b"stsc", b"stsz", b"stco", b"co64", b"stss", b"mvex",
];

/// Makes one change. `length` is that of the file.
pub(super) fn one(tree: &mut Tree, length: u64, chance: &mut Chance) {
    match chance.below(20) {
        0..=7 => leaf(tree, chance, &mut |node, chance| word(&mut node.bytes, chance)),
        8 => leaf(tree, chance, &mut |node, chance| resize(&mut node.bytes, chance)),
        9 => leaf(tree, chance, &mut |node, chance| byte(&mut node.bytes, chance)),
        10 => any(tree, chance, &mut |node, chance| node.kind = *KINDS[chance.below(KINDS.len())]),
        11 => any(tree, chance, &mut size),
        12 => list(tree, chance, &mut arrange),
        13 => tree.boxes.reverse(),
        14 => edits(tree, chance),
        _ => sample_table(tree, length, chance),
    }
}

/// Changes one list of boxes.
fn list(tree: &mut Tree, chance: &mut Chance, change: &mut dyn FnMut(&mut Vec<Node>, &mut Chance)) {
    let mut count = 0;
    tree.lists(&mut |list| count += usize::from(!list.is_empty()));
    let mut left = chance.below(count) as isize;
    tree.lists(&mut |list| {
        if list.is_empty() {
            return;
        }
        if left == 0 {
            change(list, chance);
        }
        left -= 1;
    });
}

/// Changes one box of those for which this holds.
fn pick(
    tree: &mut Tree,
    wanted: &dyn Fn(&Node) -> bool,
    chance: &mut Chance,
    change: &mut dyn FnMut(&mut Node, &mut Chance),
) {
    let mut count = 0;
    tree.lists(&mut |list| count += list.iter().filter(|node| wanted(node)).count());
    let mut left = chance.below(count) as isize;
    tree.lists(&mut |list| {
        for node in list.iter_mut().filter(|node| wanted(node)) {
            if left == 0 {
                change(node, chance);
            }
            left -= 1;
        }
    });
}

fn leaf(tree: &mut Tree, chance: &mut Chance, change: &mut dyn FnMut(&mut Node, &mut Chance)) {
    let media = chance.once_in(12);
    pick(tree, &|node| node.inner.is_empty() && (media || node.kind != *b"mdat"), chance, change);
}

fn any(tree: &mut Tree, chance: &mut Chance, change: &mut dyn FnMut(&mut Node, &mut Chance)) {
    pick(tree, &|_| true, chance, change);
}

fn word(bytes: &mut [u8], chance: &mut Chance) {
    let at = chance.below(bytes.len() / 4) * 4;
    if let Some(word) = bytes.get_mut(at..at + 4) {
        let near = u32::from_be_bytes([word[0], word[1], word[2], word[3]]);
        word.copy_from_slice(&chance.word(near).to_be_bytes());
    }
}

fn byte(bytes: &mut [u8], chance: &mut Chance) {
    let at = chance.below(bytes.len());
    if let Some(byte) = bytes.get_mut(at) {
        *byte = chance.next() as u8;
    }
}

fn resize(bytes: &mut Vec<u8>, chance: &mut Chance) {
    let length =
        if chance.once_in(2) { chance.below(bytes.len() + 1) } else { bytes.len() + chance.below(24) };
    bytes.resize(length, 0);
}

fn size(node: &mut Node, chance: &mut Chance) {
    node.size = match chance.below(4) {
        0 => Size::Long,
        1 => Size::ToTheEnd,
        2 => Size::Short,
        _ => Size::Wrong(chance.word(node.bytes.len() as u32 + 8)),
    };
}

fn arrange(list: &mut Vec<Node>, chance: &mut Chance) {
    let (a, b) = (chance.below(list.len()), chance.below(list.len()));
    match chance.below(3) {
        0 => drop(list.remove(a)),
        1 => list.swap(a, b),
        _ => list.insert(a, list[b].clone()),
    }
}

fn edits(tree: &mut Tree, chance: &mut Chance) {
    let made = tables::edits(chance);
    pick(tree, &|node| node.kind == *b"edts", chance, &mut |node, _| {
        node.inner = vec![Node { kind: *b"elst", size: Size::Short, bytes: made.clone(), inner: Vec::new() }];
    });
}

fn sample_table(tree: &mut Tree, length: u64, chance: &mut Chance) {
    pick(tree, &|node| node.kind == *b"stbl", chance, &mut |node, chance| {
        for (kind, bytes) in tables::samples(length, chance) {
            node.inner.retain(|inner| inner.kind != kind);
            node.inner.push(Node { kind, size: Size::Short, bytes, inner: Vec::new() });
        }
    });
}
