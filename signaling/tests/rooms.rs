//! Rooms over real sockets, with a media plane that answers at once and does as the test says.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod support;

use halloo_protocol::{
    Credential, ErrorCode, Event, JoinRoom, LeaveReason, Moderate, Moderation, ParticipantId, PeerReach, ReplyBody,
    ReplyResult, Request, RoomGrants, RoomId, RoomJoined, RoomMedia, SlotShows, SourceKind, SourceOf, SourceState,
    Subscribe, UserId,
};
use halloo_signaling::{
    MediaCommand, MediaError, MediaEvent, MediaEvents, MediaFuture, MediaJoin, MediaJoined, MediaPlane, ServerConfig,
    token::{Grant, RoomGrant, RoomScope, SigningKey, mint},
};
use std::{
    future::ready,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use support::{Client, Running, SECRET, config, guest, hello};
use tokio::sync::mpsc;

/// Answers every offer that begins with `v=0`.
#[derive(Default)]
struct Fake {
    next: Mutex<u32>,
    events: Mutex<Option<MediaEvents>>,
    commands: Mutex<Option<mpsc::UnboundedSender<MediaCommand>>>,
    joins: Mutex<Vec<MediaJoin>>,
}

impl MediaPlane for Fake {
    fn start(&self, events: MediaEvents) {
        *self.events.lock().unwrap() = Some(events);
    }

    fn join(&self, join: MediaJoin) -> MediaFuture<MediaJoined> {
        if !join.sdp.starts_with("v=0") {
            return Box::pin(ready(Err(MediaError::BadOffer("the offer is no session description".into()))));
        }
        self.joins.lock().unwrap().push(join);
        let mut next = self.next.lock().unwrap();
        *next += 1;
        Box::pin(ready(Ok(MediaJoined { participant: ParticipantId(*next), sdp: format!("answer {next}") })))
    }

    fn offer(&self, _: RoomId, participant: ParticipantId, _: String) -> MediaFuture<String> {
        Box::pin(ready(Ok(format!("answer again {participant}"))))
    }

    fn command(&self, _: RoomId, command: MediaCommand) {
        let commands = self.commands.lock().unwrap();
        let _ = commands.as_ref().unwrap().send(command);
    }
}

struct World {
    server: Running,
    plane: Arc<Fake>,
    commands: mpsc::UnboundedReceiver<MediaCommand>,
}

impl World {
    async fn start(config: ServerConfig) -> Self {
        let plane = Arc::new(Fake::default());
        let (sender, commands) = mpsc::unbounded_channel();
        *plane.commands.lock().unwrap() = Some(sender);
        let server = Running::start_with(config, Some(Arc::clone(&plane) as Arc<dyn MediaPlane>)).await;
        Self { server, plane, commands }
    }

    async fn command(&mut self) -> MediaCommand {
        tokio::time::timeout(Duration::from_secs(20), self.commands.recv()).await.unwrap().unwrap()
    }

    fn event(&self, event: MediaEvent) {
        self.plane.events.lock().unwrap().as_ref().unwrap().send(room(), event);
    }

    async fn guest(&self, name: &str) -> Client {
        Client::guest(self.server.addr, name, name).await.0
    }
}

fn room() -> RoomId {
    RoomId::new("standup").unwrap()
}

fn microphone(state: SourceState) -> RoomMedia {
    RoomMedia { microphone: state, ..RoomMedia::default() }
}

fn join() -> JoinRoom {
    JoinRoom { room: room(), media: microphone(SourceState::On), sdp: "v=0 offer".into(), token: None }
}

async fn joined(client: &mut Client) -> RoomJoined {
    match client.ask(Request::JoinRoom(join())).await {
        ReplyBody::Result(ReplyResult::RoomJoined(joined)) => joined,
        other => panic!("not joined: {other:?}"),
    }
}

fn moderate(action: Moderation) -> Request {
    Request::Moderate(Moderate { room: room(), action })
}

#[tokio::test]
async fn a_room_is_a_snapshot_and_then_deltas() {
    let mut world = World::start(config()).await;
    let (mut alice, mut bob) = (world.guest("alice").await, world.guest("bob").await);
    let first = joined(&mut alice).await;
    assert_eq!(
        (first.sdp.as_str(), first.snapshot.you, first.snapshot.participants.len()),
        ("answer 1", ParticipantId(1), 1)
    );
    let second = joined(&mut bob).await;
    let names: Vec<_> = second.snapshot.participants.iter().map(|p| p.display_name.as_str()).collect();
    assert_eq!((names, second.snapshot.you), (vec!["alice", "bob"], ParticipantId(2)));
    let Event::ParticipantJoined { participant, .. } = alice.event().await else { panic!("nobody joined") };
    assert_eq!((participant.user.as_str(), participant.participant), ("bob", ParticipantId(2)));
    assert!((world.server.metric("halloo_room_participants").await - 2.0).abs() < 0.1);

    bob.ok(Request::RoomMedia { room: room(), media: microphone(SourceState::Muted) }).await;
    let Event::ParticipantChanged { participant, .. } = alice.event().await else { panic!("nothing changed") };
    assert_eq!(participant.media.microphone, SourceState::Muted);
    let kind = SourceKind::Microphone;
    assert_eq!(
        world.command().await,
        MediaCommand::Source { participant: ParticipantId(2), kind, state: SourceState::Muted }
    );

    let source = SourceOf { participant: ParticipantId(2), kind: SourceKind::Camera };
    world.event(MediaEvent::Slots {
        participant: ParticipantId(1),
        slots: vec![SlotShows { mid: "6".into(), source: Some(source) }],
    });
    assert!(matches!(alice.event().await, Event::SlotsChanged(slots) if slots.slots[0].source == Some(source)));
    world.event(MediaEvent::DominantSpeaker(Some(ParticipantId(2))));
    for client in [&mut alice, &mut bob] {
        assert!(matches!(client.event().await, Event::DominantSpeaker { participant: Some(ParticipantId(2)), .. }));
    }
    alice.ok(Request::Subscribe(Subscribe { room: room(), show: vec![], others: None })).await;
    assert!(matches!(world.command().await, MediaCommand::Show { participant: ParticipantId(1), .. }));
    match alice.ask(Request::RoomOffer { room: room(), sdp: "v=0 more".into() }).await {
        ReplyBody::Result(ReplyResult::RoomAnswer { sdp }) => assert_eq!(sdp, "answer again 1"),
        other => panic!("no answer: {other:?}"),
    }

    bob.ok(Request::LeaveRoom { room: room() }).await;
    assert_eq!(world.command().await, MediaCommand::Leave { participant: ParticipantId(2) });
    let left = Event::ParticipantLeft { room: room(), participant: ParticipantId(2), reason: LeaveReason::Left };
    assert_eq!(alice.event().await, left);
}

#[tokio::test]
async fn a_moderator_mutes_removes_and_locks() {
    let mut world = World::start(config()).await;
    let (mut alice, mut bob) = (world.guest("alice").await, world.guest("bob").await);
    joined(&mut alice).await;
    joined(&mut bob).await;
    let source = SourceOf { participant: ParticipantId(2), kind: SourceKind::Microphone };
    alice.ok(moderate(Moderation::Mute { source })).await;
    assert!(
        matches!(bob.event().await, Event::ParticipantChanged { participant, .. } if participant.media.microphone == SourceState::Muted)
    );
    alice.ok(moderate(Moderation::Remove { participant: ParticipantId(2) })).await;
    assert_eq!(bob.event().await, Event::RoomLeft { room: room(), reason: LeaveReason::Removed });
    assert!(matches!(world.command().await, MediaCommand::Source { .. }));
    assert_eq!(world.command().await, MediaCommand::Leave { participant: ParticipantId(2) });
    assert_eq!(bob.error(moderate(Moderation::Lock { locked: true })).await.code, ErrorCode::RoomUnknown);
    alice.ok(moderate(Moderation::Lock { locked: true })).await;
    let mut listener = Client::connect(world.server.addr, "c").await;
    listener.welcome(hello(token("carol", unix(), 60, Some(grant(&["standup"], false))), "c", None)).await;
    assert_eq!(listener.error(Request::JoinRoom(join())).await.code, ErrorCode::RoomLocked);
    alice.ok(moderate(Moderation::Close)).await;
    assert_eq!(world.command().await, MediaCommand::Leave { participant: ParticipantId(1) });
    assert!((world.server.metric("halloo_rooms").await).abs() < 0.1);
}

#[tokio::test]
async fn a_client_that_reconnects_is_still_in_the_room_and_is_told_what_it_missed() {
    let mut world = World::start(config()).await;
    let (mut alice, welcome) = Client::guest(world.server.addr, "alice", "alice").await;
    let mut bob = world.guest("bob").await;
    joined(&mut alice).await;
    joined(&mut bob).await;
    assert!(matches!(alice.event().await, Event::ParticipantJoined { .. }));
    let seen = alice.last_seq;
    drop(alice);
    let reach = |event| match event {
        Event::ParticipantChanged { participant, .. } => participant.reach,
        other => panic!("no change: {other:?}"),
    };
    assert_eq!(reach(bob.event().await), PeerReach::Lost);
    bob.ok(Request::LeaveRoom { room: room() }).await;
    let (mut alice, resumed) = Client::resume(world.server.addr, "alice", &welcome, seen).await;
    assert!(resumed.resumed && resumed.rooms.is_empty());
    assert!(matches!(alice.event().await, Event::ParticipantLeft { participant: ParticipantId(2), .. }));
    assert_eq!(world.command().await, MediaCommand::Leave { participant: ParticipantId(2) });
    // A page that was reloaded signs in anew: it learns that its device is in a room, and joins it again.
    drop(alice);
    let (mut alice, anew) = Client::guest(world.server.addr, "alice", "alice").await;
    assert_eq!((anew.resumed, anew.rooms.len(), anew.rooms[0].you), (false, 1, ParticipantId(1)));
    assert_eq!(joined(&mut alice).await.snapshot.participants.len(), 1);
    assert_eq!(world.command().await, MediaCommand::Leave { participant: ParticipantId(1) });
}

#[tokio::test]
async fn a_media_plane_that_failed_makes_everybody_join_again() {
    let world = World::start(config()).await;
    let (mut alice, mut bob) = (world.guest("alice").await, world.guest("bob").await);
    joined(&mut alice).await;
    joined(&mut bob).await;
    assert!(matches!(alice.event().await, Event::ParticipantJoined { .. }));
    world.event(MediaEvent::RoomFailed);
    for client in [&mut alice, &mut bob] {
        assert_eq!(client.event().await, Event::RejoinRoom { room: room() });
        joined(client).await;
    }
}

fn unix() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn grant(rooms: &[&str], moderate: bool) -> RoomGrant {
    let rooms = RoomScope::Named(rooms.iter().map(|room| RoomId::new(*room).unwrap()).collect());
    RoomGrant { rooms, grants: RoomGrants { publish: vec![SourceKind::Microphone], subscribe: false, moderate } }
}

fn signed(secret: &[u8], user: &str, issued_at: u64, ttl: u64, room: Option<RoomGrant>) -> String {
    let user = UserId::new(user).unwrap();
    let grant =
        Grant { user, name: None, audience: Some("test".into()), issued_at, ttl: Duration::from_secs(ttl), room };
    mint(&SigningKey::hs256(None, secret).unwrap(), &grant).unwrap()
}

fn token(user: &str, issued_at: u64, ttl: u64, room: Option<RoomGrant>) -> Credential {
    Credential::Token { token: signed(SECRET, user, issued_at, ttl, room) }
}

#[tokio::test]
async fn each_wrong_token_is_refused_by_name() {
    let world = World::start(config()).await;
    let mut alice = Client::connect(world.server.addr, "a").await;
    alice.welcome(hello(token("alice", unix(), 60, None), "a", None)).await;
    let good = Some(grant(&["standup"], false));
    let other = b"another secret, another secret, x";
    for (token, code, says) in [
        (None, ErrorCode::RoomNotGranted, "no room"),
        (Some(signed(SECRET, "alice", unix(), 60, None)), ErrorCode::RoomNotGranted, "no room"),
        (
            Some(signed(SECRET, "alice", unix(), 60, Some(grant(&["other"], true)))),
            ErrorCode::RoomNotGranted,
            "standup",
        ),
        (Some(signed(SECRET, "bob", unix(), 60, good.clone())), ErrorCode::TokenInvalid, "bob"),
        (Some(signed(other, "alice", unix(), 60, good.clone())), ErrorCode::TokenInvalid, "signature"),
        (Some(signed(SECRET, "alice", unix() - 500, 60, good.clone())), ErrorCode::TokenExpired, "expired"),
        (Some("nonsense".into()), ErrorCode::TokenInvalid, "not a JWT"),
    ] {
        let error = alice.error(Request::JoinRoom(JoinRoom { token, ..join() })).await;
        assert_eq!(error.code, code, "{}", error.message);
        assert!(error.message.contains(says), "{}", error.message);
    }
    let camera = RoomMedia { camera: SourceState::On, ..RoomMedia::default() };
    let good = Some(signed(SECRET, "alice", unix(), 60, good));
    let error = alice.error(Request::JoinRoom(JoinRoom { token: good.clone(), media: camera, ..join() })).await;
    assert_eq!(error.code, ErrorCode::GrantMissing, "{}", error.message);
    let taken = alice.ask(Request::JoinRoom(JoinRoom { token: good, ..join() })).await;
    assert!(matches!(taken, ReplyBody::Result(ReplyResult::RoomJoined(_))), "{taken:?}");
    let joins = world.plane.joins.lock().unwrap().clone();
    assert_eq!((joins.len(), &joins[0].grants.publish), (1, &vec![SourceKind::Microphone]));
    for request in [
        moderate(Moderation::Lock { locked: true }),
        Request::Subscribe(Subscribe { room: room(), show: vec![], others: None }),
        Request::RoomMedia { room: room(), media: camera },
    ] {
        assert_eq!(alice.error(request).await.code, ErrorCode::GrantMissing);
    }
}

#[tokio::test]
async fn an_offer_that_cannot_be_answered_says_why() {
    let world = World::start(config()).await;
    let mut alice = world.guest("alice").await;
    let error = alice.error(Request::JoinRoom(JoinRoom { sdp: "hello".into(), ..join() })).await;
    assert_eq!((error.code, error.message.as_str()), (ErrorCode::OfferRefused, "the offer is no session description"));
    assert_eq!(alice.error(Request::RoomOffer { room: room(), sdp: "v=0".into() }).await.code, ErrorCode::RoomUnknown);
}

#[tokio::test]
async fn a_room_of_two_hundred_fits_although_a_message_does_not_hold_it() {
    let mut config = config();
    config.connections_per_address = 300;
    config.hub.max_devices_per_user = 300;
    let world = World::start(config).await;
    let mut clients = Vec::new();
    let long = "x".repeat(60);
    for n in 0..200 {
        let (mut client, _) = Client::guest(world.server.addr, &long, &format!("{n}{long}")[..60]).await;
        let reply = joined(&mut client).await;
        let mut known = reply.snapshot.participants.len();
        while known < n + 1 {
            assert!(matches!(client.event().await, Event::ParticipantJoined { .. }));
            known += 1;
        }
        clients.push(client);
    }
    let mut late = Client::connect(world.server.addr, "z").await;
    late.welcome(hello(guest("z"), "z", None)).await;
    assert_eq!(late.error(Request::JoinRoom(join())).await.code, ErrorCode::RoomFull);
}

#[tokio::test]
async fn without_a_media_plane_rooms_are_refused_in_words() {
    let server = Running::start(config()).await;
    let (mut alice, _) = Client::guest(server.addr, "alice", "a").await;
    let error = alice.error(Request::JoinRoom(join())).await;
    assert_eq!(error.code, ErrorCode::MediaUnavailable);
    assert!(error.message.contains("no rooms"), "{}", error.message);
    alice.ok(Request::LeaveRoom { room: room() }).await;
}
