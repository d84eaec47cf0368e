//! A shard without threads: clients, handshakes and a wire that collects, all on one clock.

use std::{cell::RefCell, collections::BTreeMap, rc::Rc};

use halloo_transport::{Mid, PayloadType, Ssrc};
use proptest::prelude::*;

use super::*;
use crate::{
    client::{Client, Received, Server},
    dtls::{Certificate, Endpoint, Fingerprint, Outcome, Output, POLL_BUFFER, Peer, Refused, Report},
    ice::{Credentials, TransportAddress},
    room::{
        self, Command, Egress, Grants, Limits, ParticipantConfig, ParticipantId, ReceiveSlot, RoomConfig, SlotKind,
    },
    rtp::{ExtensionIds, OutgoingHeader, RtpHeader},
    srtp::DtlsRole,
};
use halloo_transport::Timestamp;
use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

const START: Timestamp = Timestamp::from_millis(10_000);
const TICK: Duration = Duration::from_millis(10);
/// A payload that makes [`Mirror`] panic.
const POISON: &[u8] = b"poison";

/// A room that forwards every packet to everybody else, under the SSRC of their first slot.
#[derive(Default)]
struct Mirror {
    members: Vec<(ParticipantId, ParticipantConfig)>,
    connected: Vec<ParticipantId>,
    joined: u32,
    max: usize,
    timer: Option<Timestamp>,
    events: Vec<room::Event>,
}

impl Forwarding for Mirror {
    fn open(config: RoomConfig) -> Self {
        Self { max: config.max_participants, ..Self::default() }
    }

    fn join(&mut self, _: Timestamp, config: ParticipantConfig) -> Result<ParticipantId, room::JoinError> {
        if self.members.len() >= self.max {
            return Err(room::JoinError::Full);
        }
        self.joined += 1;
        let id = ParticipantId::from_get(self.joined);
        self.members.push((id, config));
        Ok(id)
    }

    fn leave(&mut self, _: Timestamp, id: ParticipantId, _: &mut impl Egress) {
        self.members.retain(|(member, _)| *member != id);
    }

    fn handle_rtp(&mut self, now: Timestamp, from: ParticipantId, packet: &[u8], egress: &mut impl Egress) {
        let Ok(header) = RtpHeader::parse(packet) else { return };
        let payload = header.payload().unwrap_or_default();
        assert_ne!(payload, POISON);
        self.timer = Some(now + Duration::from_millis(20));
        self.events.push(room::Event::DominantSpeaker(Some(from)));
        for (to, config) in self.members.iter().filter(|(to, _)| *to != from && self.connected.contains(to)) {
            let ids = &config.outgoing_extensions;
            let slot = &config.slots[0];
            let out = OutgoingHeader::new(slot.ssrc, slot.payload_type, header.seq(), header.timestamp(), ids);
            egress.rtp(*to, &out, payload);
        }
    }

    fn handle_rtcp(&mut self, _: Timestamp, from: ParticipantId, packet: &[u8], egress: &mut impl Egress) {
        self.members.iter().filter(|(to, _)| *to != from).for_each(|(to, _)| egress.rtcp(*to, packet));
    }

    fn command(&mut self, _: Timestamp, command: Command, _: &mut impl Egress) {
        if let Command::Connected(id) = command {
            self.connected.push(id);
        }
    }

    fn handle_timeout(&mut self, _: Timestamp, egress: &mut impl Egress) {
        self.timer = None;
        for (to, _) in &self.members {
            egress.rtcp(*to, &[0x80, 201, 0, 1, 0, 0, 0, 9]);
        }
    }

    fn next_timeout(&self) -> Option<Timestamp> {
        self.timer
    }

    fn poll_event(&mut self) -> Option<room::Event> {
        self.events.pop()
    }
}

/// Handshakes on the spot; reports wait until the test passes them on.
struct Inline {
    endpoint: Endpoint,
    peers: Rc<RefCell<BTreeMap<u64, Peer>>>,
    reports: Rc<RefCell<Vec<Report>>>,
    now: Rc<RefCell<Timestamp>>,
}

impl Handshaking for Inline {
    type Handshake = u64;

    fn start(&mut self, session: u64, expected: Vec<Fingerprint>) -> Result<u64, Refused> {
        let peer = self.endpoint.peer(*self.now.borrow(), DtlsRole::Server, expected);
        self.peers.borrow_mut().insert(session, peer);
        Ok(session)
    }

    fn datagram(&mut self, session: &u64, bytes: &[u8]) -> Result<(), Refused> {
        let mut peers = self.peers.borrow_mut();
        let Some(peer) = peers.get_mut(session) else { return Err(Refused) };
        let report = |outcome| self.reports.borrow_mut().push(Report { session: *session, outcome });
        let mut buffer = vec![0; POLL_BUFFER];
        if let Err(error) = peer.handle_datagram(*self.now.borrow(), bytes) {
            report(Outcome::Failed(error));
        }
        loop {
            match peer.poll(&mut buffer) {
                Ok(Some(Output::Datagram(len))) => report(Outcome::Datagram(buffer[..len].to_vec())),
                Ok(Some(Output::Connected(keys))) => report(Outcome::Connected(keys)),
                Ok(Some(Output::Closed)) => report(Outcome::Closed),
                Ok(None) => return Ok(()),
                Err(error) => return Ok(report(Outcome::Failed(error))),
            }
        }
    }
}

/// Sends as they were made: receiver, segment length, bytes.
#[derive(Default)]
struct Sent(Vec<(Path, usize, Vec<u8>)>);

impl Wire for Sent {
    fn send(&mut self, path: Path, bytes: &[u8], segment: usize) {
        self.0.push((path, segment, bytes.to_vec()));
    }

    fn max_segments(&self) -> usize {
        64
    }
}

/// A client and what it got.
struct Participant {
    client: Client,
    address: SocketAddr,
    id: ParticipantId,
    ssrc: u32,
    rtp: Vec<Vec<u8>>,
    rtcp: usize,
    next_seq: u16,
}

struct World {
    core: Core<Mirror, Inline>,
    wire: Sent,
    now: Timestamp,
    shared_now: Rc<RefCell<Timestamp>>,
    reports: Rc<RefCell<Vec<Report>>>,
    server: Endpoint,
    client: Endpoint,
    participants: Vec<Participant>,
    /// Sends that carried something to participants in the last step: segments of each.
    sends: Vec<usize>,
    made: u32,
}

impl World {
    fn new() -> Self {
        Self::with(ShardConfig { arenas: 4, ..ShardConfig::default() })
    }

    fn with(config: ShardConfig) -> Self {
        let origin = std::time::Instant::now();
        let endpoint = || Endpoint::new(Certificate::generate().unwrap(), origin).unwrap();
        let (server, client) = (endpoint(), endpoint());
        let shared_now = Rc::new(RefCell::new(START));
        let reports = Rc::default();
        let inline = Inline {
            endpoint: server.clone(),
            peers: Rc::default(),
            reports: Rc::clone(&reports),
            now: Rc::clone(&shared_now),
        };
        let core = Core::new(START, config, inline);
        let (wire, participants, sends) = (Sent::default(), Vec::new(), Vec::new());
        Self { core, wire, now: START, shared_now, reports, server, client, participants, sends, made: 0 }
    }

    fn credentials(&mut self) -> Credentials {
        self.made += 1;
        Credentials::new(format!("ufrag{:04}", self.made), "passwordpasswordpassword").unwrap()
    }

    fn admission(&mut self, room: &str, local: Credentials) -> Admission {
        Admission {
            room: room.into(),
            room_config: RoomConfig { max_participants: 50, ..RoomConfig::default() },
            participant: participant(1_000 + self.made),
            local,
            remote_ufrag: "client".to_owned(),
            fingerprints: vec![Fingerprint::Sha256(self.client.sha256())],
        }
    }

    /// Joins somebody, whose client has not sent anything yet; returns its place.
    fn join(&mut self, room: &str) -> usize {
        let credentials = self.credentials();
        let admission = self.admission(room, credentials.clone());
        let ssrc = admission.participant.slots[0].ssrc.0;
        let id = self.core.join(self.now, admission).unwrap();
        let server = Server { credentials, fingerprint: self.server.sha256() };
        let client = Client::new(self.now, &self.client, "client", server).unwrap();
        let address = SocketAddr::from(([192, 0, 2, 1], 5_000 + self.made as u16));
        self.participants.push(Participant { client, address, id, ssrc, rtp: Vec::new(), rtcp: 0, next_seq: 0 });
        self.participants.len() - 1
    }

    /// Joins somebody and connects.
    fn connect(&mut self, room: &str) -> usize {
        let at = self.join(room);
        for _ in 0..20 {
            self.step();
        }
        assert!(self.participants[at].client.is_connected());
        at
    }

    /// Lets a tick pass in which everything sent arrives.
    fn step(&mut self) {
        self.now += TICK;
        *self.shared_now.borrow_mut() = self.now;
        for at in 0..self.participants.len() {
            let participant = &mut self.participants[at];
            participant.client.handle_timeout(self.now);
            let address = participant.address;
            while let Some(mut datagram) = self.participants[at].client.poll_transmit() {
                self.deliver(address, &mut datagram);
            }
        }
        if self.core.next_timeout() <= self.now {
            self.core.handle_timeout(self.now, &mut self.wire);
        }
        self.settle();
    }

    fn deliver(&mut self, from: SocketAddr, datagram: &mut [u8]) {
        let len = datagram.len();
        self.core.handle_datagrams(self.now, from, Some(local()), datagram, len, &mut self.wire);
    }

    /// Ends the batch and brings what was sent to the clients, until nothing more happens.
    fn settle(&mut self) {
        self.sends.clear();
        loop {
            for report in self.reports.take() {
                self.core.handle_report(self.now, report, &mut self.wire);
            }
            self.core.end_batch(self.now, &mut self.wire);
            if self.wire.0.is_empty() {
                return;
            }
            for (path, segment, mut bytes) in std::mem::take(&mut self.wire.0) {
                assert_eq!(path.local, Some(local()));
                self.sends.push(bytes.len().div_ceil(segment));
                bytes.chunks_mut(segment).for_each(|datagram| self.arrive(path.remote, datagram));
            }
        }
    }

    fn arrive(&mut self, to: TransportAddress, datagram: &mut [u8]) {
        let Some(at) = self.participants.iter().position(|p| TransportAddress::udp(p.address) == to) else { return };
        let participant = &mut self.participants[at];
        match participant.client.handle_datagram(self.now, datagram) {
            Received::Rtp(packet) => participant.rtp.push(packet.to_vec()),
            Received::Rtcp(_) => participant.rtcp += 1,
            Received::Other => {}
        }
        let address = participant.address;
        while let Some(mut datagram) = self.participants[at].client.poll_transmit() {
            self.deliver(address, &mut datagram);
        }
    }

    /// An SRTP packet from a participant.
    fn packet(&mut self, from: usize, payload: &[u8]) -> Vec<u8> {
        let sender = &mut self.participants[from];
        sender.next_seq += 1;
        let ids = ExtensionIds::default();
        let header = OutgoingHeader::new(Ssrc(7), PayloadType(111), sender.next_seq, 960, &ids);
        let mut buffer = vec![0; 1_500];
        let len = header.write_packet(payload, &mut buffer).unwrap().len;
        let len = sender.client.protect_rtp(&mut buffer, len).unwrap();
        buffer.truncate(len);
        buffer
    }

    fn send(&mut self, from: usize, payload: &[u8]) {
        let mut packet = self.packet(from, payload);
        let address = self.participants[from].address;
        self.deliver(address, &mut packet);
        self.settle();
    }

    fn payloads(&mut self, of: usize) -> Vec<Vec<u8>> {
        let ssrc = self.participants[of].ssrc;
        let packets = std::mem::take(&mut self.participants[of].rtp);
        let payload = |packet: &Vec<u8>| {
            let header = RtpHeader::parse(packet).unwrap();
            assert_eq!(header.ssrc(), ssrc, "the slot's own");
            header.payload().unwrap().to_vec()
        };
        packets.iter().map(payload).collect()
    }

    fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.core.poll_event()).collect()
    }
}

fn local() -> IpAddr {
    IpAddr::from([203, 0, 113, 5])
}

fn participant(ssrc: u32) -> ParticipantConfig {
    ParticipantConfig {
        published: Vec::new(),
        slots: vec![ReceiveSlot {
            mid: Mid("0".to_owned()),
            kind: SlotKind::Audio,
            ssrc: Ssrc(ssrc),
            payload_type: PayloadType(111),
            rtx: None,
        }],
        incoming_extensions: ExtensionIds::default(),
        outgoing_extensions: ExtensionIds::default(),
        grants: Grants::ALL,
        limits: Limits::default(),
        feedback_ssrc: Ssrc(1),
        cname: "cname".to_owned(),
        seed: 1,
    }
}

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
