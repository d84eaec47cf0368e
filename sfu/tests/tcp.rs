//! Clients whose network blocks UDP, over real connections; and both protocols over IPv6.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod support;

use std::{
    io::{Read, Write},
    net::{TcpStream, UdpSocket},
    sync::mpsc::sync_channel,
};

use halloo_sfu::{
    Sfu, SfuConfig,
    net::TcpStats,
    sdp::Protocol::{self, TcpPassive, Udp},
    shard::Event,
};
use support::{PATIENCE, Socketed, Unit, hears, start, start_at};

/// All shards' counters together.
fn tcp_stats(unit: &Unit) -> TcpStats {
    let (reply, answer) = sync_channel(4);
    unit.handle.stats(move |_, stats| reply.send(stats.tcp).unwrap()).unwrap();
    let both = [(); 2].map(|()| answer.recv_timeout(PATIENCE).unwrap());
    TcpStats {
        connections: both[0].connections + both[1].connections,
        accepted: both[0].accepted + both[1].accepted,
        refused: both[0].refused + both[1].refused,
        unproven_closed: both[0].unproven_closed + both[1].unproven_closed,
        misframed: both[0].misframed + both[1].misframed,
        frames_dropped: both[0].frames_dropped + both[1].frames_dropped,
    }
}

fn two_over(first: Protocol, second: Protocol, unit: &Unit) -> (Socketed, Socketed) {
    let mut alice = Socketed::connect_over(first, unit, "room", 1);
    let mut bob = Socketed::connect_over(second, unit, "room", 2);
    hears(&mut alice, &mut bob, &[b"hello bob", b"how are you"]);
    hears(&mut bob, &mut alice, &[b"fine, alice"]);
    (alice, bob)
}

#[test]
fn each_shard_is_announced_over_both_protocols_at_the_same_port_udp_first() {
    let unit = start();
    for room in ["a", "b", "c", "d"] {
        let candidates = unit.handle.local_transport(room).unwrap().candidates;
        let protocols: Vec<_> = candidates.iter().map(|candidate| candidate.protocol).collect();
        assert_eq!(protocols, [Udp, TcpPassive]);
        assert_eq!(candidates[0].address, candidates[1].address);
    }
    assert_eq!(unit.handle.addresses().count(), 2);
}

#[test]
fn without_tcp_there_is_none() {
    let (sender, events) = sync_channel(16);
    let config = SfuConfig { tcp: None, ..SfuConfig::default() };
    let unit = Unit { handle: Sfu::start(&config, sender).unwrap(), events };
    let candidates = unit.handle.local_transport("room").unwrap().candidates;
    assert_eq!(candidates.iter().map(|candidate| candidate.protocol).collect::<Vec<_>>(), [Udp]);
    assert!(TcpStream::connect(candidates[0].address).is_err());
}

#[test]
fn two_clients_over_tcp_hear_each_other() {
    let unit = start();
    let (_alice, _bob) = two_over(TcpPassive, TcpPassive, &unit);
    let expected = TcpStats { connections: 2, accepted: 2, ..TcpStats::default() };
    assert_eq!(tcp_stats(&unit), expected);
    unit.handle.stop();
}

#[test]
fn clients_over_udp_and_tcp_are_in_the_same_room() {
    let unit = start();
    let (_alice, _bob) = two_over(Udp, TcpPassive, &unit);
    assert_eq!(tcp_stats(&unit).connections, 1);
}

#[test]
fn a_client_whose_connection_breaks_comes_back_by_another_one_or_over_udp() {
    let unit = start();
    let (mut alice, mut bob) = two_over(TcpPassive, TcpPassive, &unit);
    let server = unit.handle.local_transport("room").unwrap().candidates[0].address;
    for protocol in [TcpPassive, Udp, TcpPassive] {
        bob.rebind_over(protocol, server);
        hears(&mut alice, &mut bob, &[b"there again"]);
        hears(&mut bob, &mut alice, &[b"from somewhere else"]);
    }
    assert!(unit.events.try_iter().all(|event| !matches!(event, Event::Left { .. })));
}

#[test]
fn strangers_disturb_nobody() {
    let unit = start();
    let (mut alice, mut bob) = two_over(TcpPassive, Udp, &unit);
    let server = unit.handle.local_transport("room").unwrap().candidates[0].address;
    let mut strangers: Vec<TcpStream> = (0..60).map(|_| TcpStream::connect(server).unwrap()).collect();
    for (number, stranger) in strangers.iter_mut().enumerate() {
        let hello: &[u8] =
            [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0, 40, 0x80, 1, 2], &[0xff; 2_000], &[0; 2_000]][number % 4];
        // Who is closed already cannot write.
        let _ = stranger.write_all(hello);
    }
    hears(&mut alice, &mut bob, &[b"undisturbed"]);
    hears(&mut bob, &mut alice, &[b"here too"]);
    // Half of them speak no RFC 4571 at all.
    for stranger in strangers.iter_mut().step_by(2) {
        stranger.set_read_timeout(Some(PATIENCE)).unwrap();
        assert!(matches!(stranger.read(&mut [0; 8]), Ok(0) | Err(_)));
    }
    let stats = tcp_stats(&unit);
    assert_eq!((stats.misframed, stats.accepted), (30, 61), "{stats:?}");
}

#[test]
fn over_ipv6_both_protocols_work_and_meet() {
    let Ok(_) = UdpSocket::bind("[::1]:0") else {
        return; // This machine has no IPv6.
    };
    let unit = start_at("[::1]:0".parse().unwrap());
    let (mut alice, mut bob) = two_over(Udp, TcpPassive, &unit);
    let mut carol = Socketed::connect_over(TcpPassive, &unit, "room", 3);
    hears(&mut carol, &mut alice, &[b"hello alice"]);
    bob.rebind();
    hears(&mut alice, &mut bob, &[b"from your new port"]);
    assert!(unit.handle.addresses().all(|address| address.is_ipv6()));
}

#[test]
fn one_socket_of_both_families_serves_ipv4_and_ipv6() {
    let Ok(_) = UdpSocket::bind("[::]:0") else {
        return; // This machine has no IPv6.
    };
    let (sender, events) = sync_channel(4_096);
    let announce = vec!["::1".parse().unwrap(), "127.0.0.1".parse().unwrap()];
    let bind = "[::]:0".parse().unwrap();
    let config = SfuConfig { shards: 2, bind, announce, ..SfuConfig::default() };
    let unit = Unit { handle: Sfu::start(&config, sender).unwrap(), events };
    let candidates = unit.handle.local_transport("room").unwrap().candidates;
    assert_eq!(candidates.len(), 4);
    let (mut alice, mut bob) = two_over(Udp, TcpPassive, &unit);
    for candidate in candidates {
        bob.rebind_over(candidate.protocol, candidate.address);
        hears(&mut alice, &mut bob, &[b"down"]);
        hears(&mut bob, &mut alice, &[b"up"]);
    }
}
