//! A server on a port of its own, and scripted clients that speak to it over real sockets.

#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, reason = "tests, of which each file uses its part")]

use futures_util::{SinkExt, StreamExt};
use halloo_protocol::{
    ClientInfo, ClientMessage, Credential, DeviceId, Event, Hello, NumberedEvent, Reply, ReplyBody, ReplyResult,
    Request, Resume, SUBPROTOCOL, ServerMessage, UserId, Welcome,
};
use halloo_signaling::{
    Authenticator, ConnectionLimits, GuestPolicy, HubConfig, MediaPlane, OriginPolicy, Server, ServerConfig,
    token::{Verifier, VerifyingKey},
};
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::oneshot,
    task::JoinHandle,
};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{self, Message, client::IntoClientRequest, http::HeaderValue},
};

pub(crate) const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

pub(crate) fn config() -> ServerConfig {
    let key = VerifyingKey::hs256(None, SECRET).unwrap();
    ServerConfig {
        hub: HubConfig::default(),
        limits: ConnectionLimits::default(),
        authenticator: Authenticator {
            verifier: Verifier::new(vec![key], Some("test".into()), Duration::from_secs(5)),
            guests: GuestPolicy::Loopback,
        },
        origins: OriginPolicy::default(),
        behind_proxy: false,
        connections_per_address: 100,
        max_connections: 1_000,
        ice: Vec::new(),
        drain_grace: Duration::from_secs(2),
    }
}

pub(crate) struct Running {
    pub(crate) addr: SocketAddr,
    shutdown: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl Running {
    pub(crate) async fn start(config: ServerConfig) -> Self {
        Self::start_on("127.0.0.1:0".parse().unwrap(), config).await
    }

    pub(crate) async fn start_on(addr: SocketAddr, config: ServerConfig) -> Self {
        Self::start_whole(addr, config, None).await
    }

    pub(crate) async fn start_with(config: ServerConfig, media: Option<Arc<dyn MediaPlane>>) -> Self {
        Self::start_whole("127.0.0.1:0".parse().unwrap(), config, media).await
    }

    async fn start_whole(addr: SocketAddr, config: ServerConfig, media: Option<Arc<dyn MediaPlane>>) -> Self {
        let listener = TcpListener::bind(addr).await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (shutdown, rx) = oneshot::channel();
        let server = Server::new(config).unwrap();
        let server = match media {
            Some(plane) => server.with_media(plane),
            None => server,
        };
        let task = tokio::spawn(server.serve(listener, None, axum::Router::new(), async {
            let _ = rx.await;
        }));
        Self { addr, shutdown: Some(shutdown), task }
    }

    pub(crate) fn drain(&mut self) {
        self.shutdown.take().unwrap().send(()).unwrap();
    }

    pub(crate) async fn ended(self) {
        self.task.await.unwrap();
    }

    pub(crate) async fn get(&self, path: &str) -> (u16, String) {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut stream = TcpStream::connect(self.addr).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        let status = text.split(' ').nth(1).unwrap().parse().unwrap();
        (status, text)
    }

    /// The value of a metric.
    pub(crate) async fn metric(&self, name: &str) -> f64 {
        let (_, text) = self.get("/metrics").await;
        let line =
            text.lines().find(|line| line.starts_with(&format!("{name} "))).unwrap_or_else(|| panic!("no {name}"));
        line.rsplit(' ').next().unwrap().parse().unwrap()
    }

    /// Waits until a metric has this value.
    pub(crate) async fn until_metric(&self, name: &str, value: f64) {
        while (self.metric(name).await - value).abs() > f64::EPSILON {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

pub(crate) type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

pub(crate) fn request(addr: SocketAddr) -> tungstenite::handshake::client::Request {
    let mut request = format!("ws://{addr}/ws").into_client_request().unwrap();
    request.headers_mut().insert("sec-websocket-protocol", HeaderValue::from_static(SUBPROTOCOL));
    request
}

pub(crate) struct Client {
    pub(crate) socket: Socket,
    pub(crate) device: DeviceId,
    pub(crate) events: Vec<NumberedEvent>,
    pub(crate) last_seq: u64,
    next_id: u64,
}

pub(crate) enum Got {
    Reply(Reply),
    Event(NumberedEvent),
    Closed(Option<u16>),
}

pub(crate) fn hello(credential: Credential, device: &str, resume: Option<Resume>) -> Request {
    Request::Hello(Hello {
        credential,
        device: DeviceId::new(device).unwrap(),
        client: ClientInfo { name: "test".into(), version: "0".into() },
        resume,
    })
}

pub(crate) fn guest(name: &str) -> Credential {
    Credential::Guest { name: UserId::new(name).unwrap() }
}

impl Client {
    pub(crate) async fn connect(addr: SocketAddr, device: &str) -> Self {
        let (socket, response) = connect_async(request(addr)).await.unwrap();
        assert_eq!(response.headers()["sec-websocket-protocol"], SUBPROTOCOL);
        Self { socket, device: DeviceId::new(device).unwrap(), events: Vec::new(), last_seq: 0, next_id: 0 }
    }

    /// Connects and signs in as a guest.
    pub(crate) async fn guest(addr: SocketAddr, name: &str, device: &str) -> (Self, Welcome) {
        let mut client = Self::connect(addr, device).await;
        let welcome = client.welcome(hello(guest(name), device, None)).await;
        (client, welcome)
    }

    /// Connects and resumes the session of `welcome` after `last_seq`.
    pub(crate) async fn resume(addr: SocketAddr, device: &str, welcome: &Welcome, last_seq: u64) -> (Self, Welcome) {
        let mut client = Self::connect(addr, device).await;
        let resume = Resume { session: welcome.session.clone(), epoch: welcome.epoch.clone(), last_seq };
        let welcome = client.welcome(hello(guest(welcome.user.as_str()), device, Some(resume))).await;
        client.last_seq = if welcome.resumed { last_seq } else { 0 };
        (client, welcome)
    }

    pub(crate) async fn welcome(&mut self, hello: Request) -> Welcome {
        match self.ask(hello).await {
            ReplyBody::Result(ReplyResult::Welcome(welcome)) => welcome,
            other => panic!("no welcome: {other:?}"),
        }
    }

    pub(crate) async fn send_text(&mut self, text: String) {
        self.socket.send(Message::Text(text.into())).await.unwrap();
    }

    pub(crate) async fn send(&mut self, request: Request) -> u64 {
        self.next_id += 1;
        let text = serde_json::to_string(&ClientMessage { id: self.next_id, request }).unwrap();
        self.send_text(text).await;
        self.next_id
    }

    pub(crate) async fn receive(&mut self) -> Got {
        loop {
            let next = tokio::time::timeout(Duration::from_secs(20), self.socket.next()).await;
            match next.expect("a message within 20 s") {
                Some(Ok(Message::Text(text))) => {
                    return match serde_json::from_str(&text).unwrap() {
                        ServerMessage::Reply(reply) => Got::Reply(reply),
                        ServerMessage::Event(event) => {
                            assert_eq!(event.seq, self.last_seq + 1, "events are numbered without a gap");
                            self.last_seq = event.seq;
                            Got::Event(event)
                        }
                    };
                }
                Some(Ok(Message::Close(frame))) => return Got::Closed(frame.map(|f| f.code.into())),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Got::Closed(None),
            }
        }
    }

    /// Sends a request and waits for its reply; events that come before are kept.
    pub(crate) async fn ask(&mut self, request: Request) -> ReplyBody {
        let id = self.send(request).await;
        self.reply(id).await
    }

    pub(crate) async fn reply(&mut self, id: u64) -> ReplyBody {
        loop {
            match self.receive().await {
                Got::Reply(reply) => {
                    assert_eq!(reply.reply_to, id);
                    return reply.body;
                }
                Got::Event(event) => self.events.push(event),
                Got::Closed(code) => panic!("closed with {code:?} instead of a reply"),
            }
        }
    }

    pub(crate) async fn ok(&mut self, request: Request) {
        let shown = format!("{request:?}");
        assert_eq!(self.ask(request).await, ReplyBody::Result(ReplyResult::Ok), "{shown}");
    }

    pub(crate) async fn error(&mut self, request: Request) -> halloo_protocol::ErrorBody {
        match self.ask(request).await {
            ReplyBody::Error(error) => error,
            other => panic!("no error: {other:?}"),
        }
    }

    pub(crate) async fn event(&mut self) -> Event {
        if !self.events.is_empty() {
            return self.events.remove(0).event;
        }
        match self.receive().await {
            Got::Event(event) => event.event,
            Got::Reply(reply) => panic!("a reply instead of an event: {reply:?}"),
            Got::Closed(code) => panic!("closed with {code:?} instead of an event"),
        }
    }

    /// Reads until the connection ends, and gives the close code.
    pub(crate) async fn closed(&mut self) -> Option<u16> {
        loop {
            if let Got::Closed(code) = self.receive().await {
                return code;
            }
        }
    }
}
