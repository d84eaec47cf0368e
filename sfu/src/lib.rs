//! The forwarding unit: takes each participant's media once and gives it to everybody who watches or listens.
//!
//! Pure cores ([`ice`], [`srtp`], [`sdp`], [`room`] and what rooms are made of) under one thin shell ([`shard`] over
//! [`net`] and [`dtls`]). A shard is one thread that owns its socket and its rooms; nothing on the media path is shared.

#![warn(missing_docs)]

#[doc(hidden)]
pub mod client;
pub mod config;
pub mod dtls;
pub mod handle;
pub mod ice;
pub mod layers;
pub mod net;
mod prefetch;
pub mod room;
pub mod rtp;
pub mod sdp;
pub mod shard;
pub mod slot;
pub mod speaker;
pub mod srtp;

use halloo_transport::av1;

pub use config::SfuConfig;
pub use handle::{JoinRequest, Overloaded, Sfu, SfuHandle, ShardStats, StartError};
