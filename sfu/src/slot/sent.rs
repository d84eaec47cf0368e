//! What a slot's numbers were made from, so that a packet that is asked for again is made again, the same
//! (RFC 4585, section 6.2.1; RFC 4588).
//!
//! Payloads stay in the one history of their source; this only remembers the rewrite. Bounded: the newest
//! [`SentRing::MAX_PACKETS`] packets.

use halloo_transport::{SeqNo, Timestamp};
use std::time::Duration;

/// A forwarded packet: where it came from and what it was given.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sent {
    /// The stream it is of, as its owner numbers streams.
    pub stream: u32,
    /// Its number in that stream.
    pub source_seq: SeqNo,
    /// Its number in the slot.
    pub seq: SeqNo,
    /// Its timestamp in the slot.
    pub timestamp: u32,
    /// Its CSRC.
    pub csrc: u32,
    /// The marker bit it got.
    pub marker: bool,
    /// The frame number it got.
    pub frame_number: Option<u16>,
    /// The active decode targets it got.
    pub active_targets: Option<u32>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    sent: Sent,
    resent_at: Option<Timestamp>,
}

/// The newest forwarded packets of a slot.
#[derive(Clone, Debug, Default)]
pub struct SentRing {
    /// By number modulo length, which is zero or a power of two.
    entries: Vec<Option<Entry>>,
    highest: Option<SeqNo>,
}

impl SentRing {
    /// Packets remembered at most.
    pub const MAX_PACKETS: usize = 1_024;
    const FIRST_SIZE: usize = 64;

    /// Nothing sent; takes no memory.
    pub const fn new() -> Self {
        Self { entries: Vec::new(), highest: None }
    }

    /// Remembers a packet. Grows to its bound within the first packets, never after.
    pub fn insert(&mut self, sent: Sent) {
        self.highest = Some(self.highest.map_or(sent.seq, |highest| highest.max(sent.seq)));
        while self.entries.len() < Self::MAX_PACKETS && self.slot(sent.seq).is_none_or(|entry| entry.is_some()) {
            self.grow();
        }
        if let Some(entry) = self.slot(sent.seq) {
            *entry = Some(Entry { sent, resent_at: None });
        }
    }

    /// The packet with this number on the wire, if it may be sent again: not twice within `interval`.
    pub fn resend(&mut self, now: Timestamp, wire: u16, interval: Duration) -> Option<Sent> {
        let highest = self.highest?;
        let seq = SeqNo(highest.0.checked_sub(u64::from(highest.wire().wrapping_sub(wire)))?);
        let entry = self.slot(seq)?.as_mut().filter(|entry| entry.sent.seq == seq)?;
        if entry.resent_at.is_some_and(|at| now.since(at) < interval) {
            return None;
        }
        entry.resent_at = Some(now);
        Some(entry.sent)
    }

    /// One of the newest packets, the `turn`th back (modulo a few): its repetition serves as padding.
    pub fn recent(&mut self, turn: u64) -> Option<Sent> {
        const CANDIDATES: u64 = 16;
        let highest = self.highest?;
        (0..CANDIDATES).find_map(|i| {
            let seq = SeqNo(highest.0.checked_sub((turn + i) % CANDIDATES)?);
            self.slot(seq)?.filter(|entry| entry.sent.seq == seq).map(|entry| entry.sent)
        })
    }

    fn slot(&mut self, seq: SeqNo) -> Option<&mut Option<Entry>> {
        let mask = self.entries.len().checked_sub(1)?;
        self.entries.get_mut(seq.0 as usize & mask)
    }

    fn grow(&mut self) {
        let size = (self.entries.len() * 2).max(Self::FIRST_SIZE);
        let old = std::mem::replace(&mut self.entries, vec![None; size]);
        for entry in old.into_iter().flatten() {
            if let Some(place) = self.slot(entry.sent.seq) {
                *place = Some(entry);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Timestamp = Timestamp::from_millis;
    const RTT: Duration = Duration::from_millis(50);

    fn sent(seq: u64) -> Sent {
        Sent {
            stream: 1,
            source_seq: SeqNo(seq + 7),
            seq: SeqNo(seq),
            timestamp: seq as u32,
            csrc: 3,
            marker: false,
            frame_number: None,
            active_targets: None,
        }
    }

    #[test]
    fn the_newest_packets_are_found_across_a_wrap_and_older_ones_are_not() {
        let mut ring = SentRing::new();
        (65_000..67_000).for_each(|seq| ring.insert(sent(seq)));
        assert_eq!(ring.resend(MS(0), 66_999u64 as u16, RTT), Some(sent(66_999)));
        assert_eq!(ring.resend(MS(0), (67_000 - 1_024) as u16, RTT), Some(sent(67_000 - 1_024)));
        assert_eq!(ring.resend(MS(0), (67_000 - 1_025) as u16, RTT), None);
        assert_eq!(ring.resend(MS(0), 67_000u64 as u16, RTT), None, "never sent");
    }

    #[test]
    fn a_request_repeated_within_a_round_trip_is_answered_once() {
        let mut ring = SentRing::new();
        ring.insert(sent(70_000));
        let wire = SeqNo(70_000).wire();
        assert!(ring.resend(MS(0), wire, RTT).is_some());
        assert!(ring.resend(MS(49), wire, RTT).is_none());
        assert!(ring.resend(MS(50), wire, RTT).is_some());
    }

    #[test]
    fn memory_grows_with_use_and_stops_at_its_bound() {
        let mut ring = SentRing::new();
        assert_eq!(ring.entries.capacity(), 0);
        (0..50).for_each(|seq| ring.insert(sent(seq)));
        assert_eq!(ring.entries.len(), 64);
        (50..10_000).for_each(|seq| ring.insert(sent(seq)));
        assert_eq!(ring.entries.len(), SentRing::MAX_PACKETS);
        let turns: std::collections::HashSet<_> = (0..16).map(|turn| ring.recent(turn).unwrap().seq).collect();
        assert_eq!(turns.len(), 16);
    }
}
