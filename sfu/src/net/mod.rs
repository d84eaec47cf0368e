//! Sockets: batches of datagrams in and out (UDP, or framed on TCP), and what a thread needs to wait for them.
//!
//! Invariant: receiving and sending allocate nothing after start. A datagram that the kernel has no room for is dropped and
//! counted, never waited for.

mod arena;
mod clock;
mod sender;
mod socket;
mod tcp;
mod waker;

pub use arena::{Arena, Arenas, Lease, Run, Runs, SEGMENT_ROOM};
pub use clock::Clock;
pub use sender::{Outgoing, Sender};
pub use socket::{Filled, Received, Receiver, SendOutcome, Socket, SocketConfig};
pub use tcp::{
    Connections, FrameTooLong, Frames, Incoming, Listener, MAX_FRAME, Partial, StreamBuffer, TcpLimits, TcpStats, frame,
};
pub use waker::Waker;
