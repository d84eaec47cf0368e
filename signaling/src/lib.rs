//! Halloo's signaling server: WebSocket connections, sessions that survive them, presence, one state machine a call
//! and one a room.
//!
//! [`Hub`] holds the rules and is pure; [`Server`] is the shell around it: sockets, clocks, limits, HTTP.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod admission;
mod call;
mod connection;
mod http;
mod hub;
mod ice;
mod limits;
mod media;
mod metrics;
mod outbox;
mod redact;
mod room;
mod server;
mod shared;
pub mod token;

pub use admission::{Authenticator, GuestPolicy, OriginPolicy, is_private};
pub use call::Endpoint;
pub use hub::{
    ConnId, Hub, HubConfig, HubStats, Identity, IdentityKind, MediaOrder, MediaTicket, Output, RoomAccess, RoomRules,
    SignIn,
};
pub use ice::{IceConfig, TurnAuth};
pub use limits::ConnectionLimits;
pub use media::{MediaCommand, MediaError, MediaEvent, MediaEvents, MediaFuture, MediaJoin, MediaJoined, MediaPlane};
pub use redact::Redactor;
pub use server::{Server, ServerConfig};
