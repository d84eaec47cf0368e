//! Statistics of one received stream: extended sequence numbers, loss, jitter, duplicates (RFC 3550, appendices A.1, A.3, A.8).
//!
//! Every packet is told apart as new, duplicate or implausible; loss is counted on what arrived by itself, so that the peer
//! learns the path's loss and not what retransmission made of it.

use crate::{
    time::Timestamp,
    units::{RtpTime, SeqNo, SeqUnwrapper},
};
use std::time::Duration;

/// A jump ahead beyond this is believed only when a second packet confirms it (RFC 3550, appendix A.1).
const MAX_DROPOUT: u64 = 3_000;
/// How far back a packet is told apart from a duplicate.
const WINDOW: u64 = 4_096;
const WORDS: usize = WINDOW as usize / 64;

/// What to make of a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Arrival {
    /// Not seen before.
    New(SeqNo),
    /// Seen before, or too old to tell.
    Duplicate,
    /// A jump that no packet has confirmed yet: to be dropped.
    Implausible,
    /// The stream went on elsewhere in its sequence numbers: what was missing before stays so.
    Restarted(SeqNo),
}

/// How a packet reached us.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Route {
    /// As the sender first sent it.
    Direct,
    /// As a retransmission.
    Retransmitted,
}

/// One reception report block's contents (RFC 3550, section 6.4.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReceptionBlock {
    /// Fraction lost since the last block, in 1/256.
    pub fraction_lost: u8,
    /// Packets lost in all; negative where duplicates on the path made up for more.
    pub total_lost: i64,
    /// Extended highest sequence number, 32 bits.
    pub highest: u32,
    /// Jitter in ticks.
    pub jitter: u32,
}

/// Reception state of one stream.
#[derive(Clone, Debug)]
pub struct Reception {
    clock_rate: u32,
    seqs: SeqUnwrapper,
    base: u64,
    highest: Option<u64>,
    /// One bit for each of the last [`WINDOW`] numbers.
    seen: [u64; WORDS],
    received: u64,
    lost_before_restart: i64,
    expected_at_report: u64,
    received_at_report: u64,
    jumped_to: Option<u16>,
    transit: Option<f64>,
    jitter_ticks: f64,
}

impl Reception {
    /// A stream with `clock_rate` ticks a second that nothing was received of.
    pub fn new(clock_rate: u32) -> Self {
        Self {
            clock_rate: clock_rate.max(1),
            seqs: SeqUnwrapper::new(),
            base: 0,
            highest: None,
            seen: [0; WORDS],
            received: 0,
            lost_before_restart: 0,
            expected_at_report: 0,
            received_at_report: 0,
            jumped_to: None,
            transit: None,
            jitter_ticks: 0.0,
        }
    }

    /// Takes the sequence number of a packet.
    pub fn on_packet(&mut self, wire: u16, route: Route) -> Arrival {
        let seq = self.seqs.peek(u64::from(wire));
        let Some(highest) = self.highest else {
            if route == Route::Retransmitted {
                return Arrival::Implausible;
            }
            self.base = seq;
            return self.accept(seq, wire, route);
        };
        let far = seq > highest + MAX_DROPOUT || seq + WINDOW <= highest;
        if !far {
            self.jumped_to = None;
            if seq <= highest && self.is_seen(seq) {
                return Arrival::Duplicate;
            }
            return self.accept(seq, wire, route);
        }
        if route == Route::Retransmitted {
            return Arrival::Duplicate;
        }
        if self.jumped_to != Some(wire) {
            self.jumped_to = Some(wire.wrapping_add(1));
            return Arrival::Implausible;
        }
        self.restart(highest, wire)
    }

    /// Takes the time of a packet that was new and came directly (RFC 3550, appendix A.8).
    pub fn on_arrival_time(&mut self, now: Timestamp, rtp_time: RtpTime) {
        let arrival = now.as_nanos() as f64 * f64::from(self.clock_rate) / 1e9;
        let transit = arrival - rtp_time.ticks as f64;
        if let Some(last) = self.transit {
            let d = (transit - last).abs();
            // A pause or a jump of the sender's clock is not jitter.
            if d < f64::from(self.clock_rate) * 5.0 {
                self.jitter_ticks += (d - self.jitter_ticks) / 16.0;
            }
        }
        self.transit = Some(transit);
    }

    /// Whether anything was received.
    pub fn is_active(&self) -> bool {
        self.highest.is_some()
    }

    /// The highest number received.
    pub fn highest(&self) -> Option<SeqNo> {
        self.highest.map(SeqNo)
    }

    /// Interarrival jitter.
    pub fn jitter(&self) -> Duration {
        Duration::from_secs_f64(self.jitter_ticks / f64::from(self.clock_rate))
    }

    /// Packets lost in all.
    pub fn lost(&self) -> i64 {
        self.lost_before_restart + self.expected() as i64 - self.received as i64
    }

    /// The block for a report sent now; the next fraction starts here (RFC 3550, appendix A.3).
    pub fn report(&mut self) -> Option<ReceptionBlock> {
        let highest = self.highest?;
        let expected = self.expected().saturating_sub(self.expected_at_report);
        let received = self.received.saturating_sub(self.received_at_report);
        self.expected_at_report = self.expected();
        self.received_at_report = self.received;
        let lost = expected.saturating_sub(received);
        let fraction = (lost * 256).checked_div(expected).unwrap_or(0).min(255) as u8;
        Some(ReceptionBlock {
            fraction_lost: fraction,
            total_lost: self.lost(),
            // Extended numbers here start one period above zero, the report's count cycles from zero.
            highest: highest.wrapping_sub(1 << 16) as u32,
            jitter: self.jitter_ticks as u32,
        })
    }

    fn expected(&self) -> u64 {
        self.highest.map_or(0, |highest| highest + 1 - self.base)
    }

    fn accept(&mut self, seq: u64, wire: u16, route: Route) -> Arrival {
        self.seqs.unwrap(u64::from(wire));
        match self.highest {
            Some(highest) if seq > highest => {
                for gap in highest + 1..seq {
                    self.clear(gap);
                }
                self.highest = Some(seq);
            }
            Some(_) => self.base = self.base.min(seq),
            None => self.highest = Some(seq),
        }
        self.mark(seq);
        if route == Route::Direct {
            self.received += 1;
        }
        Arrival::New(SeqNo(seq))
    }

    /// Goes on at `wire`, always upwards, so that extended numbers never repeat.
    fn restart(&mut self, highest: u64, wire: u16) -> Arrival {
        self.lost_before_restart = self.lost();
        let seq = highest + u64::from(wire.wrapping_sub(highest as u16));
        self.seqs = SeqUnwrapper::starting_at(seq);
        (self.base, self.highest, self.jumped_to, self.transit) = (seq, Some(seq), None, None);
        (self.received, self.expected_at_report, self.received_at_report) = (1, 0, 0);
        self.seen = [0; WORDS];
        self.mark(seq);
        Arrival::Restarted(SeqNo(seq))
    }

    fn is_seen(&self, seq: u64) -> bool {
        self.seen[Self::word(seq)] & (1 << (seq % 64)) != 0
    }

    fn mark(&mut self, seq: u64) {
        self.seen[Self::word(seq)] |= 1 << (seq % 64);
    }

    fn clear(&mut self, seq: u64) {
        self.seen[Self::word(seq)] &= !(1 << (seq % 64));
    }

    const fn word(seq: u64) -> usize {
        (seq % WINDOW / 64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn direct(reception: &mut Reception, wire: u16) -> Arrival {
        reception.on_packet(wire, Route::Direct)
    }

    #[test]
    fn loss_is_counted_across_a_wrap() {
        let mut reception = Reception::new(90_000);
        for wire in [65_533u16, 65_534, 0, 1, 3] {
            assert!(matches!(direct(&mut reception, wire), Arrival::New(_)));
        }
        let block = reception.report().unwrap();
        assert_eq!(block.total_lost, 2);
        assert_eq!(block.fraction_lost, (2 * 256 / 7) as u8);
        assert_eq!(block.highest, 0x1_0003);
        assert_eq!(reception.report().unwrap().fraction_lost, 0);
    }

    #[test]
    fn a_late_packet_takes_its_loss_back_and_a_repeated_one_is_a_duplicate() {
        let mut reception = Reception::new(90_000);
        for wire in [10, 12] {
            direct(&mut reception, wire);
        }
        assert_eq!(reception.lost(), 1);
        assert!(matches!(direct(&mut reception, 11), Arrival::New(_)));
        assert_eq!(reception.lost(), 0);
        assert_eq!(direct(&mut reception, 11), Arrival::Duplicate);
        assert_eq!(direct(&mut reception, 12), Arrival::Duplicate);
        assert_eq!(reception.lost(), 0);
    }

    #[test]
    fn a_retransmission_does_not_hide_the_path_loss() {
        let mut reception = Reception::new(90_000);
        for wire in [10, 12] {
            direct(&mut reception, wire);
        }
        assert!(matches!(reception.on_packet(11, Route::Retransmitted), Arrival::New(_)));
        assert_eq!(reception.lost(), 1);
        assert_eq!(reception.on_packet(11, Route::Retransmitted), Arrival::Duplicate);
    }

    #[test]
    fn a_jump_is_believed_when_a_second_packet_confirms_it() {
        let mut reception = Reception::new(90_000);
        direct(&mut reception, 100);
        assert_eq!(direct(&mut reception, 30_000), Arrival::Implausible);
        assert!(matches!(direct(&mut reception, 101), Arrival::New(_)));
        assert_eq!(direct(&mut reception, 20), Arrival::New(SeqNo(65_536 + 20)), "still in the window");
        assert_eq!(direct(&mut reception, 40_000), Arrival::Implausible);
        assert_eq!(direct(&mut reception, 40_001), Arrival::Restarted(SeqNo(65_536 + 40_001)));
        assert!(matches!(direct(&mut reception, 40_002), Arrival::New(_)));
    }

    #[test]
    fn jitter_follows_the_spread_of_transit_times() {
        let mut reception = Reception::new(48_000);
        for i in 0..200u64 {
            let wobble = if i % 2 == 0 { 0 } else { 10 };
            reception.on_arrival_time(Timestamp::from_millis(20 * i + wobble), RtpTime::new(960 * i, 48_000));
        }
        let jitter = reception.jitter().as_secs_f64() * 1e3;
        assert!((9.0..=10.1).contains(&jitter), "{jitter}");
    }

    proptest! {
        #[test]
        fn every_number_is_delivered_once_whatever_the_order(first: u16, swaps in prop::collection::vec(0usize..400, 0..200)) {
            let mut order: Vec<u16> = (0..400u16).map(|i| first.wrapping_add(i)).collect();
            for i in swaps {
                let other = (i + 7).min(399);
                order.swap(i, other);
            }
            let mut reception = Reception::new(90_000);
            let mut got = std::collections::HashSet::new();
            for wire in order.iter().chain(order.iter()) {
                if let Arrival::New(seq) = direct(&mut reception, *wire) {
                    prop_assert!(got.insert(seq));
                }
            }
            prop_assert_eq!(got.len(), 400);
            prop_assert_eq!(reception.lost(), 0);
        }
    }
}
