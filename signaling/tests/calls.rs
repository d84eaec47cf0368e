//! Calls between scripted clients over real sockets.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod support;

use halloo_protocol::{
    Announce, AnnouncedRole, Answer, CallId, Candidate, CandidateFrom, Description, EndReason, Ended, ErrorCode, Event,
    Invite, MediaState, PeerReach, ReplyBody, ReplyResult, Request, SdpKind, SnapshotState, UserId, VideoState,
    WatchPresence,
};
use std::time::Duration;
use support::{Client, Running, config};

fn call(id: &str) -> CallId {
    CallId::new(id).unwrap()
}

fn media() -> MediaState {
    MediaState { audio_muted: false, video: VideoState::Camera }
}

fn invite(id: &str, to: &str) -> Request {
    Request::Invite(Invite { call: call(id), to: UserId::new(to).unwrap(), media: media(), sdp: "v=0 offer".into() })
}

fn answer(id: &str) -> Request {
    Request::Answer(Answer { call: call(id), media: media(), sdp: "v=0 answer".into() })
}

fn candidate(id: &str, n: usize) -> Request {
    let candidate = format!("candidate:{n} 1 udp 1 127.0.0.1 {} typ host", 1_000 + n);
    let candidate = Candidate { candidate, sdp_mid: Some("0".into()), sdp_m_line_index: None, username_fragment: None };
    Request::Candidate(CandidateFrom { call: call(id), candidate })
}

fn ended(event: Event) -> EndReason {
    match event {
        Event::Ended(Ended { reason, .. }) => reason,
        other => panic!("not ended but {other:?}"),
    }
}

async fn active_call(server: &Running) -> (Client, Client) {
    let (mut bob, _) = Client::guest(server.addr, "bob", "b").await;
    let (mut alice, _) = Client::guest(server.addr, "alice", "a").await;
    alice.ok(invite("c1", "bob")).await;
    assert!(matches!(bob.event().await, Event::IncomingCall(_)));
    bob.ok(answer("c1")).await;
    assert!(matches!(alice.event().await, Event::Answered(_)));
    (alice, bob)
}

#[tokio::test]
async fn two_devices_ring_and_the_first_to_answer_has_the_call() {
    let server = Running::start(config()).await;
    let (mut phone, _) = Client::guest(server.addr, "bob", "phone").await;
    let (mut desk, _) = Client::guest(server.addr, "bob", "desk").await;
    let (mut alice, _) = Client::guest(server.addr, "alice", "a").await;
    alice.ok(invite("c1", "bob")).await;
    alice.ok(candidate("c1", 1)).await;
    for bob in [&mut phone, &mut desk] {
        let Event::IncomingCall(incoming) = bob.event().await else { panic!("not rung") };
        assert_eq!((incoming.from.as_str(), incoming.sdp.as_str()), ("alice", "v=0 offer"));
        assert!(matches!(bob.event().await, Event::Candidate(_)));
        bob.ok(Request::Ringing { call: call("c1") }).await;
        assert!(matches!(alice.event().await, Event::Ringing { .. }));
    }
    assert_eq!(phone.error(candidate("c1", 9)).await.code, ErrorCode::CallState);
    desk.ok(answer("c1")).await;
    assert_eq!(phone.error(answer("c1")).await.code, ErrorCode::CallState);
    assert_eq!(ended(phone.event().await), EndReason::AnsweredElsewhere);
    let Event::Answered(answered) = alice.event().await else { panic!("not answered") };
    assert_eq!((answered.by_device.as_str(), answered.sdp.as_str()), ("desk", "v=0 answer"));
    desk.ok(candidate("c1", 2)).await;
    assert!(matches!(alice.event().await, Event::Candidate(_)));
    let offer = Description { call: call("c1"), kind: SdpKind::Offer, sdp: "v=0 restart".into() };
    alice.ok(Request::Description(offer.clone())).await;
    assert_eq!(desk.event().await, Event::Description(offer));
    alice.ok(Request::HangUp { call: call("c1"), reason: EndReason::HungUp }).await;
    assert_eq!(ended(desk.event().await), EndReason::HungUp);
    desk.ok(Request::HangUp { call: call("c1"), reason: EndReason::HungUp }).await;
    let (status, metrics) = server.get("/metrics").await;
    assert_eq!(status, 200);
    assert!(metrics.contains("halloo_calls_ended_total{reason=\"hung_up\"} 1"), "{metrics}");
}

#[tokio::test]
async fn a_call_nobody_can_take_is_refused_in_words() {
    let server = Running::start(config()).await;
    let (mut alice, _) = Client::guest(server.addr, "alice", "a").await;
    assert_eq!(alice.error(invite("c1", "alice")).await.code, ErrorCode::CalleeSelf);
    let error = alice.error(invite("c1", "bob")).await;
    assert_eq!(error.code, ErrorCode::CalleeUnknown);
    assert!(error.message.contains("bob"));
    let (mut bob, _) = Client::guest(server.addr, "bob", "b").await;
    bob.ok(Request::SignOut).await;
    assert_eq!(bob.closed().await, Some(4007));
    assert_eq!(alice.error(invite("c1", "bob")).await.code, ErrorCode::CalleeOffline);
    let (_carol, mut dave) = {
        let pair = active_call(&server).await;
        (pair.0, pair.1)
    };
    assert_eq!(dave.error(invite("c2", "nobody")).await.code, ErrorCode::CalleeUnknown);
    let (mut eve, _) = Client::guest(server.addr, "eve", "e").await;
    assert_eq!(eve.error(invite("c3", "bob")).await.code, ErrorCode::CalleeBusy);
    assert_eq!(eve.error(Request::Ringing { call: call("c1") }).await.code, ErrorCode::CallUnknown);
    assert_eq!(eve.error(invite("c1", "alice")).await.code, ErrorCode::CallExists);
}

#[tokio::test]
async fn who_calls_each_other_at_once_is_told_to_answer() {
    let server = Running::start(config()).await;
    let (mut bob, _) = Client::guest(server.addr, "bob", "b").await;
    let (mut alice, _) = Client::guest(server.addr, "alice", "a").await;
    alice.ok(invite("c1", "bob")).await;
    let error = bob.error(invite("c2", "alice")).await;
    assert_eq!((error.code, error.call), (ErrorCode::Glare, Some(call("c1"))));
    bob.ok(answer("c1")).await;
    assert!(matches!(alice.event().await, Event::Answered(_)));
}

#[tokio::test]
async fn an_unanswered_call_rings_out_on_both_sides() {
    let mut config = config();
    config.hub.ring_timeout = Duration::from_millis(50);
    let server = Running::start(config).await;
    let (mut bob, _) = Client::guest(server.addr, "bob", "b").await;
    let (mut alice, _) = Client::guest(server.addr, "alice", "a").await;
    alice.ok(invite("c1", "bob")).await;
    let Event::IncomingCall(incoming) = bob.event().await else { panic!("not rung") };
    assert!(incoming.ring_timeout_ms <= 50);
    assert_eq!(ended(bob.event().await), EndReason::NoAnswer);
    assert_eq!(ended(alice.event().await), EndReason::NoAnswer);
}

#[tokio::test]
async fn a_device_that_signs_in_while_it_rings_gets_the_call_and_its_candidates() {
    let server = Running::start(config()).await;
    let (_early, _) = Client::guest(server.addr, "bob", "early").await;
    let (mut alice, _) = Client::guest(server.addr, "alice", "a").await;
    alice.ok(invite("c1", "bob")).await;
    alice.ok(candidate("c1", 1)).await;
    alice.ok(candidate("c1", 2)).await;
    let (mut late, _) = Client::guest(server.addr, "bob", "late").await;
    assert!(matches!(late.event().await, Event::IncomingCall(_)));
    assert!(matches!(late.event().await, Event::Candidate(c) if c.candidate.candidate.starts_with("candidate:1")));
    assert!(matches!(late.event().await, Event::Candidate(c) if c.candidate.candidate.starts_with("candidate:2")));
    late.ok(answer("c1")).await;
    assert!(matches!(alice.event().await, Event::Answered(_)));
}

#[tokio::test]
async fn a_broken_connection_shows_at_once_and_its_events_are_waiting() {
    let server = Running::start(config()).await;
    let (mut bob, _) = Client::guest(server.addr, "bob", "b").await;
    let (mut alice, welcome) = Client::guest(server.addr, "alice", "a").await;
    alice.ok(invite("c1", "bob")).await;
    bob.ok(answer("c1")).await;
    assert!(matches!(bob.event().await, Event::IncomingCall(_)));
    assert!(matches!(alice.event().await, Event::Answered(_)));
    let seen = alice.last_seq;
    drop(alice);
    assert_eq!(bob.event().await, Event::PeerReach { call: call("c1"), reach: PeerReach::Lost });
    for n in 0..20 {
        bob.ok(candidate("c1", n)).await;
    }
    let (mut alice, resumed) = Client::resume(server.addr, "a", &welcome, seen).await;
    assert!(resumed.resumed);
    assert_eq!(resumed.calls.len(), 1);
    assert_eq!(resumed.calls[0].state, SnapshotState::Active);
    for _ in 0..20 {
        assert!(matches!(alice.event().await, Event::Candidate(_)));
    }
    assert_eq!(bob.event().await, Event::PeerReach { call: call("c1"), reach: PeerReach::Back });
}

#[tokio::test]
async fn a_connection_cut_anywhere_loses_no_event() {
    let server = Running::start(config()).await;
    let (mut bob, _) = Client::guest(server.addr, "bob", "b").await;
    let (mut alice, mut session) = Client::guest(server.addr, "alice", "a").await;
    alice.ok(invite("c1", "bob")).await;
    bob.ok(answer("c1")).await;
    assert!(matches!(alice.event().await, Event::Answered(_)));
    let mut expected = 0;
    let mut random: u64 = 0x9e37_79b9_7f4a_7c15;
    for round in 0..30 {
        let mut draw = |n: u64| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random % n
        };
        let (sent, read) = (draw(12) as usize, draw(12) as usize);
        for n in 0..sent {
            bob.ok(candidate("c1", round * 100 + n)).await;
        }
        // Alice reads some of what is there, and is cut off.
        let mut seen = Vec::new();
        while seen.len() < read.min(sent) {
            if let Event::Candidate(from) = alice.event().await {
                seen.push(from.candidate.candidate);
            }
        }
        let last = alice.last_seq;
        drop(alice);
        (alice, session) = Client::resume(server.addr, "a", &session, last).await;
        assert!(session.resumed);
        while seen.len() < sent {
            if let Event::Candidate(from) = alice.event().await {
                seen.push(from.candidate.candidate);
            }
        }
        for (n, text) in seen.iter().enumerate() {
            assert!(text.starts_with(&format!("candidate:{} ", round * 100 + n)), "{text}");
        }
        expected += sent;
    }
    assert!(expected > 100);
}

#[tokio::test]
async fn a_session_that_is_not_resumed_ends_its_calls() {
    let mut config = config();
    config.hub.resume_window = Duration::from_millis(100);
    let server = Running::start(config).await;
    let (alice, mut bob) = active_call(&server).await;
    drop(alice);
    assert_eq!(bob.event().await, Event::PeerReach { call: call("c1"), reach: PeerReach::Lost });
    assert_eq!(ended(bob.event().await), EndReason::PeerLost);
}

#[tokio::test]
async fn the_same_device_signing_in_again_replaces_the_first_and_keeps_its_call() {
    let server = Running::start(config()).await;
    let (mut alice, mut bob) = active_call(&server).await;
    let (mut again, welcome) = Client::guest(server.addr, "alice", "a").await;
    assert_eq!(alice.closed().await, Some(4004));
    assert!(!welcome.resumed);
    assert_eq!(welcome.calls.len(), 1);
    again.ok(Request::HangUp { call: call("c1"), reason: EndReason::HungUp }).await;
    assert_eq!(ended(bob.event().await), EndReason::HungUp);
}

#[tokio::test]
async fn a_restarted_server_rebuilds_the_call_that_both_sides_announce() {
    let mut first = Running::start(config()).await;
    let addr = first.addr;
    let (mut alice, mut bob) = active_call(&first).await;
    let (_, old) = Client::guest(addr, "carol", "c").await;
    first.drain();
    for client in [&mut alice, &mut bob] {
        assert!(matches!(client.event().await, Event::GoingAway { .. }));
    }
    drop((alice, bob));
    first.ended().await;

    let second = Running::start_on(addr, config()).await;
    let (_, carol) = Client::resume(addr, "c", &old, 0).await;
    assert!(!carol.resumed && carol.epoch != old.epoch);
    let (mut alice, _) = Client::guest(addr, "alice", "a").await;
    let announce = |peer: &str, role| {
        Request::Announce(Announce { call: call("c1"), peer: UserId::new(peer).unwrap(), role, media: media() })
    };
    alice.ok(announce("bob", AnnouncedRole::Caller)).await;
    assert_eq!(alice.event().await, Event::PeerReach { call: call("c1"), reach: PeerReach::Lost });
    let restart = Description { call: call("c1"), kind: SdpKind::Offer, sdp: "v=0 restart".into() };
    alice.ok(Request::Description(restart.clone())).await;
    let (mut bob, _) = Client::guest(addr, "bob", "b").await;
    bob.ok(announce("alice", AnnouncedRole::Callee)).await;
    assert_eq!(alice.event().await, Event::PeerReach { call: call("c1"), reach: PeerReach::Back });
    assert!(matches!(alice.event().await, Event::MediaState { .. }));
    assert!(matches!(bob.event().await, Event::MediaState { .. }));
    assert_eq!(bob.event().await, Event::Description(restart));
    let muted = MediaState { audio_muted: true, ..media() };
    bob.ok(Request::MediaState { call: call("c1"), media: muted }).await;
    assert_eq!(alice.event().await, Event::MediaState { call: call("c1"), media: muted });
    bob.ok(Request::HangUp { call: call("c1"), reason: EndReason::HungUp }).await;
    assert_eq!(ended(alice.event().await), EndReason::HungUp);
    drop(second);
}

#[tokio::test]
async fn presence_follows_sign_in_call_and_sign_out() {
    let server = Running::start(config()).await;
    let (mut watcher, _) = Client::guest(server.addr, "wendy", "w").await;
    let watch = Request::WatchPresence(WatchPresence { users: None });
    assert_eq!(watcher.ask(watch).await, ReplyBody::Result(ReplyResult::Presence { users: vec![] }));
    let (mut alice, mut bob) = active_call(&server).await;
    let mut seen = Vec::new();
    let mut next = async |count: usize| {
        for _ in 0..count {
            let Event::Presence(p) = watcher.event().await else { panic!("not presence") };
            seen.push(format!("{} {} {}", p.user, p.online, p.in_call));
        }
        seen.split_off(0)
    };
    let first = next(4).await;
    assert_eq!(first, ["bob true false", "alice true false", "alice true true", "bob true true"]);
    alice.ok(Request::HangUp { call: call("c1"), reason: EndReason::HungUp }).await;
    assert_eq!(next(2).await, ["alice true false", "bob true false"]);
    bob.ok(Request::SignOut).await;
    assert_eq!(next(1).await, ["bob false false"]);
}
