//! The connection to the signaling server: a pure core, and a task that drives it over a WebSocket.

mod core;
mod socket;
mod tls;

pub(crate) use self::core::Notice;
pub(crate) use socket::{SignalClient, SignalConfig};
pub use tls::Fingerprint;
pub(crate) use tls::client_config;
