//! Handshakes through the worker threads, as a shard runs them.

use std::sync::mpsc::Receiver;

use super::*;
use crate::dtls::Certificate;

struct Shard {
    workers: Workers,
    handshakes: Handshakes,
    reports: Receiver<Report>,
    endpoint: Endpoint,
    clock: Clock,
}

fn shard(config: WorkersConfig) -> Shard {
    let clock = Clock::start();
    let endpoint = Endpoint::new(Certificate::generate().unwrap(), clock.origin()).unwrap();
    let workers = Workers::start(&endpoint, clock, config).unwrap();
    let (sender, reports) = sync_channel(64);
    let handshakes = workers.handshakes(sender, Waker::new().unwrap());
    Shard { workers, handshakes, reports, endpoint, clock }
}

/// Runs a client against the pool until the server's end is complete or over.
fn connect(shard: &Shard, session: u64, announced: Fingerprint) -> (Outcome, Option<SessionKeys>) {
    let client = Endpoint::new(Certificate::generate().unwrap(), shard.clock.origin()).unwrap();
    let expected = match announced {
        Fingerprint::Sha256([0, ..]) => Fingerprint::Sha256(client.sha256()),
        other => other,
    };
    let server_hash = vec![Fingerprint::Sha256(shard.endpoint.sha256())];
    let mut peer = client.peer(shard.clock.now(), DtlsRole::Client, server_hash);
    let handshake = shard.handshakes.start(session, vec![expected]).unwrap();
    let (mut keys, mut buffer) = (None, vec![0; POLL_BUFFER]);
    peer.handle_timeout(shard.clock.now()).unwrap();
    loop {
        while let Some(output) = peer.poll(&mut buffer).unwrap() {
            match output {
                peer::Output::Datagram(len) => handshake.datagram(&buffer[..len]).unwrap(),
                peer::Output::Connected(own) => keys = Some(*own),
                peer::Output::Closed => panic!("closed"),
            }
        }
        let report = shard.reports.recv_timeout(Duration::from_secs(10)).unwrap();
        if report.session != session {
            continue; // The last flight of an earlier one.
        }
        match report.outcome {
            Outcome::Datagram(bytes) => peer.handle_datagram(shard.clock.now(), &bytes).unwrap(),
            outcome => return (outcome, keys),
        }
    }
}

const TRUE_HASH: Fingerprint = Fingerprint::Sha256([0; 32]);

#[test]
fn a_shard_gets_keys_for_each_session() {
    let shard = shard(WorkersConfig::default());
    for session in [7, 8, 9] {
        let (outcome, client) = connect(&shard, session, TRUE_HASH);
        let Outcome::Connected(server) = outcome else { panic!("{outcome:?}") };
        assert!(client.is_none_or(|client| client.outbound == server.inbound));
    }
}

#[test]
fn an_unannounced_certificate_fails_the_session() {
    let shard = shard(WorkersConfig::default());
    let (outcome, _) = connect(&shard, 1, Fingerprint::Sha512([3; 64]));
    assert!(matches!(outcome, Outcome::Failed(DtlsError::Fingerprint)), "{outcome:?}");
}

#[test]
fn half_open_connections_are_bounded() {
    let shard = shard(WorkersConfig { threads: 1, queue: 64, max_half_open: 3 });
    let open: Vec<_> = (0..4).map(|n| shard.handshakes.start(n, vec![TRUE_HASH]).unwrap()).collect();
    let report = shard.reports.recv_timeout(Duration::from_secs(10)).unwrap();
    assert_eq!(report.session, 3);
    assert!(matches!(report.outcome, Outcome::Failed(DtlsError::Handshake(_))));
    drop(open);
}

#[test]
fn a_full_queue_drops_datagrams_and_never_waits() {
    let shard = shard(WorkersConfig { threads: 1, queue: 2, max_half_open: 3 });
    let handshake = shard.handshakes.start(1, vec![TRUE_HASH]).unwrap();
    let refused = (0..100_000).any(|_| handshake.datagram(&[22; 1_000]) == Err(Refused));
    assert!(refused);
}

#[test]
fn threads_end_with_the_pool() {
    let shard = shard(WorkersConfig::default());
    let handshake = shard.handshakes.start(1, vec![TRUE_HASH]).unwrap();
    drop((handshake, shard.handshakes));
    shard.workers.join();
}
