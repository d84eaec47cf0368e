//! A whole shard without sockets: datagrams of any kind from strangers and from participants, and time that passes. Nothing
//! panics (a room's panic aborts here), no table grows, and strangers get no answer.
//!
//! The input is a list of steps: one byte says what, the next how long the datagram is that follows.
#![no_main]

use halloo_sfu::{
    client::{Client, InlineHandshakes, Received, Server},
    dtls::{Certificate, Endpoint, Fingerprint},
    ice::Credentials,
    room::{Command, Grants, Limits, Room, RoomConfig, SourceId, SourceKind, VideoWish},
    sdp::{LocalTransport, Offer, Terms, negotiate},
    shard::{Admission, Core, Path, ShardConfig, Wire},
};
use halloo_transport::Timestamp;
use libfuzzer_sys::fuzz_target;
use std::{
    net::{IpAddr, SocketAddr},
    sync::LazyLock,
    time::{Duration, Instant},
};

const OFFERS: [&str; 2] = [
    include_str!("../../sfu/src/sdp/offers/chromium_svc.sdp"),
    include_str!("../../sfu/src/sdp/offers/chromium_simulcast.sdp"),
];
const STRANGER: usize = OFFERS.len();
const TAG_ROOM: usize = 64;

static ENDPOINTS: LazyLock<[Endpoint; 2]> = LazyLock::new(|| {
    let origin = Instant::now();
    [(); 2].map(|()| Endpoint::new(Certificate::generate().unwrap(), origin).unwrap())
});

#[derive(Default)]
struct Sent(Vec<(SocketAddr, Vec<u8>)>);

impl Wire for Sent {
    fn send(&mut self, path: Path, bytes: &[u8], segment: usize) {
        let to = path.remote.address;
        self.0.extend(bytes.chunks(segment).map(|datagram| (to, datagram.to_vec())));
    }

    fn max_segments(&self) -> usize {
        64
    }
}

struct World {
    core: Core<Room, InlineHandshakes>,
    handshakes: InlineHandshakes,
    clients: Vec<Client>,
    sources: Vec<SourceId>,
    now: Timestamp,
    wire: Sent,
}

fn address(of: usize) -> SocketAddr {
    ([192, 0, 2, 1], 5_000 + of as u16).into()
}

impl World {
    fn new() -> Self {
        let [server, client] = &*ENDPOINTS;
        let now = Timestamp::from_millis(1_000);
        let handshakes = InlineHandshakes::new(server.clone());
        let core = Core::new(now, ShardConfig::default(), handshakes.clone());
        let (clients, sources, wire) = (Vec::new(), Vec::new(), Sent::default());
        let mut world = Self { core, handshakes, clients, sources, now, wire };
        for (index, offer) in OFFERS.iter().enumerate() {
            world.join(index, offer, server, client);
        }
        for _ in 0..10 {
            world.step(Duration::from_millis(20));
        }
        assert!(world.clients.iter().all(Client::is_connected));
        world
    }

    fn join(&mut self, index: usize, offer: &str, server: &Endpoint, client: &Endpoint) {
        let credentials = Credentials::new(format!("server{index}"), "passwordpasswordpassword").unwrap();
        let offer = Offer::parse(&offer.replace("\r\n", "\n").replace('\n', "\r\n")).unwrap();
        let local = LocalTransport {
            ufrag: credentials.ufrag().to_owned(),
            pwd: credentials.pwd().to_owned(),
            fingerprint: server.sha256(),
            candidates: Vec::new(),
        };
        let terms =
            Terms { grants: Grants::ALL, limits: Limits::default(), start_publish: None, seed: index as u64 + 1 };
        let negotiated = negotiate(&offer, &local, &terms, None).unwrap();
        let admission = Admission {
            room: "room".into(),
            room_config: RoomConfig::default(),
            participant: negotiated.participant,
            local: credentials.clone(),
            remote_ufrag: negotiated.remote.ufrag.clone(),
            fingerprints: vec![Fingerprint::Sha256(client.sha256())],
        };
        let participant = self.core.join(self.now, admission).unwrap();
        self.sources.extend(SourceKind::ALL.map(|kind| SourceId::new(participant, kind)));
        let server = Server { credentials, fingerprint: server.sha256() };
        self.clients.push(Client::new(self.now, client, &negotiated.remote.ufrag, server).unwrap());
    }

    fn step(&mut self, by: Duration) {
        self.now += by;
        self.handshakes.set_now(self.now);
        for client in &mut self.clients {
            client.handle_timeout(self.now);
        }
        if self.core.next_timeout() <= self.now {
            self.core.handle_timeout(self.now, &mut self.wire);
        }
        self.settle();
    }

    fn deliver(&mut self, from: usize, mut datagram: Vec<u8>) {
        let (len, to) = (datagram.len(), IpAddr::from([203, 0, 113, 5]));
        self.core.handle_datagrams(self.now, address(from), Some(to), &mut datagram, len, &mut self.wire);
    }

    fn settle(&mut self) {
        loop {
            for of in 0..self.clients.len() {
                while let Some(datagram) = self.clients[of].poll_transmit() {
                    self.deliver(of, datagram);
                }
            }
            for report in self.handshakes.take_reports() {
                self.core.handle_report(self.now, report, &mut self.wire);
            }
            self.core.end_batch(self.now, &mut self.wire);
            while self.core.poll_event().is_some() {}
            if self.wire.0.is_empty() {
                return;
            }
            for (to, mut datagram) in std::mem::take(&mut self.wire.0) {
                assert_ne!(to, address(STRANGER), "a stranger got an answer");
                if let Some(of) = (0..self.clients.len()).find(|of| address(*of) == to) {
                    let received = self.clients[of].handle_datagram(self.now, &mut datagram);
                    if let Received::Rtp(packet) = received {
                        assert!(packet.len() > 12);
                    }
                }
            }
        }
    }

    /// A datagram as the participant's own SRTP would carry it.
    fn seal(&mut self, of: usize, bytes: &[u8]) -> Option<Vec<u8>> {
        let is_rtcp = bytes.get(1).is_some_and(|kind| (192..=223).contains(kind));
        let mut buffer = vec![0; bytes.len() + TAG_ROOM];
        buffer[..bytes.len()].copy_from_slice(bytes);
        let client = &mut self.clients[of];
        let sealed = if is_rtcp {
            client.protect_rtcp(&mut buffer, bytes.len())
        } else {
            client.protect_rtp(&mut buffer, bytes.len())
        };
        buffer.truncate(sealed.ok()?);
        Some(buffer)
    }

    /// What control may ask, told by three bytes.
    fn command(&mut self, bytes: &[u8]) {
        let [what, which, value, ..] = bytes else { return };
        let source = self.sources[usize::from(*which) % self.sources.len()];
        let size = u32::from(*value) * 8;
        let wish = VideoWish { source, width: size, height: size, pinned: value % 2 == 0 };
        let by = self.sources[usize::from(*value) % self.sources.len()].participant();
        let command = match what % 4 {
            0 => Command::Mute { source, muted: value % 2 == 0 },
            1 => Command::Publish { source, published: value % 2 == 0 },
            2 => Command::Show { by, wishes: vec![wish], others: (size, size) },
            _ => Command::Disconnected(source.participant()),
        };
        self.core.command(self.now, "room", command, &mut self.wire);
    }
}

fuzz_target!(|input: &[u8]| {
    let mut world = World::new();
    let mut rest = input;
    while let [what, len, bytes @ ..] = rest {
        let (datagram, after) = bytes.split_at(usize::from(*len).min(bytes.len()));
        rest = after;
        let of = usize::from(what / 16) % OFFERS.len();
        match what % 8 {
            0 => world.deliver(STRANGER, datagram.to_vec()),
            // From a participant's address, but not sealed: DTLS and whatever else.
            1 => world.deliver(of, datagram.to_vec()),
            2 => world.step(Duration::from_millis(u64::from(*len))),
            3 => world.command(datagram),
            // Over TCP, by connections that come and go.
            4 if of == 0 => world.core.handle_frame(world.now, address(STRANGER), &mut datagram.to_vec(), &mut world.wire),
            4 => world.core.handle_disconnected(world.now, address(usize::from(*len) % 3), &mut world.wire),
            _ => {
                if let Some(sealed) = world.seal(of, datagram) {
                    world.deliver(of, sealed);
                }
            }
        }
        world.settle();
    }
    let stats = world.core.stats();
    assert_eq!(stats.rooms_failed, 0);
    assert!(stats.sessions <= OFFERS.len() as u64);
});
