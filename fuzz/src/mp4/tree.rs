//! A file as a tree of boxes (ISO/IEC 14496-12, 4.2). Sizes are made anew when it is written.

/// Boxes that hold others, and how much stands before those.
const HOLDERS: [(&[u8; 4], usize); 12] = [
    (b"moov", 0),
    (b"trak", 0),
    (b"mdia", 0),
    (b"minf", 0),
    (b"dinf", 0),
    (b"dref", 8),
    (b"stbl", 0),
    (b"stsd", 8),
    (b"avc1", 78),
    (b"mp4a", 28),
    (b"edts", 0),
    (b"udta", 0),
];
const DEEPEST: usize = 10;

/// How the size of a box is written.
#[derive(Clone, Copy)]
pub(super) enum Size {
    Short,
    Long,
    ToTheEnd,
    Wrong(u32),
}

#[derive(Clone)]
pub(super) struct Node {
    pub(super) kind: [u8; 4],
    pub(super) size: Size,
    /// What is in it, or what stands before the boxes in it.
    pub(super) bytes: Vec<u8>,
    pub(super) inner: Vec<Node>,
}

/// A file.
pub(super) struct Tree {
    pub(super) boxes: Vec<Node>,
    /// What is no box.
    pub(super) rest: Vec<u8>,
}

impl Tree {
    pub(super) fn read(bytes: &[u8]) -> Self {
        let (boxes, rest) = nodes(bytes, 0);
        Self { boxes, rest: rest.to_vec() }
    }

    pub(super) fn write(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.boxes.iter().for_each(|node| node.write(&mut out));
        out.extend_from_slice(&self.rest);
        out
    }

    /// Calls this for every list of boxes, the file's first.
    pub(super) fn lists(&mut self, each: &mut dyn FnMut(&mut Vec<Node>)) {
        lists(&mut self.boxes, each);
    }
}

fn lists(list: &mut Vec<Node>, each: &mut dyn FnMut(&mut Vec<Node>)) {
    each(list);
    list.iter_mut().for_each(|node| lists(&mut node.inner, each));
}

impl Node {
    fn write(&self, out: &mut Vec<u8>) {
        let from = out.len();
        let head = if matches!(self.size, Size::Long) { 16 } else { 8 };
        out.resize(from + head, 0);
        out.extend_from_slice(&self.bytes);
        self.inner.iter().for_each(|node| node.write(out));
        let size = out.len() - from;
        let word = match self.size {
            Size::Short => size as u32,
            Size::Long => 1,
            Size::ToTheEnd => 0,
            Size::Wrong(word) => word,
        };
        out[from..from + 4].copy_from_slice(&word.to_be_bytes());
        out[from + 4..from + 8].copy_from_slice(&self.kind);
        if head == 16 {
            out[from + 8..from + 16].copy_from_slice(&(size as u64).to_be_bytes());
        }
    }
}

/// The boxes that these bytes hold, and what is left.
fn nodes(mut bytes: &[u8], depth: usize) -> (Vec<Node>, &[u8]) {
    let mut found = Vec::new();
    while let Some((node, rest)) = node(bytes, depth) {
        found.push(node);
        bytes = rest;
    }
    (found, bytes)
}

fn node(bytes: &[u8], depth: usize) -> Option<(Node, &[u8])> {
    let (word, kind) = (bytes.get(..4)?, bytes.get(4..8)?.try_into().ok()?);
    let (size, form, head) = match u32::from_be_bytes(word.try_into().ok()?) {
        0 => (bytes.len(), Size::ToTheEnd, 8),
        1 => (u64::from_be_bytes(bytes.get(8..16)?.try_into().ok()?) as usize, Size::Long, 16),
        size => (size as usize, Size::Short, 8),
    };
    let (whole, rest) = bytes.split_at_checked(size)?;
    let body = whole.get(head..)?;
    let before = HOLDERS.iter().find(|(holder, _)| *holder == &kind).map(|(_, before)| *before);
    let split = before.filter(|_| depth < DEEPEST).and_then(|before| body.split_at_checked(before));
    let Some((before, inner)) = split else {
        return Some((Node { kind, size: form, bytes: body.to_vec(), inner: Vec::new() }, rest));
    };
    let (inner, left) = nodes(inner, depth + 1);
    if inner.is_empty() || !left.is_empty() {
        return Some((Node { kind, size: form, bytes: body.to_vec(), inner: Vec::new() }, rest));
    }
    Some((Node { kind, size: form, bytes: before.to_vec(), inner }, rest))
}
