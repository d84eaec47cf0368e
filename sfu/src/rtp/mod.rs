//! RTP headers and extensions, read and written in place: nothing here allocates (RFC 3550, section 5.1; RFC 8285).
//!
//! ```text
//!  in:  bytes -> RtpHeader -> fields, extensions(), payload()
//!  out: OutgoingHeader + payload -> write_packet(buffer) -> bytes ready to be sealed
//! ```

mod extension_ids;
mod header;
mod outgoing;

pub use extension_ids::ExtensionIds;
pub use header::{Extensions, HeaderError, RtpHeader};
pub use outgoing::{BufferTooSmall, OutgoingHeader, PacketLayout};

/// A client-to-mixer audio level (RFC 6464).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AudioLevel {
    /// Level in -dBov: 0 is the loudest, 127 is silence.
    pub level: u8,
    /// Whether the sender's detector took it for voice.
    pub voice: bool,
}

impl AudioLevel {
    /// Reads the extension's value; `None` where it is empty.
    pub fn parse(value: &[u8]) -> Option<Self> {
        value.first().map(|byte| Self { level: byte & 0x7f, voice: byte & 0x80 != 0 })
    }

    /// The byte that goes on the wire.
    pub const fn wire(self) -> u8 {
        (if self.voice { 0x80 } else { 0 }) | (self.level & 0x7f)
    }
}
