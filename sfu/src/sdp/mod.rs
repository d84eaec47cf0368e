//! The one offer and answer of a participant: the client offers, the SFU answers (RFC 8829, RFC 9143).
//!
//! ```text
//!  text -> Offer::parse -> negotiate(offer, local transport, terms) -> Negotiated { for the room, for ICE and DTLS, answer }
//! ```
//!
//! Sections that the client sends are its microphone, camera and screen; sections that it only receives are slots, of which
//! each gets an SSRC for good. So nobody who joins, leaves or speaks makes anybody negotiate again. Pure: randomness is a seed.

mod answer;
mod codec;
mod encodings;
mod error;
mod extension;
mod format;
mod local;
mod negotiate;
mod offer;
mod remote;
#[cfg(test)]
mod tests;

pub use codec::Codec;
pub use error::OfferError;
pub use extension::Extension;
pub use format::{Feedback, Parameters};
pub use local::{Candidate, LocalTransport, Protocol};
pub use negotiate::{Agreed, MAX_AUDIO_SLOTS, MAX_VIDEO_SLOTS, Negotiated, Terms, negotiate};
pub use offer::{MAX_SECTIONS, Offer, OfferedDirection, OfferedMedia, Section};
pub use remote::RemoteTransport;
