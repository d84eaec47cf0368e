//! Whose a datagram is: by its first byte what it is (RFC 7983), by ufrag or address which session it belongs to.
//!
//! Invariant: an address is in the table only after a verified check came from it, a user fragment only while its session
//! lives. Both tables are bounded by the number of sessions.

use std::collections::HashMap;

use super::session::SessionKey;
use crate::ice::TransportAddress;

/// What a datagram is (RFC 7983, 7; RFC 5761, 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Stun,
    Dtls,
    Srtp(Protected),
}

/// Which packets SRTP protects in a datagram (RFC 3711, 3.1 and 3.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protected {
    Rtp,
    Rtcp,
}

impl Kind {
    pub(super) fn of(datagram: &[u8]) -> Option<Self> {
        match datagram {
            [0..=3, ..] => Some(Self::Stun),
            [20..=63, ..] => Some(Self::Dtls),
            [128..=191, 192..=223, ..] => Some(Self::Srtp(Protected::Rtcp)),
            [128..=191, _, ..] => Some(Self::Srtp(Protected::Rtp)),
            _ => None,
        }
    }
}

/// Addresses and user fragments of all sessions.
#[derive(Debug, Default)]
pub(super) struct Demux {
    addresses: HashMap<TransportAddress, SessionKey>,
    ufrags: HashMap<Box<[u8]>, SessionKey>,
}

impl Demux {
    pub(super) fn by_address(&self, address: TransportAddress) -> Option<SessionKey> {
        self.addresses.get(&address).copied()
    }

    pub(super) fn by_ufrag(&self, ufrag: &[u8]) -> Option<SessionKey> {
        self.ufrags.get(ufrag).copied()
    }

    /// Gives `address` to a session that proved to be there; whoever had it before is there no longer.
    pub(super) fn claim(&mut self, address: TransportAddress, session: SessionKey) {
        self.addresses.insert(address, session);
    }

    /// Takes `address` from a session, if it still is its own.
    pub(super) fn release(&mut self, address: TransportAddress, session: SessionKey) {
        if self.by_address(address) == Some(session) {
            self.addresses.remove(&address);
        }
    }

    /// Registers a user fragment; `false` where it is in use.
    pub(super) fn add_ufrag(&mut self, ufrag: &str, session: SessionKey) -> bool {
        if self.ufrags.contains_key(ufrag.as_bytes()) {
            return false;
        }
        self.ufrags.insert(ufrag.as_bytes().into(), session);
        true
    }

    pub(super) fn remove_ufrag(&mut self, ufrag: &str) {
        self.ufrags.remove(ufrag.as_bytes());
    }

    #[cfg(test)]
    pub(super) fn sizes(&self) -> (usize, usize) {
        (self.addresses.len(), self.ufrags.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bytes_tell_the_protocol() {
        let kinds = [
            (&[0u8, 1][..], Some(Kind::Stun)),
            (&[3, 0], Some(Kind::Stun)),
            (&[4, 0], None),
            (&[20, 0], Some(Kind::Dtls)),
            (&[63, 0], Some(Kind::Dtls)),
            (&[64, 0], None),
            (&[127, 0], None),
            (&[0x80, 0x60], Some(Kind::Srtp(Protected::Rtp))),
            (&[0x90, 0xe0], Some(Kind::Srtp(Protected::Rtp))),
            (&[0x80, 200], Some(Kind::Srtp(Protected::Rtcp))),
            (&[0x81, 206], Some(Kind::Srtp(Protected::Rtcp))),
            (&[192, 200], None),
            (&[0x80], None),
            (&[], None),
        ];
        for (bytes, kind) in kinds {
            assert_eq!(Kind::of(bytes), kind, "{bytes:?}");
        }
    }
}
