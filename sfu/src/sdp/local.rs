//! The SFU's own end of the transport, as an answer shows it: ICE-lite (RFC 8445, section 2.5) and a DTLS server.

use std::{fmt, net::SocketAddr};

/// The SFU's end, made anew for every participant, except for the certificate.
#[derive(Clone, Debug)]
pub struct LocalTransport {
    /// ICE user name fragment.
    pub ufrag: String,
    /// ICE password.
    pub pwd: String,
    /// SHA-256 of the certificate.
    pub fingerprint: [u8; 32],
    /// Where it can be reached, the preferred first.
    pub candidates: Vec<Candidate>,
}

/// A host candidate (RFC 8839, section 5.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Candidate {
    /// Where: an announced address, never an unspecified one.
    pub address: SocketAddr,
    /// By what.
    pub protocol: Protocol,
}

/// What carries the packets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Protocol {
    /// Datagrams.
    Udp,
    /// A connection that the client opens (RFC 6544, `tcptype passive`).
    TcpPassive,
}

impl Candidate {
    /// RFC 8445, section 5.1.2.1; TCP below UDP (RFC 6544, section 4.2), a passive one with direction preference 4.
    fn priority(&self, place: usize) -> u32 {
        let place = u32::try_from(place.min(8_000)).unwrap_or(8_000);
        let (type_preference, local_preference) = match self.protocol {
            Protocol::Udp => (126, 65_535 - place),
            Protocol::TcpPassive => (90, (4 << 13) + 8_191 - place),
        };
        (type_preference << 24) + (local_preference << 8) + 255
    }

    /// The value of its `a=candidate` line, given its place among the candidates.
    pub(super) fn line(&self, place: usize) -> String {
        let (priority, address) = (self.priority(place), self.address);
        let (ip, port, foundation) = (address.ip(), address.port(), place + 1);
        match self.protocol {
            Protocol::Udp => format!("{foundation} 1 udp {priority} {ip} {port} typ host"),
            Protocol::TcpPassive => format!("{foundation} 1 tcp {priority} {ip} {port} typ host tcptype passive"),
        }
    }
}

/// `AB:CD:…`, as `a=fingerprint` has it.
pub(super) struct Hex<'a>(pub(super) &'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, byte) in self.0.iter().enumerate() {
            write!(f, "{}{byte:02X}", if n == 0 { "" } else { ":" })?;
        }
        Ok(())
    }
}
