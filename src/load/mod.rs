//! `halloo load`: many real clients on few threads, to load a forwarding unit from the same machine and to measure it.
//!
//! ```text
//!  plan (pure, seeded) -> run -> session (one task a client: WebSocket) -> worker (few threads: sockets)
//!                          |        attendance (pure)                        client (pure): ICE, DTLS, SRTP, RTP, RTCP
//!                          \-- people, figures -> report: a line each second, a table, JSON
//! ```
//!
//! Media is coded once ([`clip`]); all publishers send the same, each from another place. The payload tells receivers which
//! packet of its source they have, so that each is compared with what was sent, and its delay is known ([`departures`]).

pub mod args;
pub mod attendance;
pub mod client;
pub mod clip;
pub mod departures;
pub mod figures;
pub mod offer;
pub mod people;
pub mod plan;
pub mod report;
pub mod run;
pub mod server;
pub mod session;
pub mod turns;
pub mod worker;

pub use args::LoadArgs;
pub use run::run;
