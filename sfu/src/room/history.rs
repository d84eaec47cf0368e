//! The newest packets of one stream, kept once for all its subscribers: what retransmissions, paced packets and a late key
//! frame are made from.
//!
//! Bytes lie in one ring that overwrites its oldest; an entry whose bytes were overwritten is gone. So storing moves bytes
//! once, never searches, and allocates only while the ring grows to what the stream's rate and the age bound ask for.

use crate::{av1::Descriptor, rtp::AudioLevel};
use halloo_transport::{SeqNo, Timestamp};
use std::time::Duration;

/// Bounds of a history.
#[derive(Clone, Copy, Debug)]
pub(super) struct HistoryBounds {
    /// Oldest packet that is worth keeping.
    pub(super) max_age: Duration,
    /// Most bytes, a power of two.
    pub(super) max_bytes: usize,
    /// Most packets, a power of two.
    pub(super) max_packets: usize,
}

impl HistoryBounds {
    pub(super) const VIDEO: Self =
        Self { max_age: Duration::from_millis(1_500), max_bytes: 1 << 20, max_packets: 1_024 };
    pub(super) const AUDIO: Self = Self { max_age: Duration::from_millis(500), max_bytes: 1 << 15, max_packets: 64 };
    const FIRST_BYTES: usize = 1 << 12;
    const FIRST_PACKETS: usize = 16;
}

/// What a packet carries beside its bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct PacketFacts {
    pub(super) seq: SeqNo,
    pub(super) timestamp: u32,
    pub(super) marker: bool,
    pub(super) starts_key_frame: bool,
    pub(super) audio_level: Option<AudioLevel>,
    pub(super) video_orientation: Option<u8>,
    pub(super) descriptor: Option<Descriptor>,
}

/// A stored packet.
#[derive(Clone, Copy, Debug)]
pub(super) struct StoredPacket<'a> {
    pub(super) facts: PacketFacts,
    /// The descriptor's bytes as they came; empty where there is none.
    pub(super) descriptor: &'a [u8],
    pub(super) payload: &'a [u8],
}

impl StoredPacket<'_> {
    /// Whether it has a descriptor that could not be read.
    pub(super) const fn is_unread(&self) -> bool {
        self.facts.descriptor.is_none() && !self.descriptor.is_empty()
    }
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    facts: PacketFacts,
    at: Timestamp,
    /// Bytes written to the ring before this packet's.
    position: u64,
    descriptor_len: u16,
    payload_len: u16,
}

impl Entry {
    const fn len(&self) -> usize {
        self.descriptor_len as usize + self.payload_len as usize
    }
}

/// The packets.
#[derive(Debug)]
pub(super) struct PacketHistory {
    bounds: HistoryBounds,
    bytes: Vec<u8>,
    written: u64,
    /// Up to here writing overwrites nothing young.
    safe_until: u64,
    /// By number modulo length.
    entries: Vec<Option<Entry>>,
    highest: Option<SeqNo>,
}

impl PacketHistory {
    /// Nothing stored; takes no memory.
    pub(super) const fn new(bounds: HistoryBounds) -> Self {
        Self { bounds, bytes: Vec::new(), written: 0, safe_until: 0, entries: Vec::new(), highest: None }
    }

    /// Stores a packet; one larger than 64 kB, or than the bound, is not stored.
    pub(super) fn insert(&mut self, now: Timestamp, facts: PacketFacts, descriptor: &[u8], payload: &[u8]) {
        let (Ok(descriptor_len), Ok(payload_len)) = (u16::try_from(descriptor.len()), u16::try_from(payload.len()))
        else {
            return;
        };
        let len = descriptor.len() + payload.len();
        self.make_room(now, facts.seq, len);
        let Some(position) = self.reserve(len) else { return };
        let start = self.offset(position);
        let Some(room) = self.bytes.get_mut(start..start + len) else { return };
        let (first, second) = room.split_at_mut(descriptor.len());
        first.copy_from_slice(descriptor);
        second.copy_from_slice(payload);
        self.highest = Some(self.highest.map_or(facts.seq, |highest| highest.max(facts.seq)));
        if let Some(place) = self.place(facts.seq).and_then(|i| self.entries.get_mut(i)) {
            *place = Some(Entry { facts, at: now, position, descriptor_len, payload_len });
        }
    }

    /// The packet with this number.
    pub(super) fn get(&self, now: Timestamp, seq: SeqNo) -> Option<StoredPacket<'_>> {
        let entry = self.entries.get(self.place(seq)?)?.as_ref().filter(|entry| entry.facts.seq == seq)?;
        if !self.holds(entry) || now.since(entry.at) > self.bounds.max_age {
            return None;
        }
        let start = self.offset(entry.position);
        let bytes = self.bytes.get(start..start + entry.len())?;
        let (descriptor, payload) = bytes.split_at_checked(usize::from(entry.descriptor_len))?;
        Some(StoredPacket { facts: entry.facts, descriptor, payload })
    }

    /// Takes the descriptor of a packet that could not be read before.
    pub(super) fn set_descriptor(&mut self, seq: SeqNo, descriptor: Descriptor) {
        let entry = self.place(seq).and_then(|i| self.entries.get_mut(i)?.as_mut());
        if let Some(entry) = entry.filter(|entry| entry.facts.seq == seq) {
            entry.facts.descriptor = Some(descriptor);
        }
    }

    /// The highest number stored.
    pub(super) const fn highest(&self) -> Option<SeqNo> {
        self.highest
    }

    /// Forgets everything, and gives its memory back.
    pub(super) fn clear(&mut self) {
        *self = Self::new(self.bounds);
    }

    /// Bytes of memory that it holds.
    pub(super) fn memory(&self) -> usize {
        self.bytes.capacity() + self.entries.capacity() * size_of::<Option<Entry>>()
    }

    fn place(&self, seq: SeqNo) -> Option<usize> {
        Some(seq.0 as usize & self.entries.len().checked_sub(1)?)
    }

    fn offset(&self, position: u64) -> usize {
        (position % self.bytes.len().max(1) as u64) as usize
    }

    fn holds(&self, entry: &Entry) -> bool {
        entry.position + self.bytes.len() as u64 >= self.written
    }

    /// Grows where what would be overwritten is still young.
    fn make_room(&mut self, now: Timestamp, seq: SeqNo, len: usize) {
        let max_age = self.bounds.max_age;
        let young = |entry: &Entry| now.since(entry.at) <= max_age;
        let taken = |history: &Self| {
            let replaced = history.place(seq).and_then(|i| history.entries.get(i)?.as_ref());
            history.entries.is_empty() || replaced.is_some_and(young)
        };
        while self.entries.len() < self.bounds.max_packets && taken(self) {
            self.grow_entries();
        }
        let end = self.end_after(len);
        if end > self.safe_until && self.bytes.len() < self.bounds.max_bytes {
            let held = |entry: &&Entry| self.holds(entry) && young(entry);
            let oldest = self.entries.iter().flatten().filter(held).map(|entry| entry.position).min();
            self.safe_until = oldest.unwrap_or(self.written) + self.bytes.len() as u64;
            if end > self.safe_until || len > self.bytes.len() {
                self.grow_bytes(len);
            }
        }
    }

    /// How much will have been written once `len` bytes lie in one piece.
    fn end_after(&self, len: usize) -> u64 {
        let offset = self.offset(self.written);
        let skipped = if offset + len > self.bytes.len() { self.bytes.len() - offset } else { 0 };
        self.written + (skipped + len) as u64
    }

    fn grow_entries(&mut self) {
        let size = (self.entries.len() * 2).max(HistoryBounds::FIRST_PACKETS).min(self.bounds.max_packets);
        let old = std::mem::replace(&mut self.entries, vec![None; size]);
        for entry in old.into_iter().flatten() {
            if let Some(place) = self.place(entry.facts.seq).and_then(|i| self.entries.get_mut(i)) {
                *place = Some(entry);
            }
        }
    }

    /// Doubles the ring, at least to hold `len`, and lays what it holds at its beginning.
    fn grow_bytes(&mut self, len: usize) {
        let mut size = self.bytes.len().max(HistoryBounds::FIRST_BYTES / 2) * 2;
        while size < len && size < self.bounds.max_bytes {
            size *= 2;
        }
        let old = std::mem::replace(&mut self.bytes, vec![0; size.min(self.bounds.max_bytes)]);
        let (old_len, limit) = (old.len() as u64, self.written);
        let mut held: Vec<&mut Option<Entry>> = self.entries.iter_mut().filter(|e| e.is_some()).collect();
        held.sort_by_key(|entry| entry.map(|e| e.position));
        let mut at = 0;
        for place in held {
            let Some(entry) = place else { continue };
            let from = (entry.position % old_len.max(1)) as usize;
            let bytes = old.get(from..from + entry.len()).filter(|_| entry.position + old_len >= limit);
            let room = self.bytes.get_mut(at..at + entry.len());
            if let (Some(bytes), Some(room)) = (bytes, room) {
                room.copy_from_slice(bytes);
                entry.position = at as u64;
                at += bytes.len();
            } else {
                *place = None;
            }
        }
        (self.written, self.safe_until) = (at as u64, 0);
    }

    /// A place for `len` bytes in one piece.
    fn reserve(&mut self, len: usize) -> Option<u64> {
        if len > self.bytes.len() {
            return None;
        }
        self.written = self.end_after(len);
        Some(self.written - len as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: fn(u64) -> Timestamp = Timestamp::from_millis;

    fn facts(seq: u64) -> PacketFacts {
        PacketFacts {
            seq: SeqNo(seq),
            timestamp: seq as u32,
            marker: false,
            starts_key_frame: false,
            audio_level: None,
            video_orientation: None,
            descriptor: None,
        }
    }

    fn payload(seq: u64, len: usize) -> Vec<u8> {
        (0..len).map(|i| (seq as usize * 31 + i) as u8).collect()
    }

    #[test]
    fn what_is_young_is_kept_and_memory_follows_the_rate() {
        let mut history = PacketHistory::new(HistoryBounds::VIDEO);
        assert_eq!(history.memory(), 0);
        // 100 packets a second of 1,000 bytes: 150 kB in 1.5 s.
        for i in 0..2_000u64 {
            history.insert(MS(10 * i), facts(i), b"dd", &payload(i, 1_000));
            for back in [0, 1, 70, 140] {
                let Some(seq) = i.checked_sub(back) else { continue };
                let found = history.get(MS(10 * i), SeqNo(seq)).unwrap_or_else(|| panic!("{seq} at {i}"));
                assert_eq!((found.descriptor, found.payload), (&b"dd"[..], &payload(seq, 1_000)[..]));
            }
        }
        assert!(history.get(MS(20_000), SeqNo(1_800)).is_none(), "too old");
        assert!(history.memory() < 350_000, "{}", history.memory());
    }

    #[test]
    fn a_flood_is_bounded_by_bytes_and_packets() {
        let mut history = PacketHistory::new(HistoryBounds::AUDIO);
        for i in 0..10_000u64 {
            history.insert(MS(0), facts(i), b"", &payload(i, 1_200));
        }
        assert!(history.memory() < (1 << 15) + 64 * 200);
        assert!(history.get(MS(0), SeqNo(9_999)).is_some());
        assert!(history.get(MS(0), SeqNo(9_900)).is_none());
        history.insert(MS(0), facts(10_000), b"", &vec![0; 70_000]);
        assert!(history.get(MS(0), SeqNo(10_000)).is_none());
        history.clear();
        assert_eq!(history.memory(), 0);
    }

    #[test]
    fn the_first_packet_survives_a_later_one_far_ahead() {
        let mut history = PacketHistory::new(HistoryBounds::VIDEO);
        for seq in [64, 96, 160, 65] {
            history.insert(MS(0), facts(seq), b"", &payload(seq, 10));
        }
        assert!([64, 65, 96, 160].iter().all(|seq| history.get(MS(1), SeqNo(*seq)).is_some()));
    }

    proptest! {
        #[test]
        fn what_is_found_is_what_was_stored(packets in prop::collection::vec((0u64..300, 0usize..1_500, 0u64..30), 1..400)) {
            let bounds = HistoryBounds { max_age: Duration::from_millis(500), max_bytes: 1 << 14, max_packets: 64 };
            let mut history = PacketHistory::new(bounds);
            let mut stored = std::collections::HashMap::new();
            let mut now = 0;
            for (seq, len, pause) in packets {
                now += pause;
                history.insert(MS(now), facts(seq), &[7; 3], &payload(seq, len));
                stored.insert(seq, len);
                prop_assert_eq!(history.get(MS(now), SeqNo(seq)).map(|p| p.payload.to_vec()), Some(payload(seq, len)));
                for (seq, len) in &stored {
                    if let Some(found) = history.get(MS(now), SeqNo(*seq)) {
                        prop_assert_eq!(found.payload, &payload(*seq, *len)[..]);
                        prop_assert_eq!(found.descriptor, &[7u8; 3][..]);
                    }
                }
            }
        }
    }
}
