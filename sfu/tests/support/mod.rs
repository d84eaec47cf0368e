//! Clients over real sockets for whole-unit tests: joining, connecting, sending, waiting for what arrives. Waiting is always
//! for a datagram or a timer of the client's own, never for time to pass.

#![allow(dead_code, reason = "each test program uses its own part")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    net::UdpSocket,
    sync::{
        Arc,
        mpsc::{Receiver, sync_channel},
    },
    time::{Duration, Instant},
};

use halloo_sfu::{
    JoinRequest, Sfu, SfuConfig, SfuHandle,
    client::{Client, Received, Server},
    dtls::{Certificate, Endpoint},
    ice::Credentials,
    net::Clock,
    room::{
        Encoding, Grants, Limits, ParticipantConfig, ParticipantId, PublishedSection, ReceiveSlot, RoomConfig,
        SlotKind, SourceKind,
    },
    rtp::{AudioLevel, ExtensionIds, OutgoingHeader},
    sdp::RemoteTransport,
    shard::Event,
};
use halloo_transport::{Mid, PayloadType, Ssrc};

/// Longest wait for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) const IDS: ExtensionIds = ExtensionIds {
    mid: Some(4),
    rid: None,
    repaired_rid: None,
    transport_cc: Some(3),
    abs_send_time: None,
    audio_level: Some(1),
    dependency_descriptor: None,
    video_orientation: None,
};

/// A unit on loopback with its events.
pub(crate) struct Unit {
    pub(crate) handle: SfuHandle,
    pub(crate) events: Receiver<Event>,
}

pub(crate) fn start() -> Unit {
    let (sender, events) = sync_channel(4_096);
    let handle = Sfu::start(&SfuConfig { shards: 2, ..SfuConfig::default() }, sender).unwrap();
    Unit { handle, events }
}

/// A client on a socket.
pub(crate) struct Socketed {
    pub(crate) client: Client,
    pub(crate) id: ParticipantId,
    pub(crate) slots: Vec<ReceiveSlot>,
    /// RTP packets that arrived, opened.
    pub(crate) rtp: Vec<Vec<u8>>,
    /// RTCP packets that arrived, opened.
    pub(crate) rtcp: Vec<Vec<u8>>,
    socket: UdpSocket,
    clock: Clock,
    microphone: u32,
    next_seq: u16,
}

/// One microphone out, `slots` audio slots in.
pub(crate) fn participant(number: u32, slots: u32) -> ParticipantConfig {
    ParticipantConfig {
        published: vec![PublishedSection {
            mid: Mid("0".to_owned()),
            kind: SourceKind::Microphone,
            payload_type: PayloadType(111),
            rtx_payload_type: None,
            nack: false,
            encodings: vec![Encoding { ssrc: Some(Ssrc(0x1000 + number)), ..Encoding::default() }],
        }],
        slots: (0..slots)
            .map(|n| ReceiveSlot {
                mid: Mid((n + 1).to_string()),
                kind: SlotKind::Audio,
                ssrc: Ssrc(0x2000_0000 + 0x100 * number + n),
                payload_type: PayloadType(109),
                rtx: None,
            })
            .collect(),
        incoming_extensions: IDS,
        outgoing_extensions: IDS,
        grants: Grants::ALL,
        limits: Limits::default(),
        feedback_ssrc: Ssrc(0x3000_0000 + number),
        cname: format!("cname{number}"),
        seed: u64::from(number),
    }
}

impl Socketed {
    /// Joins a room; the connection is not there yet.
    pub(crate) fn join(unit: &Unit, room: &str, number: u32) -> Self {
        let clock = Clock::start();
        let endpoint = Endpoint::new(Certificate::generate().unwrap(), clock.origin()).unwrap();
        let local = unit.handle.local_transport(room).unwrap();
        let ufrag = format!("client{number}");
        let config = participant(number, 2);
        let slots = config.slots.clone();
        let (reply, answer) = sync_channel(1);
        let request = JoinRequest {
            room: Arc::from(room),
            room_config: RoomConfig::default(),
            participant: config,
            remote: RemoteTransport {
                ufrag: ufrag.clone(),
                pwd: "passwordpasswordpassword".to_owned(),
                fingerprints: vec![endpoint.sha256()],
            },
            local: local.clone(),
        };
        unit.handle.join(request, move |result| reply.send(result).unwrap()).unwrap();
        let id = answer.recv_timeout(PATIENCE).unwrap().unwrap();
        let server =
            Server { credentials: Credentials::new(local.ufrag, local.pwd).unwrap(), fingerprint: local.fingerprint };
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(local.candidates[0].address).unwrap();
        Self {
            client: Client::new(clock.now(), &endpoint, &ufrag, server).unwrap(),
            id,
            slots,
            rtp: Vec::new(),
            rtcp: Vec::new(),
            socket,
            clock,
            microphone: 0x1000 + number,
            next_seq: 1,
        }
    }

    /// Joins a room and waits for the connection.
    pub(crate) fn connect(unit: &Unit, room: &str, number: u32) -> Self {
        let mut joined = Self::join(unit, room, number);
        joined.run_until(|own| own.client.is_connected());
        joined
    }

    /// Moves to another local port, as a NAT does, and checks from there.
    pub(crate) fn rebind(&mut self) {
        let server = self.socket.peer_addr().unwrap();
        self.socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        self.socket.connect(server).unwrap();
        self.client.check_now(self.clock.now());
    }

    /// Sends and receives until `done`; fails where that takes too long.
    pub(crate) fn run_until(&mut self, mut done: impl FnMut(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !done(self) {
            assert!(Instant::now() < deadline, "not in time; failure: {:?}", self.client.failure());
            self.turn(Duration::from_millis(100));
        }
        self.flush();
    }

    /// Sends what is due and receives one datagram, waiting for it at most as long as said.
    pub(crate) fn turn(&mut self, wait: Duration) {
        self.client.handle_timeout(self.clock.now());
        self.flush();
        let mut buffer = [0; 2_048];
        let until = self.client.next_timeout().since(self.clock.now()).min(wait);
        self.socket.set_read_timeout(Some(until.max(Duration::from_millis(1)))).unwrap();
        let Ok(len) = self.socket.recv(&mut buffer) else { return };
        match self.client.handle_datagram(self.clock.now(), &mut buffer[..len]) {
            Received::Rtp(packet) => self.rtp.push(packet.to_vec()),
            Received::Rtcp(packet) => self.rtcp.push(packet.to_vec()),
            Received::Other => {}
        }
        self.flush();
    }

    /// Says goodbye.
    pub(crate) fn close(&mut self) {
        self.client.close(self.clock.now());
        self.flush();
    }

    fn flush(&mut self) {
        while let Some(datagram) = self.client.poll_transmit() {
            self.socket.send(&datagram).unwrap();
        }
    }

    /// Sends a packet of the microphone.
    pub(crate) fn speak(&mut self, payload: &[u8]) {
        let header = OutgoingHeader {
            audio_level: Some(AudioLevel { level: 10, voice: true }),
            transport_seq: Some(self.next_seq),
            ..OutgoingHeader::new(
                Ssrc(self.microphone),
                PayloadType(111),
                self.next_seq,
                u32::from(self.next_seq) * 960,
                &IDS,
            )
        };
        self.next_seq += 1;
        let mut buffer = [0; 1_500];
        let len = header.write_packet(payload, &mut buffer).unwrap().len;
        let len = self.client.protect_rtp(&mut buffer, len).unwrap();
        self.socket.send(&buffer[..len]).unwrap();
    }
}
