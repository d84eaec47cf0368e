//! Clients against a whole shard on virtual time: they connect, what is lost is repaired, key frames come when asked for.

use super::*;
use crate::load::{
    clip,
    departures::Departures,
    offer::{Agreed, offer},
    turns::Turns,
};
use halloo_sfu::{
    client::InlineHandshakes,
    dtls::{Certificate, Fingerprint},
    ice::Credentials,
    room::{Grants, Limits, Room, RoomConfig},
    sdp::{Candidate, LocalTransport, Offer, Protocol, Terms, negotiate},
    shard::{Admission, Core, Path, ShardConfig, Wire},
};
use std::{
    net::{IpAddr, SocketAddr},
    time::Instant,
};

const TICK: Duration = Duration::from_millis(1);
const SERVER: &str = "203.0.113.5:10000";

#[derive(Default)]
struct Sent(Vec<(SocketAddr, Vec<u8>)>);

impl Wire for Sent {
    fn send(&mut self, path: Path, bytes: &[u8], segment: usize) {
        self.0.extend(bytes.chunks(segment).map(|datagram| (path.remote.address, datagram.to_vec())));
    }

    fn max_segments(&self) -> usize {
        64
    }
}

struct World {
    now: Timestamp,
    core: Core<Room, InlineHandshakes>,
    handshakes: InlineHandshakes,
    server: Endpoint,
    common: Common,
    wire: Sent,
    room: Directory,
    clients: Vec<MediaClient>,
    events: Vec<(usize, Event)>,
    figures: Figures,
    outbox: Outbox,
    random: Random,
    /// Share of SRTP packets that is lost, each way.
    loss: f64,
}

fn address(of: usize) -> SocketAddr {
    ([192, 0, 2, 1], 5_000 + of as u16).into()
}

impl World {
    fn new() -> Self {
        let now = Timestamp::from_millis(1_000);
        let origin = Instant::now();
        let endpoint = || Endpoint::new(Certificate::generate().unwrap(), origin).unwrap();
        let server = endpoint();
        let handshakes = InlineHandshakes::new(server.clone());
        let clip = Arc::new(clip::tests::made_up());
        Self {
            now,
            core: Core::new(now, ShardConfig::default(), handshakes.clone()),
            handshakes,
            server,
            common: Common { endpoint: endpoint(), clip, ntp_at_zero: Duration::from_secs(3_900_000_000) },
            wire: Sent::default(),
            room: Directory::default(),
            clients: Vec::new(),
            events: Vec::new(),
            figures: Figures::default(),
            outbox: Outbox::default(),
            random: Random::new(7),
            loss: 0.0,
        }
    }

    fn join(&mut self, publishes: bool) {
        let index = self.clients.len();
        let first = 100 * index as u32 + 1;
        let own = Identity {
            credentials: Credentials::new(format!("client{index}"), "passwordpasswordpassword").unwrap(),
            fingerprint: self.common.endpoint.sha256(),
            microphone: Ssrc(first),
            camera: Ssrc(first + 1),
            camera_rtx: Ssrc(first + 2),
            cname: format!("client{index}"),
        };
        let credentials = Credentials::new(format!("server{index}"), "passwordpasswordpassword").unwrap();
        let local = LocalTransport {
            ufrag: credentials.ufrag().to_owned(),
            pwd: credentials.pwd().to_owned(),
            fingerprint: self.server.sha256(),
            candidates: vec![Candidate { address: SERVER.parse().unwrap(), protocol: Protocol::Udp }],
        };
        let terms =
            Terms { grants: Grants::ALL, limits: Limits::default(), start_publish: None, seed: index as u64 + 1 };
        let negotiated = negotiate(&Offer::parse(&offer(&own, 2)).unwrap(), &local, &terms, None).unwrap();
        let admission = Admission {
            room: "room".into(),
            room_config: RoomConfig::default(),
            participant: negotiated.participant,
            local: credentials,
            remote_ufrag: negotiated.remote.ufrag.clone(),
            fingerprints: vec![Fingerprint::Sha256(own.fingerprint)],
        };
        let participant = self.core.join(self.now, admission).unwrap();
        let publisher = publishes.then(|| {
            let departures = Arc::new(Departures::new(self.common.clip.len()));
            self.room.insert(participant.get(), Arc::clone(&departures));
            let turns = Turns { publishers: 1, place: 0, room: 0 };
            Publisher::new(&own, Arc::clone(&self.common.clip), departures, turns, &mut self.random)
        });
        let agreed = Agreed::read(&negotiated.answer).unwrap();
        assert_eq!(agreed.address, SERVER.parse::<SocketAddr>().unwrap());
        let room = self.room.clone();
        let client = MediaClient::new(self.now, &self.common, &own, &agreed, room, publisher, index as u64);
        self.clients.push(client.unwrap());
    }

    fn is_lost(&mut self, datagram: &[u8]) -> bool {
        matches!(datagram, [128..=191, ..]) && self.random.next_f64() < self.loss
    }

    /// Sends what a client has to send, and takes its events.
    fn flush(&mut self, of: usize) {
        let mut datagrams = Vec::new();
        self.outbox.drain(|bytes, segment| datagrams.extend(bytes.chunks(segment).map(<[u8]>::to_vec)));
        for mut datagram in datagrams {
            if !self.is_lost(&datagram) {
                let (len, to) = (datagram.len(), IpAddr::from([203, 0, 113, 5]));
                self.core.handle_datagrams(self.now, address(of), Some(to), &mut datagram, len, &mut self.wire);
            }
        }
        while let Some(event) = self.clients[of].poll_event() {
            self.events.push((of, event));
        }
    }

    fn run(&mut self, duration: Duration) {
        let until = self.now + duration;
        while self.now < until {
            self.now += TICK;
            self.handshakes.set_now(self.now);
            for of in 0..self.clients.len() {
                if self.clients[of].next_timeout() <= self.now {
                    self.clients[of].handle_timeout(self.now, &mut self.figures, &mut self.outbox);
                    self.flush(of);
                    assert!(self.clients[of].next_timeout() > self.now, "what is due was done");
                }
            }
            if self.core.next_timeout() <= self.now {
                self.core.handle_timeout(self.now, &mut self.wire);
            }
            self.settle();
        }
    }

    fn settle(&mut self) {
        loop {
            for report in self.handshakes.take_reports() {
                self.core.handle_report(self.now, report, &mut self.wire);
            }
            self.core.end_batch(self.now, &mut self.wire);
            while self.core.poll_event().is_some() {}
            if self.wire.0.is_empty() {
                return;
            }
            for (to, mut datagram) in std::mem::take(&mut self.wire.0) {
                let of = (0..self.clients.len()).find(|of| address(*of) == to).unwrap();
                if !self.is_lost(&datagram) {
                    self.clients[of].handle_datagram(self.now, &mut datagram, &mut self.figures, &mut self.outbox);
                    self.flush(of);
                }
            }
        }
    }

    fn stop_publishing(&mut self) {
        self.clients.iter_mut().for_each(MediaClient::stop_publishing);
        self.loss = 0.0;
        self.run(Duration::from_millis(1_500));
    }
}

fn is_first_picture(event: &Event) -> bool {
    matches!(event, Event::FirstPicture(payloads) if payloads.len() == 2)
}

#[test]
fn everybody_connects_and_gets_what_was_sent() {
    let mut world = World::new();
    world.join(true);
    world.join(false);
    world.join(false);
    world.run(Duration::from_secs(5));
    world.stop_publishing();
    let connected: Vec<usize> =
        world.events.iter().filter(|(_, event)| *event == Event::Connected).map(|(of, _)| *of).collect();
    assert_eq!(connected.len(), 3);
    let saw = world.events.iter().filter(|(of, event)| *of > 0 && is_first_picture(event)).count();
    assert_eq!(saw, 2, "the receivers; the publisher has nobody to see");
    assert_eq!(world.events.iter().filter(|(_, event)| matches!(event, Event::Face(_))).count(), 2);
    let counts = world.figures.counts;
    assert_eq!((counts.lost, counts.altered, counts.breaks, counts.skipped), (0, 0, 0, 0), "{counts:?}");
    // Ten pictures a second for two receivers, but for those before bandwidth was known to suffice.
    assert!(counts.pictures_decodable > 80, "{counts:?}");
    assert!(counts.sound_received > 400, "{counts:?}");
    let delay = world.figures.delay.summary().unwrap();
    assert!(delay.count > 500 && delay.p99 <= 10.0, "{delay:?}");
}

#[test]
fn what_is_lost_on_both_ways_is_asked_for_again_and_repaired() {
    let mut world = World::new();
    world.join(true);
    world.join(false);
    world.run(Duration::from_secs(2));
    world.loss = 0.1;
    world.run(Duration::from_secs(10));
    world.stop_publishing();
    let counts = world.figures.counts;
    assert!(counts.repaired > 10 && counts.asked_again > 8, "{counts:?}");
    assert_eq!(counts.altered, 0);
    // Sound is not repaired, pictures are: what is missing in the end is of sound, a tenth lost on each of two ways.
    let sound = counts.packets_sent - counts.pictures_sent * 2;
    assert!((1..=sound / 4).contains(&counts.lost), "{counts:?}");
    assert!(counts.pictures_decodable >= counts.pictures_sent * 9 / 10, "{counts:?}");
}

#[test]
fn who_comes_later_gets_a_key_frame_at_once() {
    let mut world = World::new();
    world.join(true);
    world.join(false);
    world.run(Duration::from_secs(2));
    world.join(false);
    let joined = world.now;
    while !world.events.iter().any(|(of, event)| *of == 2 && is_first_picture(event)) {
        world.run(TICK);
        assert!(world.now.since(joined) < Duration::from_secs(1), "no picture in a second");
    }
    assert!(world.figures.counts.key_frames_wanted >= 1);
}
