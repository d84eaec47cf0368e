//! The signaling hub fed lines of text by three connections: each text gets one reply, and nothing panics.
//!
//! Each line of the input begins with a character that says whose it is; `w` waits, `c` closes, `o` opens again.
#![no_main]

use halloo_protocol::{Credential, ErrorBody, ErrorCode};
use halloo_signaling::{ConnId, Hub, HubConfig, Identity, IdentityKind, SignIn};
use libfuzzer_sys::fuzz_target;
use std::time::{Duration, Instant};

fn prove(credential: &Credential) -> Result<SignIn, ErrorBody> {
    match credential {
        Credential::Guest { name } => Ok(SignIn {
            identity: Identity { user: name.clone(), display_name: name.to_string(), kind: IdentityKind::Token, rooms: None },
            address: std::net::Ipv4Addr::LOCALHOST.into(),
            ice_servers: Vec::new(),
        }),
        Credential::Token { .. } => Err(ErrorBody::new(ErrorCode::TokenInvalid, "no")),
    }
}

fuzz_target!(|text: &str| {
    let mut hub = Hub::new(HubConfig::default(), [7; 32]);
    let mut now = Instant::now();
    for conn in 0..3 {
        hub.handle_open(ConnId(conn));
    }
    for line in text.lines() {
        let Some(who) = line.chars().next() else { continue };
        let rest = &line[who.len_utf8()..];
        let conn = ConnId(u64::from(who as u32 % 3));
        match who {
            'w' => {
                now += Duration::from_secs(rest.len() as u64);
                hub.handle_timeout(now);
            }
            'c' => hub.handle_closed(now, ConnId(rest.len() as u64 % 3)),
            'o' => hub.handle_open(ConnId(rest.len() as u64 % 3)),
            _ => hub.handle_text(now, conn, rest, prove),
        }
        while hub.poll_output().is_some() {}
        let _ = hub.next_timeout();
    }
});
