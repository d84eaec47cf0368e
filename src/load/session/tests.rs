//! A session against a server of a few lines, which says what the test wants.

use super::*;
use crate::load::{
    clip,
    plan::Person,
    worker::{Told, Worker},
};
use halloo_sfu::{
    dtls::{Certificate, Endpoint},
    room::{Grants, Limits},
    sdp::{Candidate, LocalTransport, Negotiated, Offer, Protocol, Terms, negotiate},
};
use serde_json::{Value, json};
use tokio::{
    net::TcpListener,
    sync::mpsc::{UnboundedReceiver, unbounded_channel},
};
use tokio_tungstenite::{
    accept_hdr_async,
    tungstenite::handshake::server::{Request as Upgrade, Response},
};

const ROOM: &str = "standup";
const SOON: Duration = Duration::from_secs(10);

/// The other end of the WebSocket.
struct Server(WebSocketStream<TcpStream>);

impl Server {
    async fn accept(listener: &TcpListener) -> Self {
        let (stream, _) = listener.accept().await.unwrap();
        #[expect(clippy::result_large_err, reason = "the library's type")]
        let upgrade = |_: &Upgrade, mut response: Response| {
            response.headers_mut().insert("sec-websocket-protocol", HeaderValue::from_static(SUBPROTOCOL));
            Ok(response)
        };
        Self(accept_hdr_async(stream, upgrade).await.unwrap())
    }

    /// The next request of this type; others are answered with nothing to add.
    async fn expect(&mut self, kind: &str) -> Value {
        loop {
            let message = timeout(SOON, self.0.next()).await.unwrap().unwrap().unwrap();
            let request: Value = serde_json::from_str(message.to_text().unwrap()).unwrap();
            if request["request"]["type"] == kind {
                return request;
            }
            assert_eq!(request["request"]["type"], "subscribe", "{kind} is expected");
            self.result(&request, json!({"type": "ok"})).await;
        }
    }

    async fn say(&mut self, message: Value) {
        self.0.send(Message::text(message.to_string())).await.unwrap();
    }

    async fn result(&mut self, request: &Value, result: Value) {
        self.say(json!({"reply_to": request["id"], "result": result})).await;
    }

    async fn let_in(&mut self, join: &Value, you: u32) {
        let local = LocalTransport {
            ufrag: "server12".to_owned(),
            pwd: "passwordpasswordpassword".to_owned(),
            fingerprint: [9; 32],
            candidates: vec![Candidate { address: "127.0.0.1:9".parse().unwrap(), protocol: Protocol::Udp }],
        };
        let terms = Terms { grants: Grants::ALL, limits: Limits::default(), start_publish: None, seed: 1 };
        let offer = Offer::parse(join["request"]["sdp"].as_str().unwrap()).unwrap();
        let Negotiated { answer, .. } = negotiate(&offer, &local, &terms, None).unwrap();
        let snapshot = json!({
            "room": ROOM, "you": you, "participants": [], "dominant_speaker": null,
            "grants": {"publish": ["camera"], "subscribe": true, "moderate": false},
            "state": {"locked": false, "limits": {"max_participants": 9, "max_publish_kbps": 900, "max_height": 720}},
        });
        self.result(join, json!({"type": "room_joined", "sdp": answer, "snapshot": snapshot})).await;
    }
}

fn stage(url: String) -> (Arc<Stage>, UnboundedReceiver<Notice>, UnboundedReceiver<Told>) {
    let clock = Clock::start();
    let (told_sender, told) = unbounded_channel();
    let (notices_sender, notices) = unbounded_channel();
    let endpoint = Endpoint::new(Certificate::generate().unwrap(), clock.origin()).unwrap();
    let stage = Stage {
        url,
        tls: halloo_engine::load::tls(None).unwrap(),
        common: Common { endpoint, clip: Arc::new(clip::tests::made_up()), ntp_at_zero: Duration::ZERO },
        workers: vec![Worker::start(0, clock, told_sender).unwrap()],
        rooms: vec![(RoomId::new(ROOM).unwrap(), Directory::default())],
        names: "load".to_owned(),
        publishers: 1,
        tiles: 2,
        seed: 1,
        clock,
        notices: notices_sender,
    };
    (Arc::new(stage), notices, told)
}

#[tokio::test]
async fn who_is_told_to_join_again_does_so_until_it_is_let_in() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (stage, mut notices, _told) = stage(format!("ws://{}", listener.local_addr().unwrap()));
    let (leave, left) = oneshot::channel();
    let person = Person { number: 0, room: 0, place: 0, publishes: true };
    let session = tokio::spawn(attend(Arc::clone(&stage), person, left));
    let mut server = Server::accept(&listener).await;
    let hello = server.expect("hello").await;
    let limits = json!({
        "max_message_bytes": 16_384, "messages_per_second": 20, "ring_timeout_ms": 30_000, "ping_interval_ms": 15_000,
        "resume_window_ms": 30_000,
    });
    let welcome = json!({
        "type": "welcome", "session": "s", "epoch": "e", "resumed": false, "user": "load-0", "display_name": "load-0",
        "ice_servers": [], "limits": limits, "calls": [],
    });
    server.result(&hello, welcome).await;
    let first = server.expect("join_room").await;
    server.let_in(&first, 1).await;
    server.say(json!({"seq": 1, "event": {"type": "rejoin_room", "room": ROOM}})).await;

    let again = server.expect("join_room").await;
    assert_ne!(again["request"]["sdp"], first["request"]["sdp"], "a connection of its own");
    let error = json!({"code": "media_unavailable", "message": "in a moment"});
    server.say(json!({"reply_to": again["id"], "error": error})).await;
    let again = server.expect("join_room").await;
    server.let_in(&again, 2).await;
    assert!(matches!(notices.recv().await, Some(Notice::Entered(0))));
    while !matches!(timeout(SOON, notices.recv()).await.unwrap(), Some(Notice::Rejoined(0))) {}
    assert!(stage.rooms[0].1.get(1).is_none() && stage.rooms[0].1.get(2).is_some(), "it is somebody else now");

    leave.send(()).unwrap();
    for request in ["leave_room", "sign_out"] {
        let request = server.expect(request).await;
        server.result(&request, json!({"type": "ok"})).await;
    }
    timeout(SOON, session).await.unwrap().unwrap();
    while !matches!(timeout(SOON, notices.recv()).await.unwrap(), Some(Notice::Left(0, _))) {}
}
