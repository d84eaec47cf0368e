//! Which packets are missing and when to ask for them again (RFC 4585, section 6.2.1).
//!
//! A gap is first given the time that this path's reordering was seen to take, then asked for, then asked again after each
//! round trip. What is too old, was asked for too often or does not fit the bound is forgotten in silence: whether a key
//! frame is needed is decided above, by the frame buffer.

use crate::{time::Timestamp, units::SeqNo};
use rtcp::transport_feedbacks::transport_layer_nack::NackPair;
use std::{collections::BTreeMap, time::Duration};

/// Bounds of the search for missing packets.
#[derive(Clone, Copy, Debug)]
pub struct NackConfig {
    /// Most packets that are missed at a time; the oldest go first.
    pub max_missing: usize,
    /// Most requests for one packet.
    pub max_requests: u32,
    /// Age at which a packet is no longer worth asking for.
    pub max_age: Duration,
    /// Longest wait for a reordered packet before the first request.
    pub max_reorder_wait: Duration,
}

impl NackConfig {
    /// Pictures: a late packet still repairs the ones that refer to it.
    pub const VIDEO: Self = Self {
        max_missing: 500,
        max_requests: 10,
        max_age: Duration::from_millis(1_000),
        max_reorder_wait: Duration::from_millis(40),
    };
    /// Sound: after a few hundred milliseconds it is concealed anyway.
    pub const AUDIO: Self = Self {
        max_missing: 50,
        max_requests: 3,
        max_age: Duration::from_millis(300),
        max_reorder_wait: Duration::from_millis(40),
    };
}

/// Round trip assumed until one was measured.
const DEFAULT_RTT: Duration = Duration::from_millis(100);
/// Shortest time between two requests for a packet: sender and pacer need some of it.
const MIN_REPEAT: Duration = Duration::from_millis(15);
/// Requests are gathered for this long, so that a burst of losses is one message.
const MIN_WAIT: Duration = Duration::from_millis(2);

#[derive(Clone, Copy, Debug)]
struct Missing {
    since: Timestamp,
    due: Timestamp,
    requests: u32,
    last_request: Timestamp,
}

/// The missing packets of one stream.
#[derive(Clone, Debug)]
pub struct NackGenerator {
    config: NackConfig,
    highest: Option<SeqNo>,
    missing: BTreeMap<SeqNo, Missing>,
    reorder_wait: Duration,
    repair_time: Option<Duration>,
}

impl NackGenerator {
    /// Nothing missing yet.
    pub const fn new(config: NackConfig) -> Self {
        Self { config, highest: None, missing: BTreeMap::new(), reorder_wait: MIN_WAIT, repair_time: None }
    }

    /// Takes a packet that was new, and how it came.
    pub fn on_packet(&mut self, now: Timestamp, seq: SeqNo, retransmitted: bool) {
        let Some(highest) = self.highest else {
            self.highest = Some(seq);
            return;
        };
        if seq <= highest {
            if let Some(found) = self.missing.remove(&seq) {
                self.learn(now, found, retransmitted);
            }
            return;
        }
        self.highest = Some(seq);
        let gap = seq.0 - highest.0 - 1;
        let first = seq.0 - gap.min(self.config.max_missing as u64);
        let new = Missing { since: now, due: now + self.reorder_wait, requests: 0, last_request: now };
        self.missing.extend((first..seq.0).map(|s| (SeqNo(s), new)));
        while self.missing.len() > self.config.max_missing {
            self.missing.pop_first();
        }
    }

    /// Forgets everything: the stream went on elsewhere, or a key frame made the past worthless.
    pub fn restart(&mut self, at: SeqNo) {
        self.missing.clear();
        self.highest = Some(at);
    }

    /// The packets to ask for at `now`, oldest first; `rtt` is the measured round trip where there is one.
    pub fn poll(&mut self, now: Timestamp, rtt: Option<Duration>) -> Vec<SeqNo> {
        let config = self.config;
        self.missing.retain(|_, m| m.since + config.max_age > now && (m.requests < config.max_requests || m.due > now));
        let repeat = rtt.or(self.repair_time).unwrap_or(DEFAULT_RTT).mul_f64(1.1).max(MIN_REPEAT);
        let mut wanted = Vec::new();
        for (seq, missing) in &mut self.missing {
            if missing.due <= now {
                missing.requests += 1;
                missing.last_request = now;
                missing.due = now + repeat;
                wanted.push(*seq);
            }
        }
        wanted
    }

    /// When [`NackGenerator::poll`] is next worth calling.
    pub fn next_timeout(&self) -> Option<Timestamp> {
        self.missing.values().map(|m| m.due.min(m.since + self.config.max_age)).min()
    }

    /// How many packets are missing.
    pub fn missing(&self) -> usize {
        self.missing.len()
    }

    fn learn(&mut self, now: Timestamp, found: Missing, retransmitted: bool) {
        if retransmitted {
            if found.requests == 1 {
                let sample = now.since(found.last_request);
                self.repair_time = Some(self.repair_time.map_or(sample, |old| (old * 7 + sample) / 8));
            }
            return;
        }
        // It came by itself: the path reorders. Wait a little longer than it took, and forget that slowly.
        let wait = now.since(found.since).mul_f64(1.25).min(self.config.max_reorder_wait);
        self.reorder_wait = self.reorder_wait.max(wait);
        if wait < self.reorder_wait {
            self.reorder_wait = self.reorder_wait.mul_f64(0.98).max(MIN_WAIT);
        }
    }
}

/// Packs sequence numbers, ascending, into the message's pairs of first number and bit mask.
pub fn pack(seqs: &[SeqNo]) -> Vec<NackPair> {
    let mut pairs: Vec<NackPair> = Vec::new();
    let mut start = None;
    for seq in seqs {
        if let (Some(start), Some(pair)) = (start, pairs.last_mut())
            && (1..=16).contains(&seq.0.saturating_sub(start))
        {
            pair.lost_packets |= 1 << (seq.0 - start - 1);
            continue;
        }
        start = Some(seq.0);
        pairs.push(NackPair { packet_id: seq.wire(), lost_packets: 0 });
    }
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: fn(u64) -> Timestamp = Timestamp::from_millis;

    fn with_gap() -> NackGenerator {
        let mut nack = NackGenerator::new(NackConfig::VIDEO);
        nack.on_packet(MS(0), SeqNo(100), false);
        nack.on_packet(MS(10), SeqNo(103), false);
        nack
    }

    #[test]
    fn a_gap_is_asked_for_and_asked_again_after_a_round_trip() {
        let mut nack = with_gap();
        let rtt = Some(Duration::from_millis(100));
        assert_eq!(nack.poll(MS(10), rtt), []);
        assert_eq!(nack.next_timeout(), Some(MS(12)));
        assert_eq!(nack.poll(MS(12), rtt), [SeqNo(101), SeqNo(102)]);
        assert_eq!(nack.poll(MS(100), rtt), []);
        nack.on_packet(MS(113), SeqNo(101), true);
        assert_eq!(nack.poll(MS(122), rtt), [SeqNo(102)]);
    }

    #[test]
    fn reordering_teaches_patience() {
        let mut nack = NackGenerator::new(NackConfig::VIDEO);
        nack.on_packet(MS(0), SeqNo(1), false);
        nack.on_packet(MS(0), SeqNo(3), false);
        nack.poll(MS(2), None);
        nack.on_packet(MS(20), SeqNo(2), false);
        nack.on_packet(MS(30), SeqNo(5), false);
        assert_eq!(nack.poll(MS(50), None), []);
        nack.on_packet(MS(51), SeqNo(4), false);
        assert_eq!(nack.poll(MS(90), None), []);
        assert_eq!(nack.next_timeout(), None);
    }

    #[test]
    fn it_gives_up_after_the_last_request_and_at_the_age_limit() {
        let mut nack = NackGenerator::new(NackConfig { max_requests: 2, ..NackConfig::VIDEO });
        nack.on_packet(MS(0), SeqNo(1), false);
        nack.on_packet(MS(0), SeqNo(3), false);
        let rtt = Some(Duration::from_millis(20));
        let mut requests = 0;
        while let Some(due) = nack.next_timeout() {
            requests += nack.poll(due, rtt).len();
        }
        assert_eq!(requests, 2);

        let mut nack = with_gap();
        assert_eq!(nack.poll(MS(2_000), rtt), []);
        assert_eq!(nack.missing(), 0);
    }

    #[test]
    fn a_huge_gap_is_bounded_to_its_newest_part() {
        let mut nack = NackGenerator::new(NackConfig::VIDEO);
        nack.on_packet(MS(0), SeqNo(1), false);
        nack.on_packet(MS(0), SeqNo(1_000_000), false);
        assert_eq!(nack.missing(), 500);
        assert_eq!(nack.poll(MS(2), None).first(), Some(&SeqNo(999_500)));
    }

    proptest! {
        #[test]
        fn packed_numbers_come_out_again(start in 1u64 << 16..1 << 20, steps in prop::collection::vec(1u64..40, 0..60)) {
            let seqs: Vec<SeqNo> = steps.iter().scan(start, |s, d| { *s += d; Some(SeqNo(*s)) }).collect();
            let unpacked: Vec<u16> = pack(&seqs).into_iter().flatten().collect();
            prop_assert_eq!(unpacked, seqs.iter().map(|s| s.wire()).collect::<Vec<_>>());
        }
    }
}
