//! Tables that agree with each other, whatever they say (ISO/IEC 14496-12, 8.6 and 8.7).

use super::chance::Chance;

/// Most samples with a size of their own.
const OF_THEIR_OWN: u32 = 200;

/// A table of samples: each box with its content.
pub(super) fn samples(length: u64, chance: &mut Chance) -> Vec<([u8; 4], Vec<u8>)> {
    let many = chance.once_in(6);
    let count = if many { chance.word(1 << 25) } else { 1 + chance.below(OF_THEIR_OWN as usize) as u32 };
    let mut made = vec![(*b"stts", timed(count, chance)), (*b"stsz", sizes(count, length, chance))];
    let (chunks, in_chunks) = chunks(count, chance);
    made.push((*b"stsc", in_chunks));
    made.push(offsets(chunks, length, chance));
    match chance.below(3) {
        0 => made.push((*b"ctts", timed(count, chance))),
        1 => made.push((*b"stss", syncs(count, chance))),
        _ => {}
    }
    made
}

fn table(entries: u32, words: &[u32]) -> Vec<u8> {
    [0, entries].iter().chain(words).flat_map(|word| word.to_be_bytes()).collect()
}

/// Runs that are so many in all, each with a number.
fn timed(count: u32, chance: &mut Chance) -> Vec<u8> {
    let (mut left, mut words) = (count, Vec::new());
    while left > 0 {
        let last = words.len() > 20 || chance.once_in(3);
        let run = if last { left } else { chance.below(left as usize + 1) as u32 };
        words.extend([run, chance.word(512)]);
        left -= run;
    }
    table(words.len() as u32 / 2, &words)
}

fn sizes(count: u32, length: u64, chance: &mut Chance) -> Vec<u8> {
    let near = (length / u64::from(count.max(1))) as u32;
    if count > OF_THEIR_OWN || chance.once_in(4) {
        let size = if chance.once_in(2) { chance.word(near) } else { 1 };
        return [0, size, count].iter().flat_map(|word| word.to_be_bytes()).collect();
    }
    let words: Vec<u32> =
        (0..count).map(|_| if chance.once_in(9) { chance.word(near) } else { near }).collect();
    [0, 0, count].iter().chain(&words).flat_map(|word| word.to_be_bytes()).collect()
}

/// How many chunks there are, and the table of how many samples are in each.
fn chunks(count: u32, chance: &mut Chance) -> (u32, Vec<u8>) {
    let (mut left, mut chunk, mut words) = (count, 1, Vec::new());
    while left > 0 && chunk < 64 {
        let in_each =
            if chunk > 40 || chance.once_in(3) { left } else { 1 + chance.below(left as usize) as u32 };
        let same = (left / in_each).min(1 + chance.below(3) as u32);
        words.extend([chunk, in_each, 1]);
        left -= same * in_each;
        chunk += same;
    }
    if chance.once_in(10) {
        words.extend([chance.word(chunk), chance.word(1), 1]);
    }
    (chunk - 1, table(words.len() as u32 / 3, &words))
}

fn offsets(chunks: u32, length: u64, chance: &mut Chance) -> ([u8; 4], Vec<u8>) {
    let mut place = || {
        let odd = chance.once_in(20);
        if odd { chance.next() } else { chance.below(length as usize) as u64 }
    };
    let places: Vec<u64> = (0..chunks).map(|_| place()).collect();
    if chance.once_in(2) {
        let words: Vec<u32> = places.iter().map(|place| *place as u32).collect();
        return (*b"stco", table(chunks, &words));
    }
    let words: Vec<u32> = places.iter().flat_map(|place| [(place >> 32) as u32, *place as u32]).collect();
    (*b"co64", table(chunks, &words))
}

fn syncs(count: u32, chance: &mut Chance) -> Vec<u8> {
    let (mut number, mut words) = (1_u32, Vec::new());
    while number <= count && words.len() < 50 {
        words.push(number);
        number = number.saturating_add(1 + chance.below(30) as u32);
    }
    table(words.len() as u32, &words)
}

/// An edit list.
pub(super) fn edits(chance: &mut Chance) -> Vec<u8> {
    let (long, count) = (chance.once_in(2), 1 + chance.below(3) as u32);
    let mut words = Vec::new();
    for number in 0..count {
        let empty = number == 0 && chance.once_in(2);
        let from = if empty { u32::MAX } else { chance.word(0) };
        let length = chance.word(1000);
        if long {
            let high = |word: u32| if word == u32::MAX { word } else { 0 };
            words.extend([if chance.once_in(8) { chance.word(0) } else { 0 }, length, high(from), from]);
        } else {
            words.extend([length, from]);
        }
        words.push(if chance.once_in(9) { chance.word(0x1_0000) } else { 0x1_0000 });
    }
    let mut made = table(count, &words);
    made[0] = u8::from(long);
    made
}
