//! DTLS between a client and our server, over an exchange of datagrams that can lose and reorder them.

use super::*;

const START: Timestamp = Timestamp::from_millis(50);

struct Side {
    peer: Peer,
    /// What it wants to send.
    out: Vec<Vec<u8>>,
    keys: Option<SessionKeys>,
    closed: bool,
    error: Option<DtlsError>,
}

impl Side {
    fn new(peer: Peer) -> Self {
        Self { peer, out: Vec::new(), keys: None, closed: false, error: None }
    }

    fn run(&mut self, step: impl FnOnce(&mut Peer) -> Result<(), DtlsError>) {
        if self.error.is_none()
            && let Err(error) = step(&mut self.peer).and_then(|()| self.drain())
        {
            self.error = Some(error);
        }
    }

    fn drain(&mut self) -> Result<(), DtlsError> {
        let mut buffer = vec![0; POLL_BUFFER];
        while let Some(output) = self.peer.poll(&mut buffer)? {
            match output {
                Output::Datagram(len) => self.out.push(buffer[..len].to_vec()),
                Output::Connected(keys) => assert!(self.keys.replace(*keys).is_none(), "connected twice"),
                Output::Closed => self.closed = true,
            }
        }
        Ok(())
    }
}

struct Pair {
    client: Side,
    server: Side,
    now: Timestamp,
}

impl Pair {
    fn new() -> Self {
        let (client, server) = (endpoint(), endpoint());
        Self::between(&client, &server, client.sha256(), server.sha256())
    }

    fn between(client: &Endpoint, server: &Endpoint, client_hash: [u8; 32], server_hash: [u8; 32]) -> Self {
        let expect = |hash| vec![Fingerprint::Sha256([9; 32]), Fingerprint::Sha256(hash)];
        let client = Side::new(client.peer(START, DtlsRole::Client, expect(server_hash)));
        let server = Side::new(server.peer(START, DtlsRole::Server, expect(client_hash)));
        Self { client, server, now: START }
    }

    /// Exchanges datagrams and lets time pass until both have keys, one fails, or nothing is left to do. `keep` says whether
    /// the n-th datagram arrives.
    fn run(&mut self, mut keep: impl FnMut(usize) -> bool) -> &mut Self {
        let mut sent = 0;
        let mut arrives = || {
            sent += 1;
            keep(sent - 1)
        };
        for _ in 0..300 {
            let now = self.now;
            self.client.run(|peer| peer.handle_timeout(now));
            self.server.run(|peer| peer.handle_timeout(now));
            for datagram in std::mem::take(&mut self.client.out) {
                if arrives() {
                    self.server.run(|peer| peer.handle_datagram(now, &datagram));
                }
            }
            for datagram in std::mem::take(&mut self.server.out) {
                if arrives() {
                    self.client.run(|peer| peer.handle_datagram(now, &datagram));
                }
            }
            let quiet = self.client.out.is_empty() && self.server.out.is_empty();
            let done = self.client.keys.is_some() && self.server.keys.is_some();
            if quiet && (done || self.client.error.is_some() || self.server.error.is_some()) {
                break;
            }
            if quiet {
                self.now += Duration::from_millis(50);
            }
        }
        self
    }
}

fn endpoint() -> Endpoint {
    Endpoint::new(Certificate::generate().unwrap(), Instant::now()).unwrap()
}

#[test]
fn both_ends_get_each_others_keys() {
    let mut pair = Pair::new();
    pair.run(|_| true);
    let (client, server) = (pair.client.keys.unwrap(), pair.server.keys.unwrap());
    assert_eq!(client.outbound, server.inbound);
    assert_eq!(client.inbound, server.outbound);
    assert_ne!(client.inbound, client.outbound);
    assert_eq!(pair.now, START, "without a retransmission");
}

#[test]
fn a_client_of_dtls_1_2_connects() {
    let (client, server) = (endpoint(), endpoint());
    let mut pair = Pair::between(&client, &server, client.sha256(), server.sha256());
    let mut old = dimpl::Dtls::new_12(client.config.clone(), client.certificate.to_dimpl(), client.origin);
    old.set_active(true);
    pair.client.peer.dtls = old;
    pair.run(|_| true);
    assert_eq!(pair.server.peer.dtls.protocol_version(), Some(dimpl::ProtocolVersion::DTLS1_2));
    assert_eq!(pair.client.keys.unwrap().outbound, pair.server.keys.unwrap().inbound);
}

/// Where the SRTP profiles of a ClientHello of `dimpl`'s begin: the two AES-GCM ones, then AES-CM.
fn profiles(hello: &[u8]) -> usize {
    hello.windows(6).position(|window| window == [0, 8, 0, 7, 0, 1]).expect("the profiles")
}

#[test]
fn a_client_that_prefers_aes_cm_is_given_aes_gcm_all_the_same() {
    let server_version = |prefer_cm: bool| {
        let mut pair = Pair::new();
        pair.client.run(|peer| peer.handle_timeout(START));
        let hello = &mut pair.client.out[0];
        if prefer_cm {
            let at = profiles(hello);
            hello[at..at + 6].copy_from_slice(&[0, 1, 0, 8, 0, 7]);
        }
        for piece in split(hello) {
            pair.server.run(|peer| peer.handle_datagram(START, &piece));
        }
        let answer = pair.server.out.concat();
        // In DTLS 1.2 the ServerHello names the profile in the clear.
        let named = answer.windows(9).any(|window| window == [0, 14, 0, 5, 0, 2, 0, 8, 0]);
        (pair.server.peer.dtls.protocol_version(), named)
    };
    assert_eq!(server_version(false), (Some(dimpl::ProtocolVersion::DTLS1_3), false));
    assert_eq!(server_version(true), (Some(dimpl::ProtocolVersion::DTLS1_2), true));
}

/// Cuts a datagram with one handshake message into two, as a browser does whose key shares fill more than a datagram
/// (RFC 9147, 5.5).
fn split(datagram: &[u8]) -> [Vec<u8>; 2] {
    let (record, handshake) = datagram.split_at(13);
    let (header, body) = handshake.split_at(12);
    let cut = body.len() / 2;
    let piece = |number: u8, offset: usize, part: &[u8]| {
        let mut piece = record.to_vec();
        piece[10] = number;
        piece[11..].copy_from_slice(&(12 + part.len() as u16).to_be_bytes());
        piece.extend(&header[..6]);
        piece.extend(&(offset as u32).to_be_bytes()[1..]);
        piece.extend(&(part.len() as u32).to_be_bytes()[1..]);
        piece.extend(part);
        piece
    };
    [piece(0, 0, &body[..cut]), piece(1, cut, &body[cut..])]
}

#[test]
fn a_client_hello_split_over_two_datagrams_connects() {
    for reorder in [false, true] {
        let mut pair = Pair::new();
        pair.client.run(|peer| peer.handle_timeout(START));
        let [hello] = &pair.client.out[..] else { panic!("{} datagrams", pair.client.out.len()) };
        let mut pieces = split(hello);
        assert!(pieces.iter().all(|piece| piece.len() < hello.len()));
        if reorder {
            pieces.reverse();
        }
        pair.client.out = pieces.to_vec();
        pair.run(|_| true);
        assert_eq!(pair.client.keys.unwrap().outbound, pair.server.keys.unwrap().inbound, "{reorder}");
        assert_eq!(pair.now, START, "without a retransmission");
    }
}

#[test]
fn any_lost_datagram_is_made_up_for() {
    for lost in 0..8 {
        let mut pair = Pair::new();
        pair.run(|datagram| datagram != lost);
        assert!(pair.client.keys.is_some() && pair.server.keys.is_some(), "without datagram {lost}");
        assert!(pair.now.since(START) < Duration::from_secs(1), "without datagram {lost}: {:?}", pair.now);
    }
}

#[test]
fn a_certificate_that_was_not_announced_gets_no_keys() {
    let (client, server) = (endpoint(), endpoint());
    let mut pair = Pair::between(&client, &server, [1; 32], server.sha256());
    pair.run(|_| true);
    assert_eq!(pair.server.error, Some(DtlsError::Fingerprint));
    assert_eq!(pair.server.keys, None);
}

#[test]
fn a_handshake_without_an_answer_times_out() {
    let mut pair = Pair::new();
    pair.client.run(|peer| peer.handle_timeout(START));
    for datagram in std::mem::take(&mut pair.client.out) {
        pair.server.run(|peer| peer.handle_datagram(START, &datagram));
    }
    let mut steps = 0;
    while pair.server.error.is_none() && steps < 100 {
        let now = pair.server.peer.next_timeout().unwrap();
        pair.server.run(|peer| peer.handle_timeout(now));
        pair.now = now;
        steps += 1;
    }
    assert!(matches!(pair.server.error, Some(DtlsError::Handshake(_))), "{:?}", pair.server.error);
    assert!(pair.now.since(START) <= HANDSHAKE_TIMEOUT + Duration::from_secs(1), "{:?}", pair.now);
}

#[test]
fn a_peer_that_closes_is_noticed() {
    let mut pair = Pair::new();
    pair.run(|_| true);
    pair.client.peer.close();
    let now = pair.now;
    pair.client.run(|peer| peer.handle_timeout(now));
    for datagram in std::mem::take(&mut pair.client.out) {
        pair.server.run(|peer| peer.handle_datagram(now, &datagram));
    }
    assert!(pair.server.closed);
}

#[test]
fn noise_does_not_disturb_a_handshake() {
    let mut pair = Pair::new();
    for noise in [&[22u8, 0xfe, 0xfd][..], &[0; 60], &[23; 1_500], &[22; 3_000]] {
        pair.server.run(|peer| peer.handle_datagram(START, noise));
    }
    assert_eq!(pair.run(|_| true).server.error, None);
    assert!(pair.server.keys.is_some());
}
