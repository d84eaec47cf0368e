//! Whose packets are whose: the CSRCs of each member's sources. Pure.
//!
//! Invariant: a CSRC names the source of the member that was given the number last. A server that restarts gives numbers anew, so
//! one member may be given another's former number before that one gets a new number, or leaves: neither may take it away again.

use super::members::MemberKey;
use halloo_protocol::{ParticipantId, SourceKind, SourceOf};
use std::collections::HashMap;

/// See the module's text.
#[derive(Debug)]
pub(super) struct CsrcMap<T>(HashMap<u32, (MemberKey, T)>);

impl<T> Default for CsrcMap<T> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<T: Clone> CsrcMap<T> {
    /// The track of a packet with this CSRC.
    pub(super) fn get(&self, csrc: u32) -> Option<T> {
        self.0.get(&csrc).map(|(_, track)| track.clone())
    }

    /// Packets with this number's CSRCs are the member's.
    pub(super) fn assign(
        &mut self,
        key: MemberKey,
        number: ParticipantId,
        tracks: impl IntoIterator<Item = (SourceKind, T)>,
    ) {
        for (kind, track) in tracks {
            self.0.insert(csrc(number, kind), (key, track));
        }
    }

    /// Packets with this number's CSRCs are not the member's any more.
    pub(super) fn release(&mut self, key: MemberKey, number: ParticipantId) {
        for csrc in SourceKind::ALL.map(|kind| csrc(number, kind)) {
            if self.0.get(&csrc).is_some_and(|(owner, _)| *owner == key) {
                self.0.remove(&csrc);
            }
        }
    }

    /// Nobody's packets are anybody's.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

fn csrc(participant: ParticipantId, kind: SourceKind) -> u32 {
    SourceOf { participant, kind }.csrc()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALICE: MemberKey = MemberKey(1);
    const CAROL: MemberKey = MemberKey(2);

    fn give(map: &mut CsrcMap<&'static str>, key: MemberKey, number: u32, name: &'static str) {
        map.assign(key, ParticipantId(number), SourceKind::ALL.map(|kind| (kind, name)));
    }

    fn owner(map: &CsrcMap<&'static str>, number: u32) -> Option<&'static str> {
        map.get(csrc(ParticipantId(number), SourceKind::Microphone))
    }

    #[test]
    fn numbers_that_change_places_stay_with_whom_they_were_given_last() {
        let mut map = CsrcMap::default();
        give(&mut map, ALICE, 1, "alice");
        give(&mut map, CAROL, 3, "carol");
        // The server restarted: carol comes back first and is given alice's former number.
        give(&mut map, CAROL, 1, "carol");
        map.release(CAROL, ParticipantId(3));
        give(&mut map, ALICE, 3, "alice");
        map.release(ALICE, ParticipantId(1));
        assert_eq!((owner(&map, 1), owner(&map, 3)), (Some("carol"), Some("alice")));
    }

    #[test]
    fn who_does_not_come_back_takes_nothing_along_but_their_own() {
        let mut map = CsrcMap::default();
        give(&mut map, ALICE, 1, "alice");
        give(&mut map, CAROL, 1, "carol");
        map.release(ALICE, ParticipantId(1));
        assert_eq!(owner(&map, 1), Some("carol"));
        map.release(CAROL, ParticipantId(1));
        assert_eq!(owner(&map, 1), None);
    }
}
