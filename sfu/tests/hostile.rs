//! A million hostile datagrams during a running meeting: nothing of the meeting is lost, nothing grows, and a hostile
//! datagram costs no more than an honest one.
//!
//! The shard runs without sockets, so that each datagram meets it as it was made; SRTP, ICE and DTLS are real.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    net::{IpAddr, SocketAddr},
    sync::atomic::{AtomicI64, Ordering},
    time::{Duration, Instant},
};

use halloo_sfu::{
    client::{Client, InlineHandshakes, Received, Server},
    dtls::{Certificate, Endpoint, Fingerprint},
    ice::Credentials,
    room::{Grants, Limits, ParticipantConfig, Room, RoomConfig},
    rtp::{AudioLevel, OutgoingHeader, RtpHeader},
    sdp::{LocalTransport, Offer, Terms, negotiate},
    shard::{Admission, Core, Path, ShardConfig, Wire},
};
use halloo_transport::{PayloadType, Ssrc, Timestamp, random::Random};

static LIVE_BYTES: AtomicI64 = AtomicI64::new(0);

struct Counting;

// SAFETY: passes every call on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE_BYTES.fetch_add(layout.size() as i64, Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        LIVE_BYTES.fetch_sub(layout.size() as i64, Ordering::Relaxed);
        // SAFETY: `ptr` came from `alloc` above, that is from the system's allocator.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

const OFFER: &str = include_str!("../src/sdp/offers/chromium_svc.sdp");
const PARTICIPANTS: usize = 4;
const HOSTILE: u32 = 1_000_000;
/// Hostile datagrams between two honest ones of the meeting.
const PER_TURN: u32 = 250;
const OURS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, 5));

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

struct Member {
    client: Client,
    config: ParticipantConfig,
    /// Sounds of the others that arrived, by payload.
    heard: Vec<u32>,
    next_seq: u16,
}

/// A meeting on one clock.
struct Meeting {
    core: Core<Room, InlineHandshakes>,
    handshakes: InlineHandshakes,
    members: Vec<Member>,
    now: Timestamp,
    wire: Sent,
    /// The newest datagrams of each member, sealed, to be replayed and mutated.
    overheard: Vec<Vec<u8>>,
}

fn address(of: usize) -> SocketAddr {
    ([192, 0, 2, 1], 5_000 + of as u16).into()
}

impl Meeting {
    fn start() -> Self {
        let origin = Instant::now();
        let [server, client] = [(); 2].map(|()| Endpoint::new(Certificate::generate().unwrap(), origin).unwrap());
        let now = Timestamp::from_millis(1_000);
        let handshakes = InlineHandshakes::new(server.clone());
        let core = Core::new(now, ShardConfig::default(), handshakes.clone());
        let (members, wire, overheard) = (Vec::new(), Sent::default(), Vec::new());
        let mut own = Self { core, handshakes, members, now, wire, overheard };
        (0..PARTICIPANTS).for_each(|index| own.join(index, &server, &client));
        while !own.members.iter().all(|member| member.client.is_connected()) {
            assert!(own.now < Timestamp::from_millis(5_000), "not all connected");
            own.turn();
        }
        own
    }

    fn join(&mut self, index: usize, server: &Endpoint, client: &Endpoint) {
        let credentials = Credentials::new(format!("server{index}"), "passwordpasswordpassword").unwrap();
        let offer = Offer::parse(&OFFER.replace("\r\n", "\n").replace('\n', "\r\n")).unwrap();
        let local = LocalTransport {
            ufrag: credentials.ufrag().to_owned(),
            pwd: credentials.pwd().to_owned(),
            fingerprint: server.sha256(),
            candidates: Vec::new(),
        };
        let terms =
            Terms { grants: Grants::ALL, limits: Limits::default(), start_publish: None, seed: index as u64 + 1 };
        let negotiated = negotiate(&offer, &local, &terms, None).unwrap();
        let config = negotiated.participant;
        let admission = Admission {
            room: "room".into(),
            room_config: RoomConfig { loudest: PARTICIPANTS, ..RoomConfig::default() },
            participant: config.clone(),
            local: credentials.clone(),
            remote_ufrag: negotiated.remote.ufrag.clone(),
            fingerprints: vec![Fingerprint::Sha256(client.sha256())],
        };
        self.core.join(self.now, admission).unwrap();
        let server = Server { credentials, fingerprint: server.sha256() };
        let client = Client::new(self.now, client, &negotiated.remote.ufrag, server).unwrap();
        self.members.push(Member { client, config, heard: Vec::new(), next_seq: 0 });
    }

    /// 20 ms in which everybody is heard and nobody loses anything.
    fn turn(&mut self) {
        self.now += Duration::from_millis(20);
        self.handshakes.set_now(self.now);
        for member in &mut self.members {
            member.client.handle_timeout(self.now);
        }
        if self.core.next_timeout() <= self.now {
            self.core.handle_timeout(self.now, &mut self.wire);
        }
        self.settle();
    }

    fn deliver(&mut self, from: SocketAddr, datagram: &mut [u8]) {
        let len = datagram.len();
        self.core.handle_datagrams(self.now, from, Some(OURS), datagram, len, &mut self.wire);
    }

    /// Brings everybody what was sent, until nothing more is.
    fn settle(&mut self) {
        loop {
            for of in 0..self.members.len() {
                while let Some(mut datagram) = self.members[of].client.poll_transmit() {
                    self.overhear(&datagram);
                    self.deliver(address(of), &mut datagram);
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
                let member = (0..self.members.len()).find(|of| address(*of) == to).expect("only members are answered");
                let member = &mut self.members[member];
                if let Received::Rtp(packet) = member.client.handle_datagram(self.now, &mut datagram) {
                    let header = RtpHeader::parse(packet).unwrap();
                    if let Some(number) = header.payload().and_then(|payload| payload.first_chunk::<4>()) {
                        member.heard.push(u32::from_be_bytes(*number));
                    }
                }
            }
        }
    }

    fn overhear(&mut self, datagram: &[u8]) {
        if self.overheard.len() >= 256 {
            self.overheard.remove(0);
        }
        self.overheard.push(datagram.to_vec());
    }

    /// One sealed sound of a member.
    fn sound(&mut self, of: usize, number: u32) -> Vec<u8> {
        let member = &mut self.members[of];
        member.next_seq = member.next_seq.wrapping_add(1);
        let section = &member.config.published[0];
        let ids = member.config.incoming_extensions;
        let ssrc = section.encodings[0].ssrc.unwrap_or(Ssrc(0x1000 + of as u32));
        let header = OutgoingHeader {
            audio_level: Some(AudioLevel { level: 20, voice: true }),
            ..OutgoingHeader::new(
                ssrc,
                PayloadType(section.payload_type.0),
                member.next_seq,
                u32::from(member.next_seq) * 960,
                &ids,
            )
        };
        let mut buffer = vec![0; 256];
        let mut payload = [0; 80];
        payload[..4].copy_from_slice(&number.to_be_bytes());
        let len = header.write_packet(&payload, &mut buffer).unwrap().len;
        let len = member.client.protect_rtp(&mut buffer, len).unwrap();
        buffer.truncate(len);
        buffer
    }

    /// Each member says one thing. Time spent on it.
    fn speak(&mut self, number: u32) -> Duration {
        let mut spent = Duration::ZERO;
        for of in 0..PARTICIPANTS {
            let mut sound = self.sound(of, number * PARTICIPANTS as u32 + of as u32);
            self.overhear(&sound);
            let began = Instant::now();
            self.deliver(address(of), &mut sound);
            spent += began.elapsed();
        }
        let began = Instant::now();
        self.core.end_batch(self.now, &mut self.wire);
        spent += began.elapsed();
        self.settle();
        spent
    }
}

/// Makes hostile datagrams.
struct Attacker {
    random: Random,
}

/// Sensible beginnings of each protocol, so that noise gets past the first byte.
const BEGINNINGS: [&[u8]; 6] = [
    &[0, 1, 0, 60, 0x21, 0x12, 0xa4, 0x42],
    &[22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 60, 1],
    &[0x90, 111],
    &[0xbf, 0xad, 0, 1],
    &[0x80, 200, 0, 12],
    &[0x8f, 206, 0xff, 0xff],
];

impl Attacker {
    fn below(&mut self, limit: usize) -> usize {
        (self.random.next_u64() % limit.max(1) as u64) as usize
    }

    fn noise(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.random.next_u64() as u8).collect()
    }

    /// A datagram and where it pretends to come from: a member half of the time.
    fn datagram(&mut self, overheard: &[Vec<u8>]) -> (SocketAddr, Vec<u8>) {
        let from = match self.below(2) {
            0 => address(self.below(PARTICIPANTS)),
            _ => ([10, 0, self.below(256) as u8, self.below(256) as u8], 1 + self.below(65_000) as u16).into(),
        };
        let mut bytes = match self.below(4) {
            // Noise.
            0 => {
                let len = self.below(200);
                self.noise(len)
            }
            // Noise that begins well.
            1 => {
                let beginning = BEGINNINGS[self.below(BEGINNINGS.len())];
                let len = self.below(1_200);
                let noise = self.noise(len);
                [beginning, &noise].concat()
            }
            // What a member sent: whole (a replay, or from a wrong address), cut short, or with bytes changed.
            _ => overheard[self.below(overheard.len())].clone(),
        };
        if !bytes.is_empty() {
            match self.below(3) {
                0 => bytes.truncate(self.below(bytes.len())),
                1 => {
                    for _ in 0..=self.below(4) {
                        let at = self.below(bytes.len());
                        bytes[at] ^= 1 << self.below(8);
                    }
                }
                _ => {}
            }
        }
        (from, bytes)
    }
}

#[test]
fn a_million_hostile_datagrams_cost_a_meeting_nothing() {
    let mut meeting = Meeting::start();
    let mut attacker = Attacker { random: Random::new(7) };
    let mut said = 0;
    let quiet_turns = 200;
    // A meeting alone: what it costs, and the size that everything grows to.
    let mut alone = Duration::ZERO;
    for turn in 0..2 * quiet_turns {
        let spent = meeting.speak(said);
        said += 1;
        if turn >= quiet_turns {
            alone += spent;
        }
        meeting.turn();
    }
    meeting.members.iter_mut().for_each(|member| member.heard.clear());
    let before = LIVE_BYTES.load(Ordering::Relaxed);
    let sessions = meeting.core.stats().sessions;

    let first = said;
    let (mut attacked, mut during) = (Duration::ZERO, Duration::ZERO);
    let mut sent = 0;
    while sent < HOSTILE {
        for _ in 0..PER_TURN {
            let (from, mut bytes) = attacker.datagram(&meeting.overheard);
            let began = Instant::now();
            meeting.deliver(from, &mut bytes);
            attacked += began.elapsed();
            sent += 1;
        }
        let began = Instant::now();
        meeting.core.end_batch(meeting.now, &mut meeting.wire);
        attacked += began.elapsed();
        during += meeting.speak(said);
        said += 1;
        meeting.turn();
    }
    let turns = said - first;
    for (at, member) in meeting.members.iter_mut().enumerate() {
        let expected: Vec<u32> = (first * PARTICIPANTS as u32..said * PARTICIPANTS as u32)
            .filter(|number| *number as usize % PARTICIPANTS != at)
            .collect();
        member.heard.sort_unstable();
        assert_eq!(member.heard.len(), expected.len(), "member {at} missed something, or heard it twice");
        assert_eq!(member.heard, expected, "member {at}");
        member.heard = Vec::new();
    }
    let stats = meeting.core.stats();
    assert_eq!((stats.sessions, stats.rooms_failed), (sessions, 0));
    let grown = LIVE_BYTES.load(Ordering::Relaxed) - before;
    let (per_hostile, per_honest) = (
        attacked.as_secs_f64() * 1e6 / f64::from(HOSTILE),
        alone.as_secs_f64() * 1e6 / f64::from(quiet_turns) / PARTICIPANTS as f64,
    );
    let per_honest_attacked = during.as_secs_f64() * 1e6 / f64::from(turns) / PARTICIPANTS as f64;
    println!(
        "{HOSTILE} hostile datagrams: {per_hostile:.2} us each; a sound to {} listeners {per_honest:.2} us alone, \
         {per_honest_attacked:.2} us under attack; {grown} bytes more in use\n{stats:?}",
        PARTICIPANTS - 1
    );
    assert!(grown < 256 * 1024, "{grown} bytes more in use");
    assert!(per_hostile < per_honest, "a hostile datagram costs {per_hostile:.2} us, an honest one {per_honest:.2} us");
}
