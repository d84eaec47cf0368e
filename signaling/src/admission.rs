//! Who may connect from where, and who a credential proves somebody to be.
//!
//! A browser sends the page's `Origin` with a WebSocket: only pages of this server, or of origins the operator names, may
//! speak for their user. Native clients send none. A server for guests also looks at `Host`: a foreign name that was made to
//! resolve here (DNS rebinding) would be its own origin.

use crate::{
    hub::{Identity, IdentityKind, RoomAccess},
    token::Verifier,
};
use halloo_protocol::{Credential, ErrorBody, ErrorCode};
use std::{net::IpAddr, time::Duration};

/// Where guests, who have a name and no token, may come from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GuestPolicy {
    /// Nowhere.
    Refused,
    /// This machine.
    Loopback,
    /// This machine and private networks.
    Lan,
    /// Anywhere.
    Anywhere,
}

impl GuestPolicy {
    fn admits(self, address: IpAddr) -> bool {
        match self {
            Self::Refused => false,
            Self::Loopback => address.is_loopback(),
            Self::Lan => is_private(address),
            Self::Anywhere => true,
        }
    }
}

/// Whether an address belongs to this machine or to a network of the house.
pub fn is_private(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.is_loopback() || v4.is_private() || v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local(),
    }
}

/// Proves credentials.
#[derive(Clone, Debug)]
pub struct Authenticator {
    /// Checks tokens.
    pub verifier: Verifier,
    /// Takes guests.
    pub guests: GuestPolicy,
}

impl Authenticator {
    /// Who this is.
    ///
    /// # Errors
    /// What [`Verifier::verify`] says, or `guests_not_allowed`.
    pub fn authenticate(&self, unix: u64, from: IpAddr, credential: &Credential) -> Result<Identity, ErrorBody> {
        match credential {
            Credential::Token { token } => {
                let verified = self.verifier.verify(unix, token)?;
                let valid_for = Some(Duration::from_secs(verified.until.saturating_sub(unix)));
                let rooms = verified.room.map(|room| RoomAccess { rooms: room.rooms, grants: room.grants, valid_for });
                let (user, display_name) = (verified.user, verified.display_name);
                Ok(Identity { user, display_name, kind: IdentityKind::Token, rooms })
            }
            Credential::Guest { name } if self.guests.admits(from) => {
                let display_name = name.to_string();
                let rooms = Some(RoomAccess::everything());
                Ok(Identity { user: name.clone(), display_name, kind: IdentityKind::Guest, rooms })
            }
            Credential::Guest { .. } => {
                let message = match self.guests {
                    GuestPolicy::Loopback => "guests are taken from this machine only: sign in with a token",
                    GuestPolicy::Lan => "guests are taken from the local network only: sign in with a token",
                    _ => "this server takes no guests: sign in with a token",
                };
                Err(ErrorBody::new(ErrorCode::GuestsNotAllowed, message))
            }
        }
    }
}

/// Which pages may connect.
#[derive(Clone, Debug, Default)]
pub struct OriginPolicy {
    /// Origins besides the server's own, like `https://app.example.org`.
    pub allowed: Vec<String>,
    /// Host names the server goes by; with [`OriginPolicy::any_host`] false, others are refused.
    pub hosts: Vec<String>,
    /// Whether any host name is taken: for a server with a certificate or behind a proxy, where no guests are.
    pub any_host: bool,
}

impl OriginPolicy {
    /// Whether a connection with these headers may be made.
    ///
    /// # Errors
    /// A sentence for the refusal.
    pub fn check(&self, host: Option<&str>, origin: Option<&str>) -> Result<(), String> {
        let Some(origin) = origin else { return Ok(()) };
        if self.allowed.iter().any(|allowed| allowed.trim_end_matches('/').eq_ignore_ascii_case(origin)) {
            return Ok(());
        }
        let authority = origin.split_once("://").map(|(_, authority)| authority);
        let same = matches!((authority, host), (Some(a), Some(h)) if a.eq_ignore_ascii_case(h));
        let shown: String = origin.chars().take(100).collect();
        if !same {
            return Err(format!(
                "pages of {shown} may not connect to this server: allow them with --allow-origin {shown}"
            ));
        }
        if self.any_host || host.is_some_and(|host| self.knows(host_name(host))) {
            return Ok(());
        }
        Err(format!("this server does not go by the name in {shown}: allow it with --allow-origin {shown}"))
    }

    fn knows(&self, name: &str) -> bool {
        name.eq_ignore_ascii_case("localhost")
            || name.trim_matches(['[', ']']).parse::<IpAddr>().is_ok()
            || self.hosts.iter().any(|known| known.eq_ignore_ascii_case(name))
    }
}

/// `Host` without its port.
fn host_name(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    }
}

/// The client's address: the peer's, or behind a declared proxy the last one in `X-Forwarded-For`, which that proxy wrote.
pub(crate) fn client_address(peer: IpAddr, forwarded_for: Option<&str>, behind_proxy: bool) -> IpAddr {
    if !behind_proxy {
        return peer.to_canonical();
    }
    let last = forwarded_for.and_then(|list| list.rsplit(',').next()).map(str::trim);
    let parse = |text: &str| text.parse().ok().or_else(|| Some(text.parse::<std::net::SocketAddr>().ok()?.ip()));
    last.and_then(parse).unwrap_or(peer).to_canonical()
}

#[cfg(test)]
mod tests {
    use super::*;
    use halloo_protocol::UserId;

    #[test]
    fn pages_of_the_server_itself_and_of_named_origins_may_connect() {
        let policy = OriginPolicy {
            allowed: vec!["https://app.example.org/".into()],
            hosts: vec!["box.local".into()],
            any_host: false,
        };
        let check = |host: &str, origin: &str| policy.check(Some(host), Some(origin)).is_ok();
        assert!(check("localhost:8080", "http://localhost:8080"));
        assert!(check("127.0.0.1:8080", "http://127.0.0.1:8080"));
        assert!(check("[::1]:8080", "http://[::1]:8080"));
        assert!(check("box.local:8080", "https://box.local:8080"));
        assert!(check("localhost:8080", "https://app.example.org"));
        assert!(policy.check(Some("x"), None).is_ok(), "a native client sends no origin");
        assert!(!check("localhost:8080", "http://localhost:9090"));
        assert!(!check("localhost:8080", "https://evil.example"));
        assert!(!check("localhost:8080", "null"));
        assert!(!check("rebound.example:8080", "http://rebound.example:8080"), "a rebound name is nobody's own origin");
    }

    #[test]
    fn guests_come_from_where_the_policy_says() {
        let guest = Credential::Guest { name: UserId::new("bob").unwrap() };
        let (home, lan, out) =
            (IpAddr::from([127, 0, 0, 1]), IpAddr::from([192, 168, 1, 9]), IpAddr::from([8, 8, 8, 8]));
        for (guests, expected) in [
            (GuestPolicy::Refused, [false, false, false]),
            (GuestPolicy::Loopback, [true, false, false]),
            (GuestPolicy::Lan, [true, true, false]),
            (GuestPolicy::Anywhere, [true, true, true]),
        ] {
            let auth = Authenticator { verifier: Verifier::default(), guests };
            let admitted = [home, lan, out].map(|from| auth.authenticate(0, from, &guest).is_ok());
            assert_eq!(admitted, expected, "{guests:?}");
        }
    }

    #[test]
    fn forwarded_addresses_count_only_behind_a_declared_proxy() {
        let peer = IpAddr::from([10, 0, 0, 1]);
        let real = IpAddr::from([203, 0, 113, 7]);
        assert_eq!(client_address(peer, Some("1.2.3.4, 203.0.113.7"), true), real);
        assert_eq!(client_address(peer, Some("203.0.113.7"), false), peer);
        assert_eq!(client_address(peer, Some("nonsense"), true), peer);
        assert_eq!(client_address(peer, None, true), peer);
    }
}
