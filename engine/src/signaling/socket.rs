//! The task that drives [`ClientCore`] over a WebSocket.

use super::{
    core::{ClientCore, Notice, Output, Ticket},
    tls::{self, Fingerprint},
};
use crate::clock;
use futures_util::{SinkExt, StreamExt, stream::SplitSink};
use halloo_protocol::{ErrorBody, ErrorCode, Hello, MAX_MESSAGE_BYTES, ReplyResult, Request, SUBPROTOCOL};
use std::{collections::HashMap, future::pending, time::Duration};
use tokio::{
    net::TcpStream,
    sync::{
        mpsc::{self, error::TrySendError},
        oneshot,
    },
    task::JoinHandle,
};
use tokio_tungstenite::{
    Connector, MaybeTlsStream, WebSocketStream, connect_async_tls_with_config,
    tungstenite::{
        Message,
        client::IntoClientRequest,
        http::HeaderValue,
        protocol::{CloseFrame, WebSocketConfig, frame::coding::CloseCode as WsCloseCode},
    },
};
use url::Url;

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Where to and as whom.
#[derive(Clone, Debug)]
pub(crate) struct SignalConfig {
    /// `ws://` or `wss://`.
    pub(crate) url: Url,
    /// The sign-in.
    pub(crate) hello: Hello,
    /// The certificate to insist on.
    pub(crate) pin: Option<Fingerprint>,
    /// Spreads reconnection.
    pub(crate) seed: u64,
}

enum Command {
    Request(Request, oneshot::Sender<Result<ReplyResult, ErrorBody>>),
    NetworkChanged,
    Hurry,
    SignOut,
}

/// A handle on the task. The task ends when every handle is gone.
#[derive(Clone, Debug)]
pub(crate) struct SignalClient {
    commands: mpsc::Sender<Command>,
}

impl SignalClient {
    /// Starts the task. Notices come over `notices`, in order.
    pub(crate) fn spawn(
        config: SignalConfig,
        notices: mpsc::Sender<Notice>,
    ) -> Result<(Self, JoinHandle<()>), rustls::Error> {
        let tls = Connector::Rustls(tls::client_config(config.pin)?);
        let (commands, receiver) = mpsc::channel(256);
        let core = ClientCore::new(clock::now(), config.hello.clone(), config.seed);
        let task = Task { config, tls, core, notices, commands: receiver, waiting: HashMap::new() };
        Ok((Self { commands }, tokio::spawn(task.run())))
    }

    /// Makes a request and waits for its outcome.
    pub(crate) async fn request(&self, request: Request) -> Result<ReplyResult, ErrorBody> {
        let (sender, receiver) = oneshot::channel();
        self.commands.send(Command::Request(request, sender)).await.map_err(|_| signed_out())?;
        receiver.await.map_err(|_| signed_out())?
    }

    /// Makes a request at once, in order with the others; its outcome comes over the receiver. It fails, and is logged,
    /// where 256 requests wait already.
    pub(crate) fn submit(&self, request: Request) -> oneshot::Receiver<Result<ReplyResult, ErrorBody>> {
        let (sender, receiver) = oneshot::channel();
        if let Err(error) = self.commands.try_send(Command::Request(request, sender)) {
            tracing::warn!("a signaling request was dropped: too many wait, or the engine has signed out");
            if let TrySendError::Full(Command::Request(_, sender)) | TrySendError::Closed(Command::Request(_, sender)) =
                error
            {
                let _ = sender.send(Err(signed_out()));
            }
        }
        receiver
    }

    /// The network changed: connect anew.
    pub(crate) fn network_changed(&self) {
        let _ = self.commands.try_send(Command::NetworkChanged);
    }

    /// Somebody waits: the next attempt to connect comes soon.
    pub(crate) fn hurry(&self) {
        let _ = self.commands.try_send(Command::Hurry);
    }

    /// Ends the session without waiting; false where the task has ended already.
    pub(crate) fn leave(&self) -> bool {
        self.commands.try_send(Command::SignOut).is_ok()
    }

    /// Ends the session at once; returns when the server knows or two seconds have passed.
    pub(crate) async fn sign_out(&self) {
        if self.leave() {
            let _ = tokio::time::timeout(Duration::from_secs(2), self.commands.closed()).await;
        }
    }
}

fn signed_out() -> ErrorBody {
    ErrorBody::new(ErrorCode::NotSignedIn, "the engine has signed out, or too many requests wait")
}

struct Task {
    config: SignalConfig,
    tls: Connector,
    core: ClientCore,
    notices: mpsc::Sender<Notice>,
    commands: mpsc::Receiver<Command>,
    waiting: HashMap<Ticket, oneshot::Sender<Result<ReplyResult, ErrorBody>>>,
}

/// A connection that is being made, or stands.
enum Link {
    None,
    Opening(JoinHandle<Result<Socket, String>>),
    Open(SplitSink<Socket, Message>, futures_util::stream::SplitStream<Socket>),
}

impl Task {
    async fn run(mut self) {
        let mut link = Link::None;
        let mut leaving: Option<Ticket> = None;
        loop {
            while let Some(output) = self.core.poll_output() {
                if let Output::Outcome(ticket, _) = &output
                    && leaving == Some(*ticket)
                {
                    close(link).await;
                    return;
                }
                link = self.act(link, output).await;
            }
            let timeout = self.core.next_timeout().map(|at| at.since(clock::now()));
            tokio::select! {
                command = self.commands.recv() => match command {
                    Some(Command::Request(request, sender)) => {
                        let ticket = self.core.request(request);
                        self.waiting.insert(ticket, sender);
                    }
                    Some(Command::NetworkChanged) => self.core.handle_network_change(clock::now()),
                    Some(Command::Hurry) => self.core.hurry(clock::now()),
                    Some(Command::SignOut) => leaving = Some(self.core.request(Request::SignOut)),
                    None => return close(link).await,
                },
                incoming = next(&mut link) => link = self.take(link, incoming),
                () = async { match timeout { Some(t) => tokio::time::sleep(t).await, None => pending().await } } => {
                    self.core.handle_timeout(clock::now());
                }
            }
        }
    }

    async fn act(&mut self, link: Link, output: Output) -> Link {
        match output {
            Output::Connect => {
                let (config, tls) = (self.config.clone(), self.tls.clone());
                Link::Opening(tokio::spawn(async move { open(&config, tls).await }))
            }
            Output::Send(text) => match link {
                Link::Open(mut sink, stream) => match sink.send(Message::text(text)).await {
                    Ok(()) => Link::Open(sink, stream),
                    Err(error) => {
                        self.core.handle_closed(clock::now(), None, &error.to_string());
                        Link::None
                    }
                },
                other => other,
            },
            Output::Disconnect => {
                tokio::spawn(close(link));
                Link::None
            }
            Output::Notice(notice) => {
                // The engine's hub drains this channel promptly; waiting keeps lifecycle events whole and in order.
                let _ = self.notices.send(notice).await;
                link
            }
            Output::Outcome(ticket, outcome) => {
                if let Some(sender) = self.waiting.remove(&ticket) {
                    let _ = sender.send(outcome);
                }
                link
            }
        }
    }

    fn take(&mut self, link: Link, incoming: Incoming) -> Link {
        let now = clock::now();
        match incoming {
            Incoming::Opened(socket) => {
                let (sink, stream) = (*socket).split();
                self.core.handle_open(now);
                return Link::Open(sink, stream);
            }
            Incoming::Text(text) => self.core.handle_text(now, &text),
            Incoming::Traffic => self.core.handle_traffic(now),
            Incoming::Closed(code, reason) => {
                self.core.handle_closed(now, code, &reason);
                return Link::None;
            }
        }
        link
    }
}

enum Incoming {
    Opened(Box<Socket>),
    Text(String),
    Traffic,
    Closed(Option<u16>, String),
}

async fn next(link: &mut Link) -> Incoming {
    match link {
        Link::None => pending().await,
        Link::Opening(task) => match task.await {
            Ok(Ok(socket)) => Incoming::Opened(Box::new(socket)),
            Ok(Err(reason)) => Incoming::Closed(None, reason),
            Err(error) => Incoming::Closed(None, error.to_string()),
        },
        Link::Open(_, stream) => match stream.next().await {
            Some(Ok(Message::Text(text))) => Incoming::Text(text.as_str().to_owned()),
            Some(Ok(Message::Close(frame))) => {
                let (code, reason) =
                    frame.map_or((None, String::new()), |f| (Some(f.code.into()), f.reason.to_string()));
                Incoming::Closed(code, reason)
            }
            Some(Ok(_)) => Incoming::Traffic,
            Some(Err(error)) => Incoming::Closed(None, error.to_string()),
            None => Incoming::Closed(None, "the server closed the connection".to_owned()),
        },
    }
}

async fn open(config: &SignalConfig, tls: Connector) -> Result<Socket, String> {
    let url = &config.url;
    let mut request =
        url.as_str().into_client_request().map_err(|e| format!("{url} is not a WebSocket address: {e}"))?;
    request.headers_mut().insert("sec-websocket-protocol", HeaderValue::from_static(SUBPROTOCOL));
    let limits = WebSocketConfig::default()
        .max_message_size(Some(MAX_MESSAGE_BYTES * 4))
        .max_frame_size(Some(MAX_MESSAGE_BYTES * 4))
        .read_buffer_size(8 * 1024);
    // Small messages that somebody waits for: Nagle's algorithm is off.
    connect_async_tls_with_config(request, Some(limits), true, Some(tls))
        .await
        .map(|(socket, _)| socket)
        .map_err(|e| format!("no connection to {url}: {e}"))
}

async fn close(link: Link) {
    match link {
        Link::None => {}
        Link::Opening(task) => task.abort(),
        Link::Open(mut sink, _) => {
            let frame = CloseFrame { code: WsCloseCode::Normal, reason: "".into() };
            let _ = tokio::time::timeout(Duration::from_secs(1), sink.send(Message::Close(Some(frame)))).await;
        }
    }
}
