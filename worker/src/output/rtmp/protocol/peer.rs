//! What a server says during the life of a connection: control messages are answered here, the rest becomes events.

use super::amf::{self, Value};
use super::chunk::{self, Header, Malformed, Message, Reader, kind};

/// The window we ask acknowledgements for, in bytes; the figure that publishers commonly use.
const WINDOW: u32 = 2_500_000;
/// Longest address that a server may send us to, bytes.
const LONGEST_URL: usize = 1024;
const RECONNECT_REQUEST: &str = "NetConnection.Connect.ReconnectRequest";
const PING_REQUEST: u16 = 6;
const PING_RESPONSE: u16 = 7;

/// Something that a publisher must know of.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// `_result` or `_error` to the command with this transaction number.
    Answer {
        /// Transaction number of the command.
        to: u32,
        /// The last argument of `_result` (for createStream: the stream's number), or what `_error` said.
        outcome: Result<Value, Status>,
    },
    /// `onStatus`.
    Status(Status),
    /// The server wants a new connection at the next key frame, elsewhere if it says where (Enhanced RTMP v2,
    /// NetConnection.Connect.ReconnectRequest).
    Reconnect(Option<String>),
    /// Bytes that the server has received, modulo 2^32.
    Acknowledged(u32),
}

/// The information object of `onStatus` and `_error`, each text cut to 300 characters.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Status {
    /// `status`, `warning` or `error`.
    pub level: String,
    /// Such as `NetStream.Publish.BadName`; may be empty.
    pub code: String,
    /// For people; may be empty, and may repeat the stream key.
    pub description: String,
}

impl Status {
    /// Whether it says that something failed.
    pub fn is_error(&self) -> bool {
        self.level == "error"
    }
}

/// The listening half of a connection.
#[derive(Debug, Default)]
pub struct Peer {
    reader: Reader,
    received: u64,
    acknowledged: u64,
    /// Bytes after which the server wants an Acknowledgement; 0 while it has not asked.
    window: u64,
    told_window: bool,
}

impl Peer {
    /// Takes bytes from the network, appends what must be answered to `replies`, and returns what happened.
    ///
    /// # Errors
    /// When the bytes are not RTMP; the connection is of no use then.
    pub fn receive(&mut self, bytes: &[u8], replies: &mut Vec<u8>) -> Result<Vec<Event>, Malformed> {
        self.received += bytes.len() as u64;
        self.reader.feed(bytes);
        let mut events = Vec::new();
        while let Some(message) = self.reader.next_message()? {
            events.extend(self.hear(&message, replies)?);
        }
        self.acknowledge(replies);
        Ok(events)
    }

    fn hear(&mut self, message: &Message, replies: &mut Vec<u8>) -> Result<Option<Event>, Malformed> {
        match message.header.kind {
            kind::SET_CHUNK_SIZE => self.reader.set_size(number(message)?)?,
            kind::ABORT => self.reader.abort(number(message)?),
            kind::WINDOW_SIZE => self.window = u64::from(number(message)?),
            kind::PEER_BANDWIDTH => self.tell_window(replies),
            kind::USER_CONTROL => answer_ping(&message.body, replies),
            kind::ACKNOWLEDGEMENT => return Ok(Some(Event::Acknowledged(number(message)?))),
            kind::COMMAND => return Ok(command(&message.body)),
            kind::COMMAND_AMF3 => return Ok(message.body.get(1..).and_then(command)),
            _ => {}
        }
        Ok(None)
    }

    /// Section 5.4.3: after as many bytes as the window of the server, it is told how many have come.
    fn acknowledge(&mut self, replies: &mut Vec<u8>) {
        if self.window > 0 && self.received - self.acknowledged >= self.window {
            self.acknowledged = self.received;
            control(kind::ACKNOWLEDGEMENT, &(self.received as u32).to_be_bytes(), replies);
        }
    }

    /// Section 5.4.5: Set Peer Bandwidth is answered with our window, once.
    fn tell_window(&mut self, replies: &mut Vec<u8>) {
        if !self.told_window {
            self.told_window = true;
            control(kind::WINDOW_SIZE, &WINDOW.to_be_bytes(), replies);
        }
    }
}

/// Appends a protocol control message (section 5.4: chunk stream 2, message stream 0).
pub fn control(kind: u8, body: &[u8], out: &mut Vec<u8>) {
    chunk::write(out, chunk::DEFAULT_SIZE, Header { chunk_stream: 2, timestamp: 0, kind, stream: 0 }, body);
}

fn number(message: &Message) -> Result<u32, Malformed> {
    let bytes = message.body.first_chunk().ok_or(Malformed("a control message that is too short"))?;
    Ok(u32::from_be_bytes(*bytes))
}

/// Section 7.1.7: a ping returns with the same four bytes.
fn answer_ping(body: &[u8], replies: &mut Vec<u8>) {
    if let Some((event, stamp)) = body.split_first_chunk()
        && u16::from_be_bytes(*event) == PING_REQUEST
        && let Some(stamp) = stamp.get(..4)
    {
        control(kind::USER_CONTROL, &[&PING_RESPONSE.to_be_bytes(), stamp].concat(), replies);
    }
}

fn command(body: &[u8]) -> Option<Event> {
    let values = amf::decode(body);
    let name = values.first()?.as_text()?;
    let to = values.get(1).and_then(Value::as_number).unwrap_or(0.0) as u32;
    match name {
        "_result" => Some(Event::Answer { to, outcome: Ok(values.last()?.clone()) }),
        "_error" => Some(Event::Answer { to, outcome: Err(status(&values)) }),
        "onStatus" => Some(told(&values)),
        _ => None, // onBWDone, onFCPublish and their like ask for nothing
    }
}

fn told(values: &[Value]) -> Event {
    let status = status(values);
    if status.code != RECONNECT_REQUEST {
        return Event::Status(status);
    }
    let tc_url = information(values).and_then(|value| value.get("tcUrl")).and_then(Value::as_text);
    Event::Reconnect(tc_url.filter(|url| url.len() <= LONGEST_URL).map(str::to_owned))
}

fn information(values: &[Value]) -> Option<&Value> {
    values.iter().find(|value| value.get("code").or(value.get("description")).is_some())
}

fn status(values: &[Value]) -> Status {
    let information = information(values);
    let field = |name| information.and_then(|value| value.get(name)).and_then(Value::as_text);
    let cut = |text: Option<&str>| text.unwrap_or_default().chars().take(300).collect();
    Status { level: cut(field("level")), code: cut(field("code")), description: cut(field("description")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn said(kind: u8, body: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        control(kind, body, &mut bytes);
        bytes
    }

    fn spoken(values: &[Value]) -> Vec<u8> {
        let mut body = Vec::new();
        amf::encode(values, &mut body);
        said(kind::COMMAND, &body)
    }

    #[test]
    fn a_ping_is_answered_with_its_own_stamp() {
        let mut replies = Vec::new();
        let ping = said(kind::USER_CONTROL, &[0, 6, 1, 2, 3, 4]);
        assert_eq!(Peer::default().receive(&ping, &mut replies), Ok(vec![]));
        assert_eq!(replies, said(kind::USER_CONTROL, &[0, 7, 1, 2, 3, 4]));
    }

    #[test]
    fn a_window_is_acknowledged_whenever_it_is_full() {
        let (mut peer, mut replies) = (Peer::default(), Vec::new());
        let window = said(kind::WINDOW_SIZE, &20u32.to_be_bytes());
        peer.receive(&window, &mut replies).unwrap();
        assert!(replies.is_empty());
        peer.receive(&window, &mut replies).unwrap();
        assert_eq!(replies, said(kind::ACKNOWLEDGEMENT, &(2 * window.len() as u32).to_be_bytes()));
    }

    #[test]
    fn bandwidth_is_answered_once() {
        let (mut peer, mut replies) = (Peer::default(), Vec::new());
        peer.receive(&said(kind::PEER_BANDWIDTH, &[0, 0, 1, 0, 2]).repeat(2), &mut replies).unwrap();
        assert_eq!(replies, said(kind::WINDOW_SIZE, &WINDOW.to_be_bytes()));
    }

    #[test]
    fn errors_keep_their_code_and_description() {
        let information = vec![
            ("level".to_owned(), Value::text("error")),
            ("code".to_owned(), Value::text("NetStream.Publish.BadName")),
            ("description".to_owned(), Value::text("Already publishing")),
        ];
        let bytes =
            spoken(&[Value::text("onStatus"), Value::Number(0.0), Value::Null, Value::Object(information)]);
        let events = Peer::default().receive(&bytes, &mut Vec::new()).unwrap();
        let [Event::Status(status)] = &events[..] else { panic!("{events:?}") };
        assert!(status.is_error());
        assert_eq!(status.code, "NetStream.Publish.BadName");
        assert_eq!(status.description, "Already publishing");
    }

    #[test]
    fn a_wish_for_a_new_connection_is_told_with_its_address() {
        let asked = |more: Vec<(String, Value)>| {
            let code = ("code".to_owned(), Value::text(RECONNECT_REQUEST));
            let information = Value::Object([vec![code], more].concat());
            let bytes = spoken(&[Value::text("onStatus"), Value::Number(0.0), Value::Null, information]);
            Peer::default().receive(&bytes, &mut Vec::new()).unwrap()
        };
        assert_eq!(asked(vec![]), [Event::Reconnect(None)]);
        let there = ("tcUrl".to_owned(), Value::text("rtmp://c/live"));
        assert_eq!(asked(vec![there]), [Event::Reconnect(Some("rtmp://c/live".to_owned()))]);
        let endless = ("tcUrl".to_owned(), Value::text("x".repeat(5_000)));
        assert_eq!(asked(vec![endless]), [Event::Reconnect(None)]);
    }

    #[test]
    fn the_server_chooses_its_chunk_size() {
        let (mut peer, mut out) = (Peer::default(), said(kind::SET_CHUNK_SIZE, &4096u32.to_be_bytes()));
        let header = Header { chunk_stream: 3, timestamp: 0, kind: kind::COMMAND, stream: 0 };
        let mut body = Vec::new();
        amf::encode(&[Value::text("_result"), Value::Number(4.0), Value::text("x".repeat(900))], &mut body);
        chunk::write(&mut out, 4096, header, &body);
        let events = peer.receive(&out, &mut Vec::new()).unwrap();
        assert!(matches!(&events[..], [Event::Answer { to: 4, outcome: Ok(Value::Text(_)) }]), "{events:?}");
    }

    proptest! {
        #[test]
        fn arbitrary_messages_do_no_harm(kind in 0u8..24, body in proptest::collection::vec(any::<u8>(), 0..120)) {
            let mut replies = Vec::new();
            let _ = Peer::default().receive(&said(kind, &body), &mut replies);
            prop_assert!(replies.len() < 64);
        }
    }
}
