//! Datagrams over TCP, for clients whose network blocks UDP: a listener beside each UDP socket, and the connections to it.
//!
//! ```text
//!  bytes -> Frames (Partial keeps what is cut off) -> datagrams -> shard -> Outgoing (bounded) -> one write per batch
//! ```
//!
//! Invariants: every table and queue is bounded, and nothing ever waits. A connection whose peer does not prove by a connectivity
//! check that a session is its own is closed after a few seconds; so is one whose session ended.
//!
//! RFC 6544 (ICE-TCP: the passive side), RFC 4571 (framing).

mod connections;
#[cfg(test)]
mod connections_tests;
mod framing;
mod limits;
mod listener;
mod outgoing;

pub use connections::{Connections, Incoming, TcpStats};
pub use framing::{FrameTooLong, Frames, MAX_FRAME, Partial, StreamBuffer, frame};
pub use limits::TcpLimits;
pub use listener::Listener;
