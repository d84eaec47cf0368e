//! Media that arrives before its session's keys. With DTLS 1.3 a client sends right behind its last flight (RFC 9147, section 5),
//! while a worker still makes keys of it; what came meanwhile is kept for the moment that this takes, within bounds.

use super::session::SessionKey;

/// Datagrams kept of one session, and of all.
const MAX_OF_ONE: usize = 64;
const MAX: usize = 512;
/// Longer ones are no media.
const MAX_LEN: usize = 1_500;

/// Datagrams in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Early {
    datagrams: Vec<(SessionKey, Box<[u8]>)>,
}

impl Early {
    /// Keeps a copy; `false` where there is no room for it.
    pub(super) fn keep(&mut self, of: SessionKey, datagram: &[u8]) -> bool {
        let has_room = self.datagrams.len() < MAX && datagram.len() <= MAX_LEN;
        if !has_room || self.datagrams.iter().filter(|(key, _)| *key == of).count() >= MAX_OF_ONE {
            return false;
        }
        self.datagrams.push((of, datagram.into()));
        true
    }

    /// Takes out all of a session, which has its keys now or is gone.
    pub(super) fn take(&mut self, of: SessionKey) -> Vec<Box<[u8]>> {
        self.datagrams.extract_if(.., |(key, _)| *key == of).map(|(_, datagram)| datagram).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_bounded_for_one_and_for_all() {
        let mut early = Early::default();
        let key = SessionKey::from_u64;
        assert!(!early.keep(key(1), &[0; MAX_LEN + 1]));
        assert_eq!((0..100).filter(|n| early.keep(key(1), &[*n])).count(), MAX_OF_ONE);
        assert_eq!((0..10_000).filter(|n| early.keep(key(2 + n / 10), &[0])).count(), MAX - MAX_OF_ONE);
        let taken: Vec<_> = early.take(key(1)).iter().map(|datagram| datagram[0]).collect();
        assert_eq!(taken, (0..MAX_OF_ONE as u8).collect::<Vec<_>>());
        assert!(early.take(key(1)).is_empty());
        assert!(early.keep(key(1), &[0]));
    }
}
