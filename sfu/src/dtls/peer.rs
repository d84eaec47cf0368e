//! One DTLS connection, driven from outside: datagrams and time in, datagrams and SRTP keys out.
//!
//! Invariant: [`Output::Connected`] comes once, after the handshake is complete and the peer's certificate matched one of the
//! expected fingerprints (RFC 5763, 5; RFC 8842, 5.1).

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use halloo_transport::Timestamp;

use super::{
    Certificate, CertificateError, Fingerprint,
    client_hello::{Opening, Version},
    provider,
};
use crate::srtp::{DtlsRole, Profile, SessionKeys};

/// Largest datagram a peer makes.
const MTU: usize = 1_200;
/// Larger datagrams are dropped unread: no handshake needs them, and this bounds what a connection buffers.
const MAX_INPUT: usize = 2_048;
/// Datagrams that a connection buffers while it puts fragments together.
const MAX_BUFFERED: usize = 30;
/// Room that [`Peer::poll`] needs: a peer's certificate passes through it and may fill all that is buffered.
pub const POLL_BUFFER: usize = 1 << 16;
const _: () = assert!(MAX_INPUT * MAX_BUFFERED <= POLL_BUFFER);
/// First retransmission; doubles each time.
const FIRST_RETRANSMISSION: Duration = Duration::from_millis(200);
/// Retransmissions of one flight: the last is due some 26 s after the first sending.
const RETRANSMISSIONS: usize = 7;
/// From the first ClientHello to the end of the handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(30);

/// What all connections of a process have in common: certificate and settings.
#[derive(Clone, Debug)]
pub struct Endpoint {
    config: Arc<dimpl::Config>,
    certificate: Certificate,
    /// What `dimpl`'s clock calls [`Timestamp::ZERO`].
    origin: Instant,
}

/// One connection.
#[derive(Debug)]
pub struct Peer {
    dtls: dimpl::Dtls,
    /// A server's, until it knows which version to answer in.
    opening: Option<Box<(Opening, Endpoint)>>,
    role: DtlsRole,
    expected: Vec<Fingerprint>,
    origin: Instant,
    /// Keys wait here for the certificate's proof and the end of the handshake.
    keys: Option<Box<SessionKeys>>,
    verified: bool,
    complete: bool,
    exported: bool,
    next_timeout: Option<Timestamp>,
}

/// What a connection wants.
#[derive(Debug, PartialEq, Eq)]
pub enum Output {
    /// Send the first so many bytes of the buffer.
    Datagram(usize),
    /// The handshake is complete; these are the keys of SRTP.
    Connected(Box<SessionKeys>),
    /// The peer closed the connection.
    Closed,
}

/// Why a connection failed. It is of no use after any of them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DtlsError {
    /// The certificate is none of those the offer named.
    #[error("the peer's certificate has a fingerprint that its SDP did not name")]
    Fingerprint,
    /// No SRTP profile in common.
    #[error("the peer offered no SRTP profile known here")]
    NoSrtpProfile,
    /// The handshake failed or timed out.
    #[error("DTLS: {0}")]
    Handshake(String),
}

impl Endpoint {
    /// An endpoint with `certificate`. `origin` is the instant at [`Timestamp::ZERO`].
    ///
    /// # Errors
    /// [`CertificateError`] where the settings do not fit together.
    pub fn new(certificate: Certificate, origin: Instant) -> Result<Self, CertificateError> {
        // Peers are reached only after ICE proved their address, so a cookie would cost a round trip for nothing.
        let config = dimpl::Config::builder()
            .with_crypto_provider(provider::provider())
            .mtu(MTU)
            .max_queue_rx(MAX_BUFFERED)
            .use_server_cookie(false)
            .require_client_certificate(true)
            .flight_start_rto(FIRST_RETRANSMISSION)
            .flight_retries(RETRANSMISSIONS)
            .handshake_timeout(HANDSHAKE_TIMEOUT)
            .build()
            .map_err(|error| CertificateError::settings(&error))?;
        Ok(Self { config: Arc::new(config), certificate, origin })
    }

    /// The SHA-256 of the certificate.
    pub fn sha256(&self) -> [u8; 32] {
        self.certificate.sha256()
    }

    /// A connection whose peer has to show a certificate with one of the `expected` fingerprints. A client's first
    /// datagrams come from [`Peer::handle_timeout`] and [`Peer::poll`].
    pub fn peer(&self, now: Timestamp, role: DtlsRole, expected: Vec<Fingerprint>) -> Peer {
        let at = self.instant(now);
        let mut dtls = dimpl::Dtls::new_auto(Arc::clone(&self.config), self.certificate.to_dimpl(), at);
        let mut opening = None;
        match role {
            DtlsRole::Client => dtls.set_active(true),
            DtlsRole::Server => opening = Some(Box::new((Opening::default(), self.clone()))),
        }
        Peer {
            dtls,
            opening,
            role,
            expected,
            origin: self.origin,
            keys: None,
            verified: false,
            complete: false,
            exported: false,
            next_timeout: Some(now),
        }
    }

    fn instant(&self, now: Timestamp) -> Instant {
        self.origin + Duration::from_nanos(now.as_nanos())
    }
}

impl Peer {
    /// Takes a datagram. Drain [`Peer::poll`] afterwards.
    ///
    /// # Errors
    /// [`DtlsError::Handshake`]. Datagrams that are damaged, late, repeated or too long are no error.
    pub fn handle_datagram(&mut self, now: Timestamp, datagram: &[u8]) -> Result<(), DtlsError> {
        self.handle_timeout(now)?;
        if datagram.len() > MAX_INPUT {
            return Ok(());
        }
        let Some(opening) = &mut self.opening else { return self.pass(datagram) };
        let Some(version) = opening.0.add(datagram) else { return Ok(()) };
        let Some((opening, endpoint)) = self.opening.take().map(|opening| *opening) else { return Ok(()) };
        if version == Version::Dtls12 {
            let (config, certificate) = (Arc::clone(&endpoint.config), endpoint.certificate.to_dimpl());
            self.dtls = dimpl::Dtls::new_12(config, certificate, endpoint.instant(now));
            self.handle_timeout(now)?;
        }
        opening.into_datagrams().iter().try_for_each(|datagram| self.pass(datagram))
    }

    fn pass(&mut self, datagram: &[u8]) -> Result<(), DtlsError> {
        self.dtls.handle_packet(datagram).map_err(|error| DtlsError::Handshake(error.to_string()))
    }

    /// Does what is due: retransmissions, the handshake's deadline. Drain [`Peer::poll`] afterwards.
    ///
    /// # Errors
    /// [`DtlsError::Handshake`] where the handshake took too long.
    pub fn handle_timeout(&mut self, now: Timestamp) -> Result<(), DtlsError> {
        let at = self.origin + Duration::from_nanos(now.as_nanos());
        self.dtls.handle_timeout(at).map_err(|error| DtlsError::Handshake(error.to_string()))
    }

    /// The next thing the connection wants; `None` when there is nothing until the next call of another method. `buffer` has
    /// at least [`POLL_BUFFER`] bytes.
    ///
    /// # Errors
    /// [`DtlsError::Fingerprint`], [`DtlsError::NoSrtpProfile`].
    pub fn poll(&mut self, buffer: &mut [u8]) -> Result<Option<Output>, DtlsError> {
        loop {
            if let Some(output) = self.poll_connected()? {
                return Ok(Some(output));
            }
            match self.dtls.poll_output(buffer) {
                dimpl::Output::Packet(packet) => return Ok(Some(Output::Datagram(packet.len()))),
                dimpl::Output::Timeout(at) => {
                    let nanos = at.saturating_duration_since(self.origin).as_nanos();
                    self.next_timeout = u64::try_from(nanos).ok().map(Timestamp::from_nanos);
                    // Keys follow completion at once, so that here they will not come any more.
                    return if self.complete && !self.exported { Err(DtlsError::NoSrtpProfile) } else { Ok(None) };
                }
                dimpl::Output::PeerCert(certificate) => {
                    self.verified = self.expected.iter().any(|fingerprint| fingerprint.matches(certificate));
                    if !self.verified {
                        return Err(DtlsError::Fingerprint);
                    }
                }
                dimpl::Output::KeyingMaterial(material, profile) => {
                    self.keys = Some(Box::new(session_keys(&material, profile, self.role)?));
                }
                dimpl::Output::Connected => self.complete = true,
                dimpl::Output::CloseNotify => return Ok(Some(Output::Closed)),
                dimpl::Output::BufferTooSmall { needed } => {
                    return Err(DtlsError::Handshake(format!("an output of {needed} bytes does not fit")));
                }
                _ => {}
            }
        }
    }

    fn poll_connected(&mut self) -> Result<Option<Output>, DtlsError> {
        if !self.complete {
            return Ok(None);
        }
        if !self.verified {
            return Err(DtlsError::Fingerprint);
        }
        let keys = self.keys.take();
        self.exported |= keys.is_some();
        Ok(keys.map(Output::Connected))
    }

    /// When [`Peer::handle_timeout`] is next wanted.
    pub const fn next_timeout(&self) -> Option<Timestamp> {
        self.next_timeout
    }

    /// Says goodbye: [`Peer::poll`] gives a last datagram where the handshake was complete.
    pub fn close(&mut self) {
        // Of no use afterwards either way.
        let _ = self.dtls.close();
    }
}

fn session_keys(material: &[u8], profile: dimpl::SrtpProfile, role: DtlsRole) -> Result<SessionKeys, DtlsError> {
    let profile = match profile {
        dimpl::SrtpProfile::AEAD_AES_128_GCM => Profile::AeadAes128Gcm,
        dimpl::SrtpProfile::AEAD_AES_256_GCM => Profile::AeadAes256Gcm,
        dimpl::SrtpProfile::AES128_CM_SHA1_80 => Profile::Aes128CmSha1_80,
        _ => return Err(DtlsError::NoSrtpProfile),
    };
    SessionKeys::from_exporter(profile, material, role).map_err(|_| DtlsError::NoSrtpProfile)
}

#[cfg(test)]
#[path = "peer_tests.rs"]
mod tests;
