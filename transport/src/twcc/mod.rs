//! Transport-wide feedback: which packets arrived and when (draft-holmer-rmcat-transport-wide-cc-extensions-01).
//!
//! ```text
//!  receiver: packet -> ArrivalLog -> TransportLayerCc every 50 to 100 ms
//!  sender:   TransportLayerCc + SentLog -> PacketResult -> congestion control
//! ```
//!
//! Both logs are bounded. Feedback about packets that were never sent, or are forgotten, is ignored.

mod arrival_log;
mod encoding;
mod sent_log;

pub use arrival_log::ArrivalLog;
pub use encoding::{Arrivals, decode, encode};
pub use sent_log::{PacketKind, PacketResult, ProbeId, SentLog, SentPacket};
