//! The way from an open stream of bytes to `NetStream.Publish.Start`, and the polite way out.

use super::amf::{self, Value};
use super::chunk::{self, Header, Malformed, kind};
use super::peer::{self, Event, Peer, Status};
use super::url::Target;
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Bytes in a chunk of ours; large, so that most pictures need few headers.
pub const CHUNK_SIZE: usize = 16 * 1024;

/// The bit of `capsEx` that says "reconnect" (Enhanced RTMP v2, NetConnection connect).
const CAPS_RECONNECT: f64 = 1.0;

const CONNECT: u32 = 1;
const RELEASE_STREAM: u32 = 2;
const FC_PUBLISH: u32 = 3;
const CREATE_STREAM: u32 = 4;
const PUBLISH: u32 = 5;
const FC_UNPUBLISH: u32 = 6;
const DELETE_STREAM: u32 = 7;

/// Why a publication was not to be had, or ended.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The connection broke or was closed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The peer does not speak RTMP.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// The server said no. What it said may repeat the key.
    #[error("{}", .0.code)]
    Refused(Status),
}

/// A connection on which media may be sent.
#[derive(Debug)]
pub struct Publication {
    /// The listening half, with what it has learned so far.
    pub peer: Peer,
    /// Message stream for the media.
    pub stream: u32,
}

/// Connects to the application, after [`super::handshake::shake`] has given `c2`. The key is not told.
///
/// # Errors
/// When the server refuses, speaks nonsense, or closes the connection.
pub async fn connect<'a, S>(io: &'a mut S, c2: Vec<u8>, target: &Target) -> Result<Talk<'a, S>, PublishError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut out = c2;
    peer::control(kind::SET_CHUNK_SIZE, &(CHUNK_SIZE as u32).to_be_bytes(), &mut out);
    command("connect", CONNECT, 0, &[connect_fields(target)], &mut out);
    let mut talk = Talk { io, peer: Peer::default(), out, heard: Vec::new() };
    talk.answer_to(CONNECT).await?;
    Ok(talk)
}

/// Connects to the application and publishes, after [`super::handshake::shake`] has given `c2`.
///
/// C2, Set Chunk Size and connect travel together, and so do releaseStream, FCPublish and createStream: four round
/// trips in all, with that of the handshake.
///
/// # Errors
/// When the server refuses, speaks nonsense, or closes the connection.
pub async fn publish<S>(io: &mut S, c2: Vec<u8>, target: &Target) -> Result<Publication, PublishError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut talk = connect(io, c2, target).await?;
    let key = Value::text(target.playpath.expose());
    let name = [Value::Null, key.clone()];
    command("releaseStream", RELEASE_STREAM, 0, &name, &mut talk.out);
    command("FCPublish", FC_PUBLISH, 0, &name, &mut talk.out);
    command("createStream", CREATE_STREAM, 0, &[Value::Null], &mut talk.out);
    let stream = talk.answer_to(CREATE_STREAM).await?.as_number().unwrap_or(1.0) as u32;

    command("publish", PUBLISH, stream, &[Value::Null, key, Value::text("live")], &mut talk.out);
    talk.publish_start().await?;
    Ok(Publication { peer: talk.peer, stream })
}

/// Appends FCUnpublish and deleteStream, after which the connection is closed.
pub fn unpublish(stream: u32, target: &Target, out: &mut Vec<u8>) {
    let key = Value::text(target.playpath.expose());
    command("FCUnpublish", FC_UNPUBLISH, 0, &[Value::Null, key], out);
    command("deleteStream", DELETE_STREAM, 0, &[Value::Null, Value::Number(f64::from(stream))], out);
}

fn connect_fields(target: &Target) -> Value {
    let field = |name: &str, value: &str| (name.to_owned(), Value::text(value));
    Value::Object(vec![
        field("app", &target.app),
        field("type", "nonprivate"),
        field("flashVer", "FMLE/3.0 (compatible; stream-controller)"),
        field("tcUrl", &target.tc_url()),
        // Enhanced RTMP, v2: we follow a server that asks for a new connection.
        ("capsEx".to_owned(), Value::Number(CAPS_RECONNECT)),
    ])
}

fn command(name: &str, transaction: u32, stream: u32, arguments: &[Value], out: &mut Vec<u8>) {
    let mut body = Vec::new();
    amf::encode(&[Value::text(name), Value::Number(f64::from(transaction))], &mut body);
    amf::encode(arguments, &mut body);
    chunk::write(
        out,
        CHUNK_SIZE,
        Header { chunk_stream: 3, timestamp: 0, kind: kind::COMMAND, stream },
        &body,
    );
}

/// Question and answer, before media flows.
#[derive(Debug)]
pub struct Talk<'a, S> {
    io: &'a mut S,
    peer: Peer,
    out: Vec<u8>,
    /// What has been heard and not been looked at, newest first.
    heard: Vec<Event>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Talk<'_, S> {
    async fn answer_to(&mut self, transaction: u32) -> Result<Value, PublishError> {
        loop {
            match self.next().await? {
                Event::Answer { to, outcome: Ok(value) } if to == transaction => return Ok(value),
                other => accept(other)?,
            }
        }
    }

    async fn publish_start(&mut self) -> Result<(), PublishError> {
        loop {
            match self.next().await? {
                Event::Status(status) if status.code == "NetStream.Publish.Start" => return Ok(()),
                other => accept(other)?,
            }
        }
    }

    /// Sends what is waiting to be sent, then gives the next thing heard.
    async fn next(&mut self) -> Result<Event, PublishError> {
        loop {
            if !self.out.is_empty() {
                self.io.write_all(&self.out).await?;
                self.io.flush().await?;
                self.out.clear();
            }
            if let Some(event) = self.heard.pop() {
                return Ok(event);
            }
            let mut bytes = [0; 2048];
            let length = self.io.read(&mut bytes).await?;
            if length == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
            self.heard = self.peer.receive(&bytes[..length], &mut self.out)?;
            self.heard.reverse();
        }
    }
}

/// Errors to releaseStream and FCPublish are no errors: many servers do not know them. Every other error is
/// one, whatever transaction it names: some servers name none.
fn accept(event: Event) -> Result<(), PublishError> {
    match event {
        Event::Answer { to: RELEASE_STREAM | FC_PUBLISH, .. } => Ok(()),
        Event::Answer { outcome: Err(status), .. } => Err(PublishError::Refused(status)),
        Event::Status(status) if status.is_error() => Err(PublishError::Refused(status)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::handshake;
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;
    use state::secret::Secret;

    /// What a server might say: messages of any kind with any body, and bytes that are none.
    fn any_talk() -> impl Strategy<Value = Vec<u8>> {
        let value = prop_oneof![
            Just(Value::text("_result")),
            Just(Value::text("onStatus")),
            (0.0..8.0).prop_map(|n: f64| Value::Number(n.floor())),
            Just(Value::Null),
            "[a-zA-Z.]{0,12}".prop_map(|code| Value::Object(vec![("code".to_owned(), Value::text(code))])),
        ];
        let command = vec(value, 0..5).prop_map(|values| {
            let mut body = Vec::new();
            amf::encode(&values, &mut body);
            (kind::COMMAND, body)
        });
        let message = prop_oneof![command, (0u8..24, vec(any::<u8>(), 0..200))];
        let chunk = (2u32..8, message).prop_map(|(chunk_stream, (kind, body))| {
            let mut out = Vec::new();
            let header = Header { chunk_stream, timestamp: 0, kind, stream: 0 };
            chunk::write(&mut out, chunk::DEFAULT_SIZE, header, &body);
            out
        });
        vec(prop_oneof![3 => chunk, 1 => vec(any::<u8>(), 0..40)], 0..30).prop_map(|parts| parts.concat())
    }

    /// Publishes to a server that shakes hands, says `talk` and hangs up. How many bytes it was told.
    async fn publish_to(greeting: Vec<u8>, talk: Vec<u8>) -> usize {
        let (mut ours, theirs) = tokio::io::duplex(1 << 20);
        let (mut hears, mut says) = tokio::io::split(theirs);
        says.write_all(&[greeting, talk].concat()).await.unwrap();
        says.shutdown().await.unwrap();
        let target = Target::parse("rtmp://h/a", &Secret::new("key")).unwrap();
        if let Ok(c2) = handshake::shake(&mut ours).await {
            let _ = publish(&mut ours, c2, &target).await;
        }
        drop(ours);
        let mut told = Vec::new();
        hears.read_to_end(&mut told).await.unwrap();
        told.len()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]
        #[test]
        fn whatever_a_server_says_it_ends_and_little_is_told(
            greets in prop_oneof![4 => Just(true), 1 => Just(false)],
            talk in any_talk(),
        ) {
            let greeting = if greets { [vec![3], vec![0; 2 * 1536]].concat() } else { Vec::new() };
            let said = talk.len();
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let told = runtime.block_on(publish_to(greeting, talk));
            prop_assert!(told < 6_000 + 8 * said, "{told} bytes for {said}");
        }
    }
}
