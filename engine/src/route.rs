//! The seam between tracks and routes.
//!
//! A track's encoder makes [`halloo_transport::session::MediaUnit`]s: payloads and an RTP time, nothing that belongs to a
//! connection. A *route* (peer-to-peer, or a forwarding unit) gives them SSRC, payload type, sequence and extension ids. What a
//! route receives it hands to a [`MediaInput`]. So tracks outlive routes, and one encoder may feed two of them.

use halloo_protocol::SourceKind;
use halloo_transport::{
    ReceivedPacket,
    session::{MediaKind, MediaUnit},
};

/// Takes what an encoder made. Never blocks.
pub(crate) trait MediaOutput: Send + Sync {
    /// Passes a unit on for sending.
    fn send(&self, kind: MediaKind, unit: MediaUnit);

    /// Whether dependency descriptors go with the packets: only then is a picture of several layers of use to anybody.
    fn carries_layers(&self) -> bool {
        false
    }
}

/// A connection that carries this side's sources. Never blocks; drops (and counts) when its queue is full.
pub(crate) trait Route: Send + Sync {
    /// Queues a unit of a source for sending.
    fn carry(&self, source: SourceKind, unit: MediaUnit);

    /// Whether the source's dependency descriptors go with its packets.
    fn carries_layers(&self, source: SourceKind) -> bool;
}

/// Takes what a route received. Implemented by the tracks; called on the route's network task, never blocks.
pub(crate) trait MediaInput: Send + Sync {
    /// A packet, in order of arrival.
    fn receive(&self, packet: ReceivedPacket);
}
