//! The client's end of the transport, without clock, and but for [`FramedStream`] without sockets: for tests and for load.
//!
//! A full ICE agent as far as a lite peer needs one (it checks its only pair and nominates it), DTLS client, SRTP. Media is
//! the caller's: packets go through [`Client::protect_rtp`] and come out of [`Client::handle_datagram`].
//!
//! RFC 8445, RFC 7675 (checks go on as consent), RFC 5764.

mod checks;
mod inline;
mod stream;

pub use inline::InlineHandshakes;
pub use stream::FramedStream;

use std::collections::VecDeque;

use halloo_transport::Timestamp;

use crate::{
    dtls::{DtlsError, Endpoint, Fingerprint, Output, POLL_BUFFER, Peer},
    ice::Credentials,
    srtp::{DtlsRole, Inbound, Outbound, SrtpError},
};
use checks::Checks;

/// Datagrams that wait to be sent; the oldest is dropped.
const MAX_WAITING: usize = 64;

/// What a client knows of the server, from its answer.
#[derive(Clone, Debug)]
pub struct Server {
    /// ICE credentials.
    pub credentials: Credentials,
    /// SHA-256 of its certificate.
    pub fingerprint: [u8; 32],
}

/// One client.
#[derive(Debug)]
pub struct Client {
    endpoint: Endpoint,
    server: Server,
    checks: Checks,
    dtls: Option<Peer>,
    srtp: Option<Box<(Inbound, Outbound)>>,
    waiting: VecDeque<Vec<u8>>,
    failure: Option<DtlsError>,
}

/// A packet of the server, opened in place.
#[derive(Debug, PartialEq, Eq)]
pub enum Received<'a> {
    /// RTP.
    Rtp(&'a [u8]),
    /// RTCP.
    Rtcp(&'a [u8]),
    /// A step of ICE or DTLS, or nothing of use.
    Other,
}

/// Why a client cannot start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the server's ICE credentials cannot be used")]
pub struct UnusableCredentials;

impl Client {
    /// A client that begins its checks at the next [`Client::handle_timeout`]. Its certificate is the `endpoint`'s; many
    /// clients may share one.
    ///
    /// # Errors
    /// [`UnusableCredentials`].
    pub fn new(
        now: Timestamp,
        endpoint: &Endpoint,
        local_ufrag: &str,
        server: Server,
    ) -> Result<Self, UnusableCredentials> {
        Ok(Self {
            endpoint: endpoint.clone(),
            checks: Checks::new(now, local_ufrag, &server.credentials)?,
            server,
            dtls: None,
            srtp: None,
            waiting: VecDeque::new(),
            failure: None,
        })
    }

    /// Goes on under new ICE credentials of both ends (RFC 8445, 9); DTLS and SRTP stay.
    ///
    /// # Errors
    /// [`UnusableCredentials`]; nothing changed then.
    pub fn restart_ice(
        &mut self,
        now: Timestamp,
        local_ufrag: &str,
        server: Credentials,
    ) -> Result<(), UnusableCredentials> {
        self.checks = Checks::new(now, local_ufrag, &server)?;
        self.server.credentials = server;
        Ok(())
    }

    /// Checks again at once, as after a change of network.
    pub fn check_now(&mut self, now: Timestamp) {
        self.checks.check_now(now);
    }

    /// Takes a datagram; an SRTP packet is opened in place.
    pub fn handle_datagram<'a>(&mut self, now: Timestamp, datagram: &'a mut [u8]) -> Received<'a> {
        match datagram {
            [0..=3, ..] => {
                let first = self.checks.handle_answer(now, datagram);
                if first && self.dtls.is_none() {
                    let expected = vec![Fingerprint::Sha256(self.server.fingerprint)];
                    self.dtls = Some(self.endpoint.peer(now, DtlsRole::Client, expected));
                    self.step(|dtls| dtls.handle_timeout(now));
                }
                Received::Other
            }
            [20..=63, ..] => {
                self.step(|dtls| dtls.handle_datagram(now, datagram));
                Received::Other
            }
            [128..=191, kind, ..] => {
                let is_rtcp = (192..=223).contains(kind);
                let Some(srtp) = &mut self.srtp else { return Received::Other };
                let opened = if is_rtcp { srtp.0.unprotect_rtcp(datagram) } else { srtp.0.unprotect_rtp(datagram) };
                match opened {
                    Ok(len) if is_rtcp => Received::Rtcp(&datagram[..len]),
                    Ok(len) => Received::Rtp(&datagram[..len]),
                    Err(_) => Received::Other,
                }
            }
            _ => Received::Other,
        }
    }

    /// Does what is due: checks, retransmissions.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        if let Some(check) = self.checks.poll(now) {
            self.push(check);
        }
        if self.dtls.as_ref().and_then(Peer::next_timeout).is_some_and(|at| at <= now) {
            self.step(|dtls| dtls.handle_timeout(now));
        }
    }

    /// When [`Client::handle_timeout`] is next wanted.
    pub fn next_timeout(&self) -> Timestamp {
        let dtls = self.dtls.as_ref().and_then(Peer::next_timeout);
        dtls.map_or(self.checks.next_check(), |at| at.min(self.checks.next_check()))
    }

    /// The next datagram to send to the server.
    pub fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        self.waiting.pop_front()
    }

    /// Whether media can flow.
    pub const fn is_connected(&self) -> bool {
        self.srtp.is_some()
    }

    /// Why there never will be a connection.
    pub const fn failure(&self) -> Option<&DtlsError> {
        self.failure.as_ref()
    }

    /// Seals an RTP packet in place: see [`Outbound::protect_rtp`].
    ///
    /// # Errors
    /// As there; [`SrtpError::Authentication`] where there is no connection yet.
    pub fn protect_rtp(&mut self, buffer: &mut [u8], len: usize) -> Result<usize, SrtpError> {
        self.srtp.as_mut().ok_or(SrtpError::Authentication)?.1.protect_rtp(buffer, len)
    }

    /// Seals an RTCP packet in place: see [`Outbound::protect_rtcp`].
    ///
    /// # Errors
    /// As there; [`SrtpError::Authentication`] where there is no connection yet.
    pub fn protect_rtcp(&mut self, buffer: &mut [u8], len: usize) -> Result<usize, SrtpError> {
        self.srtp.as_mut().ok_or(SrtpError::Authentication)?.1.protect_rtcp(buffer, len)
    }

    /// Says goodbye over DTLS.
    pub fn close(&mut self, now: Timestamp) {
        if let Some(dtls) = &mut self.dtls {
            dtls.close();
        }
        self.step(|dtls| dtls.handle_timeout(now));
    }

    fn step(&mut self, step: impl FnOnce(&mut Peer) -> Result<(), DtlsError>) {
        let Some(mut dtls) = self.dtls.take() else { return };
        match step(&mut dtls).and_then(|()| self.drain(&mut dtls)) {
            Ok(()) => self.dtls = Some(dtls),
            Err(error) => self.failure = Some(error),
        }
    }

    fn drain(&mut self, dtls: &mut Peer) -> Result<(), DtlsError> {
        let mut buffer = vec![0; POLL_BUFFER];
        while let Some(output) = dtls.poll(&mut buffer)? {
            match output {
                Output::Datagram(len) => self.push(buffer[..len].to_vec()),
                Output::Connected(keys) => {
                    let inbound = Inbound::new(&keys.inbound).map_err(|_| DtlsError::NoSrtpProfile)?;
                    let outbound = Outbound::new(&keys.outbound).map_err(|_| DtlsError::NoSrtpProfile)?;
                    self.srtp = Some(Box::new((inbound, outbound)));
                }
                Output::Closed => {}
            }
        }
        Ok(())
    }

    fn push(&mut self, datagram: Vec<u8>) {
        if self.waiting.len() == MAX_WAITING {
            self.waiting.pop_front();
        }
        self.waiting.push_back(datagram);
    }
}
