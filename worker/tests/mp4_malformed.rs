//! MP4 files that say what cannot be: what fuzzing has found, as the smallest files that show it.

#![allow(clippy::unwrap_used)] // A test that cannot go on has to fail.

use std::io::Write;
use stream_worker::source::mp4::{Ask, Reader};
use tempfile::NamedTempFile;

/// An access unit with an IDR picture.
const PICTURE: [u8; 6] = [0, 0, 0, 2, 0x65, 0x88];

fn boxed(kind: &[u8; 4], parts: &[Vec<u8>]) -> Vec<u8> {
    let body = parts.concat();
    [&(body.len() as u32 + 8).to_be_bytes()[..], kind, &body].concat()
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_be_bytes()).collect()
}

/// A file with one picture track without sound, whose tables say this.
fn file(tables: &[Vec<u8>]) -> NamedTempFile {
    let description = [vec![0; 78], boxed(b"avcC", &[vec![1, 66, 0, 10, 0xFF, 0xE0, 0]])];
    let stsd = boxed(b"stsd", &[words(&[0, 1]), boxed(b"avc1", &description)]);
    let stbl = boxed(b"stbl", &[&[stsd], tables].concat());
    let dref = boxed(b"dref", &[words(&[0, 1]), boxed(b"url ", &[words(&[1])])]);
    let minf = boxed(b"minf", &[boxed(b"dinf", &[dref]), stbl]);
    let hdlr = boxed(b"hdlr", &[words(&[0, 0]), b"vide".to_vec()]);
    let mdhd = boxed(b"mdhd", &[words(&[0, 0, 0, 1000, 1000])]);
    let trak = boxed(b"trak", &[boxed(b"mdia", &[mdhd, hdlr, minf])]);
    let moov = boxed(b"moov", &[boxed(b"mvhd", &[words(&[0, 0, 0, 1000])]), trak]);
    let ftyp = boxed(b"ftyp", &[b"isom".to_vec()]);
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(&[ftyp, moov, boxed(b"mdat", &[PICTURE.to_vec()])].concat()).unwrap();
    file
}

/// So many pictures of six bytes, all in one chunk.
fn alike(count: u32) -> Vec<Vec<u8>> {
    vec![
        boxed(b"stts", &[words(&[0, 1, count, 40])]),
        boxed(b"stsc", &[words(&[0, 1, 1, count, 1])]),
        boxed(b"stsz", &[words(&[0, 6, count])]),
        boxed(b"stco", &[words(&[0, 1, 12])]),
        boxed(b"stss", &[words(&[0, 1, 1])]),
    ]
}

fn open(tables: &[Vec<u8>], from_ms: u64) -> Result<Reader, String> {
    let ask = Ask { video: 0, audio: None, from_ms };
    Reader::open(file(tables).path(), ask).map_err(|why| why.to_string())
}

#[test]
fn millions_of_samples_in_a_few_bytes_are_not_gone_over() {
    assert!(open(&alike(1), 0).is_ok(), "the file is one that is read");
    for from_ms in [0, u64::MAX] {
        let why = open(&alike(1 << 25), from_ms).unwrap_err();
        assert!(why.contains("more samples than bytes"), "{why}");
    }
}
