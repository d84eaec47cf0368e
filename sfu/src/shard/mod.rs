//! One thread, one socket, its rooms.
//!
//! ```text
//!  datagram -> demux: STUN by ufrag -> ICE agent -> answer
//!                     DTLS by address -> worker threads -> keys
//!                     SRTP by address -> open in place -> Room -> seal in the receiver's arena -> send some receivers' at once
//! ```
//!
//! [`Core`] is all of it without socket, clock and threads: datagrams, control and time go in, datagrams and events come out.
//! A thread runs one.
//! Invariants: every table is bounded; what is not authenticated changes nothing and costs one
//! look-up and at most one verification; a room that panics takes down itself only.
//!
//! RFC 7983 (demultiplexing), RFC 5761 (rtcp-mux), RFC 8843 (BUNDLE).

mod command;
mod core;
mod demux;
mod early;
mod egress;
mod hosting;
mod rooms;
mod session;
mod stats;
#[cfg(test)]
mod tests;
mod thread;
mod wire;

pub use self::core::{Core, ShardConfig};
pub use command::{Admission, Event, EventSink, JoinError, LeaveReason, RoomEntry};
pub use hosting::{Forwarding, Handshaking};
pub use stats::Stats;
pub(crate) use thread::{Control, Full, IceRestart, Running, Shell, ThreadStats, start};
pub use wire::{Path, Wire};
