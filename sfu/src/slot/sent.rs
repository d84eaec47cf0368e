//! What a slot's numbers were made from, so that a packet that is asked for again is made again, the same
//! (RFC 4585, section 6.2.1; RFC 4588).
//!
//! Payloads stay in the one history of their source; this only remembers the rewrite, in half a cache line a packet, since
//! every packet to every receiver writes here. Bounded: the newest [`SentRing::MAX_PACKETS`] packets, and no more memory than
//! what is worth repeating needs.

use crate::prefetch;
use halloo_transport::{SeqNo, Timestamp};
use std::time::Duration;

/// A forwarded packet: where it came from and what it was given.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sent {
    /// The stream it is of, as its owner numbers streams.
    pub stream: u8,
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

/// A packet in 32 bytes. Numbers are those of [`Sent`], the slot's without its high bits; times are milliseconds modulo 2^16.
#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    source_seq: u64,
    seq: u32,
    timestamp: u32,
    csrc: u32,
    active_targets: u32,
    frame_number: u16,
    sent_ms: u16,
    resent_ms: u16,
    stream: u8,
    flags: u8,
}

const _: () = assert!(size_of::<Entry>() == 32);

impl Entry {
    const TAKEN: u8 = 1;
    const MARKER: u8 = 2;
    const FRAME_NUMBER: u8 = 4;
    const ACTIVE_TARGETS: u8 = 8;
    const RESENT: u8 = 16;

    fn new(now: Timestamp, sent: &Sent) -> Self {
        let flag = |flag, is_set| if is_set { flag } else { 0 };
        Self {
            source_seq: sent.source_seq.0,
            seq: sent.seq.0 as u32,
            timestamp: sent.timestamp,
            csrc: sent.csrc,
            active_targets: sent.active_targets.unwrap_or_default(),
            frame_number: sent.frame_number.unwrap_or_default(),
            sent_ms: millis(now),
            resent_ms: 0,
            stream: sent.stream,
            flags: Self::TAKEN
                | flag(Self::MARKER, sent.marker)
                | flag(Self::FRAME_NUMBER, sent.frame_number.is_some())
                | flag(Self::ACTIVE_TARGETS, sent.active_targets.is_some()),
        }
    }

    const fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    const fn is(&self, seq: SeqNo) -> bool {
        self.has(Self::TAKEN) && self.seq == seq.0 as u32
    }

    fn sent(&self, seq: SeqNo) -> Sent {
        Sent {
            stream: self.stream,
            source_seq: SeqNo(self.source_seq),
            seq,
            timestamp: self.timestamp,
            csrc: self.csrc,
            marker: self.has(Self::MARKER),
            frame_number: self.has(Self::FRAME_NUMBER).then_some(self.frame_number),
            active_targets: self.has(Self::ACTIVE_TARGETS).then_some(self.active_targets),
        }
    }

    /// Whether it is worth repeating still. One that is older by minutes may seem so; nobody asks for it any more.
    const fn is_young(&self, now: u16) -> bool {
        self.has(Self::TAKEN) && now.wrapping_sub(self.sent_ms) <= SentRing::MAX_AGE_MS
    }
}

const fn millis(at: Timestamp) -> u16 {
    (at.as_micros() / 1_000) as u16
}

/// The newest forwarded packets of a slot.
#[derive(Clone, Debug, Default)]
pub struct SentRing {
    /// By number modulo length, which is zero or a power of two.
    entries: Vec<Entry>,
    highest: Option<SeqNo>,
}

impl SentRing {
    /// Packets remembered at most.
    pub const MAX_PACKETS: usize = 1_024;
    /// Packets are remembered for so long at least, unless there are more than that.
    const MAX_AGE_MS: u16 = 1_500;
    const FIRST_SIZE: usize = 64;

    /// Nothing sent; takes no memory.
    pub const fn new() -> Self {
        Self { entries: Vec::new(), highest: None }
    }

    /// Remembers a packet that leaves now. Grows to what the stream's rate asks for, and stays there.
    pub fn insert(&mut self, now: Timestamp, sent: &Sent) {
        self.highest = Some(self.highest.map_or(sent.seq, |highest| highest.max(sent.seq)));
        let ms = millis(now);
        while self.entries.len() < Self::MAX_PACKETS && self.entry(sent.seq).is_none_or(|entry| entry.is_young(ms)) {
            self.grow();
        }
        if let Some(entry) = self.entry(sent.seq) {
            *entry = Entry::new(now, sent);
        }
    }

    /// Asks for where the next packet is remembered.
    pub(super) fn prefetch(&self) {
        let next = self.highest.map_or(0, |highest| highest.0 as usize + 1);
        let place = self.entries.len().checked_sub(1).and_then(|mask| self.entries.get(next & mask));
        place.into_iter().for_each(prefetch::value_and_next);
    }

    /// The packet with this number on the wire, if it may be sent again: not twice within `interval`.
    pub fn resend(&mut self, now: Timestamp, wire: u16, interval: Duration) -> Option<Sent> {
        let highest = self.highest?;
        let seq = SeqNo(highest.0.checked_sub(u64::from(highest.wire().wrapping_sub(wire)))?);
        let now = millis(now);
        let entry = self.entry(seq).filter(|entry| entry.is(seq))?;
        if entry.has(Entry::RESENT) && u128::from(now.wrapping_sub(entry.resent_ms)) < interval.as_millis() {
            return None;
        }
        (entry.resent_ms, entry.flags) = (now, entry.flags | Entry::RESENT);
        Some(entry.sent(seq))
    }

    /// One of the newest packets, the `turn`th back (modulo a few): its repetition serves as padding.
    pub fn recent(&mut self, turn: u64) -> Option<Sent> {
        const CANDIDATES: u64 = 16;
        let highest = self.highest?;
        (0..CANDIDATES).find_map(|i| {
            let seq = SeqNo(highest.0.checked_sub((turn + i) % CANDIDATES)?);
            self.entry(seq).filter(|entry| entry.is(seq)).map(|entry| entry.sent(seq))
        })
    }

    fn entry(&mut self, seq: SeqNo) -> Option<&mut Entry> {
        let mask = self.entries.len().checked_sub(1)?;
        self.entries.get_mut(seq.0 as usize & mask)
    }

    fn grow(&mut self) {
        let size = (self.entries.len() * 2).max(Self::FIRST_SIZE);
        let old = std::mem::replace(&mut self.entries, vec![Entry::default(); size]);
        for entry in old.into_iter().filter(|entry| entry.has(Entry::TAKEN)) {
            if let Some(place) = self.entry(SeqNo(u64::from(entry.seq))) {
                *place = entry;
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
        (65_000..67_000).for_each(|seq| ring.insert(MS(0), &sent(seq)));
        assert_eq!(ring.resend(MS(0), 66_999u64 as u16, RTT), Some(sent(66_999)));
        assert_eq!(ring.resend(MS(0), (67_000 - 1_024) as u16, RTT), Some(sent(67_000 - 1_024)));
        assert_eq!(ring.resend(MS(0), (67_000 - 1_025) as u16, RTT), None);
        assert_eq!(ring.resend(MS(0), 67_000u64 as u16, RTT), None, "never sent");
    }

    #[test]
    fn a_request_repeated_within_a_round_trip_is_answered_once() {
        let mut ring = SentRing::new();
        ring.insert(MS(0), &sent(70_000));
        let wire = SeqNo(70_000).wire();
        assert!(ring.resend(MS(0), wire, RTT).is_some());
        assert!(ring.resend(MS(49), wire, RTT).is_none());
        assert!(ring.resend(MS(50), wire, RTT).is_some());
    }

    #[test]
    fn all_that_was_sent_is_told_again() {
        let all = Sent { marker: true, frame_number: Some(0), active_targets: Some(0), stream: 3, ..sent(1 << 40) };
        let mut ring = SentRing::new();
        ring.insert(MS(9), &all);
        assert_eq!(ring.resend(MS(10), all.seq.wire(), RTT), Some(all));
        assert_eq!(ring.recent(0), Some(all));
    }

    #[test]
    fn memory_grows_with_the_rate_and_stops_at_its_bound() {
        let mut ring = SentRing::new();
        assert_eq!(ring.entries.capacity(), 0);
        (0..50).for_each(|seq| ring.insert(MS(0), &sent(seq)));
        assert_eq!(ring.entries.len(), 64);
        // 50 a second: 75 are worth remembering.
        (50..10_000).for_each(|seq| ring.insert(MS(20 * seq), &sent(seq)));
        assert_eq!(ring.entries.len(), 128);
        (10_000..30_000).for_each(|seq| ring.insert(MS(200_000 + seq / 10), &sent(seq)));
        assert_eq!(ring.entries.len(), SentRing::MAX_PACKETS);
        let turns: std::collections::HashSet<_> = (0..16).map(|turn| ring.recent(turn).unwrap().seq).collect();
        assert_eq!(turns.len(), 16);
    }
}
