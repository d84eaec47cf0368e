//! Real connections on loopback, on a clock that is given: bounds, hostile peers, slow readers.

use std::{
    io::{ErrorKind, Read, Write},
    net::{IpAddr, SocketAddr, TcpStream},
    time::Duration,
};

use halloo_transport::Timestamp;
use rustix::{
    event::{PollFd, PollFlags, poll},
    time::Timespec,
};

use super::*;

const START: Timestamp = Timestamp::from_millis(1_000);
const PATIENCE: Duration = Duration::from_secs(10);
/// What stands for a connectivity check of a session.
const CHECK: &[u8] = b"\x00\x01 a check";

struct World<'a> {
    connections: Connections<'a>,
    listener: &'a Listener,
    buffer: StreamBuffer,
    now: Timestamp,
    /// Datagrams that came in.
    got: Vec<(SocketAddr, Vec<u8>)>,
    /// Peers that sent [`CHECK`].
    known: Vec<SocketAddr>,
    ended: Vec<SocketAddr>,
}

fn listener() -> Listener {
    Listener::open("127.0.0.1:0".parse().unwrap()).unwrap()
}

impl<'a> World<'a> {
    fn new(listener: &'a Listener, limits: TcpLimits) -> Self {
        let connections = Connections::new(START, listener, limits);
        let (buffer, got, known, ended) = (StreamBuffer::new(), Vec::new(), Vec::new(), Vec::new());
        Self { connections, listener, buffer, now: START, got, known, ended }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.listener.local_addr().unwrap()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// A connection that is proven.
    fn connect_proven(&mut self) -> TcpStream {
        let mut stream = self.connect();
        let peer = stream.local_addr().unwrap();
        stream.write_all(&framed(&[CHECK])).unwrap();
        self.turn_until(|world| world.known.contains(&peer));
        stream
    }

    /// Does what the shard's thread does in a turn.
    fn turn(&mut self) {
        let Self { connections, buffer, known, got, .. } = self;
        connections.poll(self.now);
        connections.handle_timeout(self.now, |peer| known.contains(&peer));
        while let Some(incoming) = connections.receive(buffer) {
            let mut frames = buffer.frames();
            let rest = loop {
                match frames.next_frame() {
                    Ok(Some(datagram)) => {
                        if *datagram == *CHECK {
                            known.push(incoming.peer);
                        }
                        got.push((incoming.peer, datagram.to_vec()));
                    }
                    Ok(None) => break Ok(frames.rest()),
                    Err(error) => break Err(error),
                }
            };
            connections.received(incoming, rest, known.contains(&incoming.peer));
        }
        connections.flush(self.now);
        while let Some(peer) = connections.poll_ended() {
            known.retain(|known| *known != peer);
            self.ended.push(peer);
        }
    }

    /// Takes turns, waiting for something to happen before each, on a clock that stands still.
    fn turn_until(&mut self, mut done: impl FnMut(&mut Self) -> bool) {
        self.turn();
        while !done(self) {
            let timeout = Timespec { tv_sec: PATIENCE.as_secs() as i64, tv_nsec: 0 };
            let happened = poll(&mut [PollFd::new(self.listener, PollFlags::IN)], Some(&timeout));
            assert_eq!(happened, Ok(1), "nothing more happens; {:?}", self.connections.stats());
            self.turn();
        }
    }

    fn stats(&self) -> TcpStats {
        self.connections.stats()
    }
}

fn framed(datagrams: &[&[u8]]) -> Vec<u8> {
    let mut bytes = Vec::new();
    datagrams.iter().for_each(|datagram| assert!(frame(datagram, &mut bytes)));
    bytes
}

/// Whether the server closed.
fn is_closed(stream: &mut TcpStream) -> bool {
    match stream.read(&mut [0; 1]) {
        Ok(0) => true,
        Err(error) => error.kind() == ErrorKind::ConnectionReset,
        Ok(_) => false,
    }
}

#[test]
fn datagrams_come_and_go() {
    let listener = listener();
    let mut world = World::new(&listener, TcpLimits::default());
    let mut client = world.connect_proven();
    let peer = client.local_addr().unwrap();
    let bytes = framed(&[b"one", b"two"]);
    client.write_all(&bytes[..7]).unwrap();
    world.turn_until(|world| world.got.len() == 2);
    client.write_all(&bytes[7..]).unwrap();
    world.turn_until(|world| world.got.len() == 3);
    let datagrams: Vec<_> = world.got.iter().map(|(from, datagram)| (*from, datagram.as_slice())).collect();
    assert_eq!(datagrams, [(peer, CHECK), (peer, b"one"), (peer, b"two")]);

    assert!(world.connections.send(world.now, peer, &[0x80; 250], 100));
    assert!(!world.connections.send(world.now, "127.0.0.1:9".parse().unwrap(), &[1], 1));
    world.connections.flush(world.now);
    let mut answer = vec![0; 256];
    client.read_exact(&mut answer).unwrap();
    assert_eq!(answer, framed(&[&[0x80; 100], &[0x80; 100], &[0x80; 50]]));

    drop(client);
    world.turn_until(|world| !world.ended.is_empty());
    assert_eq!(world.ended, [peer]);
    assert_eq!(world.stats(), TcpStats { accepted: 1, ..TcpStats::default() });
    assert!(!world.connections.send(world.now, peer, &[1], 1));
}

#[test]
fn who_proves_nothing_in_time_is_closed_however_busy_it_is() {
    let listener = listener();
    let mut world = World::new(&listener, TcpLimits::default());
    let (mut silent, mut dripping, _proven) = (world.connect(), world.connect(), world.connect_proven());
    world.turn_until(|world| world.stats().accepted == 3);
    for byte in [0, 9, b'x', b'x'] {
        world.now += Duration::from_secs(1);
        dripping.write_all(&[byte]).unwrap();
        world.turn();
    }
    assert_eq!(world.stats().connections, 3);
    world.now = START + TcpLimits::default().prove_within;
    assert!(world.connections.next_timeout().unwrap() <= world.now);
    world.turn();
    assert_eq!((world.stats().connections, world.stats().unproven_closed), (1, 2));
    assert!(is_closed(&mut silent) && is_closed(&mut dripping));
}

#[test]
fn who_sends_much_without_proof_is_closed_at_once() {
    let listener = listener();
    let mut world = World::new(&listener, TcpLimits::default());
    let mut client = world.connect();
    let junk = framed(&[&[0x80; 1_200][..]; 20]);
    client.write_all(&junk).unwrap();
    world.turn_until(|world| world.stats().unproven_closed == 1);
    assert_eq!(world.stats().connections, 0);
    assert!(is_closed(&mut client));
}

#[test]
fn a_stream_without_frames_is_closed_at_once() {
    let listener = listener();
    let mut world = World::new(&listener, TcpLimits::default());
    let mut proven = world.connect_proven();
    for hello in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"\x16\x03\x01\x02\x00", &[0xff; 100]] {
        let mut client = world.connect();
        client.write_all(hello).unwrap();
        let before = world.stats().misframed;
        world.turn_until(|world| world.stats().misframed > before);
        assert!(is_closed(&mut client));
    }
    proven.write_all(&[0x10, 0, 1, 2]).unwrap();
    world.turn_until(|world| world.stats().misframed == 4);
    assert_eq!(world.stats().connections, 0);
}

#[test]
fn thousands_of_connections_from_one_address_keep_nobody_else_out() {
    let limits = TcpLimits { unproven_per_address: 10, ..TcpLimits::default() };
    let listener = listener();
    let mut world = World::new(&listener, limits);
    let mut proven = world.connect_proven();
    for _ in 0..20 {
        let flood: Vec<_> = (0..100).map(|_| world.connect()).collect();
        let turns = world.stats();
        world.turn_until(|world| {
            let stats = world.stats();
            stats.accepted + stats.refused == turns.accepted + turns.refused + 100
        });
        assert!(world.stats().connections <= 11, "{:?}", world.stats());
        drop(flood);
        world.turn_until(|world| world.stats().connections == 1);
    }
    assert!(world.stats().refused >= 1_800, "{:?}", world.stats());
    proven.write_all(&framed(&[b"still here"])).unwrap();
    world.turn_until(|world| world.got.last().unwrap().1 == b"still here");
    let _another = world.connect_proven();
    assert_eq!(world.stats().connections, 2);
}

#[test]
fn a_full_house_lets_newcomers_in_by_closing_who_waited_longest() {
    let limits = TcpLimits { connections: 3, ..TcpLimits::default() };
    let listener = listener();
    let mut world = World::new(&listener, limits);
    let mut proven = world.connect_proven();
    let mut idle: Vec<_> = (0..2)
        .map(|n| {
            let stream = world.connect();
            world.turn_until(|world| world.stats().accepted == n + 2);
            world.now += Duration::from_millis(10);
            stream
        })
        .collect();
    let _second = world.connect_proven();
    assert!(is_closed(&mut idle[0]));
    let _third = world.connect_proven();
    assert!(is_closed(&mut idle[1]));
    let mut late = world.connect();
    world.turn_until(|world| world.stats().refused == 1);
    assert!(is_closed(&mut late));
    proven.write_all(&framed(&[b"mine"])).unwrap();
    world.turn_until(|world| world.got.last().unwrap().1 == b"mine");
    assert_eq!(world.stats().connections, 3);
}

#[test]
fn a_connection_whose_session_ended_is_closed_unless_it_is_proven_anew() {
    let listener = listener();
    let mut world = World::new(&listener, TcpLimits::default());
    let (mut leaves, mut stays) = (world.connect_proven(), world.connect_proven());
    world.known.clear();
    world.now += Duration::from_secs(1);
    world.turn();
    assert_eq!(world.stats().connections, 2);
    stays.write_all(&framed(&[CHECK])).unwrap();
    world.turn_until(|world| !world.known.is_empty());
    world.now += TcpLimits::default().prove_within;
    world.turn();
    assert_eq!((world.stats().connections, world.stats().unproven_closed), (1, 1));
    assert!(is_closed(&mut leaves));
    assert_eq!(world.known, [stays.local_addr().unwrap()]);
}

#[test]
fn a_slow_reader_loses_whole_frames_and_catches_up() {
    let listener = listener();
    let mut world = World::new(&listener, TcpLimits::default());
    let mut client = world.connect_proven();
    let peer = client.local_addr().unwrap();
    let media = |number: u32| [&[0x80][..], &number.to_be_bytes(), &[7; 1_000]].concat();
    let mut sent = 0;
    while world.stats().frames_dropped < 500 {
        for _ in 0..10 {
            let datagram = media(sent);
            assert!(world.connections.send(world.now, peer, &datagram, datagram.len()));
            sent += 1;
        }
        world.turn();
    }
    // Somebody else is served meanwhile.
    let _other = world.connect_proven();
    // Whatever is left is late once it is taken.
    world.now += Duration::from_secs(2);
    let mut numbers = Vec::new();
    let mut bytes = Vec::new();
    let mut chunk = [0; 1 << 16];
    client.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
    while numbers.last() != Some(&sent) {
        match client.read(&mut chunk) {
            Ok(len) => bytes.extend_from_slice(&chunk[..len]),
            Err(error) => assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{error}"),
        }
        let mut frames = Frames::new(&mut bytes);
        while let Some(datagram) = frames.next_frame().unwrap() {
            assert_eq!(datagram.len(), 1_005);
            numbers.push(u32::from_be_bytes(datagram[1..5].try_into().unwrap()));
        }
        bytes = frames.rest().to_vec();
        // New media, which comes through at once when the old is gone.
        world.turn();
        let datagram = media(sent);
        world.connections.send(world.now, peer, &datagram, datagram.len());
        world.connections.flush(world.now);
    }
    assert!(numbers.is_sorted());
    let got = numbers.iter().filter(|number| **number < sent).count() as u64;
    assert_eq!(got + world.stats().frames_dropped, u64::from(sent), "{:?}", world.stats());
}

#[test]
fn a_peer_that_comes_back_from_its_old_port_is_a_stranger_again() {
    let listener = listener();
    let mut world = World::new(&listener, TcpLimits::default());
    // An address of loopback that no other test's connections come from.
    let connect_from = |from: SocketAddr| {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.set_reuse_address(true).unwrap();
        socket.bind(&from.into()).unwrap();
        socket.connect(&listener.local_addr().unwrap().into()).unwrap();
        TcpStream::from(socket)
    };
    let mut client = connect_from("127.67.0.1:0".parse().unwrap());
    let peer = client.local_addr().unwrap();
    client.write_all(&framed(&[CHECK])).unwrap();
    world.turn_until(|world| world.known.contains(&peer));
    // Aborted, so that the port is free at once.
    socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
    drop(client);
    let again = connect_from(peer);
    world.turn_until(|world| world.stats().accepted == 2);
    assert_eq!(world.ended, [peer]);
    assert_eq!((world.stats().connections, world.known.len()), (1, 0));
    drop(again);
    world.turn_until(|world| world.stats().connections == 0);
}

#[test]
fn a_listener_of_both_families_shows_ipv4_peers_as_such() {
    let Ok(listener) = Listener::open("[::]:0".parse().unwrap()) else {
        return; // This machine has no IPv6.
    };
    let port = listener.local_addr().unwrap().port();
    let mut world = World::new(&listener, TcpLimits::default());
    for server in ["127.0.0.1", "::1"] {
        let mut client = TcpStream::connect((server.parse::<IpAddr>().unwrap(), port)).unwrap();
        client.write_all(&framed(&[CHECK])).unwrap();
        let peer = client.local_addr().unwrap();
        world.turn_until(|world| world.known.contains(&peer));
        assert!(world.connections.send(world.now, peer, b"hello", 5));
        world.connections.flush(world.now);
        let mut answer = [0; 7];
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        client.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"\x00\x05hello");
    }
}
