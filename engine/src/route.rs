//! The seam between tracks and routes.
//!
//! A track's encoder makes [`halloo_transport::session::MediaUnit`]s: payloads and an RTP time, nothing that belongs to a
//! connection. A *route* (peer-to-peer now, an SFU later) gives them SSRC, payload type, sequence and extension ids. What a
//! route receives it hands to a [`MediaInput`] by kind. So tracks outlive routes, and one encoder may feed two of them.

use halloo_transport::{
    ReceivedPacket,
    session::{MediaKind, MediaUnit},
};

/// Takes what an encoder made. Implemented by a route; never blocks; drops (and counts) when its queue is full.
pub(crate) trait MediaOutput: Send + Sync {
    /// Queues a unit for sending.
    fn send(&self, kind: MediaKind, unit: MediaUnit);
}

/// Takes what a route received. Implemented by the tracks; called on the route's network task, never blocks.
pub(crate) trait MediaInput: Send + Sync {
    /// A packet, in order of arrival.
    fn receive(&self, packet: ReceivedPacket);
}
