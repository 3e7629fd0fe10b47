//! One connection: handshake, session, recording.

use super::arrivals::Arrivals;
use super::flv::{self, FlvFile, Tag};
use super::{Busy, Journal};
use anyhow::{Context, Result, bail};
use rml_rtmp::chunk_io::ChunkSerializer;
use rml_rtmp::handshake::{Handshake, HandshakeProcessResult, PeerType};
use rml_rtmp::messages::RtmpMessage;
use rml_rtmp::rml_amf0::Amf0Value;
use rml_rtmp::sessions::{ServerSession, ServerSessionConfig, ServerSessionEvent, ServerSessionResult};
use rml_rtmp::time::RtmpTimestamp;
use serde_json::json;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;

/// Longest handshake, longest write.
const IMPATIENCE: Duration = Duration::from_secs(10);
/// A publisher that says nothing for so long is gone.
const SILENCE: Duration = Duration::from_secs(60);
/// How long a refused publisher may take to read why.
const FAREWELL: Duration = Duration::from_secs(1);

/// Keys that begin like this are refused.
const BAD_KEYS: &str = "bad-";
const DENIED: (&str, &str) = ("NetStream.Publish.Denied", "This key is not known here");
const BUSY: (&str, &str) = ("NetStream.Publish.BadName", "Already publishing");

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The publisher took its leave (deleteStream).
    Unpublished,
    /// The connection was closed without a word.
    Closed,
    /// The key was in use, or a bad one.
    Refused,
    /// The sink is ending.
    Stopped,
}

/// State of one connection.
pub(super) struct Connection {
    folder: PathBuf,
    journal: Arc<Journal>,
    busy: Busy,
    recording: Option<Recording>,
}

/// What is being recorded.
struct Recording {
    number: u64,
    place: (String, String),
    file: FlvFile,
    nal_size: usize,
    idr_seen: bool,
    tags: [u64; 2],
    arrivals: Arrivals,
}

impl Connection {
    pub(super) fn new(folder: &Path, journal: Arc<Journal>, busy: Busy) -> Self {
        Self { folder: folder.to_owned(), journal, busy, recording: None }
    }

    /// Lives until the peer leaves or `stop` says true; whatever was recorded is closed.
    pub(super) async fn run(mut self, mut stream: TcpStream, mut stop: watch::Receiver<bool>) {
        let ended = tokio::select! {
            ended = self.converse(&mut stream) => ended,
            _ = stop.wait_for(|stop| *stop) => Ok(End::Stopped),
        };
        self.close(&ended);
        if matches!(ended, Ok(End::Refused)) {
            let _ = stream.shutdown().await;
            let _ = timeout(FAREWELL, stream.read(&mut [0; 4096])).await;
        }
    }

    async fn converse(&mut self, stream: &mut TcpStream) -> Result<End> {
        let rest = timeout(IMPATIENCE, shake_hands(stream)).await.context("wait for the handshake")??;
        let (mut session, greeting) =
            ServerSession::new(ServerSessionConfig::new()).context("begin a session")?;
        let mut input = session.handle_input(&rest).context("read the first messages")?;
        input.splice(0..0, greeting);
        let mut buffer = vec![0; 64 * 1024];
        loop {
            if let Some(end) = self.react(stream, &mut session, input).await? {
                return Ok(end);
            }
            let read = timeout(SILENCE, stream.read(&mut buffer)).await.context("wait for media")?;
            match read.context("read from the publisher")? {
                0 => return Ok(End::Closed),
                n => input = session.handle_input(&buffer[..n]).context("read a message")?,
            }
        }
    }

    async fn react(
        &mut self,
        stream: &mut TcpStream,
        session: &mut ServerSession,
        results: Vec<ServerSessionResult>,
    ) -> Result<Option<End>> {
        let mut waiting: std::collections::VecDeque<_> = results.into();
        while let Some(result) = waiting.pop_front() {
            match result {
                ServerSessionResult::OutboundResponse(packet) => send(stream, &packet.bytes).await?,
                ServerSessionResult::RaisedEvent(ServerSessionEvent::PublishStreamRequested {
                    request_id,
                    app_name,
                    stream_key,
                    ..
                }) => {
                    if let Some((code, words)) = self.begin((app_name, stream_key))? {
                        send(stream, &refusal(code, words)?).await?;
                        return Ok(Some(End::Refused));
                    }
                    waiting.extend(session.accept_request(request_id).context("accept the publish")?);
                }
                ServerSessionResult::RaisedEvent(ServerSessionEvent::ConnectionRequested {
                    request_id,
                    ..
                }) => {
                    waiting.extend(session.accept_request(request_id).context("accept the connection")?);
                }
                ServerSessionResult::RaisedEvent(ServerSessionEvent::PublishStreamFinished { .. }) => {
                    return Ok(Some(End::Unpublished));
                }
                ServerSessionResult::RaisedEvent(event) => self.media(event)?,
                ServerSessionResult::UnhandleableMessageReceived(_) => {}
            }
        }
        Ok(None)
    }

    /// Begins a recording; gives code and words of a refusal where somebody else has the key or it is a bad one.
    fn begin(&mut self, place: (String, String)) -> Result<Option<(&'static str, &'static str)>> {
        if place.1.starts_with(BAD_KEYS) {
            self.journal.write("refused", json!({"app": place.0, "code": DENIED.0}));
            return Ok(Some(DENIED));
        }
        let free = !place.1.is_empty() && {
            let mut busy = self.busy.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            self.recording.is_none() && busy.insert(place.clone())
        };
        if !free {
            self.journal.write("refused", json!({"app": place.0, "code": BUSY.0}));
            return Ok(Some(BUSY));
        }
        let number = self.journal.next_publish();
        let name = format!("publish-{number}.flv");
        let file = FlvFile::create(&self.folder.join(&name)).context("make the recording")?;
        self.journal.write("publish", json!({"publish": number, "app": place.0, "file": name}));
        let arrivals = Arrivals::create(&self.folder.join(format!("publish-{number}.arrivals")))
            .context("make the list of arrivals")?;
        let (nal_size, idr_seen, tags) = (4, false, [0; 2]);
        self.recording = Some(Recording { number, place, file, nal_size, idr_seen, tags, arrivals });
        Ok(None)
    }

    fn media(&mut self, event: ServerSessionEvent) -> Result<()> {
        let Some(recording) = &mut self.recording else { return Ok(()) };
        match event {
            ServerSessionEvent::StreamMetadataChanged { metadata, .. } => {
                recording.file.tag(Tag::Script, 0, &flv::on_meta_data(&metadata))
            }
            ServerSessionEvent::AudioDataReceived { data, timestamp, .. } => {
                recording.tags[0] += 1;
                recording.arrivals.note('a', timestamp.value)?;
                recording.file.tag(Tag::Audio, timestamp.value, &data)
            }
            ServerSessionEvent::VideoDataReceived { data, timestamp, .. } => {
                recording.arrivals.note('v', timestamp.value)?;
                recording.nal_size = flv::nal_size(&data).unwrap_or(recording.nal_size);
                if !recording.idr_seen && flv::has_idr(&data, recording.nal_size) {
                    recording.idr_seen = true;
                    self.journal.write("first_idr", json!({"publish": recording.number}));
                }
                recording.file.tag(Tag::Video, timestamp.value, &data)
            }
            _ => Ok(()),
        }
        .context("write the recording")
    }

    fn close(&mut self, ended: &Result<End>) {
        let Some(recording) = self.recording.take() else { return };
        let reason = match ended {
            Ok(End::Unpublished) => "unpublish".to_owned(),
            Ok(End::Stopped) => "sink stopped".to_owned(),
            Ok(End::Closed | End::Refused) => "closed".to_owned(),
            Err(error) => format!("{error:#}"),
        };
        let [audio, video] = recording.tags;
        let (publish, bytes) = (recording.number, recording.file.bytes());
        let on_disk = recording.file.close().is_ok();
        let details = json!({"publish": publish, "reason": reason, "bytes": bytes, "audio_tags": audio,
            "video_tags": video, "on_disk": on_disk});
        self.journal.write("close", details);
        self.busy.lock().unwrap_or_else(std::sync::PoisonError::into_inner).remove(&recording.place);
    }
}

/// Shakes hands as a server; gives what came after.
async fn shake_hands(stream: &mut TcpStream) -> Result<Vec<u8>> {
    let mut handshake = Handshake::new(PeerType::Server);
    let mut buffer = [0; 4096];
    loop {
        let n = stream.read(&mut buffer).await.context("read the handshake")?;
        if n == 0 {
            bail!("closed during the handshake");
        }
        match handshake.process_bytes(&buffer[..n]).context("understand the handshake")? {
            HandshakeProcessResult::InProgress { response_bytes } => send(stream, &response_bytes).await?,
            HandshakeProcessResult::Completed { response_bytes, remaining_bytes } => {
                send(stream, &response_bytes).await?;
                return Ok(remaining_bytes);
            }
        }
    }
}

async fn send(stream: &mut TcpStream, bytes: &[u8]) -> Result<()> {
    timeout(IMPATIENCE, stream.write_all(bytes))
        .await
        .context("wait to write")?
        .context("write to the publisher")
}

/// A refusal, as servers word it. The session would answer `_error`, which publishers
/// do not expect here; a serializer of its own writes full headers, which can be read in any state.
fn refusal(code: &str, words: &str) -> Result<Vec<u8>> {
    let text = |value: &str| Amf0Value::Utf8String(value.into());
    let status: HashMap<String, Amf0Value> = [
        ("level".to_owned(), text("error")),
        ("code".to_owned(), text(code)),
        ("description".to_owned(), text(words)),
    ]
    .into();
    let message = RtmpMessage::Amf0Command {
        command_name: "onStatus".into(),
        transaction_id: 0.0,
        command_object: Amf0Value::Null,
        additional_arguments: vec![Amf0Value::Object(status)],
    };
    let mut serializer = ChunkSerializer::new();
    let size = serializer.set_max_chunk_size(4096, RtmpTimestamp::new(0)).context("set the chunk size")?;
    let payload = message.into_message_payload(RtmpTimestamp::new(0), 1).context("word the refusal")?;
    let packet = serializer.serialize(&payload, true, false).context("word the refusal")?;
    Ok([size.bytes, packet.bytes].concat())
}
