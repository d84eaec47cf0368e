//! Handshakes on the caller's thread instead of workers': for tests, fuzzing and simulations, where all time is given.

use std::{cell::RefCell, collections::BTreeMap, rc::Rc};

use halloo_transport::Timestamp;

use crate::{
    dtls::{DtlsError, Endpoint, Fingerprint, Outcome, Output, POLL_BUFFER, Peer, Refused, Report},
    shard::Handshaking,
    srtp::DtlsRole,
};

/// Runs handshakes when it is given a datagram. Clones share everything: one is the shard's, one the driver's.
#[derive(Clone, Debug)]
pub struct InlineHandshakes {
    shared: Rc<RefCell<Shared>>,
}

#[derive(Debug)]
struct Shared {
    endpoint: Endpoint,
    now: Timestamp,
    peers: BTreeMap<u64, Peer>,
    reports: Vec<Report>,
    buffer: Vec<u8>,
}

impl InlineHandshakes {
    /// No handshakes yet.
    pub fn new(endpoint: Endpoint) -> Self {
        let (now, peers, reports) = (Timestamp::ZERO, BTreeMap::new(), Vec::new());
        let shared = Shared { endpoint, now, peers, reports, buffer: vec![0; POLL_BUFFER] };
        Self { shared: Rc::new(RefCell::new(shared)) }
    }

    /// Sets the time.
    pub fn set_now(&self, now: Timestamp) {
        self.shared.borrow_mut().now = now;
    }

    /// What happened since the last call: to be passed to the shard.
    pub fn take_reports(&self) -> Vec<Report> {
        std::mem::take(&mut self.shared.borrow_mut().reports)
    }
}

impl Handshaking for InlineHandshakes {
    type Handshake = u64;

    fn start(&mut self, session: u64, expected: Vec<Fingerprint>) -> Result<u64, Refused> {
        let shared = &mut *self.shared.borrow_mut();
        let peer = shared.endpoint.peer(shared.now, DtlsRole::Server, expected);
        shared.peers.insert(session, peer);
        Ok(session)
    }

    fn datagram(&mut self, session: &u64, bytes: &[u8]) -> Result<(), Refused> {
        let Shared { now, peers, reports, buffer, .. } = &mut *self.shared.borrow_mut();
        let peer = peers.get_mut(session).ok_or(Refused)?;
        if let Err(error) =
            step(peer, *now, bytes, buffer, |outcome| reports.push(Report { session: *session, outcome }))
        {
            reports.push(Report { session: *session, outcome: Outcome::Failed(error) });
            peers.remove(session);
        }
        Ok(())
    }
}

fn step(
    peer: &mut Peer,
    now: Timestamp,
    bytes: &[u8],
    buffer: &mut [u8],
    mut report: impl FnMut(Outcome),
) -> Result<(), DtlsError> {
    peer.handle_datagram(now, bytes)?;
    while let Some(output) = peer.poll(buffer)? {
        report(match output {
            Output::Datagram(len) => Outcome::Datagram(buffer[..len].to_vec()),
            Output::Connected(keys) => Outcome::Connected(keys),
            Output::Closed => Outcome::Closed,
        });
    }
    Ok(())
}
