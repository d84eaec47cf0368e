//! What clients are given for ICE: STUN servers, and TURN servers with fixed or time-limited credentials.
//!
//! Time-limited credentials follow the TURN REST convention (draft-uberti-behave-turn-rest-00, section 2.2): the user name is
//! `<expiry>:<user>`, the password is base64(HMAC-SHA-1(shared secret, user name)).

use base64::{Engine as _, engine::general_purpose::STANDARD};
use halloo_protocol::{IceServer, UserId};
use ring::hmac;
use std::time::Duration;

/// How clients prove themselves to TURN.
#[derive(Clone)]
pub enum TurnAuth {
    /// Not at all, as STUN needs none.
    None,
    /// The same name and password for everyone.
    Static {
        /// Its name.
        username: String,
        /// Its password.
        credential: String,
    },
    /// Made anew at each sign-in from a secret shared with the TURN server.
    SharedSecret {
        /// The secret.
        secret: String,
        /// How long credentials hold.
        ttl: Duration,
    },
}

impl std::fmt::Debug for TurnAuth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Static { .. } => "Static(redacted)",
            Self::SharedSecret { .. } => "SharedSecret(redacted)",
        })
    }
}

/// A server as configured.
#[derive(Clone, Debug)]
pub struct IceConfig {
    /// `stun:`, `turn:` or `turns:` URLs.
    pub urls: Vec<String>,
    /// How to be let in.
    pub auth: TurnAuth,
}

impl IceConfig {
    /// As a client that signs in at `unix` gets it.
    pub fn for_user(&self, unix: u64, user: &UserId) -> IceServer {
        let urls = self.urls.clone();
        match &self.auth {
            TurnAuth::None => IceServer { urls, username: None, credential: None },
            TurnAuth::Static { username, credential } => {
                IceServer { urls, username: Some(username.clone()), credential: Some(credential.clone()) }
            }
            TurnAuth::SharedSecret { secret, ttl } => {
                let username = format!("{}:{user}", unix.saturating_add(ttl.as_secs()));
                let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret.as_bytes());
                let credential = STANDARD.encode(hmac::sign(&key, username.as_bytes()));
                IceServer { urls, username: Some(username), credential: Some(credential) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_limited_credentials_are_what_turn_servers_expect() {
        let auth = TurnAuth::SharedSecret { secret: "north".into(), ttl: Duration::from_secs(600) };
        let server = IceConfig { urls: vec!["turn:t.example:3478".into()], auth };
        let given = server.for_user(1_000, &UserId::new("alice").unwrap());
        assert_eq!(given.username.as_deref(), Some("1600:alice"));
        // printf '1600:alice' | openssl dgst -sha1 -hmac north -binary | base64
        assert_eq!(given.credential.as_deref(), Some("dN9x045+nGZ38EwLhtdqdyv3otM="));
    }
}
