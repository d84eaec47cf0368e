//! Clients over real sockets for whole-unit tests: joining, connecting, sending, waiting for what arrives. Waiting is always
//! for a datagram or a timer of the client's own, never for time to pass.

#![allow(dead_code, reason = "each test program uses its own part")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    net::{SocketAddr, UdpSocket},
    sync::{
        Arc,
        mpsc::{Receiver, sync_channel},
    },
    time::{Duration, Instant},
};

use halloo_sfu::{
    JoinRequest, Sfu, SfuConfig, SfuHandle,
    client::{Client, FramedStream, Received, Server},
    dtls::{Certificate, Endpoint},
    ice::Credentials,
    net::Clock,
    room::{
        Encoding, Grants, Limits, ParticipantConfig, ParticipantId, PublishedSection, ReceiveSlot, RoomConfig,
        SlotKind, SourceId, SourceKind,
    },
    rtp::{AudioLevel, ExtensionIds, OutgoingHeader, RtpHeader},
    sdp::{Protocol, RemoteTransport},
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
    start_at("127.0.0.1:0".parse().unwrap())
}

pub(crate) fn start_at(bind: SocketAddr) -> Unit {
    let (sender, events) = sync_channel(4_096);
    let handle = Sfu::start(&SfuConfig { shards: 2, bind, ..SfuConfig::default() }, sender).unwrap();
    Unit { handle, events }
}

/// What a client's datagrams travel on.
pub(crate) enum Link {
    Udp(UdpSocket),
    Tcp(FramedStream),
}

impl Link {
    fn open(protocol: Protocol, to: SocketAddr) -> Self {
        if protocol == Protocol::TcpPassive {
            return Self::Tcp(FramedStream::connect(to).unwrap());
        }
        let socket = UdpSocket::bind((to.ip(), 0)).unwrap();
        socket.connect(to).unwrap();
        Self::Udp(socket)
    }

    fn peer(&self) -> (Protocol, SocketAddr) {
        match self {
            Self::Udp(socket) => (Protocol::Udp, socket.peer_addr().unwrap()),
            Self::Tcp(stream) => (Protocol::TcpPassive, stream.get_ref().peer_addr().unwrap()),
        }
    }

    fn send(&mut self, datagram: &[u8]) {
        match self {
            Self::Udp(socket) => {
                socket.send(datagram).unwrap();
            }
            Self::Tcp(stream) => stream.send(datagram).unwrap(),
        }
    }

    /// Waits as long as said for something, which may be several datagrams.
    fn receive(&mut self, wait: Duration, mut take: impl FnMut(&mut [u8])) {
        match self {
            Self::Udp(socket) => {
                let mut buffer = [0; 2_048];
                socket.set_read_timeout(Some(wait)).unwrap();
                if let Ok(len) = socket.recv(&mut buffer) {
                    take(&mut buffer[..len]);
                }
            }
            Self::Tcp(stream) => {
                let _ = stream.receive(wait, take);
            }
        }
    }
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
    link: Link,
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
    /// Joins a room over UDP; the connection is not there yet.
    pub(crate) fn join(unit: &Unit, room: &str, number: u32) -> Self {
        Self::join_over(Protocol::Udp, unit, room, number)
    }

    pub(crate) fn join_over(protocol: Protocol, unit: &Unit, room: &str, number: u32) -> Self {
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
        let candidate = local.candidates.iter().find(|candidate| candidate.protocol == protocol).unwrap();
        let link = Link::open(protocol, candidate.address);
        Self {
            client: Client::new(clock.now(), &endpoint, &ufrag, server).unwrap(),
            id,
            slots,
            rtp: Vec::new(),
            rtcp: Vec::new(),
            link,
            clock,
            microphone: 0x1000 + number,
            next_seq: 1,
        }
    }

    /// Joins a room and waits for the connection.
    pub(crate) fn connect(unit: &Unit, room: &str, number: u32) -> Self {
        Self::connect_over(Protocol::Udp, unit, room, number)
    }

    pub(crate) fn connect_over(protocol: Protocol, unit: &Unit, room: &str, number: u32) -> Self {
        let mut joined = Self::join_over(protocol, unit, room, number);
        joined.run_until(|own| own.client.is_connected());
        joined
    }

    /// Moves to another local port, as a NAT does, and checks from there.
    pub(crate) fn rebind(&mut self) {
        let (protocol, server) = self.link.peer();
        self.rebind_over(protocol, server);
    }

    /// The same, by another protocol.
    pub(crate) fn rebind_over(&mut self, protocol: Protocol, server: SocketAddr) {
        self.link = Link::open(protocol, server);
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

    /// Sends what is due and receives, waiting for something at most as long as said.
    pub(crate) fn turn(&mut self, wait: Duration) {
        self.client.handle_timeout(self.clock.now());
        self.flush();
        let until = self.client.next_timeout().since(self.clock.now()).min(wait);
        let Self { link, client, clock, rtp, rtcp, .. } = self;
        link.receive(until.max(Duration::from_millis(1)), |datagram| {
            match client.handle_datagram(clock.now(), datagram) {
                Received::Rtp(packet) => rtp.push(packet.to_vec()),
                Received::Rtcp(packet) => rtcp.push(packet.to_vec()),
                Received::Other => {}
            }
        });
        self.flush();
    }

    /// Says goodbye.
    pub(crate) fn close(&mut self) {
        self.client.close(self.clock.now());
        self.flush();
    }

    fn flush(&mut self) {
        while let Some(datagram) = self.client.poll_transmit() {
            self.link.send(&datagram);
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
        self.link.send(&buffer[..len]);
    }
}

/// Whether `who` got a packet with this payload.
pub(crate) fn heard(who: &Socketed, word: &[u8]) -> bool {
    who.rtp.iter().any(|packet| RtpHeader::parse(packet).unwrap().payload() == Some(word))
}

/// Lets `from` speak until `to` has heard all of `words`; what is heard is checked. Words are repeated, since a room forwards
/// a speaker from the packet on with which it knows it.
pub(crate) fn hears(from: &mut Socketed, to: &mut Socketed, words: &[&[u8]]) {
    to.rtp.clear();
    for attempt in 0..500 {
        from.speak(words[attempt % words.len()]);
        from.turn(Duration::from_millis(1));
        to.turn(Duration::from_millis(20));
        if words.iter().all(|word| heard(to, word)) {
            break;
        }
    }
    let source = SourceId::new(from.id, SourceKind::Microphone).csrc();
    for packet in &to.rtp {
        let header = RtpHeader::parse(packet).unwrap();
        let slot = to.slots.iter().find(|slot| slot.ssrc.0 == header.ssrc()).unwrap();
        assert_eq!(header.payload_type(), slot.payload_type.0);
        assert_eq!(header.csrcs().collect::<Vec<_>>(), [source]);
    }
    for word in words {
        assert!(heard(to, word), "{:?} was not heard", String::from_utf8_lossy(word));
    }
}
