//! Steady state allocates nothing per forwarded packet.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod support;

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use halloo_sfu::{
    client::{Client, FramedStream, InlineHandshakes, Server},
    dtls::{Certificate, Endpoint, Fingerprint},
    ice::Credentials,
    net::{Connections, Listener, StreamBuffer, TcpLimits},
    room::{Room, RoomConfig},
    rtp::{AudioLevel, OutgoingHeader},
    shard::{Admission, Core, Event, Path, ShardConfig, Wire},
};
use halloo_transport::{PayloadType, Ssrc, Timestamp};

const LOCAL_TCP: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: passes every call on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: `ptr` came from `alloc` above, that is from the system's allocator.
        unsafe { System.dealloc(ptr, layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
        // SAFETY: `ptr` came from `alloc` above, that is from the system's allocator.
        unsafe { System.realloc(ptr, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

fn allocations() -> u64 {
    ALLOCATIONS.with(Cell::get)
}

/// Counts datagrams, and keeps them while a handshake runs.
#[derive(Default)]
struct Sink {
    sent: u64,
    keep: bool,
    kept: Vec<(SocketAddr, Vec<u8>)>,
}

impl Wire for Sink {
    fn send(&mut self, path: Path, bytes: &[u8], segment: usize) {
        self.sent += bytes.len().div_ceil(segment) as u64;
        if self.keep {
            bytes.chunks(segment).for_each(|datagram| self.kept.push((path.remote.address, datagram.to_vec())));
        }
    }

    fn max_segments(&self) -> usize {
        64
    }
}

fn address(number: u32) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], 4_000 + number as u16))
}

/// Whether the publisher numbers its packets for transport-wide feedback.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Numbering {
    Plain,
    TransportWide,
}

#[test]
fn forwarding_a_packet_allocates_nothing() {
    assert_eq!(allocations_of_packets(Numbering::Plain), 0);
}

#[test]
fn forwarding_a_packet_with_a_transport_wide_number_allocates_nothing() {
    assert_eq!(allocations_of_packets(Numbering::TransportWide), 0);
}

/// Allocations while a speaker's packets go to ten listeners, timers left out, after everything has grown to its size.
fn allocations_of_packets(numbering: Numbering) -> u64 {
    const LISTENERS: u32 = 10;
    const LOCAL: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, 1));
    let origin = Instant::now();
    let endpoint = || Endpoint::new(Certificate::generate().unwrap(), origin).unwrap();
    let (server, client_endpoint) = (endpoint(), endpoint());
    let handshakes = InlineHandshakes::new(server.clone());
    let mut now = Timestamp::from_millis(1_000);
    let mut core: Core<Room, _> = Core::new(now, ShardConfig::default(), handshakes.clone());
    let mut sink = Sink { keep: true, ..Sink::default() };
    let mut clients = Vec::new();
    for number in 0..=LISTENERS {
        let credentials = Credentials::new(format!("ufrag{number:03}"), "passwordpasswordpassword").unwrap();
        let admission = Admission {
            room: "room".into(),
            room_config: RoomConfig::default(),
            participant: support::participant(number, 2),
            local: credentials.clone(),
            remote_ufrag: "client".to_owned(),
            fingerprints: vec![Fingerprint::Sha256(client_endpoint.sha256())],
        };
        core.join(now, admission).unwrap();
        let server = Server { credentials, fingerprint: server.sha256() };
        clients.push(Client::new(now, &client_endpoint, "client", server).unwrap());
    }
    let mut connected = 0;
    while connected <= LISTENERS {
        now += Duration::from_millis(5);
        handshakes.set_now(now);
        for (number, client) in clients.iter_mut().enumerate() {
            client.handle_timeout(now);
            while let Some(mut datagram) = client.poll_transmit() {
                let len = datagram.len();
                core.handle_datagrams(now, address(number as u32), Some(LOCAL), &mut datagram, len, &mut sink);
            }
        }
        handshakes.take_reports().into_iter().for_each(|report| core.handle_report(now, report, &mut sink));
        core.end_batch(now, &mut sink);
        for (to, mut datagram) in std::mem::take(&mut sink.kept) {
            let at = usize::from(to.port() - 4_000);
            let _ = clients[at].handle_datagram(now, &mut datagram);
        }
        let events = std::iter::from_fn(|| core.poll_event());
        connected += events.filter(|event| matches!(event, Event::Connected { .. })).count() as u32;
    }
    sink.keep = false;

    let mut buffer = [0; 1_500];
    let (mut in_packets, mut in_timers) = (0, 0);
    const WARM_UP: u16 = 3_000;
    for seq in 0..2 * WARM_UP {
        now += Duration::from_millis(20);
        if seq == WARM_UP {
            (in_packets, in_timers, sink.sent) = (0, 0, 0);
        }
        // Consent of all, so that the call goes on.
        if seq % 500 == 0 {
            for (number, client) in clients.iter_mut().enumerate() {
                client.check_now(now);
                client.handle_timeout(now);
                while let Some(mut datagram) = client.poll_transmit() {
                    let len = datagram.len();
                    core.handle_datagrams(now, address(number as u32), Some(LOCAL), &mut datagram, len, &mut sink);
                }
            }
            core.end_batch(now, &mut sink);
        }
        let header = OutgoingHeader {
            audio_level: Some(AudioLevel { level: 10, voice: true }),
            transport_seq: (numbering == Numbering::TransportWide).then_some(seq),
            ..OutgoingHeader::new(Ssrc(0x1000), PayloadType(111), seq, u32::from(seq) * 960, &support::IDS)
        };
        let len = header.write_packet(&[7; 120], &mut buffer).unwrap().len;
        let len = clients[0].protect_rtp(&mut buffer, len).unwrap();

        let before = allocations();
        core.handle_datagrams(now, address(0), Some(LOCAL), &mut buffer[..len], len, &mut sink);
        core.end_batch(now, &mut sink);
        let between = allocations();
        if core.next_timeout() <= now {
            core.handle_timeout(now, &mut sink);
            core.end_batch(now, &mut sink);
        }
        in_packets += between - before;
        in_timers += allocations() - between;
        while core.poll_event().is_some() {}
    }
    let stats = core.stats();
    println!(
        "{WARM_UP} packets to {LISTENERS} listeners: {} datagrams sent, {in_packets} allocations in packets, {in_timers} in timers",
        sink.sent
    );
    assert!(sink.sent >= u64::from(WARM_UP) * u64::from(LISTENERS), "{stats:?}");
    in_packets
}

#[test]
fn a_tcp_connection_takes_and_sends_datagrams_without_an_allocation() {
    const DATAGRAM: [u8; 1_100] = [0x80; 1_100];
    const BATCH: usize = 10;
    let listener = Listener::open((LOCAL_TCP, 0).into()).unwrap();
    let now = Timestamp::from_millis(1_000);
    let (mut connections, mut buffer) = (Connections::new(now, &listener, TcpLimits::default()), StreamBuffer::new());
    let mut client = FramedStream::connect(listener.local_addr().unwrap()).unwrap();
    let peer = client.get_ref().local_addr().unwrap();
    let mut counted = 0;
    for turn in 0..400 {
        if turn == 200 {
            counted = 0;
        }
        (0..BATCH).for_each(|_| client.send(&DATAGRAM).unwrap());
        let (mut got, before) = (0, allocations());
        while got < BATCH {
            connections.poll(now);
            while let Some(incoming) = connections.receive(&mut buffer) {
                let mut frames = buffer.frames();
                while let Some(datagram) = frames.next_frame().unwrap() {
                    assert_eq!(*datagram, DATAGRAM);
                    got += 1;
                }
                connections.received(incoming, Ok(frames.rest()), true);
            }
        }
        assert!(connections.send(now, peer, &DATAGRAM.repeat(BATCH), DATAGRAM.len()));
        connections.flush(now);
        // The repeated datagram is the test's own.
        counted += allocations() - before - 1;
        let mut back = 0;
        while back < BATCH {
            client.receive(Duration::from_secs(10), |_| back += 1).unwrap();
        }
    }
    assert_eq!((counted, connections.stats().frames_dropped), (0, 0));
}
