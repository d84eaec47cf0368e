//! DTLS handshakes, on threads of their own: no public-key work happens on a shard.
//!
//! A shard passes DTLS datagrams of verified addresses to [`Workers`] and gets datagrams to send and, in the end, SRTP keys.
//! Invariant: keys are given out only after the peer's certificate proved to be one that its SDP named.
//!
//! DTLS 1.2 (RFC 6347) and 1.3 (RFC 9147), DTLS-SRTP (RFC 5764), fingerprints (RFC 8122, 5; RFC 8842).

mod certificate;
mod client_hello;
mod fingerprint;
mod peer;
mod provider;
mod workers;

pub use certificate::{Certificate, CertificateError};
pub use fingerprint::Fingerprint;
pub use peer::{DtlsError, Endpoint, Output, POLL_BUFFER, Peer};
pub use workers::{Handshake, Handshakes, Outcome, Refused, Report, Workers, WorkersConfig};
