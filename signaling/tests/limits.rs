//! What the server does with clients that are slow, loud, late, foreign or broken.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod support;

use futures_util::{SinkExt, StreamExt};
use halloo_protocol::{Credential, ErrorCode, Event, ReplyBody, Request, UserId, WatchPresence};
use halloo_signaling::{
    GuestPolicy,
    token::{Grant, SigningKey, mint},
};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use support::{Client, Got, Running, SECRET, config, guest, hello, request};
use tokio_tungstenite::{
    connect_async,
    tungstenite::{Error, Message, http::HeaderValue},
};

fn unix() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn token(issued_at: u64, ttl: u64, audience: &str) -> Credential {
    let grant = Grant {
        user: UserId::new("alice").unwrap(),
        name: Some("Alice".into()),
        audience: Some(audience.into()),
        issued_at,
        ttl: Duration::from_secs(ttl),
        room: None,
    };
    Credential::Token { token: mint(&SigningKey::hs256(None, SECRET).unwrap(), &grant).unwrap() }
}

async fn refused_status(request: tokio_tungstenite::tungstenite::handshake::client::Request) -> (u16, String) {
    match connect_async(request).await {
        Err(Error::Http(response)) => {
            let body = response.body().clone().unwrap_or_default();
            (response.status().as_u16(), String::from_utf8_lossy(&body).into_owned())
        }
        other => panic!("not refused: {other:?}"),
    }
}

#[tokio::test]
async fn tokens_sign_in_and_refusals_say_why() {
    let server = Running::start(config()).await;
    let mut client = Client::connect(server.addr, "a").await;
    let welcome = client.welcome(hello(token(unix(), 60, "test"), "a", None)).await;
    assert_eq!((welcome.user.as_str(), welcome.display_name.as_str()), ("alice", "Alice"));
    for (credential, code, text) in [
        (token(unix() - 240, 60, "test"), ErrorCode::TokenExpired, "expired 3 minutes ago"),
        (token(unix() + 7_300, 60, "test"), ErrorCode::TokenNotYetValid, "in 2 hours"),
        (token(unix(), 60, "other"), ErrorCode::TokenAudience, "other"),
        (Credential::Token { token: "nonsense".into() }, ErrorCode::TokenInvalid, "not a JWT"),
    ] {
        let mut client = Client::connect(server.addr, "b").await;
        let error = client.error(hello(credential, "b", None)).await;
        assert_eq!(error.code, code);
        assert!(error.message.contains(text), "{}", error.message);
        assert_eq!(client.closed().await, Some(4002));
    }
}

#[tokio::test]
async fn a_name_held_by_a_token_is_not_for_guests_and_a_token_takes_it_back() {
    let server = Running::start(config()).await;
    let (mut early, _) = Client::guest(server.addr, "alice", "g").await;
    let mut client = Client::connect(server.addr, "a").await;
    client.welcome(hello(token(unix(), 60, "test"), "a", None)).await;
    assert_eq!(early.closed().await, Some(4002));
    let mut late = Client::connect(server.addr, "g").await;
    assert_eq!(late.error(hello(guest("alice"), "g", None)).await.code, ErrorCode::NameTaken);
}

#[tokio::test]
async fn guests_are_refused_where_they_are_not_wanted() {
    let mut config = config();
    config.authenticator.guests = GuestPolicy::Refused;
    let server = Running::start(config).await;
    let mut client = Client::connect(server.addr, "a").await;
    assert_eq!(client.error(hello(guest("bob"), "a", None)).await.code, ErrorCode::GuestsNotAllowed);
    assert_eq!(client.closed().await, Some(4002));
}

#[tokio::test]
async fn whoever_does_not_say_hello_is_shown_the_door() {
    let mut config = config();
    config.limits.sign_in = Duration::from_millis(50);
    let server = Running::start(config).await;
    let mut client = Client::connect(server.addr, "a").await;
    assert_eq!(client.error(Request::WatchPresence(WatchPresence { users: None })).await.code, ErrorCode::NotSignedIn);
    assert_eq!(client.closed().await, Some(4001));
}

#[tokio::test]
async fn odd_messages_get_an_error_and_do_no_harm() {
    let server = Running::start(config()).await;
    let (mut client, _) = Client::guest(server.addr, "alice", "a").await;
    for (text, id, code) in [
        ("{", 0, ErrorCode::BadMessage),
        ("[]", 0, ErrorCode::BadMessage),
        (r#"{"id":90,"request":{"type":"teleport"}}"#, 90, ErrorCode::UnknownType),
        (r#"{"id":91,"request":{"type":"invite","call":"c"}}"#, 91, ErrorCode::BadMessage),
        (r#"{"id":92,"request":{"type":"ringing","call":"a b"}}"#, 92, ErrorCode::BadMessage),
    ] {
        client.send_text(text.to_owned()).await;
        let ReplyBody::Error(error) = client.reply(id).await else { panic!("{text} was taken") };
        assert_eq!(error.code, code, "{text}");
    }
    client.socket.send(Message::Binary(vec![1, 2, 3].into())).await.unwrap();
    assert!(matches!(client.reply(0).await, ReplyBody::Error(e) if e.code == ErrorCode::BadMessage));
    assert_eq!(client.error(hello(guest("alice"), "a", None)).await.code, ErrorCode::AlreadySignedIn);
}

#[tokio::test]
async fn an_oversized_message_is_answered_and_the_connection_closed() {
    let server = Running::start(config()).await;
    for bytes in [64 * 1024 + 1, 200 * 1024] {
        let (mut client, _) = Client::guest(server.addr, "alice", "a").await;
        client.send_text("x".repeat(bytes)).await;
        assert!(matches!(client.reply(0).await, ReplyBody::Error(e) if e.code == ErrorCode::TooLarge));
        assert_eq!(client.closed().await, Some(1009));
    }
    // Far above the limit the server reads no further; whether the close frame arrives is up to TCP.
    let (mut client, _) = Client::guest(server.addr, "alice", "a").await;
    let _ = client.socket.send(Message::Text("x".repeat(600 * 1024).into())).await;
    assert!(matches!(client.closed().await, Some(1009) | None));
    server.until_metric("halloo_connections", 0.0).await;
}

#[tokio::test]
async fn a_loud_client_is_slowed_down_then_closed() {
    let mut config = config();
    config.limits.messages_per_second = 1;
    config.limits.burst = 5;
    config.limits.strikes = 10;
    let server = Running::start(config).await;
    let (mut client, _) = Client::guest(server.addr, "alice", "a").await;
    for _ in 0..30 {
        let watch = Request::WatchPresence(WatchPresence { users: Some(vec![]) });
        client.send(watch).await;
    }
    let (mut taken, mut refused) = (0, 0);
    let code = loop {
        match client.receive().await {
            Got::Reply(reply) => match reply.body {
                ReplyBody::Result(_) => taken += 1,
                ReplyBody::Error(error) => {
                    assert_eq!(error.code, ErrorCode::RateLimited);
                    assert!(error.retry_after_ms.is_some_and(|ms| (1..=1_000).contains(&ms)));
                    refused += 1;
                }
            },
            Got::Event(_) => {}
            Got::Closed(code) => break code,
        }
    };
    assert_eq!((taken, refused, code), (4, 10, Some(4005)));
}

#[tokio::test]
async fn a_client_that_does_not_read_is_closed_as_a_slow_reader() {
    let mut config = config();
    config.limits.queued_messages = 50;
    config.limits.messages_per_second = 1_000_000;
    config.limits.burst = 1_000_000;
    config.limits.close_grace = Duration::from_secs(15);
    let server = Running::start(config).await;
    let (mut slow, _) = Client::guest(server.addr, "alice", "a").await;
    let (mut bob, _) = Client::guest(server.addr, "bob", "b").await;
    let call = halloo_protocol::CallId::new("c").unwrap();
    let media = halloo_protocol::MediaState::default();
    let to = UserId::new("bob").unwrap();
    slow.ok(Request::Invite(halloo_protocol::Invite { call: call.clone(), to, media, sdp: "v=0".into() })).await;
    bob.ok(Request::Answer(halloo_protocol::Answer { call: call.clone(), media, sdp: "v=0".into() })).await;
    // Fills the sockets' buffers, then the queue.
    let sdp = "x".repeat(40_000);
    while server.metric("halloo_slow_readers_total").await < 1.0 {
        let kind = halloo_protocol::SdpKind::Offer;
        let description = halloo_protocol::Description { call: call.clone(), kind, sdp: sdp.clone() };
        bob.ok(Request::Description(description)).await;
    }
    assert_eq!(slow.closed().await, Some(4003));
}

#[tokio::test]
async fn a_client_that_leaves_pings_unanswered_is_dropped_and_one_that_answers_stays() {
    let mut config = config();
    config.limits.ping_interval = Duration::from_millis(40);
    let server = Running::start(config).await;
    let (mut alive, _) = Client::guest(server.addr, "alice", "a").await;
    // Pongs go out only while the client reads: this one does not.
    let (mut dead, _) = Client::guest(server.addr, "bob", "b").await;
    loop {
        tokio::select! {
            got = alive.socket.next() => assert!(matches!(got, Some(Ok(Message::Ping(_)))), "{got:?}"),
            () = server.until_metric("halloo_ping_timeouts_total", 1.0) => break,
        }
    }
    assert_eq!(dead.closed().await, Some(4006));
    alive.ok(Request::SignOut).await;
}

#[tokio::test]
async fn connections_per_address_are_limited() {
    let mut config = config();
    config.connections_per_address = 2;
    let server = Running::start(config).await;
    let first = Client::connect(server.addr, "a").await;
    let _second = Client::connect(server.addr, "b").await;
    let (status, text) = refused_status(request(server.addr)).await;
    assert_eq!(status, 429);
    assert!(text.contains("address"), "{text}");
    drop(first);
    server.until_metric("halloo_connections", 1.0).await;
    let _third = Client::connect(server.addr, "c").await;
}

#[tokio::test]
async fn foreign_pages_and_foreign_protocols_are_refused() {
    let server = Running::start(config()).await;
    let mut foreign = request(server.addr);
    foreign.headers_mut().insert("origin", HeaderValue::from_static("https://evil.example"));
    let (status, text) = refused_status(foreign).await;
    assert_eq!(status, 403);
    assert!(text.contains("https://evil.example"), "{text}");
    let mut own = request(server.addr);
    own.headers_mut().insert("origin", HeaderValue::from_str(&format!("http://{}", server.addr)).unwrap());
    assert!(connect_async(own).await.is_ok());
    let mut other = request(server.addr);
    other.headers_mut().insert("sec-websocket-protocol", HeaderValue::from_static("chat"));
    assert_eq!(refused_status(other).await.0, 400);
}

#[tokio::test]
async fn a_draining_server_says_so_everywhere() {
    let mut server = Running::start(config()).await;
    let (mut client, _) = Client::guest(server.addr, "alice", "a").await;
    assert_eq!(server.get("/healthz").await.0, 200);
    assert_eq!(server.get("/readyz").await.0, 200);
    server.drain();
    assert!(matches!(client.event().await, Event::GoingAway { .. }));
    assert_eq!(server.get("/readyz").await.0, 503);
    assert_eq!(server.get("/healthz").await.0, 200);
    let mut late = Client::connect(server.addr, "b").await;
    assert_eq!(late.error(hello(guest("bob"), "b", None)).await.code, ErrorCode::ShuttingDown);
    assert_eq!(late.closed().await, Some(1001));
    assert_eq!(client.closed().await, Some(1001));
    server.ended().await;
}
