//! Looks at datagrams as they pass the socket, for what the connection stack does not report: how a handshake failed, that a
//! lost flight must be sent again, and that media moved to another path.
//!
//! Datagrams are told apart by their first byte (RFC 7983). DTLS records are read only in epoch 0, where they are in clear
//! (RFC 6347, section 4.1). A handshake that succeeded is never looked at again.

use super::{
    events::{EventQueue, Failure, WireEvent, WireState},
    link::Link,
};
use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
};

const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
/// Record header: type, version, epoch, sequence, length.
const RECORD_HEADER: usize = 13;
/// Handshake header: type, length, message sequence, fragment offset and length.
const HANDSHAKE_HEADER: usize = 12;
const FATAL: u8 = 2;
/// `bad_certificate` to `certificate_unknown`, and `unknown_ca` (RFC 5246, section 7.2).
const CERTIFICATE_ALERTS: [u8; 6] = [42, 43, 44, 45, 46, 48];
/// A flight with a certificate chain has a handful of datagrams.
const MAX_FLIGHT: usize = 16;

/// What to do with a received message.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Pass it on.
    Deliver,
    /// Swallow it and send these in answer.
    Answered(Vec<Vec<u8>>),
}

/// See the module's text.
#[derive(Debug)]
pub(super) struct PacketWatch {
    events: Arc<EventQueue>,
    link: Mutex<Weak<Link>>,
    /// No more handshake to look at.
    handshake_over: AtomicBool,
    closing: AtomicBool,
    state: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    media_to: Option<SocketAddr>,
    flight: FlightMemory,
}

impl PacketWatch {
    pub(super) fn new(events: Arc<EventQueue>) -> Self {
        Self {
            events,
            link: Mutex::new(Weak::new()),
            handshake_over: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            state: Mutex::new(Seen::default()),
        }
    }

    /// Tells whom to tell about path changes.
    pub(super) fn watch_for(&self, link: &Arc<Link>) {
        *self.link.lock().unwrap_or_else(PoisonError::into_inner) = Arc::downgrade(link);
    }

    /// The handshake succeeded: nothing in clear means anything from here on.
    pub(super) fn handshake_done(&self) {
        self.handshake_over.store(true, Ordering::Release);
        let mut seen = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        seen.flight = FlightMemory::default();
    }

    /// Whether there is no handshake to look at any more.
    pub(super) fn is_handshake_over(&self) -> bool {
        self.handshake_over.load(Ordering::Acquire)
    }

    /// From here on the driver may stop.
    pub(super) fn closing(&self) {
        self.closing.store(true, Ordering::Release);
    }

    /// The driver's task has ended.
    pub(super) fn driver_stopped(&self) {
        if !self.closing.load(Ordering::Acquire) {
            self.fail(Failure::Stopped);
        }
    }

    pub(super) fn sent(&self, to: SocketAddr, contents: &[u8], segment_size: Option<usize>) {
        match contents.first() {
            Some(128..=191) => self.media_sent(to),
            Some(20..=63) if !self.handshake_over.load(Ordering::Acquire) => {
                for datagram in contents.chunks(segment_size.unwrap_or(contents.len()).max(1)) {
                    self.handshake_sent(datagram);
                }
            }
            _ => {}
        }
    }

    pub(super) fn received(&self, _from: SocketAddr, data: &[u8], stride: usize) -> Verdict {
        if !matches!(data.first(), Some(20..=63)) || self.handshake_over.load(Ordering::Acquire) {
            return Verdict::Deliver;
        }
        let datagrams = data.chunks(stride.max(1));
        let mut seen = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all_repeated = true;
        for datagram in datagrams {
            if let Some(description) = fatal_alert(datagram) {
                self.fail(Failure::RefusedByPeer(description));
            }
            all_repeated &= seen.flight.received(datagram);
        }
        if all_repeated { Verdict::Answered(seen.flight.sent.clone()) } else { Verdict::Deliver }
    }

    fn handshake_sent(&self, datagram: &[u8]) {
        if let Some(description) = fatal_alert(datagram) {
            let failure = if CERTIFICATE_ALERTS.contains(&description) {
                Failure::WrongCertificate
            } else {
                Failure::RefusedByPeer(description)
            };
            self.fail(failure);
        }
        self.state.lock().unwrap_or_else(PoisonError::into_inner).flight.sent(datagram);
    }

    fn media_sent(&self, to: SocketAddr) {
        let before = {
            let mut seen = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            seen.media_to.replace(to)
        };
        if before.is_some_and(|before| before != to) {
            let link = self.link.lock().unwrap_or_else(PoisonError::into_inner).upgrade();
            if let Some(link) = link {
                link.note_path_change();
            }
        }
    }

    fn fail(&self, failure: Failure) {
        self.events.push(WireEvent::State(WireState::Failed(failure)));
    }
}

/// Remembers the flight that answered a ClientHello, to answer its repetition.
///
/// The stack as DTLS server forgets to repeat a flight that was lost once any other packet has arrived, and the client, which
/// hears nothing, can only repeat its ClientHello. Sending the same datagrams again is what RFC 6347, section 4.2.4, asks for:
/// the client drops those it has.
#[derive(Debug, Default)]
struct FlightMemory {
    /// Bodies of the ClientHello's datagrams, without the record sequence that changes with each sending.
    hello: Vec<Vec<u8>>,
    sent: Vec<Vec<u8>>,
}

impl FlightMemory {
    /// Notes a received datagram; whether it repeats a ClientHello that has been answered.
    fn received(&mut self, datagram: &[u8]) -> bool {
        let Some(body) = client_hello(datagram) else {
            // The client went on: it has our flight.
            if is_handshake(datagram) {
                *self = Self::default();
            }
            return false;
        };
        if !self.sent.is_empty() && self.hello.iter().any(|known| known == body) {
            return true;
        }
        if !self.sent.is_empty() {
            *self = Self::default();
        }
        if self.hello.len() < MAX_FLIGHT {
            self.hello.push(body.to_vec());
        }
        false
    }

    /// Notes a sent datagram as part of the answer.
    fn sent(&mut self, datagram: &[u8]) {
        if !self.hello.is_empty() && is_handshake(datagram) && self.sent.len() < MAX_FLIGHT {
            self.sent.push(datagram.to_vec());
        }
    }
}

fn is_handshake(datagram: &[u8]) -> bool {
    datagram.first() == Some(&HANDSHAKE) && datagram.len() >= RECORD_HEADER + HANDSHAKE_HEADER
}

/// What follows the record header of a datagram that begins with a ClientHello in epoch 0.
fn client_hello(datagram: &[u8]) -> Option<&[u8]> {
    let body = datagram.get(RECORD_HEADER..)?;
    (is_handshake(datagram) && datagram.get(3..5)? == [0, 0] && body.first() == Some(&CLIENT_HELLO)).then_some(body)
}

/// The description of a fatal alert in epoch 0.
fn fatal_alert(datagram: &[u8]) -> Option<u8> {
    let clear = datagram.first() == Some(&ALERT) && datagram.get(3..5)? == [0, 0];
    let &[level, description] = datagram.get(RECORD_HEADER..RECORD_HEADER + 2)? else { return None };
    (clear && level == FATAL).then_some(description)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(content: u8, epoch: u8, sequence: u8, body: &[u8]) -> Vec<u8> {
        let mut bytes = vec![content, 0xfe, 0xfd, 0, epoch, 0, 0, 0, 0, 0, sequence, 0, body.len() as u8];
        bytes.extend_from_slice(body);
        bytes
    }

    fn message(kind: u8, fill: u8) -> Vec<u8> {
        let mut body = vec![kind, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 8];
        body.extend_from_slice(&[fill; 8]);
        body
    }

    fn watch() -> (PacketWatch, Arc<EventQueue>, SocketAddr) {
        let events = Arc::new(EventQueue::default());
        (PacketWatch::new(Arc::clone(&events)), events, "127.0.0.1:9".parse().unwrap())
    }

    #[test]
    fn a_repeated_client_hello_is_answered_with_the_same_flight() {
        let (watch, _, peer) = watch();
        let hello = |sequence| record(HANDSHAKE, 0, sequence, &message(CLIENT_HELLO, 7));
        let flight = [record(HANDSHAKE, 0, 0, &message(2, 1)), record(HANDSHAKE, 0, 1, &message(11, 2))];
        assert_eq!(watch.received(peer, &hello(0), 1500), Verdict::Deliver);
        for datagram in &flight {
            watch.sent(peer, datagram, None);
        }
        assert_eq!(watch.received(peer, &hello(1), 1500), Verdict::Answered(flight.to_vec()));
        let key_exchange = record(HANDSHAKE, 0, 2, &message(16, 3));
        assert_eq!(watch.received(peer, &key_exchange, 1500), Verdict::Deliver);
        assert_eq!(watch.received(peer, &hello(3), 1500), Verdict::Deliver);
    }

    #[test]
    fn a_second_hello_with_a_cookie_is_a_new_one() {
        let (watch, _, peer) = watch();
        watch.received(peer, &record(HANDSHAKE, 0, 0, &message(CLIENT_HELLO, 7)), 1500);
        watch.sent(peer, &record(HANDSHAKE, 0, 0, &message(3, 1)), None);
        let with_cookie = record(HANDSHAKE, 0, 1, &message(CLIENT_HELLO, 8));
        assert_eq!(watch.received(peer, &with_cookie, 1500), Verdict::Deliver);
        let flight = record(HANDSHAKE, 0, 1, &message(2, 1));
        watch.sent(peer, &flight, None);
        assert_eq!(watch.received(peer, &with_cookie, 1500), Verdict::Answered(vec![flight]));
    }

    #[test]
    fn our_certificate_alert_is_the_peers_wrong_certificate() {
        let (watch, events, peer) = watch();
        watch.sent(peer, &record(ALERT, 0, 5, &[FATAL, 42]), None);
        assert_eq!(events.state(), Some(WireState::Failed(Failure::WrongCertificate)));
    }

    #[test]
    fn alerts_after_the_handshake_are_not_believed() {
        let (watch, events, peer) = watch();
        watch.handshake_done();
        assert_eq!(watch.received(peer, &record(ALERT, 0, 5, &[FATAL, 40]), 1500), Verdict::Deliver);
        assert_eq!(watch.received(peer, &record(ALERT, 1, 5, &[FATAL, 40]), 1500), Verdict::Deliver);
        assert_eq!(events.state(), None);
    }

    #[test]
    fn cut_records_are_passed_on() {
        let (watch, events, peer) = watch();
        let whole = record(ALERT, 0, 5, &[FATAL, 42]);
        for len in 0..whole.len() {
            assert_eq!(watch.received(peer, &whole[..len], 1500), Verdict::Deliver);
        }
        assert_eq!(events.state(), None);
    }
}
