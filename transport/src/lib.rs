//! RTP machinery shared by the engine and the SFU.
//!
//! Everything here is a value driven from outside: inputs carry the time they happened at, outputs are polled,
//! and nothing reads a clock, opens a socket or spawns a thread. [`Session`] is the whole of it put together for
//! one connection; its parts are public so that the SFU can drive them per subscriber.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod av1;
pub mod congestion;
pub mod extensions;
pub mod history;
pub mod key_frames;
pub mod nack;
pub mod pacer;
pub mod random;
pub mod reception;
pub mod reports;
pub mod rtx;
pub mod session;
pub mod time;
pub mod twcc;
pub mod units;

pub use session::{Event, ReceivedPacket, RecvStream, SendStream, Session, SessionConfig, Transmit};
pub use time::Timestamp;
pub use units::{Bitrate, Mid, PayloadType, Rid, RtpTime, SeqNo, Ssrc};
