//! A second, independent RTMP implementation (the crate `rml_rtmp`) as a server that does what a test tells it.

use rml_rtmp::chunk_io::ChunkSerializer;
use rml_rtmp::handshake::{Handshake, HandshakeProcessResult, PeerType};
use rml_rtmp::messages::RtmpMessage;
use rml_rtmp::rml_amf0::Amf0Value;
use rml_rtmp::sessions::{ServerSession, ServerSessionConfig, ServerSessionEvent, ServerSessionResult};
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
}

/// What the server does on the connection that is open.
#[derive(Debug)]
pub enum Order {
    Ping,
    /// onStatus with level error.
    Fail(&'static str, &'static str),
    Close,
}

pub struct Server {
    pub port: u16,
    pub orders: mpsc::UnboundedSender<Order>,
    events: Arc<Mutex<Vec<ServerSessionEvent>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Server {
    /// Answers the first connections as told, and accepts all later ones.
    pub async fn start(answers: &[Answer]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
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

    pub fn url(&self, app: &str) -> String {
        format!("rtmp://127.0.0.1:{}/{app}", self.port)
    }

    /// Everything that was heard so far, of all connections.
    pub fn events(&self) -> Vec<ServerSessionEvent> {
        self.events.lock().unwrap().clone()
    }

    /// Waits for the first event of which `pick` makes something.
    pub async fn wait_for<T>(&self, what: &str, pick: impl Fn(&ServerSessionEvent) -> Option<T>) -> T {
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
    events: &'a Mutex<Vec<ServerSessionEvent>>,
}

impl Connection<'_> {
    async fn serve(
        mut stream: TcpStream,
        answer: Answer,
        events: &Mutex<Vec<ServerSessionEvent>>,
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
        loop {
            tokio::select! {
                length = self.stream.read(&mut bytes) => match length? {
                    0 => return Ok(()),
                    length => self.hear(&bytes[..length]).await?,
                },
                Some(order) = orders.recv() => match order {
                    Order::Ping => {
                        let (packet, _) = self.session.send_ping_request().unwrap();
                        self.stream.write_all(&packet.bytes).await?;
                    }
                    Order::Fail(code, description) => self.stream.write_all(&status(code, description)).await?,
                    Order::Close => return Ok(()),
                },
            }
        }
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

    fn decide(&mut self, event: &ServerSessionEvent) -> Vec<ServerSessionResult> {
        let (id, refusal) = match (event, &self.answer) {
            (ServerSessionEvent::ConnectionRequested { request_id, .. }, Answer::RejectApp(code, words)) => {
                (*request_id, Some((code, words)))
            }
            (
                ServerSessionEvent::PublishStreamRequested { request_id, .. },
                Answer::RejectPublish(code, words),
            ) => (*request_id, Some((code, words))),
            (ServerSessionEvent::ConnectionRequested { request_id, .. }, _)
            | (ServerSessionEvent::PublishStreamRequested { request_id, .. }, _) => (*request_id, None),
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

/// onStatus with level error, for the message stream of the publication.
fn status(code: &str, description: &str) -> Vec<u8> {
    let text = |text: &str| Amf0Value::Utf8String(text.to_owned());
    let information = HashMap::from([
        ("level".to_owned(), text("error")),
        ("code".to_owned(), text(code)),
        ("description".to_owned(), text(description)),
    ]);
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
