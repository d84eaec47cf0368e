//! Where a shard's datagrams go: a socket, or a test.

use std::net::IpAddr;

use crate::{ice::TransportAddress, net::Run};

/// Both ends of what datagrams travel on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Path {
    /// The peer's end.
    pub remote: TransportAddress,
    /// Our end, where it is known: answers leave from where the request came to.
    pub local: Option<IpAddr>,
}

/// Takes datagrams.
pub trait Wire {
    /// Sends the packets in `bytes`, each `segment` bytes long but the last, which may be shorter. What cannot be sent now is
    /// dropped.
    fn send(&mut self, path: Path, bytes: &[u8], segment: usize);

    /// Sends over UDP one after the other, as [`Wire::send`] does; a wire that can do it at once does.
    fn send_all<'a>(&mut self, sends: impl Iterator<Item = (Path, Run<'a>)>) {
        sends.for_each(|(path, run)| self.send(path, run.bytes, run.segment));
    }

    /// How many packets one [`Wire::send`] may have; at least one.
    fn max_segments(&self) -> usize;
}
