//! The chunk stream (RTMP 1.0, section 5.3): messages cut into chunks, and chunks put together again.

use bytes::Bytes;

/// Chunk size of both sides until one of them says otherwise (section 5.4.1).
pub const DEFAULT_SIZE: usize = 128;
/// Longest message that is accepted from a server. A publisher is told little; media never comes this way.
pub const MAX_MESSAGE: usize = 64 * 1024;
/// Most chunk streams that a server may use at the same time.
const MAX_STREAMS: usize = 16;
/// A timestamp field of this value says that four more bytes follow (section 5.3.1.3).
const EXTENDED: u32 = 0xFF_FFFF;

/// Message types (sections 5.4 and 7.1).
pub mod kind {
    /// Set Chunk Size.
    pub const SET_CHUNK_SIZE: u8 = 1;
    /// Abort Message.
    pub const ABORT: u8 = 2;
    /// Acknowledgement.
    pub const ACKNOWLEDGEMENT: u8 = 3;
    /// User Control Message.
    pub const USER_CONTROL: u8 = 4;
    /// Window Acknowledgement Size.
    pub const WINDOW_SIZE: u8 = 5;
    /// Set Peer Bandwidth.
    pub const PEER_BANDWIDTH: u8 = 6;
    /// Audio.
    pub const AUDIO: u8 = 8;
    /// Video.
    pub const VIDEO: u8 = 9;
    /// Command in AMF3, which is AMF0 after a zero byte.
    pub const COMMAND_AMF3: u8 = 17;
    /// Data in AMF0.
    pub const DATA: u8 = 18;
    /// Command in AMF0.
    pub const COMMAND: u8 = 20;
}

/// What a message is, apart from its body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Chunk stream, 2 to 63 when written.
    pub chunk_stream: u32,
    /// Milliseconds, modulo 2^32.
    pub timestamp: u32,
    /// One of [`kind`].
    pub kind: u8,
    /// Message stream; 0 for the connection itself.
    pub stream: u32,
}

/// A whole message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// What it is.
    pub header: Header,
    /// What it says.
    pub body: Bytes,
}

/// The peer said something that cannot be RTMP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(pub &'static str);

/// Appends a message in chunks of at most `size` bytes: a full header first, then type 3.
///
/// The extended timestamp is repeated in every type-3 chunk (section 5.3.1.3); without it receivers lose
/// their place 4 h 39 min into a connection. `body` is shorter than 2^24 bytes, `chunk_stream` is 2 to 63.
pub fn write(out: &mut Vec<u8>, size: usize, header: Header, body: &[u8]) {
    debug_assert!((2..64).contains(&header.chunk_stream) && body.len() < 1 << 24);
    let basic = header.chunk_stream as u8;
    let extended = (header.timestamp >= EXTENDED).then(|| header.timestamp.to_be_bytes());
    out.reserve(body.len() + 16 + (body.len() / size + 1) * 5);
    out.push(basic);
    out.extend(&header.timestamp.min(EXTENDED).to_be_bytes()[1..]);
    out.extend(&(body.len() as u32).to_be_bytes()[1..]);
    out.push(header.kind);
    out.extend(header.stream.to_le_bytes());
    out.extend(extended.iter().flatten());
    for (index, part) in body.chunks(size).enumerate() {
        if index > 0 {
            out.push(0xC0 | basic);
            out.extend(extended.iter().flatten());
        }
        out.extend(part);
    }
}

/// Puts a peer's chunks together. Its memory is bounded by [`MAX_MESSAGE`] for each of 16 chunk streams.
#[derive(Debug)]
pub struct Reader {
    size: usize,
    /// Bytes that are not yet a whole chunk.
    input: Vec<u8>,
    streams: Vec<Assembly>,
}

/// A chunk stream: its newest header and what has come of its message.
#[derive(Debug)]
struct Assembly {
    head: Head,
    body: Vec<u8>,
}

/// A message header with all that it leaves out filled in.
#[derive(Debug, Clone, Copy)]
struct Head {
    header: Header,
    length: usize,
    /// Timestamp field of the newest header that had one: absolute in type 0, else a difference.
    field: u32,
    extended: bool,
}

impl Default for Reader {
    fn default() -> Self {
        Self { size: DEFAULT_SIZE, input: Vec::new(), streams: Vec::new() }
    }
}

impl Reader {
    /// Takes bytes as they come from the network.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.input.extend(bytes);
    }

    /// The next whole message, or `None` when more bytes are needed.
    ///
    /// # Errors
    /// When the bytes cannot be RTMP or break a limit; the connection is then of no use any more.
    pub fn next_message(&mut self) -> Result<Option<Message>, Malformed> {
        loop {
            let mut cursor = Cursor { bytes: &self.input, at: 0 };
            let Some((head, part)) = read_chunk(&mut cursor, &self.streams, self.size)? else {
                return Ok(None);
            };
            let used = cursor.at;
            let stream = assembly(&mut self.streams, head);
            stream.body.extend(part);
            let whole = stream.body.len() == head.length;
            let body = if whole { std::mem::take(&mut stream.body) } else { Vec::new() };
            self.input.drain(..used);
            if whole {
                return Ok(Some(Message { header: head.header, body: body.into() }));
            }
        }
    }

    /// Follows the peer's Set Chunk Size (section 5.4.1).
    ///
    /// # Errors
    /// When the size is 0 or above 2^31 − 1.
    pub fn set_size(&mut self, size: u32) -> Result<(), Malformed> {
        if size == 0 || size > i32::MAX as u32 {
            return Err(Malformed("impossible chunk size"));
        }
        self.size = size as usize;
        Ok(())
    }

    /// Follows the peer's Abort Message (section 5.4.2): the message begun on that chunk stream is discarded.
    pub fn abort(&mut self, chunk_stream: u32) {
        if let Some(stream) = self.streams.iter_mut().find(|s| s.head.header.chunk_stream == chunk_stream) {
            stream.body = Vec::new();
        }
    }
}

/// The chunk stream of that head, which it takes over.
fn assembly(streams: &mut Vec<Assembly>, head: Head) -> &mut Assembly {
    let id = head.header.chunk_stream;
    let at = streams.iter().position(|s| s.head.header.chunk_stream == id).unwrap_or_else(|| {
        streams.push(Assembly { head, body: Vec::new() });
        streams.len() - 1
    });
    let stream = &mut streams[at];
    stream.head = head;
    stream
}

/// Reads one chunk: its head and its part of the body; `None` when it is not all there yet.
fn read_chunk<'a>(
    cursor: &mut Cursor<'a>,
    streams: &[Assembly],
    size: usize,
) -> Result<Option<(Head, &'a [u8])>, Malformed> {
    let Some((format, chunk_stream)) = cursor.basic_header() else { return Ok(None) };
    let known = streams.iter().find(|s| s.head.header.chunk_stream == chunk_stream);
    if known.is_none() && format != 0 {
        return Err(Malformed("a chunk stream that begins without a full header"));
    }
    if known.is_none() && streams.len() >= MAX_STREAMS {
        return Err(Malformed("too many chunk streams"));
    }
    let begun = known.map_or(0, |s| s.body.len());
    if format != 3 && begun > 0 {
        return Err(Malformed("a message that begins inside another"));
    }
    let header = Header { chunk_stream, timestamp: 0, kind: 0, stream: 0 };
    let fresh = Head { header, length: 0, field: 0, extended: false };
    let before = known.map_or(fresh, |s| s.head);
    let Some(head) = cursor.message_header(format, before, begun > 0) else { return Ok(None) };
    if head.length > MAX_MESSAGE {
        return Err(Malformed("a message longer than 64 KiB"));
    }
    Ok(cursor.take((head.length - begun).min(size)).map(|part| (head, part)))
}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let part = self.bytes.get(self.at..self.at + length)?;
        self.at += length;
        Some(part)
    }

    /// A big-endian number of up to four bytes.
    fn number(&mut self, length: usize) -> Option<u32> {
        Some(self.take(length)?.iter().fold(0, |sum, byte| sum << 8 | u32::from(*byte)))
    }

    /// Section 5.3.1.1: format and chunk stream id in one, two or three bytes.
    fn basic_header(&mut self) -> Option<(u8, u32)> {
        let first = *self.take(1)?.first()?;
        let id = match first & 0x3F {
            0 => 64 + self.number(1)?,
            1 => 64 + u32::from((self.number(2)? as u16).swap_bytes()),
            id => u32::from(id),
        };
        Some((first >> 6, id))
    }

    /// Section 5.3.1.2: what this header leaves out is as in the chunk before.
    fn message_header(&mut self, format: u8, before: Head, continues: bool) -> Option<Head> {
        let mut head = before;
        if format <= 2 {
            head.field = self.number(3)?;
            head.extended = head.field == EXTENDED;
        }
        if format <= 1 {
            head.length = self.number(3)? as usize;
            head.header.kind = self.number(1)? as u8;
        }
        if format == 0 {
            head.header.stream = self.number(4)?.swap_bytes();
        }
        if head.extended {
            head.field = self.number(4)?;
        }
        if !continues {
            let base = if format == 0 { 0 } else { before.header.timestamp };
            head.header.timestamp = base.wrapping_add(head.field);
        }
        Some(head)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn any_message() -> impl Strategy<Value = Message> {
        let stamp = prop_oneof![any::<u32>(), EXTENDED - 2..EXTENDED + 3, Just(u32::MAX)];
        let body = prop_oneof![vec(any::<u8>(), 0..300), any::<u8>().prop_map(|b| vec![b; MAX_MESSAGE])];
        (2u32..16, stamp, any::<u8>(), any::<u32>(), body).prop_map(
            |(chunk_stream, timestamp, kind, stream, body)| Message {
                header: Header { chunk_stream, timestamp, kind, stream },
                body: body.into(),
            },
        )
    }

    /// Everything that a reader makes of bytes that arrive in steps of `step`.
    fn read(size: usize, bytes: &[u8], step: usize) -> Result<Vec<Message>, Malformed> {
        let mut reader = Reader { size, ..Reader::default() };
        let mut messages = Vec::new();
        for part in bytes.chunks(step) {
            reader.feed(part);
            while let Some(message) = reader.next_message()? {
                messages.push(message);
            }
            let held: usize = reader.streams.iter().map(|s| s.body.len()).sum();
            assert!(held <= MAX_STREAMS * MAX_MESSAGE && reader.input.len() <= MAX_MESSAGE + step + 18);
        }
        Ok(messages)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]
        #[test]
        fn what_is_written_is_read(
            messages in vec(any_message(), 0..6),
            size in prop_oneof![1usize..200, Just(4096), Just(65_536)],
            step in prop_oneof![1usize..40, Just(4096)],
        ) {
            let mut bytes = Vec::new();
            for message in &messages {
                write(&mut bytes, size, message.header, &message.body);
            }
            prop_assert_eq!(read(size, &bytes, step.max(bytes.len() / 500)), Ok(messages));
        }

        #[test]
        fn arbitrary_bytes_neither_panic_nor_pile_up(bytes in vec(any::<u8>(), 0..8192), size in 1usize..5000) {
            let _ = read(size, &bytes, 512);
        }
    }

    #[test]
    fn short_headers_take_the_rest_from_the_chunk_before() {
        let mut bytes = vec![0x03, 0, 0, 10, 0, 0, 1, 9, 1, 0, 0, 0, b'a'];
        bytes.extend([0x43, 0, 0, 5, 0, 0, 2, 8, b'b', b'c']); // type 1: five ms later, another length and kind
        bytes.extend([0x83, 0, 0, 7, b'd', b'e']); // type 2: seven ms later
        bytes.extend([0xC3, b'f', b'g']); // type 3: as far again
        let seen: Vec<_> = read(128, &bytes, 1).unwrap().into_iter().map(|m| m.header.timestamp).collect();
        assert_eq!(seen, [10, 15, 22, 29]);
    }

    #[test]
    fn wide_chunk_stream_ids_are_read() {
        let message = |basic: &[u8]| [basic, &[0, 0, 0, 0, 0, 1, 9, 1, 0, 0, 0, b'x']].concat();
        let bytes = [message(&[0, 1]), message(&[1, 2, 1])].concat();
        let ids: Vec<_> = read(128, &bytes, 1).unwrap().into_iter().map(|m| m.header.chunk_stream).collect();
        assert_eq!(ids, [65, 64 + 2 + 256]);
    }

    #[test]
    fn messages_without_measure_are_refused() {
        let long = [3, 0, 0, 0, 0x01, 0x00, 0x01, 9, 1, 0, 0, 0];
        assert!(read(128, &long, 4).is_err());
        assert!(read(128, &[0xC3, 1, 2], 4).is_err());
        assert!(Reader::default().set_size(0).is_err());
    }
}
