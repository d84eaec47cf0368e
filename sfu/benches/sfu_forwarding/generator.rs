//! The load generator: all participants of a scenario on one thread and one processor, against the unit or the floor.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        mpsc::{Receiver as Events, sync_channel},
    },
    time::{Duration, Instant},
};

use crate::{
    cpu,
    floor::{Floor, Key},
    janus::{ADDRESS, Connection, Janus, Own},
    peer::{AV1, AV1_RTX, Counts, IDS, OPUS, Peer, Protection},
    schedule::Schedule,
    traffic::{self, Playback},
};
use halloo_sfu::{
    JoinRequest, Sfu, SfuConfig, SfuHandle,
    client::{Client, Server},
    dtls::{Certificate, Endpoint},
    ice::Credentials,
    net::{Clock, Receiver, Socket, SocketConfig},
    room::{
        Encoding, Grants, Limits, ParticipantConfig, ParticipantId, PublishedSection, ReceiveSlot, RoomConfig, Rtx,
        SlotKind, SourceKind,
    },
    sdp::RemoteTransport,
    shard::Event,
};
use halloo_transport::{Bitrate, Mid, PayloadType, Ssrc, Timestamp, random::Random};

const PATIENCE: Duration = Duration::from_secs(20);
/// Until bandwidth estimates, histories and arenas have their size.
const WARM_UP: Duration = Duration::from_millis(2_500);
/// What is under way when nothing more is sent has arrived after this.
const DRAIN: Duration = Duration::from_millis(60);

/// Between two pictures.
const PICTURE: Duration = Duration::from_micros(33_333);

/// Who sends and who receives.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    /// Participants with a camera; they come first.
    pub(crate) publishers: usize,
    /// Those of them who speak.
    pub(crate) speakers: usize,
    pub(crate) participants: usize,
    /// Whether publishers receive too.
    pub(crate) mutual: bool,
    /// How many such rooms.
    pub(crate) rooms: usize,
}

impl Scenario {
    /// Of all rooms.
    pub(crate) const fn people(&self) -> usize {
        self.participants * self.rooms
    }

    pub(crate) const fn room(&self, index: usize) -> usize {
        index / self.participants
    }

    const fn publishes(&self, index: usize) -> bool {
        index < self.people() && index % self.participants < self.publishers
    }

    const fn receives(&self, index: usize) -> bool {
        self.mutual || !self.publishes(index)
    }

    fn listeners(&self, index: usize) -> Vec<usize> {
        if !self.publishes(index) {
            return Vec::new();
        }
        let first = self.room(index) * self.participants;
        (first..first + self.participants).filter(|other| *other != index && self.receives(*other)).collect()
    }
}

/// What forwards.
pub(crate) enum Forwarder {
    /// The unit.
    Sfu {
        handle: SfuHandle,
        /// The clients'.
        endpoint: Endpoint,
        /// Kept, so that the unit can tell.
        _events: Events<Event>,
        thread: cpu::Thread,
    },
    /// The loop it is compared with.
    Floor(Floor),
    /// The peer it is compared with.
    Janus(Janus),
}

impl Forwarder {
    /// Processor time so far: of the thread that forwards, or of all of Janus.
    fn time(&self) -> Duration {
        match self {
            Self::Sfu { thread, .. } => thread.time(),
            Self::Floor(floor) => floor.thread.time(),
            Self::Janus(janus) => janus.time(),
        }
    }
}

/// What a window of time showed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    /// Processor time of the forwarding thread for each packet that arrived, in microseconds.
    pub(crate) micros: f64,
    /// Share of its processor that the forwarding thread used.
    pub(crate) share: f64,
    /// Share of its processor that the generator used.
    pub(crate) generator: f64,
    /// Packets that publishers sent.
    pub(crate) sent: u64,
    /// Packets that arrived.
    pub(crate) received: u64,
    /// Packets that should have arrived and did not.
    pub(crate) lost: i64,
    /// Retransmissions and probes.
    pub(crate) extra: u64,
    /// Packets that were not genuine.
    pub(crate) forged: u64,
    /// Packets that were looked at for that.
    pub(crate) authenticated: u64,
}

/// A scenario that runs.
pub(crate) struct Generator {
    scenario: Scenario,
    forwarder: Forwarder,
    peers: Vec<Peer>,
    /// Places of those who play.
    players: Vec<usize>,
    schedule: Schedule,
    clock: Clock,
    receiver: Receiver,
    /// When publishers last sent what was due.
    played_at: Timestamp,
}

impl Generator {
    pub(crate) fn against_floor(scenario: Scenario) -> Self {
        let sockets: Vec<_> = (0..scenario.people()).map(|_| socket()).collect();
        let addresses: Vec<_> = sockets
            .iter()
            .enumerate()
            .map(|(index, socket)| (socket.local_addr().expect("an address"), scenario.listeners(index)))
            .collect();
        let floor = Floor::start(&addresses);
        let clock = Clock::start();
        let peer = |(index, socket): (usize, Socket)| {
            let [out, into] = [0, 1].map(|direction| Box::new(Key::new(index as u16, direction)));
            Peer::new(socket, floor.address, Protection::Floor { out, into }, clock, index as u32)
        };
        let peers = sockets.into_iter().enumerate().map(peer).collect();
        Self::new(scenario, Forwarder::Floor(floor), peers, clock)
    }

    pub(crate) fn against_sfu(scenario: Scenario) -> Self {
        let (sender, events) = sync_channel(4_096);
        let config = SfuConfig { pin: true, ..SfuConfig::default() };
        let handle = Sfu::start(&config, sender).expect("a unit");
        let clock = Clock::start();
        let endpoint =
            Endpoint::new(Certificate::generate().expect("a certificate"), clock.origin()).expect("an endpoint");
        let peers = (0..scenario.people()).map(|index| join(&handle, &endpoint, clock, scenario, index).0).collect();
        let thread = cpu::Thread::named("sfu-shard-0");
        let mut own = Self::new(scenario, Forwarder::Sfu { handle, endpoint, _events: events, thread }, peers, clock);
        own.connect();
        own
    }

    pub(crate) fn against_janus(scenario: Scenario) -> Self {
        let mut janus = Janus::start();
        let clock = Clock::start();
        let endpoint =
            Endpoint::new(Certificate::generate().expect("a certificate"), clock.origin()).expect("an endpoint");
        let connection = |number: usize, make: &mut dyn FnMut(&Own<'_>) -> Connection| {
            let socket = socket_at(ADDRESS.parse().expect("an address"));
            let address = socket.local_addr().expect("an address");
            let Connection { client, responder, address: server } = make(&Own { endpoint: &endpoint, clock, address });
            let mut peer = Peer::new(socket, server, Protection::Client(Box::new(client)), clock, number as u32);
            peer.responder = Some(responder);
            peer
        };
        let mut publishers = Vec::new();
        for index in 0..scenario.publishers {
            let ssrc = 0x1000 + 2 * index as u32;
            publishers.push(connection(index, &mut |own| janus.publish(own, [ssrc, ssrc + 1])));
        }
        let mut own = Self::new(scenario, Forwarder::Janus(janus), publishers, clock);
        own.connect();
        for index in (0..scenario.participants).filter(|index| scenario.receives(*index)) {
            let Forwarder::Janus(janus) = &own.forwarder else { unreachable!() };
            let feeds: Vec<_> = (0..scenario.publishers).filter(|feed| *feed != index).collect();
            let peer = connection(own.peers.len(), &mut |own| janus.subscribe(own, &feeds));
            own.push(peer);
            own.connect();
        }
        own
    }

    /// Waits until media can flow.
    fn connect(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        while !self.peers.iter().all(Peer::is_connected) {
            assert!(Instant::now() < deadline, "not all connected in time");
            self.turn(self.clock.now() + Duration::from_millis(20));
        }
    }

    fn new(scenario: Scenario, forwarder: Forwarder, peers: Vec<Peer>, clock: Clock) -> Self {
        let mut own = Self {
            scenario,
            forwarder,
            peers: Vec::new(),
            players: Vec::new(),
            schedule: Schedule::new(),
            clock,
            receiver: Receiver::new(),
            played_at: Timestamp::ZERO,
        };
        peers.into_iter().for_each(|peer| own.push(peer));
        own
    }

    fn push(&mut self, peer: Peer) {
        self.schedule.add(&peer.socket);
        self.peers.push(peer);
    }

    /// Lets media flow until it flows evenly, then measures.
    pub(crate) fn measure(&mut self, window: Duration) -> Window {
        self.measure_while(window, |_| {})
    }

    /// Measures, and does something at every step.
    pub(crate) fn measure_while(&mut self, window: Duration, mut at_step: impl FnMut(&mut Self)) -> Window {
        let all_began = if self.scenario.rooms > 1 { traffic::length() } else { Duration::ZERO };
        self.run(all_began + WARM_UP);
        self.drain();
        self.take_counts();
        let own = cpu::Thread::current();
        let (before, own_before, began) = (self.forwarder.time(), own.time(), Instant::now());
        let until = self.go_on() + window;
        while self.clock.now() < until {
            self.step(until);
            at_step(self);
        }
        let (used, own_used, took) = (self.forwarder.time() - before, own.time() - own_before, began.elapsed());
        self.drain();
        let (counts, expected) = self.take_counts();
        assert_eq!(counts.refused, 0, "the kernel took all that the generator sent");
        Window {
            micros: used.as_secs_f64() * 1e6 / (counts.received + counts.joined) as f64,
            share: used.as_secs_f64() / took.as_secs_f64(),
            generator: own_used.as_secs_f64() / took.as_secs_f64(),
            sent: counts.sent,
            received: counts.received,
            lost: (expected as i64 - counts.received as i64).max(counts.missing),
            extra: counts.extra,
            forged: counts.forged,
            authenticated: counts.authenticated,
        }
    }

    /// Somebody more joins and receives; who it is, and where in [`Generator::peer`]. Against the floor they join
    /// `instead`, and the publisher of their room begins anew.
    pub(crate) fn join_one_more(&mut self, instead: Option<(&SfuHandle, &Endpoint)>) -> Option<(ParticipantId, usize)> {
        let forwarder = match &self.forwarder {
            Forwarder::Sfu { handle, endpoint, .. } => Some((handle, endpoint)),
            Forwarder::Floor(_) | Forwarder::Janus(_) => instead,
        };
        let (handle, endpoint) = forwarder?;
        let index = self.peers.len();
        let (peer, id) = join(handle, endpoint, self.clock, self.scenario, index);
        self.push(peer);
        if matches!(self.forwarder, Forwarder::Floor(_)) {
            // Nobody asks it for the key frame that somebody more asks the unit for: the packets are to be the same.
            let publisher = self.scenario.room(index) % self.scenario.rooms * self.scenario.participants;
            let now = self.clock.now();
            self.peers[publisher].playback.iter_mut().for_each(|playback| playback.restart(now));
        }
        Some((id, index))
    }

    /// The last who joined leaves.
    pub(crate) fn last_leaves(&mut self, id: ParticipantId) {
        let Forwarder::Sfu { handle, .. } = &self.forwarder else { return };
        let index = self.peers.len() - 1;
        let _ = handle.leave(room_name(self.scenario.room(index) % self.scenario.rooms), id);
        self.schedule.remove_last();
        self.peers.pop();
    }

    /// One of those who take part.
    pub(crate) fn peer(&self, index: usize) -> &Peer {
        &self.peers[index]
    }

    /// The clock of all.
    pub(crate) const fn clock(&self) -> Clock {
        self.clock
    }

    /// Takes the delays that packets had, in nanoseconds.
    pub(crate) fn take_delays(&mut self) -> Vec<u64> {
        let people = self.scenario.people();
        self.peers.iter_mut().take(people).flat_map(|peer| std::mem::take(&mut peer.delays)).collect()
    }

    /// Counts of all together, and how many packets should have arrived.
    fn take_counts(&mut self) -> (Counts, u64) {
        let (mut all, mut expected) = (Counts::default(), 0);
        let people = self.scenario.people();
        let separate = matches!(self.forwarder, Forwarder::Janus(_));
        for (index, peer) in self.peers.iter_mut().enumerate() {
            let counts = peer.reset();
            expected += counts.sent * self.scenario.listeners(index).len() as u64;
            all.sent += counts.sent;
            // Who came later gets what was not reckoned with; what they miss counts.
            if index < people || separate {
                all.received += counts.received;
            } else {
                all.joined += counts.received;
            }
            all.extra += counts.extra;
            all.missing += counts.missing;
            all.forged += counts.forged;
            all.authenticated += counts.authenticated;
            all.refused += counts.refused;
        }
        (all, expected)
    }

    /// Sends media for so long.
    fn run(&mut self, duration: Duration) {
        let until = self.begin() + duration;
        while self.clock.now() < until {
            self.step(until);
        }
    }

    /// Goes on after a pause; since when. A single room begins the recording anew, so that a window of its length has all of it.
    fn go_on(&mut self) -> Timestamp {
        if self.scenario.rooms == 1 {
            return self.begin();
        }
        let now = self.clock.now();
        let paused = now.since(self.played_at);
        for index in &self.players {
            self.peers[*index].playback.iter_mut().for_each(|playback| playback.delay(paused));
        }
        now
    }

    /// Begins the recording anew; when it begins. Rooms begin it at any time in its length, as their key frames have nothing to
    /// do with each other.
    pub(crate) fn begin(&mut self) -> Timestamp {
        let start = self.clock.now() + Duration::from_millis(1);
        let scenario = self.scenario;
        let publishers = (scenario.publishers * scenario.rooms) as u32;
        let places = (0..scenario.people()).filter(|index| scenario.publishes(*index));
        let mut random = Random::new(1);
        self.players.clear();
        for (number, index) in places.enumerate() {
            self.players.push(index);
            // Cameras and microphones of different people are not in step.
            let begins = match scenario.rooms {
                1 => start + PICTURE * number as u32 / publishers,
                _ => start + traffic::length().mul_f64(random.next_f64()),
            };
            let speaks = index % scenario.participants < scenario.speakers;
            let playback = self.peers[index].playback.get_or_insert_with(|| Playback::new(begins, speaks));
            playback.restart(begins);
        }
        start
    }

    /// Sends what is due, and receives until more is.
    pub(crate) fn step(&mut self, until: Timestamp) {
        let now = self.clock.now();
        self.played_at = now;
        self.players.iter().for_each(|index| self.peers[*index].play(now));
        let next = self.players.iter().filter_map(|index| Some(self.peers[*index].playback.as_ref()?.next_at())).min();
        self.turn(next.unwrap_or(until).min(until));
    }

    pub(crate) fn drain(&mut self) {
        let until = self.clock.now() + DRAIN;
        while self.clock.now() < until {
            self.turn(until);
        }
    }

    /// Receives, and waits for more until then.
    fn turn(&mut self, until: Timestamp) {
        let now = self.clock.now();
        let next = self.schedule.next().map_or(until, |next| next.min(until));
        let ready = self.schedule.wait(next.since(now));
        let now = self.clock.now();
        for index in ready {
            let peer = &mut self.peers[index];
            peer.receive(now, &mut self.receiver);
            self.schedule.wake_at(index, peer.next_timeout(now));
        }
        while let Some(index) = self.schedule.pop_due(now) {
            let peer = &mut self.peers[index];
            if peer.next_timeout(now) <= now {
                peer.handle_timeout(now);
            }
            self.schedule.wake_at(index, peer.next_timeout(now));
        }
    }
}

impl Drop for Generator {
    fn drop(&mut self) {
        if let Forwarder::Sfu { handle, .. } = &self.forwarder {
            for room in 0..self.scenario.rooms {
                let _ = handle.close_room(room_name(room));
            }
        }
    }
}

fn room_name(number: usize) -> Arc<str> {
    Arc::from(format!("room{number}"))
}

fn socket() -> Socket {
    socket_at(IpAddr::from([127, 0, 0, 1]))
}

fn socket_at(ip: IpAddr) -> Socket {
    let bind = SocketAddr::new(ip, 0);
    Socket::open(SocketConfig { bind, receive_buffer: 4 << 20, send_buffer: 4 << 20 }).expect("a socket")
}

/// Lets somebody in. An index beyond the scenario's people is somebody more, who only receives.
fn join(
    handle: &SfuHandle,
    endpoint: &Endpoint,
    clock: Clock,
    scenario: Scenario,
    index: usize,
) -> (Peer, ParticipantId) {
    let room = room_name(scenario.room(index) % scenario.rooms);
    let local = handle.local_transport(&room).expect("credentials");
    let ufrag = format!("client{index}");
    let (reply, answer) = sync_channel(1);
    let request = JoinRequest {
        room,
        room_config: RoomConfig::default(),
        participant: participant(scenario, index),
        remote: RemoteTransport {
            ufrag: ufrag.clone(),
            pwd: "passwordpasswordpassword".to_owned(),
            fingerprints: vec![endpoint.sha256()],
        },
        local: local.clone(),
    };
    handle.join(request, move |result| reply.send(result).expect("somebody waits")).expect("room for a message");
    let id = answer.recv_timeout(PATIENCE).expect("an answer").expect("room for one more");
    let server = local.candidates[0].address;
    let credentials = Credentials::new(local.ufrag, local.pwd).expect("credentials");
    let client = Client::new(clock.now(), endpoint, &ufrag, Server { credentials, fingerprint: local.fingerprint });
    let protection = Protection::Client(Box::new(client.expect("a client")));
    (Peer::new(socket(), server, protection, clock, index as u32), id)
}

fn participant(scenario: Scenario, index: usize) -> ParticipantConfig {
    let number = index as u32;
    let section = |mid: &str, kind, payload_type, rtx_payload_type, ssrc| PublishedSection {
        mid: Mid(mid.to_owned()),
        kind,
        payload_type,
        rtx_payload_type,
        nack: true,
        encodings: vec![Encoding { ssrc: Some(Ssrc(ssrc)), ..Encoding::default() }],
    };
    let slot = |n: u32, kind, payload_type: PayloadType| {
        let ssrc = 0x2000_0000 + 0x1_0000 * number + 2 * n;
        ReceiveSlot {
            mid: Mid((n + 2).to_string()),
            kind,
            ssrc: Ssrc(ssrc),
            payload_type,
            rtx: (kind == SlotKind::Video).then_some(Rtx { ssrc: Ssrc(ssrc + 1), payload_type: AV1_RTX }),
        }
    };
    let published = vec![
        section("0", SourceKind::Microphone, OPUS, None, 0x1000 + 2 * number),
        section("1", SourceKind::Camera, AV1, Some(AV1_RTX), 0x1001 + 2 * number),
    ];
    let pictures =
        if scenario.mutual && scenario.publishes(index) { scenario.publishers - 1 } else { scenario.publishers };
    let slots = (0..3).map(|n| slot(n, SlotKind::Audio, OPUS));
    let slots = slots.chain((3..3 + pictures as u32).map(|n| slot(n, SlotKind::Video, AV1)));
    ParticipantConfig {
        published: if scenario.publishes(index) { published } else { Vec::new() },
        slots: if scenario.receives(index) { slots.collect() } else { Vec::new() },
        incoming_extensions: IDS,
        outgoing_extensions: IDS,
        grants: Grants::ALL,
        // Loopback has room for all; what is measured is forwarding, not adaptation.
        limits: Limits {
            publish: Bitrate::from_kbps(50_000),
            min_receive: Bitrate::from_kbps(40_000),
            start_receive: Bitrate::from_kbps(60_000),
            max_receive: Bitrate::from_kbps(100_000),
            ..Limits::default()
        },
        feedback_ssrc: Ssrc(0x3000_0000 + number),
        cname: format!("cname{number}"),
        seed: u64::from(number) + 1,
    }
}
