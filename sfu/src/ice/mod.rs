//! ICE-lite: answers a peer's connectivity checks and learns from them where to send.
//!
//! Invariant: a request is answered, and changes anything, only after its USERNAME, MESSAGE-INTEGRITY and FINGERPRINT proved
//! right; anything else is dropped in silence, and no answer is longer than its request.
//!
//! RFC 8445 (ICE; lite agents: 2.5 and 7.3), RFC 8489 (STUN), RFC 7675 (consent).

mod address;
mod agent;
mod answer;
mod credentials;
mod username;

pub use address::{Protocol, TransportAddress};
pub use agent::{Agent, Check, Dropped, PathChange};
pub use answer::MAX_ANSWER;
pub use credentials::{Credentials, CredentialsError};
pub use username::local_ufrag;
