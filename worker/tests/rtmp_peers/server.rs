//! A second, independent RTMP implementation (the crate `rml_rtmp`) as a server that does what a test tells it.

use rml_rtmp::chunk_io::ChunkSerializer;
use rml_rtmp::handshake::{Handshake, HandshakeProcessResult, PeerType};
use rml_rtmp::messages::RtmpMessage;
use rml_rtmp::rml_amf0::Amf0Value;
use rml_rtmp::sessions::{
    ServerSession, ServerSessionConfig, ServerSessionEvent as Event, ServerSessionResult,
};
use rml_rtmp::time::RtmpTimestamp;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

/// How one connection is answered.
#[derive(Debug, Clone)]
pub enum Answer {
    Accept,
    RejectApp(&'static str, &'static str),
    RejectPublish(&'static str, &'static str),
    /// Accepts the connection and says nothing, ever.
    Silence,
    /// Answers with the bytes of another protocol.
    Babble,
    /// Accepts everything and closes its side 1.5 s after the publisher did.
    Lingers,
    /// Accepts everything and reads a few kilobytes a second, until it is told to hurry.
    Slow,
}

/// What the server does on the connection that is open.
#[derive(Debug)]
pub enum Order {
    Ping,
    /// onStatus with level error.
    Fail(&'static str, &'static str),
    /// NetConnection.Connect.ReconnectRequest, with a `tcUrl` if there is one.
    Invite(Option<String>),
    /// Reads as fast as it can from now on.
    Hurry,
    /// Closes its own side and goes on reading.
    HalfClose,
    /// Resets the connection.
    Reset,
    Close,
}

pub struct Server {
    pub port: u16,
    pub orders: mpsc::UnboundedSender<Order>,
    events: Arc<Mutex<Vec<Event>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Server {
    /// Answers the first connections as told, and accepts all later ones.
    pub async fn start(answers: &[Answer]) -> Self {
        Self::start_on(TcpListener::bind("127.0.0.1:0").await.unwrap(), answers)
    }

    /// The same on a socket that is there already.
    pub fn start_on(listener: TcpListener, answers: &[Answer]) -> Self {
        let port = listener.local_addr().unwrap().port();
        let events = Arc::new(Mutex::new(Vec::new()));
        let (orders, mut waiting) = mpsc::unbounded_channel();
        let (kept, mut answers) = (Arc::clone(&events), VecDeque::from(answers.to_vec()));
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let answer = answers.pop_front().unwrap_or(Answer::Accept);
                let _ = Connection::serve(stream, answer, &kept, &mut waiting).await;
            }
        });
        Self { port, orders, events, task }
    }

    /// Stops listening and closes what is open.
    pub async fn end(mut self) {
        self.task.abort();
        let _ = (&mut self.task).await;
    }

    pub fn url(&self, app: &str) -> String {
        format!("rtmp://127.0.0.1:{}/{app}", self.port)
    }

    /// Everything that was heard so far, of all connections.
    pub fn events(&self) -> Vec<Event> {
        self.events.lock().unwrap().clone()
    }

    /// Media as they were heard: `m` metadata, `V` and `A` headers, `v` and `a` with their timestamps.
    pub fn heard(&self) -> Vec<(char, u32)> {
        let name =
            |letter: char, data: &[u8]| if data[1] == 0 { letter.to_ascii_uppercase() } else { letter };
        let media = |event: &Event| match event {
            Event::StreamMetadataChanged { .. } => Some(('m', 0)),
            Event::VideoDataReceived { data, timestamp, .. } => Some((name('v', data), timestamp.value)),
            Event::AudioDataReceived { data, timestamp, .. } => Some((name('a', data), timestamp.value)),
            _ => None,
        };
        self.events().iter().filter_map(media).collect()
    }

    /// The bodies of all media but headers, in order.
    pub fn bodies(&self) -> Vec<bytes::Bytes> {
        let body = |event: &Event| match event {
            Event::VideoDataReceived { data, .. } | Event::AudioDataReceived { data, .. } if data[1] == 1 => {
                Some(data.clone())
            }
            _ => None,
        };
        self.events().iter().filter_map(body).collect()
    }

    /// The keys of all publications, in order.
    pub fn keys(&self) -> Vec<String> {
        let key = |event: &Event| match event {
            Event::PublishStreamRequested { stream_key, .. } => Some(stream_key.clone()),
            _ => None,
        };
        self.events().iter().filter_map(key).collect()
    }

    /// How many publications were ended by deleteStream.
    pub fn finished(&self) -> usize {
        self.events().iter().filter(|event| matches!(event, Event::PublishStreamFinished { .. })).count()
    }

    /// Waits until so many publications were ended properly.
    pub async fn wait_for_goodbyes(&self, count: usize) {
        self.wait_for("a goodbye", |_| (self.finished() >= count).then_some(())).await;
    }

    /// Waits for the first event of which `pick` makes something.
    pub async fn wait_for<T>(&self, what: &str, pick: impl Fn(&Event) -> Option<T>) -> T {
        let began = std::time::Instant::now();
        loop {
            if let Some(found) = self.events().iter().find_map(&pick) {
                return found;
            }
            assert!(began.elapsed() < super::PATIENCE, "waited in vain for {what}");
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Connection<'a> {
    stream: TcpStream,
    session: ServerSession,
    answer: Answer,
    events: &'a Mutex<Vec<Event>>,
}

impl Connection<'_> {
    async fn serve(
        mut stream: TcpStream,
        answer: Answer,
        events: &Mutex<Vec<Event>>,
        orders: &mut mpsc::UnboundedReceiver<Order>,
    ) -> std::io::Result<()> {
        match answer {
            Answer::Silence => return std::future::pending().await,
            Answer::Babble => return stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await,
            _ => {}
        }
        let rest = shake(&mut stream).await?;
        // A small window, so that even the little that a publisher is told must be acknowledged.
        let config = ServerSessionConfig { window_ack_size: 400, ..ServerSessionConfig::new() };
        let (session, results) = ServerSession::new(config).unwrap();
        let mut connection = Connection { stream, session, answer, events };
        connection.handle(results).await?;
        connection.hear(&rest).await?;
        connection.talk(orders).await
    }

    async fn talk(&mut self, orders: &mut mpsc::UnboundedReceiver<Order>) -> std::io::Result<()> {
        let mut bytes = [0; 8192];
        let mut slow = matches!(self.answer, Answer::Slow);
        loop {
            let most = if slow && self.publishes() { 256 } else { bytes.len() };
            tokio::select! {
                length = self.stream.read(&mut bytes[..most]) => match length? {
                    0 if matches!(self.answer, Answer::Lingers) => {
                        tokio::time::sleep(std::time::Duration::from_millis(1500)).await;
                        return Ok(());
                    }
                    0 => return Ok(()),
                    length => self.hear(&bytes[..length]).await?,
                },
                Some(order) = orders.recv() => match order {
                    Order::Ping => {
                        let (packet, _) = self.session.send_ping_request().unwrap();
                        self.stream.write_all(&packet.bytes).await?;
                    }
                    Order::Fail(code, description) => {
                        let fields = [("level", "error"), ("code", code), ("description", description)];
                        self.stream.write_all(&status(&fields)).await?;
                    }
                    Order::Invite(tc_url) => {
                        let code = "NetConnection.Connect.ReconnectRequest";
                        let mut fields = vec![("level", "status"), ("code", code)];
                        fields.extend(tc_url.as_deref().map(|url| ("tcUrl", url)));
                        self.stream.write_all(&status(&fields)).await?;
                    }
                    Order::Hurry => slow = false,
                    Order::HalfClose => self.stream.shutdown().await?,
                    #[expect(deprecated, reason = "it blocks when it waits, and with zero it does not wait")]
                    Order::Reset => return self.stream.set_linger(Some(std::time::Duration::ZERO)),
                    Order::Close => return Ok(()),
                },
            }
            if most == 256 {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        }
    }

    fn publishes(&self) -> bool {
        let accepted = |event: &Event| matches!(event, Event::PublishStreamRequested { .. });
        self.events.lock().unwrap().iter().any(accepted)
    }

    async fn hear(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        let results = self.session.handle_input(bytes).unwrap();
        self.handle(results).await
    }

    async fn handle(&mut self, results: Vec<ServerSessionResult>) -> std::io::Result<()> {
        let mut waiting = VecDeque::from(results);
        while let Some(result) = waiting.pop_front() {
            match result {
                ServerSessionResult::OutboundResponse(packet) => self.stream.write_all(&packet.bytes).await?,
                ServerSessionResult::RaisedEvent(event) => {
                    waiting.extend(self.decide(&event));
                    self.events.lock().unwrap().push(event);
                }
                ServerSessionResult::UnhandleableMessageReceived(_) => {}
            }
        }
        Ok(())
    }

    fn decide(&mut self, event: &Event) -> Vec<ServerSessionResult> {
        let (id, refusal) = match (event, &self.answer) {
            (Event::ConnectionRequested { request_id, .. }, Answer::RejectApp(code, words)) => {
                (*request_id, Some((code, words)))
            }
            (Event::PublishStreamRequested { request_id, .. }, Answer::RejectPublish(code, words)) => {
                (*request_id, Some((code, words)))
            }
            (Event::ConnectionRequested { request_id, .. }, _)
            | (Event::PublishStreamRequested { request_id, .. }, _) => (*request_id, None),
            _ => return Vec::new(),
        };
        match refusal {
            Some((code, words)) => self.session.reject_request(id, code, words).unwrap(),
            None => self.session.accept_request(id).unwrap(),
        }
    }
}

async fn shake(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut handshake = Handshake::new(PeerType::Server);
    let mut bytes = [0; 4096];
    loop {
        let length = stream.read(&mut bytes).await?;
        if length == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        match handshake.process_bytes(&bytes[..length]).unwrap() {
            HandshakeProcessResult::InProgress { response_bytes } => {
                stream.write_all(&response_bytes).await?
            }
            HandshakeProcessResult::Completed { response_bytes, remaining_bytes } => {
                stream.write_all(&response_bytes).await?;
                return Ok(remaining_bytes);
            }
        }
    }
}

/// onStatus with these fields, for the message stream of the publication.
fn status(fields: &[(&str, &str)]) -> Vec<u8> {
    let text = |text: &str| Amf0Value::Utf8String(text.to_owned());
    let information: HashMap<_, _> =
        fields.iter().map(|(name, value)| ((*name).to_owned(), text(value))).collect();
    let message = RtmpMessage::Amf0Command {
        command_name: "onStatus".to_owned(),
        transaction_id: 0.0,
        command_object: Amf0Value::Null,
        additional_arguments: vec![Amf0Value::Object(information)],
    };
    let payload = message.into_message_payload(RtmpTimestamp::new(0), 1).unwrap();
    let mut serializer = ChunkSerializer::new();
    let _announced_already = serializer.set_max_chunk_size(4096, RtmpTimestamp::new(0)).unwrap();
    serializer.serialize(&payload, true, false).unwrap().bytes
}
