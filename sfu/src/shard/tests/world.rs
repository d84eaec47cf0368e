//! A shard without threads: a room that mirrors, clients, handshakes and a wire that collects, all on one clock.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use halloo_transport::{Mid, PayloadType, Ssrc, Timestamp};

use super::super::*;
use crate::{
    client::{Client, InlineHandshakes, Received, Server},
    dtls::{Certificate, Endpoint, Fingerprint, Outcome, Report},
    ice::{Credentials, Protocol, TransportAddress},
    room::{
        self, Command, Egress, Grants, Limits, ParticipantConfig, ParticipantId, ReceiveSlot, RoomConfig, RoomSnapshot,
        SlotKind,
    },
    rtp::{ExtensionIds, OutgoingHeader, RtpHeader},
};

pub(super) const START: Timestamp = Timestamp::from_millis(10_000);
/// At this time a snapshot of [`Mirror`] panics.
pub(super) const SNAPSHOT_PANICS: Timestamp = Timestamp::from_millis(99_999_999);
const TICK: Duration = Duration::from_millis(10);
/// A payload that makes [`Mirror`] panic.
pub(super) const POISON: &[u8] = b"poison";

/// A room that forwards every packet to everybody else, under the SSRC of their first slot.
#[derive(Default)]
pub(super) struct Mirror {
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

    fn forward(&mut self, _: Timestamp, _: &mut impl Egress) {}

    fn lingers_until(&self) -> Option<Timestamp> {
        None
    }

    fn handle_rtcp(&mut self, _: Timestamp, from: ParticipantId, packet: &[u8], egress: &mut impl Egress) {
        self.members.iter().filter(|(to, _)| *to != from).for_each(|(to, _)| egress.rtcp(*to, packet));
    }

    fn add_slots(&mut self, _: Timestamp, id: ParticipantId, slots: &[ReceiveSlot], _: &mut impl Egress) {
        let member = self.members.iter_mut().find(|(member, _)| *member == id);
        member.unwrap().1.slots.extend_from_slice(slots);
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

    fn timeouts(&mut self) -> Option<(Timestamp, Timestamp)> {
        self.timer.map(|at| (at, at))
    }

    fn poll_event(&mut self) -> Option<room::Event> {
        self.events.pop()
    }

    fn constrained(&self) -> usize {
        0
    }

    fn snapshot(&self, now: Timestamp) -> RoomSnapshot {
        assert_ne!(now, SNAPSHOT_PANICS);
        RoomSnapshot { history_bytes: self.members.len(), ..RoomSnapshot::default() }
    }
}

/// Sends as they were made: receiver, segment length, bytes.
#[derive(Default)]
pub(super) struct Sent(Vec<(Path, usize, Vec<u8>)>);

impl Wire for Sent {
    fn send(&mut self, path: Path, bytes: &[u8], segment: usize) {
        self.0.push((path, segment, bytes.to_vec()));
    }

    fn max_segments(&self) -> usize {
        64
    }
}

/// A client and what it got.
pub(super) struct Participant {
    pub(super) client: Client,
    pub(super) address: SocketAddr,
    pub(super) id: ParticipantId,
    pub(super) ssrc: u32,
    pub(super) rtp: Vec<Vec<u8>>,
    pub(super) rtcp: usize,
    pub(super) next_seq: u16,
}

pub(super) struct World {
    pub(super) core: Core<Mirror, InlineHandshakes>,
    pub(super) wire: Sent,
    pub(super) now: Timestamp,
    handshakes: InlineHandshakes,
    pub(super) server: Endpoint,
    pub(super) client: Endpoint,
    pub(super) participants: Vec<Participant>,
    /// Addresses whose datagrams travel over TCP.
    pub(super) tcp: BTreeSet<SocketAddr>,
    /// Sends that carried something to participants in the last step: segments of each.
    pub(super) sends: Vec<usize>,
    /// Keys of finished handshakes do not reach the shard yet.
    pub(super) hold_keys: bool,
    held: Vec<Report>,
    made: u32,
}

impl World {
    pub(super) fn new() -> Self {
        Self::with(ShardConfig { arenas: 4, ..ShardConfig::default() })
    }

    pub(super) fn with(config: ShardConfig) -> Self {
        let origin = std::time::Instant::now();
        let endpoint = || Endpoint::new(Certificate::generate().unwrap(), origin).unwrap();
        let (server, client) = (endpoint(), endpoint());
        let handshakes = InlineHandshakes::new(server.clone());
        let core = Core::new(START, config, handshakes.clone());
        let (wire, participants, tcp, sends) = (Sent::default(), Vec::new(), BTreeSet::new(), Vec::new());
        let (hold_keys, held, made) = (false, Vec::new(), 0);
        Self { core, wire, now: START, handshakes, server, client, participants, tcp, sends, hold_keys, held, made }
    }

    pub(super) fn credentials(&mut self) -> Credentials {
        self.made += 1;
        Credentials::new(format!("ufrag{:04}", self.made), "passwordpasswordpassword").unwrap()
    }

    pub(super) fn admission(&mut self, room: &str, local: Credentials) -> Admission {
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
    pub(super) fn join(&mut self, room: &str) -> usize {
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
    pub(super) fn connect(&mut self, room: &str) -> usize {
        let at = self.join(room);
        for _ in 0..20 {
            self.step();
        }
        assert!(self.participants[at].client.is_connected());
        at
    }

    /// Lets a tick pass in which everything sent arrives.
    pub(super) fn step(&mut self) {
        self.now += TICK;
        self.handshakes.set_now(self.now);
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

    pub(super) fn deliver(&mut self, from: SocketAddr, datagram: &mut [u8]) {
        if self.tcp.contains(&from) {
            return self.core.handle_frame(self.now, from, datagram, &mut self.wire);
        }
        let len = datagram.len();
        self.core.handle_datagrams(self.now, from, Some(local()), datagram, len, &mut self.wire);
    }

    /// Ends the batch and brings what was sent to the clients, until nothing more happens.
    pub(super) fn settle(&mut self) {
        self.sends.clear();
        loop {
            self.held.extend(self.handshakes.take_reports());
            let hold = self.hold_keys;
            let reports = self.held.extract_if(.., |report| !hold || !matches!(report.outcome, Outcome::Connected(_)));
            reports.for_each(|report| self.core.handle_report(self.now, report, &mut self.wire));
            self.core.end_batch(self.now, &mut self.wire);
            if self.wire.0.is_empty() {
                return;
            }
            for (path, segment, mut bytes) in std::mem::take(&mut self.wire.0) {
                if path.remote.protocol == Protocol::Udp {
                    assert_eq!(path.local, Some(local()));
                }
                self.sends.push(bytes.len().div_ceil(segment));
                bytes.chunks_mut(segment).for_each(|datagram| self.arrive(path.remote, datagram));
            }
        }
    }

    fn arrive(&mut self, to: TransportAddress, datagram: &mut [u8]) {
        if (to.protocol == Protocol::Tcp) != self.tcp.contains(&to.address) {
            return;
        }
        let Some(at) = self.participants.iter().position(|p| p.address == to.address) else { return };
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
    pub(super) fn packet(&mut self, from: usize, payload: &[u8]) -> Vec<u8> {
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

    pub(super) fn send(&mut self, from: usize, payload: &[u8]) {
        let mut packet = self.packet(from, payload);
        let address = self.participants[from].address;
        self.deliver(address, &mut packet);
        self.settle();
    }

    pub(super) fn payloads(&mut self, of: usize) -> Vec<Vec<u8>> {
        let ssrc = self.participants[of].ssrc;
        let packets = std::mem::take(&mut self.participants[of].rtp);
        let payload = |packet: &Vec<u8>| {
            let header = RtpHeader::parse(packet).unwrap();
            assert_eq!(header.ssrc(), ssrc, "the slot's own");
            header.payload().unwrap().to_vec()
        };
        packets.iter().map(payload).collect()
    }

    pub(super) fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.core.poll_event()).collect()
    }
}

pub(super) fn local() -> IpAddr {
    IpAddr::from([203, 0, 113, 5])
}

pub(super) fn participant(ssrc: u32) -> ParticipantConfig {
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
