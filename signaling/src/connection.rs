//! One WebSocket connection: reads requests, writes what its outbox holds, pings, and closes with a reason.
//!
//! Invariants: it never waits for a write while it should read; whatever ends it, the hub is told once.

use crate::{
    hub::ConnId,
    limits::{ConnectionLimits, MessageRate, Verdict},
    outbox::{Closing, Item, Outbox},
    shared::{AddressPlace, Shared, count, now},
};
use axum::extract::ws::{CloseFrame, Message, WebSocket};
use futures_util::{Sink, Stream, StreamExt};
use halloo_protocol::{CloseCode, ErrorBody, ErrorCode, MAX_MESSAGE_BYTES, Request, parse_client_message};
use std::{
    future::{Future, poll_fn},
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll},
};
use tokio::time::{Instant, Sleep, sleep_until, timeout};

/// Pings that may go unanswered.
const MISSED_PINGS: u8 = 2;

enum Step {
    Message(Message),
    Timer,
    /// Everything has been written and the server wants to close.
    Close(Closing),
    Gone,
}

struct Connection {
    socket: WebSocket,
    outbox: Arc<Outbox>,
    timer: Pin<Box<Sleep>>,
    /// Whether something was written that has not been flushed.
    unflushed: bool,
    signed_in: bool,
    unanswered_pings: u8,
    rate: MessageRate,
    conn: ConnId,
    place: AddressPlace,
}

/// Serves a connection until it ends.
pub(crate) async fn run(socket: WebSocket, shared: Arc<Shared>, place: AddressPlace) {
    let limits = &shared.limits;
    let outbox = Arc::new(Outbox::new(limits.queued_messages, limits.queued_bytes));
    let conn = shared.open(&outbox);
    let mut connection = Connection {
        socket,
        outbox,
        timer: Box::pin(sleep_until(Instant::now() + limits.sign_in)),
        unflushed: false,
        signed_in: false,
        unanswered_pings: 0,
        rate: MessageRate::new(now(), limits),
        conn,
        place,
    };
    let shown = || shared.redactor.show(connection_address(&connection.place));
    tracing::debug!(conn = conn.0, address = shown(), "connection opened");
    let closing = connection.serve(&shared).await;
    shared.closed(conn);
    tracing::debug!(conn = conn.0, closing = ?closing, "connection closed");
    if let Some(closing) = closing {
        connection.close(closing, limits).await;
    }
}

fn connection_address(place: &AddressPlace) -> String {
    place.address.to_string()
}

impl Connection {
    /// Serves until the connection is gone (`None`) or is to be closed.
    async fn serve(&mut self, shared: &Shared) -> Option<Closing> {
        loop {
            match poll_fn(|cx| self.poll_step(cx, shared)).await {
                Step::Gone => return None,
                Step::Close(closing) => return Some(closing),
                Step::Timer => self.on_timer(shared),
                Step::Message(message) => self.on_message(shared, message),
            }
        }
    }

    fn poll_step(&mut self, cx: &mut Context<'_>, shared: &Shared) -> Poll<Step> {
        self.outbox.register(cx.waker());
        match self.poll_write(cx, shared) {
            Poll::Ready(Err(())) => return Poll::Ready(Step::Gone),
            Poll::Ready(Ok(())) => {
                if let Some(closing) = self.outbox.closing() {
                    return Poll::Ready(Step::Close(closing));
                }
            }
            Poll::Pending => {}
        }
        if let Some(closing) = self.outbox.closing() {
            // What waits is still being written, for as long as the grace lasts; nothing is read any more.
            return match self.timer.as_mut().poll(cx) {
                Poll::Ready(()) => Poll::Ready(Step::Close(closing)),
                Poll::Pending => Poll::Pending,
            };
        }
        if let Poll::Ready(message) = Pin::new(&mut self.socket).poll_next(cx) {
            return Poll::Ready(match message {
                Some(Ok(message)) => Step::Message(message),
                Some(Err(error)) if is_too_long(&error) => Step::Close(TOO_BIG),
                Some(Err(_)) | None => Step::Gone,
            });
        }
        self.timer.as_mut().poll(cx).map(|()| Step::Timer)
    }

    /// Writes what waits. Ready once there is nothing left.
    fn poll_write(&mut self, cx: &mut Context<'_>, shared: &Shared) -> Poll<Result<(), ()>> {
        let mut socket = Pin::new(&mut self.socket);
        loop {
            match socket.as_mut().poll_ready(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => return Poll::Ready(Err(())),
                Poll::Pending => return Poll::Pending,
            }
            let Some(item) = self.outbox.pop() else { break };
            let message = match item {
                Item::Text(text) => {
                    count(&shared.stats.messages_out);
                    shared.stats.bytes_out.fetch_add(text.len() as u64, Ordering::Relaxed);
                    Message::Text(text)
                }
                Item::Ping(seq) => Message::Ping(seq.to_be_bytes().to_vec().into()),
            };
            if socket.as_mut().start_send(message).is_err() {
                return Poll::Ready(Err(()));
            }
            self.unflushed = true;
        }
        if self.unflushed {
            match socket.poll_flush(cx) {
                Poll::Ready(Ok(())) => self.unflushed = false,
                Poll::Ready(Err(_)) => return Poll::Ready(Err(())),
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(Ok(()))
    }

    fn on_timer(&mut self, shared: &Shared) {
        let limits = &shared.limits;
        if !self.signed_in {
            let reason = "no hello came in time: it must be the first request";
            self.close_soon(limits, Closing { code: CloseCode::SignInTimeout, reason });
        } else if self.unanswered_pings >= MISSED_PINGS {
            count(&shared.stats.ping_timeouts);
            self.close_soon(limits, Closing { code: CloseCode::PingTimeout, reason: "pings went unanswered" });
        } else {
            self.unanswered_pings += 1;
            shared.ping(self.conn);
            self.timer.as_mut().reset(Instant::now() + limits.ping_interval);
        }
    }

    /// Closes once what waits has been written, or the grace is over.
    fn close_soon(&mut self, limits: &ConnectionLimits, closing: Closing) {
        self.outbox.close(closing);
        self.timer.as_mut().reset(Instant::now() + limits.close_grace);
    }

    fn on_message(&mut self, shared: &Shared, message: Message) {
        match message {
            Message::Text(text) => self.on_text(shared, text.as_str()),
            Message::Binary(_) => {
                let message = "messages are text frames of JSON, this was a binary frame";
                let error = ErrorBody::new(ErrorCode::BadMessage, message);
                if self.within_rate(shared, 0) {
                    shared.with_hub(|hub| hub.handle_unreadable(self.conn, 0, error));
                }
            }
            Message::Pong(payload) => {
                if let Ok(seq) = <[u8; 8]>::try_from(&payload[..]) {
                    self.unanswered_pings = 0;
                    shared.with_hub(|hub| hub.handle_received(self.conn, u64::from_be_bytes(seq)));
                }
            }
            // Pings are answered below us, a close frame is followed by the stream's end.
            Message::Ping(_) | Message::Close(_) => {}
        }
    }

    fn on_text(&mut self, shared: &Shared, text: &str) {
        count(&shared.stats.messages_in);
        shared.stats.bytes_in.fetch_add(text.len() as u64, Ordering::Relaxed);
        let parsed = parse_client_message(text);
        let id = parsed.as_ref().map_or_else(|error| error.id, |message| message.id);
        if text.len() <= MAX_MESSAGE_BYTES && !self.within_rate(shared, id) {
            return;
        }
        let message = match parsed {
            Ok(message) => message,
            Err(error) => {
                shared.with_hub(|hub| hub.handle_unreadable(self.conn, error.id, error.error));
                if text.len() > MAX_MESSAGE_BYTES {
                    self.close_soon(&shared.limits, TOO_BIG);
                }
                return;
            }
        };
        let hello = match message.request {
            Request::Hello(hello) => hello,
            Request::JoinRoom(mut join) => {
                let proof = join.token.take().map(|token| shared.prove_token(self.place.address, token));
                return shared.with_hub(|hub| hub.handle_join_room(now(), self.conn, id, join, proof));
            }
            request => return shared.with_hub(|hub| hub.handle_request(now(), self.conn, id, request)),
        };
        let proof = shared.sign_in(self.place.address, &hello.credential);
        shared.with_hub(|hub| hub.handle_hello(now(), self.conn, id, hello, proof));
        if !self.signed_in && self.outbox.closing().is_none() {
            self.signed_in = true;
            self.timer.as_mut().reset(Instant::now() + shared.limits.ping_interval);
        }
    }

    /// Whether the message is within the rate; if not it is refused, or the connection closed.
    fn within_rate(&mut self, shared: &Shared, id: u64) -> bool {
        match self.rate.take(now(), &shared.limits) {
            Verdict::Take => true,
            Verdict::Refuse(wait) => {
                count(&shared.stats.rate_limited);
                let millis = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).max(1);
                let message = format!("too many messages: wait {millis} ms, then send this one again");
                let mut error = ErrorBody::new(ErrorCode::RateLimited, message);
                error.retry_after_ms = Some(millis);
                shared.with_hub(|hub| hub.handle_unreadable(self.conn, id, error));
                false
            }
            Verdict::Close => {
                let reason = "messages kept coming above the rate";
                self.close_soon(&shared.limits, Closing { code: CloseCode::RateLimited, reason });
                false
            }
        }
    }

    /// Sends the close frame and waits a little for the client's, so that it is not lost in a reset.
    async fn close(mut self, closing: Closing, limits: &ConnectionLimits) {
        let frame = CloseFrame { code: closing.code.code(), reason: closing.reason.into() };
        let handshake = async {
            if self.socket.send(Message::Close(Some(frame))).await.is_ok() {
                while let Some(Ok(_)) = self.socket.next().await {}
            }
        };
        // Past the grace the connection is dropped as it is.
        let _ = timeout(limits.close_grace, handshake).await;
    }
}

const TOO_BIG: Closing = Closing { code: CloseCode::TooBig, reason: "a message may have at most 65536 bytes" };

/// Whether a message was so large that it was not even read. The error's type is not in axum's interface, its text is.
fn is_too_long(error: &axum::Error) -> bool {
    error.to_string().contains("Message too long")
}
