//! What a shard does and refuses, with clients on one clock.

mod world;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use proptest::prelude::*;

use super::*;
use crate::{
    client::{Client, Server},
    dtls::Fingerprint,
    ice::Credentials,
};
use world::{POISON, Participant, SNAPSHOT_PANICS, START, World, local};

#[test]
fn a_packet_reaches_everybody_else_in_the_room_under_their_own_ssrc() {
    let mut world = World::new();
    let [a, b, c] = ["r", "r", "r"].map(|room| world.connect(room));
    let other_room = world.connect("other");
    world.send(a, b"hello");
    assert_eq!(world.payloads(b), [b"hello"]);
    assert_eq!(world.payloads(c), [b"hello"]);
    assert!(world.payloads(a).is_empty() && world.payloads(other_room).is_empty());
    let connected = world.events().iter().filter(|event| matches!(event, Event::Connected { .. })).count();
    assert_eq!(connected, 4);
}

#[test]
fn a_batch_of_equal_packets_leaves_in_one_send_per_receiver() {
    let mut world = World::new();
    let [a, b, _] = ["r", "r", "r"].map(|room| world.connect(room));
    let packets: Vec<_> = (0..10).map(|n| world.packet(a, &vec![n; if n < 9 { 1_000 } else { 300 }])).collect();
    let address = world.participants[a].address;
    for mut packet in packets {
        world.deliver(address, &mut packet);
    }
    world.settle();
    assert_eq!(world.sends, [10, 10]);
    assert_eq!(world.payloads(b).len(), 10);
}

#[test]
fn packets_a_few_bytes_short_are_padded_to_share_a_send() {
    let mut world = World::new();
    let [a, b] = ["r", "r"].map(|room| world.connect(room));
    let address = world.participants[a].address;
    let sizes = [1_000, 990, 1_000, 975, 968];
    for size in sizes {
        let mut packet = world.packet(a, &vec![1; size]);
        world.deliver(address, &mut packet);
    }
    world.settle();
    assert_eq!(world.sends, [5]);
    assert_eq!(world.payloads(b).iter().map(Vec::len).collect::<Vec<_>>(), sizes);
}

#[test]
fn more_receivers_than_arenas_all_get_their_packets() {
    let mut world = World::new();
    let all: Vec<_> = (0..9).map(|_| world.connect("r")).collect();
    let address = world.participants[all[0]].address;
    for n in 0..3 {
        let mut packet = world.packet(all[0], &[n; 200]);
        world.deliver(address, &mut packet);
    }
    world.settle();
    for to in &all[1..] {
        assert_eq!(world.payloads(*to), [[0; 200], [1; 200], [2; 200]]);
    }
}

#[test]
fn more_packets_than_an_arena_holds_all_arrive() {
    let mut world = World::new();
    let [a, b] = ["r", "r"].map(|room| world.connect(room));
    let address = world.participants[a].address;
    for n in 0..120u8 {
        let mut packet = world.packet(a, &[n; 1_200]);
        world.deliver(address, &mut packet);
    }
    world.settle();
    assert_eq!(world.payloads(b), (0..120u8).map(|n| vec![n; 1_200]).collect::<Vec<_>>());
}

#[test]
fn datagrams_received_at_once_are_taken_apart() {
    let mut world = World::new();
    let [a, b] = ["r", "r"].map(|room| world.connect(room));
    let mut joined: Vec<u8> = Vec::new();
    for size in [100, 100, 40] {
        joined.extend(world.packet(a, &vec![5; size]));
    }
    let (address, segment) = (world.participants[a].address, 100 + 12 + 16);
    world.core.handle_datagrams(world.now, address, Some(local()), &mut joined, segment, &mut world.wire);
    world.settle();
    assert_eq!(world.payloads(b).iter().map(Vec::len).collect::<Vec<_>>(), [100, 100, 40]);
}

#[test]
fn rtcp_reaches_the_room() {
    let mut world = World::new();
    let [a, b] = ["r", "r"].map(|room| world.connect(room));
    let before = world.participants[b].rtcp;
    let mut report = [&[0x80, 201, 0, 1, 0, 0, 0, 7][..], &[0; 20]].concat();
    let len = world.participants[a].client.protect_rtcp(&mut report, 8).unwrap();
    let address = world.participants[a].address;
    world.deliver(address, &mut report[..len]);
    world.settle();
    assert_eq!(world.participants[b].rtcp, before + 1);
}

#[test]
fn rooms_are_called_when_they_asked_to_be() {
    let mut world = World::new();
    let [a, b] = ["r", "r"].map(|room| world.connect(room));
    world.send(a, b"x");
    let before = world.participants[b].rtcp;
    assert!(world.core.next_timeout() <= world.now + Duration::from_millis(20));
    (0..5).for_each(|_| world.step());
    assert_eq!(world.participants[b].rtcp, before + 1);
}

/// Joins somebody over TCP and connects.
fn connect_over_tcp(world: &mut World, room: &str) -> usize {
    let at = world.join(room);
    world.tcp.insert(world.participants[at].address);
    (0..20).for_each(|_| world.step());
    assert!(world.participants[at].client.is_connected());
    at
}

#[test]
fn udp_and_tcp_meet_in_a_room() {
    let mut world = World::new();
    let (a, b, c) = (world.connect("r"), connect_over_tcp(&mut world, "r"), connect_over_tcp(&mut world, "r"));
    // The mirror passes sequence numbers on, and both speak in the same slot.
    world.participants[b].next_seq = 100;
    for (from, others) in [(a, [b, c]), (b, [a, c])] {
        world.send(from, b"hello");
        for to in others {
            assert_eq!(world.payloads(to), [b"hello"]);
        }
    }
    assert!(world.core.knows(world.participants[b].address) && !world.core.knows(world.participants[a].address));
}

#[test]
fn a_connection_that_ends_leaves_a_session_that_another_one_can_take_up() {
    let mut world = World::new();
    let (a, b) = (world.connect("r"), connect_over_tcp(&mut world, "r"));
    let ended = world.participants[b].address;
    world.core.handle_disconnected(world.now, ended, &mut world.wire);
    assert!(!world.core.knows(ended));
    let before = world.core.stats().not_sent;
    world.send(a, b"lost");
    assert!(world.payloads(b).is_empty() && world.core.stats().not_sent > before);
    // What comes from there is nobody's now.
    let mut packet = world.packet(b, b"stranger");
    world.deliver(ended, &mut packet);
    world.settle();
    assert!(world.payloads(a).is_empty());

    let moved = SocketAddr::from(([198, 51, 100, 9], 61_000));
    world.tcp.insert(moved);
    world.participants[b].address = moved;
    world.participants[b].client.check_now(world.now);
    world.step();
    world.send(a, b"found");
    world.send(b, b"there again");
    assert_eq!((world.payloads(b), world.payloads(a)), (vec![b"found".to_vec()], vec![b"there again".to_vec()]));
    assert!(!world.events().iter().any(|event| matches!(event, Event::Left { .. })));
}

#[test]
fn a_session_whose_connection_ended_lasts_until_consent_runs_out() {
    let mut world = World::new();
    let (a, b) = (world.connect("r"), connect_over_tcp(&mut world, "r"));
    let gone = world.participants.remove(b);
    world.core.handle_disconnected(world.now, gone.address, &mut world.wire);
    let left = |world: &mut World| {
        let left = |event: &Event| matches!(event, Event::Left { reason: LeaveReason::ConsentExpired, .. });
        world.events().iter().any(left)
    };
    let start = world.now;
    while world.now < start + Duration::from_secs(25) {
        world.step();
    }
    assert!(!left(&mut world));
    while world.now < start + Duration::from_secs(32) {
        world.step();
    }
    assert!(left(&mut world));
    assert!(world.participants[a].client.is_connected());
}

#[test]
fn a_connection_that_ends_hands_over_to_a_path_that_is_there() {
    let mut world = World::new();
    let (a, b) = (world.connect("r"), connect_over_tcp(&mut world, "r"));
    let connection = world.participants[b].address;
    // The same client checks over UDP too, then nominates TCP again.
    let udp = SocketAddr::from(([198, 51, 100, 9], 61_000));
    for address in [udp, connection] {
        world.participants[b].address = address;
        world.participants[b].client.check_now(world.now);
        world.step();
    }
    world.participants[b].address = udp;
    world.send(a, b"by tcp");
    assert!(world.payloads(b).is_empty());
    world.core.handle_disconnected(world.now, connection, &mut world.wire);
    // Which of our addresses that path ends at is told by its next check.
    world.participants[b].client.check_now(world.now);
    world.step();
    world.send(a, b"by udp");
    assert_eq!(world.payloads(b), [b"by udp"]);
}

#[test]
fn a_client_that_changes_address_keeps_its_session() {
    let mut world = World::new();
    let [a, b] = ["r", "r"].map(|room| world.connect(room));
    let moved = SocketAddr::from(([198, 51, 100, 9], 61_000));
    world.participants[b].address = moved;
    let now = world.now;
    world.participants[b].client.check_now(now);
    world.step();
    world.send(a, b"after the move");
    assert_eq!(world.payloads(b), [b"after the move"]);
    world.send(b, b"from there");
    assert_eq!(world.payloads(a), [b"from there"]);
}

#[test]
fn an_ice_restart_keeps_media_and_moves_to_the_new_path() {
    let mut world = World::new();
    let [a, b] = ["r", "r"].map(|room| world.connect(room));
    let fresh = world.credentials();
    let id = world.participants[b].id;
    world.core.restart_ice("r", id, fresh.clone(), "restarted").unwrap();
    world.send(a, b"meanwhile");
    assert_eq!(world.payloads(b), [b"meanwhile"]);

    let now = world.now;
    world.participants[b].client.restart_ice(now, "restarted", fresh).unwrap();
    world.participants[b].address = SocketAddr::from(([198, 51, 100, 9], 61_000));
    world.step();
    world.send(a, b"afterwards");
    assert_eq!(world.payloads(b), [b"afterwards"]);
    let (_, ufrags, sessions, _) = world.core.table_sizes();
    assert_eq!((ufrags, sessions), (2, 2), "the old user fragment is gone");
}

#[test]
fn a_room_that_panics_takes_down_itself_only() {
    let mut world = World::new();
    let [a, b] = ["broken", "broken"].map(|room| world.connect(room));
    let [c, d] = ["whole", "whole"].map(|room| world.connect(room));
    world.events();
    world.send(a, POISON);
    let events = world.events();
    for at in [a, b] {
        let participant = world.participants[at].id;
        let left = Event::Left { room: "broken".into(), participant, reason: LeaveReason::RoomFailed };
        assert!(events.contains(&left), "{events:?}");
    }
    assert!(events.contains(&Event::RoomClosed { room: "broken".into() }));
    world.send(c, b"still here");
    assert_eq!(world.payloads(d), [b"still here"]);
    assert_eq!(world.core.stats().rooms_failed, 1);
    let again = world.connect("broken");
    assert!(world.participants[again].client.is_connected());
}

#[test]
fn a_room_can_be_looked_into_and_one_that_panics_then_takes_down_itself_only() {
    let mut world = World::new();
    for room in ["seen", "seen", "other"] {
        world.connect(room);
    }
    let mut rooms = world.core.rooms();
    rooms.sort_by(|a, b| a.room.cmp(&b.room));
    let entry = |room: &str, participants| RoomEntry { room: room.into(), participants };
    assert_eq!(rooms, [entry("other", 1), entry("seen", 2)]);
    assert_eq!(world.core.snapshot(world.now, "seen").map(|snapshot| snapshot.history_bytes), Some(2));
    assert_eq!(world.core.snapshot(world.now, "never"), None);
    assert_eq!(world.core.snapshot(SNAPSHOT_PANICS, "seen"), None);
    assert_eq!(world.core.rooms(), [entry("other", 1)]);
    assert_eq!(world.core.stats().rooms_failed, 1);
}

#[test]
fn silence_ends_a_session_and_frees_everything() {
    let mut world = World::new();
    let a = world.connect("r");
    world.events();
    world.participants.clear();
    for _ in 0..3_200 {
        world.step();
    }
    let events = world.events();
    assert!(matches!(&events[0], Event::Left { reason: LeaveReason::ConsentExpired, .. }), "{a}: {events:?}");
    assert_eq!(world.core.table_sizes(), (0, 0, 0, 0));
}

#[test]
fn who_joins_but_never_connects_is_forgotten() {
    let mut world = World::new();
    world.join("r");
    world.participants.clear();
    for _ in 0..3_200 {
        world.step();
    }
    let events = world.events();
    assert!(matches!(&events[0], Event::Left { reason: LeaveReason::NeverConnected, .. }), "{events:?}");
    assert_eq!(world.core.table_sizes(), (0, 0, 0, 0));
}

#[test]
fn a_client_that_says_goodbye_leaves_at_once() {
    let mut world = World::new();
    let [a, b] = ["r", "r"].map(|room| world.connect(room));
    world.events();
    let (now, participant) = (world.now, world.participants[b].id);
    world.participants[b].client.close(now);
    world.step();
    let left = Event::Left { room: "r".into(), participant, reason: LeaveReason::Closed };
    assert!(world.events().contains(&left));
    world.send(a, b"alone");
    assert!(world.payloads(b).is_empty());
}

#[test]
fn who_left_gets_and_gives_nothing() {
    let mut world = World::new();
    let [a, b, c] = ["r", "r", "r"].map(|room| world.connect(room));
    let id = world.participants[b].id;
    world.core.leave(world.now, "r", id, &mut world.wire);
    world.core.leave(world.now, "r", id, &mut world.wire);
    world.send(a, b"x");
    world.send(b, b"y");
    assert_eq!(world.payloads(c), [b"x"]);
    assert!(world.payloads(b).is_empty());
    world.core.close_room(world.now, "r", &mut world.wire);
    assert_eq!(world.core.table_sizes(), (0, 0, 0, 0));
}

#[test]
fn sessions_rooms_and_credentials_are_bounded() {
    let mut world = World::with(ShardConfig { max_sessions: 3, max_rooms: 2, arenas: 1, ..ShardConfig::default() });
    world.join("one");
    world.join("two");
    let fresh = world.credentials();
    let third_room = world.admission("three", fresh.clone());
    assert_eq!(world.core.join(START, third_room), Err(JoinError::TooManyRooms));
    let taken = Credentials::new("ufrag0001", "passwordpasswordpassword").unwrap();
    let twice = world.admission("one", taken);
    assert_eq!(world.core.join(START, twice), Err(JoinError::Credentials));
    let last = world.admission("one", fresh);
    assert!(world.core.join(START, last).is_ok());
    let another = world.credentials();
    let over = world.admission("one", another);
    assert_eq!(world.core.join(START, over), Err(JoinError::TooManySessions));
}

#[test]
fn a_certificate_that_was_not_announced_ends_the_session() {
    let mut world = World::new();
    let credentials = world.credentials();
    let mut admission = world.admission("r", credentials.clone());
    admission.fingerprints = vec![Fingerprint::Sha256([5; 32])];
    let id = world.core.join(world.now, admission).unwrap();
    let server = Server { credentials, fingerprint: world.server.sha256() };
    let client = Client::new(world.now, &world.client, "client", server).unwrap();
    let address = SocketAddr::from(([192, 0, 2, 1], 9));
    world.participants.push(Participant { client, address, id, ssrc: 0, rtp: Vec::new(), rtcp: 0, next_seq: 0 });
    (0..10).for_each(|_| world.step());
    let events = world.events();
    assert!(matches!(&events[0], Event::Left { reason: LeaveReason::Dtls(_), .. }), "{events:?}");
}

#[test]
fn unread_events_are_kept_and_do_not_stop_media() {
    let mut world = World::with(ShardConfig { max_events: 2, arenas: 4, ..ShardConfig::default() });
    let [a, b] = ["r", "r"].map(|room| world.connect(room));
    for n in 0..50 {
        world.send(a, &[n]);
    }
    assert_eq!(world.payloads(b).len(), 50);
    let mut spoken = 0;
    for _ in 0..60 {
        spoken += world.events().iter().filter(|event| matches!(event, Event::Room { .. })).count();
        world.settle();
    }
    assert_eq!(spoken, 50, "every event came in the end");
}

#[test]
fn media_right_behind_the_last_flight_of_a_handshake_is_forwarded_once_there_are_keys() {
    let mut world = World::new();
    let b = world.connect("r");
    let a = world.join("r");
    world.hold_keys = true;
    for _ in 0..20 {
        world.step();
    }
    // The client has its keys; the shard hears of them only later.
    assert!(world.participants[a].client.is_connected());
    for n in 0..3 {
        world.send(a, &[n; 100]);
    }
    assert_eq!(world.payloads(b).len(), 0);
    world.hold_keys = false;
    world.settle();
    assert_eq!(world.payloads(b), [[0; 100], [1; 100], [2; 100]]);
    assert_eq!(world.core.stats().unknown, 0);
}

#[test]
fn replayed_and_spoofed_packets_are_not_forwarded() {
    let mut world = World::new();
    let [a, b] = ["r", "r"].map(|room| world.connect(room));
    let packet = world.packet(a, b"once");
    let (own, stranger) = (world.participants[a].address, SocketAddr::from(([10, 0, 0, 1], 1)));
    for from in [stranger, own, own, world.participants[b].address] {
        world.deliver(from, &mut packet.clone());
    }
    world.settle();
    assert_eq!(world.payloads(b), [b"once"]);
    let stats = world.core.stats();
    assert_eq!((stats.unknown, stats.srtp_replayed, stats.srtp_refused), (1, 1, 1));
}

/// Datagrams as hostile as they get: noise that looks like each protocol, and true datagrams with bytes changed.
fn hostile() -> impl Strategy<Value = (u8, Vec<u8>, usize, u8)> {
    (0u8..6, prop::collection::vec(any::<u8>(), 0..90), any::<usize>(), any::<u8>())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn no_datagram_disturbs_a_meeting(noise in prop::collection::vec(hostile(), 1..150)) {
        let mut world = World::new();
        let [a, b] = ["r", "r"].map(|room| world.connect(room));
        let sizes = world.core.table_sizes();
        let address = world.participants[a].address;
        for (kind, mut bytes, at, flip) in noise {
            match kind {
                0 => bytes.splice(..0, [0, 1, 0, 60, 0x21, 0x12, 0xa4, 0x42]).for_each(drop),
                1 => bytes.splice(..0, [22, 0xfe, 0xfd, 0, 0]).for_each(drop),
                2 => bytes.splice(..0, [0x90, 0x60]).for_each(drop),
                3 => bytes.splice(..0, [0x80, 200]).for_each(drop),
                4 => {
                    bytes = world.packet(a, b"true once");
                    let at = at % bytes.len();
                    bytes[at] ^= flip | 1;
                }
                _ => {}
            }
            let from = if at % 2 == 0 { address } else { SocketAddr::from(([10, 0, 0, 1], at as u16)) };
            world.deliver(from, &mut bytes);
            world.settle();
        }
        prop_assert!(world.payloads(b).is_empty());
        prop_assert_eq!(world.core.table_sizes(), sizes);
        world.send(a, b"undisturbed");
        prop_assert_eq!(world.payloads(b), [b"undisturbed"]);
    }
}

#[test]
fn arcs_of_names_are_shared() {
    // A room's name is allocated once, however many events carry it.
    let mut world = World::new();
    let a = world.connect("r");
    world.send(a, b"x");
    let names: Vec<Arc<str>> = world
        .events()
        .into_iter()
        .filter_map(|event| match event {
            Event::Connected { room, .. } | Event::Room { room, .. } => Some(room),
            _ => None,
        })
        .collect();
    assert!(names.len() >= 2 && names.iter().all(|name| Arc::ptr_eq(name, &names[0])));
}
