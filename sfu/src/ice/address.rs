//! Transport addresses (RFC 8445, 4): an IP address, a port, and the protocol they belong to.

use std::{fmt, net::SocketAddr};

/// What carries datagrams to a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// UDP.
    Udp,
    /// TCP, framed by RFC 4571 (RFC 6544). The peer opened the connection.
    Tcp,
}

/// Where a peer's datagrams come from and ours to it go.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TransportAddress {
    /// UDP or TCP.
    pub protocol: Protocol,
    /// The peer's address as seen from here.
    pub address: SocketAddr,
}

impl TransportAddress {
    /// A UDP address.
    pub const fn udp(address: SocketAddr) -> Self {
        Self { protocol: Protocol::Udp, address }
    }

    /// The peer's end of a TCP connection.
    pub const fn tcp(address: SocketAddr) -> Self {
        Self { protocol: Protocol::Tcp, address }
    }
}

impl fmt::Debug for TransportAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {}", self.protocol, self.address)
    }
}
