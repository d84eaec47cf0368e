//! What a stream has sent lately, so that it can be sent again (RFC 4585, RFC 4588).
//!
//! Bounded by time and by bytes, the oldest go first. A packet is not given out again while its last copy may still be on
//! its way: a request repeated within a round trip is answered once.

use crate::{session::AudioLevel, time::Timestamp, units::SeqNo};
use bytes::Bytes;
use std::{collections::VecDeque, time::Duration};

/// A packet as it was sent, without what is written anew each time (SSRC, transport-wide number, send time).
#[derive(Clone, Debug)]
pub struct SentMedia {
    /// Its sequence number.
    pub seq: SeqNo,
    /// RTP timestamp on the wire.
    pub timestamp: u32,
    /// The marker bit.
    pub marker: bool,
    /// The payload.
    pub payload: Bytes,
    /// RFC 6464 level.
    pub audio_level: Option<AudioLevel>,
    /// AV1 dependency descriptor.
    pub dependency_descriptor: Option<Bytes>,
}

/// Bounds of a [`History`].
#[derive(Clone, Copy, Debug)]
pub struct HistoryConfig {
    /// Oldest packet that is kept.
    pub max_age: Duration,
    /// Most payload bytes that are kept.
    pub max_bytes: usize,
}

impl HistoryConfig {
    /// For pictures.
    pub const VIDEO: Self = Self { max_age: Duration::from_millis(2_000), max_bytes: 2_000_000 };
    /// For sound.
    pub const AUDIO: Self = Self { max_age: Duration::from_millis(500), max_bytes: 64_000 };
}

#[derive(Clone, Debug)]
struct Entry {
    media: SentMedia,
    sent_at: Timestamp,
    resent_at: Option<Timestamp>,
}

/// The packets one stream sent lately, in order.
#[derive(Clone, Debug)]
pub struct History {
    config: HistoryConfig,
    entries: VecDeque<Entry>,
    bytes: usize,
    padding_cursor: u64,
}

impl History {
    /// Nothing sent yet.
    pub const fn new(config: HistoryConfig) -> Self {
        Self { config, entries: VecDeque::new(), bytes: 0, padding_cursor: 0 }
    }

    /// Keeps a packet that goes out at `now`.
    pub fn insert(&mut self, now: Timestamp, media: SentMedia) {
        if self.entries.back().is_some_and(|last| media.seq <= last.media.seq) {
            return;
        }
        self.bytes += media.payload.len();
        self.entries.push_back(Entry { media, sent_at: now, resent_at: None });
        self.expire(now);
    }

    /// The packet with this number on the wire, if it may be sent again at `now`; `rtt` limits how soon once more.
    pub fn resend(&mut self, now: Timestamp, wire: u16, rtt: Duration) -> Option<SentMedia> {
        self.expire(now);
        let entry = self.find(wire)?;
        // A little under the round trip: the request for the next copy must not fall to jitter.
        if entry.resent_at.is_some_and(|at| now.since(at) < rtt.mul_f64(0.8)) {
            return None;
        }
        entry.resent_at = Some(now);
        Some(entry.media.clone())
    }

    /// Forgets what was sent before `first`: a key frame starts there, nothing earlier is needed once that arrives.
    pub fn forget_before(&mut self, first: SeqNo) {
        while let Some(entry) = self.entries.front().filter(|e| e.media.seq < first) {
            self.bytes = self.bytes.saturating_sub(entry.media.payload.len());
            self.entries.pop_front();
        }
    }

    /// A packet of about `size` bytes whose repetition serves as padding: the newest ones in turn, since those have the best
    /// chance to repair something.
    pub fn padding(&mut self, size: usize) -> Option<SentMedia> {
        const CANDIDATES: usize = 16;
        let newest = self.entries.len().min(CANDIDATES);
        if newest == 0 {
            return None;
        }
        self.padding_cursor = self.padding_cursor.wrapping_add(1);
        let turn = (self.padding_cursor % newest as u64) as usize;
        let candidates = self.entries.iter().rev().take(newest);
        // In turn among those that are at least half the size; else whatever is largest.
        let fitting = candidates.clone().cycle().skip(turn).take(newest).find(|e| e.media.payload.len() * 2 >= size);
        fitting.or_else(|| candidates.max_by_key(|e| e.media.payload.len())).map(|e| e.media.clone())
    }

    /// Bytes that are kept.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    fn find(&mut self, wire: u16) -> Option<&mut Entry> {
        let last = self.entries.back()?.media.seq;
        let back = u64::from(last.wire().wrapping_sub(wire));
        let seq = SeqNo(last.0.checked_sub(back)?);
        let at = self.entries.binary_search_by_key(&seq, |e| e.media.seq).ok()?;
        self.entries.get_mut(at)
    }

    fn expire(&mut self, now: Timestamp) {
        while let Some(first) = self.entries.front() {
            let old = now.since(first.sent_at) > self.config.max_age;
            if !old && self.bytes <= self.config.max_bytes {
                break;
            }
            self.bytes = self.bytes.saturating_sub(first.media.payload.len());
            self.entries.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(seq: u64, size: usize) -> SentMedia {
        SentMedia {
            seq: SeqNo(seq),
            timestamp: seq as u32 * 3_000,
            marker: false,
            payload: Bytes::from(vec![seq as u8; size]),
            audio_level: None,
            dependency_descriptor: None,
        }
    }

    const MS: fn(u64) -> Timestamp = Timestamp::from_millis;
    const RTT: Duration = Duration::from_millis(50);

    #[test]
    fn a_packet_is_found_by_its_wire_number_across_a_wrap() {
        let mut history = History::new(HistoryConfig::VIDEO);
        for seq in 65_534..65_540 {
            history.insert(MS(0), packet(seq, 100));
        }
        assert_eq!(history.resend(MS(1), 65_535, RTT).unwrap().seq, SeqNo(65_535));
        assert_eq!(history.resend(MS(1), 2, RTT).unwrap().seq, SeqNo(65_538));
        assert!(history.resend(MS(1), 4, RTT).is_none(), "never sent");
        assert!(history.resend(MS(1), 65_000, RTT).is_none(), "never sent");
    }

    #[test]
    fn a_request_repeated_within_a_round_trip_is_answered_once() {
        let mut history = History::new(HistoryConfig::VIDEO);
        history.insert(MS(0), packet(70_000, 100));
        let wire = SeqNo(70_000).wire();
        assert!(history.resend(MS(10), wire, RTT).is_some());
        assert!(history.resend(MS(30), wire, RTT).is_none());
        assert!(history.resend(MS(60), wire, RTT).is_some());
    }

    #[test]
    fn age_and_bytes_are_bounded() {
        let mut history = History::new(HistoryConfig { max_age: Duration::from_millis(100), max_bytes: 1_000 });
        for seq in 0..20 {
            history.insert(MS(seq), packet(100 + seq, 100));
        }
        assert_eq!(history.bytes(), 1_000);
        assert!(history.resend(MS(20), 105, RTT).is_none());
        assert!(history.resend(MS(20), 119, RTT).is_some());
        assert!(history.resend(MS(130), 119, RTT).is_none());
        assert_eq!(history.bytes(), 0);
    }

    #[test]
    fn padding_takes_recent_packets_in_turn_and_prefers_the_size_asked_for() {
        let mut history = History::new(HistoryConfig::VIDEO);
        assert!(history.padding(200).is_none());
        history.insert(MS(0), packet(1, 50));
        history.insert(MS(0), packet(2, 900));
        history.insert(MS(0), packet(3, 1_000));
        let seqs: std::collections::HashSet<u64> = (0..6).map(|_| history.padding(1_000).unwrap().seq.0).collect();
        assert_eq!(seqs, [2, 3].into());
    }
}
