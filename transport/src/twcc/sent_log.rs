//! The sender's side: what went out under which transport-wide number, and what feedback says became of it.
//!
//! A packet reported missing counts as lost only once one sent [`REORDER_WINDOW`] later has arrived: until then it may just
//! be late. Each packet's fate is told once, except that a lost one may still turn out to have arrived.

use super::encoding::{Arrivals, DELTA_MICROS};
use crate::{time::Timestamp, units::SeqNo};
use std::{collections::VecDeque, time::Duration};

/// How much later sent a packet must be to prove a missing one lost.
const REORDER_WINDOW: Duration = Duration::from_millis(80);
/// Bounds of the log.
const MAX_PACKETS: usize = 16_384;
const MAX_AGE: Duration = Duration::from_secs(10);
/// A packet whose fate is final is kept for so long behind the newest that arrived, in case it arrived after all.
const FINAL_AGE: Duration = Duration::from_secs(1);

/// Names a probe cluster.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ProbeId(pub u32);

/// Why a packet was sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PacketKind {
    /// Media for the first time.
    Media,
    /// Media once more, because the peer asked for it.
    Retransmission,
    /// Nothing new: it only fills the path.
    Padding,
}

/// A packet that went out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SentPacket {
    /// When it left.
    pub sent_at: Timestamp,
    /// Its size: RTP header, extensions and payload.
    pub size: usize,
    /// Why it was sent.
    pub kind: PacketKind,
    /// The probe it was part of.
    pub probe: Option<ProbeId>,
}

/// What became of a packet.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct PacketResult {
    /// Its transport-wide number.
    pub seq: SeqNo,
    /// The packet.
    pub packet: SentPacket,
    /// When it arrived, in microseconds of the peer's clock (any origin); `None` when it is lost.
    pub arrived_micros: Option<i64>,
}

/// A packet in 16 bytes: there is one for every packet to every receiver of the last second, and feedback reads them all.
#[derive(Clone, Copy, Debug)]
struct Entry {
    sent_at: Timestamp,
    /// One more than its number, 0 for none.
    probe: u32,
    size: u16,
    kind: PacketKind,
    fate: Fate,
}

const _: () = assert!(size_of::<Entry>() == 16);

impl Entry {
    fn new(packet: &SentPacket) -> Self {
        Self {
            sent_at: packet.sent_at,
            probe: packet.probe.map_or(0, |probe| probe.0.saturating_add(1)),
            size: u16::try_from(packet.size).unwrap_or(u16::MAX),
            kind: packet.kind,
            fate: Fate::Unknown,
        }
    }

    fn packet(&self) -> SentPacket {
        SentPacket {
            sent_at: self.sent_at,
            size: usize::from(self.size),
            kind: self.kind,
            probe: self.probe.checked_sub(1).map(ProbeId),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fate {
    Unknown,
    Missing,
    Lost,
    Arrived,
}

/// Packets that wait for feedback.
#[derive(Clone, Debug)]
pub struct SentLog {
    next: SeqNo,
    packets: VecDeque<Entry>,
    last_tick: Option<i64>,
    newest_arrived_sent_at: Timestamp,
    /// Everything before this number has a final fate.
    settled: u64,
}

impl SentLog {
    /// Numbers start at `first`.
    pub fn new(first: u16) -> Self {
        let next = SeqNo((1 << 16) + u64::from(first));
        Self {
            next,
            packets: VecDeque::new(),
            last_tick: None,
            newest_arrived_sent_at: Timestamp::ZERO,
            settled: next.0,
        }
    }

    /// The number that the next packet gets.
    pub const fn next_seq(&self) -> SeqNo {
        self.next
    }

    /// Where the packet that left last is kept: the next one comes behind it.
    pub fn newest(&self) -> Option<&impl Sized> {
        self.packets.back()
    }

    /// Takes a packet that leaves now, under [`SentLog::next_seq`].
    #[inline]
    pub fn on_sent(&mut self, packet: SentPacket) {
        self.packets.push_back(Entry::new(&packet));
        self.next = self.next.next();
        while self.packets.len() > MAX_PACKETS
            || self.packets.front().is_some_and(|first| packet.sent_at.since(first.sent_at) > MAX_AGE)
        {
            self.packets.pop_front();
        }
    }

    /// Takes a feedback message; tells the fates that it settled, in the order of sending.
    pub fn on_feedback(&mut self, arrivals: &Arrivals) -> Vec<PacketResult> {
        let mut results = Vec::new();
        self.settle_by(arrivals, &mut results);
        results
    }

    /// The same into `results`, whose memory is used again.
    pub fn settle_by(&mut self, arrivals: &Arrivals, results: &mut Vec<PacketResult>) {
        results.clear();
        let first = self.first();
        for (i, tick) in arrivals.ticks.iter().enumerate() {
            let wire = arrivals.base.wrapping_add(i as u16);
            let back = u64::from(self.next.wire().wrapping_sub(wire));
            let tick = tick.map(|t| self.unwrap_tick(t));
            let Some(seq) = self.next.0.checked_sub(back) else { continue };
            let Some(index) = seq.checked_sub(first) else { continue };
            let Some(entry) = self.packets.get_mut(index as usize) else { continue };
            match (tick, entry.fate) {
                (None, Fate::Unknown) => entry.fate = Fate::Missing,
                (Some(tick), Fate::Unknown | Fate::Missing | Fate::Lost) => {
                    entry.fate = Fate::Arrived;
                    self.newest_arrived_sent_at = self.newest_arrived_sent_at.max(entry.sent_at);
                    let arrived_micros = Some(tick * DELTA_MICROS);
                    results.push(PacketResult { seq: SeqNo(seq), packet: entry.packet(), arrived_micros });
                }
                _ => {}
            }
        }
        self.settle(results);
        self.forget();
        // Nearly always so already: no packet is told of twice, so their order is one.
        if !results.is_sorted_by_key(|r| r.seq) {
            results.sort_unstable_by_key(|r| r.seq);
        }
    }

    /// When the newest packet that is known to have arrived was sent.
    pub const fn newest_arrived_sent_at(&self) -> Timestamp {
        self.newest_arrived_sent_at
    }

    /// Declares lost what is missing and overtaken by far.
    fn settle(&mut self, results: &mut Vec<PacketResult>) {
        let first = self.first();
        let mut index = self.settled.saturating_sub(first) as usize;
        let mut all_final = true;
        while let Some(entry) = self.packets.get_mut(index) {
            if entry.sent_at + REORDER_WINDOW > self.newest_arrived_sent_at {
                break;
            }
            match entry.fate {
                Fate::Missing => {
                    entry.fate = Fate::Lost;
                    let seq = SeqNo(first + index as u64);
                    results.push(PacketResult { seq, packet: entry.packet(), arrived_micros: None });
                }
                // Its feedback was lost or is still to come: it holds the settled mark back, within the log's bounds.
                Fate::Unknown => all_final = false,
                Fate::Lost | Fate::Arrived => {}
            }
            index += 1;
            if all_final {
                self.settled = first + index as u64;
            }
        }
    }

    /// Forgets what no feedback will change any more: what is kept is written and read for every packet.
    fn forget(&mut self) {
        while self.first() < self.settled
            && self.packets.front().is_some_and(|first| first.sent_at + FINAL_AGE < self.newest_arrived_sent_at)
        {
            self.packets.pop_front();
        }
    }

    fn first(&self) -> u64 {
        self.next.0 - self.packets.len() as u64
    }

    /// The reference time wraps every 2^32 ticks: the nearest one to the last is meant.
    fn unwrap_tick(&mut self, tick: i64) -> i64 {
        let last = self.last_tick.unwrap_or(tick);
        let unwrapped = last + i64::from(tick.wrapping_sub(last) as i32);
        self.last_tick = Some(unwrapped);
        unwrapped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(ms: u64) -> SentPacket {
        SentPacket { sent_at: Timestamp::from_millis(ms), size: 1_000, kind: PacketKind::Media, probe: None }
    }

    fn log_of(count: u64) -> SentLog {
        let mut log = SentLog::new(65_530);
        for i in 0..count {
            log.on_sent(packet(10 * i));
        }
        log
    }

    fn fates(results: &[PacketResult]) -> Vec<(u64, bool)> {
        results.iter().map(|r| (r.seq.0 - 65_536 - 65_530, r.arrived_micros.is_some())).collect()
    }

    #[test]
    fn a_missing_packet_is_lost_once_a_much_later_one_arrived() {
        let mut log = log_of(20);
        let early = Arrivals { base: 65_530, ticks: vec![Some(0), None, Some(8), Some(12)] };
        assert_eq!(fates(&log.on_feedback(&early)), [(0, true), (2, true), (3, true)]);
        let late = Arrivals { base: 65_534, ticks: vec![Some(100); 8] };
        let results = log.on_feedback(&late);
        assert_eq!(fates(&results)[0], (1, false));
        assert_eq!(results.len(), 9);
        assert!(log.on_feedback(&late).is_empty(), "a fate is told once");
    }

    #[test]
    fn a_late_packet_was_never_lost() {
        let mut log = log_of(20);
        log.on_feedback(&Arrivals { base: 65_530, ticks: vec![Some(0), None, Some(8)] });
        let again = Arrivals { base: 65_531, ticks: vec![Some(20), Some(8), Some(30), Some(40), Some(50)] };
        assert_eq!(fates(&log.on_feedback(&again)), [(1, true), (3, true), (4, true), (5, true)]);
        let rest = Arrivals { base: 65_535, ticks: vec![Some(100); 12] };
        assert!(fates(&log.on_feedback(&rest)).iter().all(|(_, arrived)| *arrived));
    }

    #[test]
    fn feedback_about_numbers_never_sent_is_ignored() {
        let mut log = log_of(3);
        assert!(log.on_feedback(&Arrivals { base: 100, ticks: vec![Some(1); 50] }).is_empty());
        assert!(log.on_feedback(&Arrivals { base: 65_533, ticks: vec![Some(1); 50] }).is_empty());
    }

    #[test]
    fn arrival_times_go_on_across_the_wrap_of_the_reference_time() {
        let mut log = log_of(4);
        let near_wrap = (1 << 32) - 8;
        let a = log.on_feedback(&Arrivals { base: 65_530, ticks: vec![Some(near_wrap)] });
        let b = log.on_feedback(&Arrivals { base: 65_531, ticks: vec![Some(8)] });
        assert_eq!(b[0].arrived_micros.unwrap() - a[0].arrived_micros.unwrap(), 16 * 250);
    }

    #[test]
    fn a_packet_whose_fate_is_final_is_forgotten_and_one_that_waits_is_not() {
        let mut log = log_of(500);
        let told =
            |from: u16, count: usize| Arrivals { base: 65_530u16.wrapping_add(from), ticks: vec![Some(0); count] };
        log.on_feedback(&told(0, 100));
        log.on_feedback(&told(101, 399));
        assert_eq!(log.packets.len(), 400, "all but those before the one without feedback");
        assert_eq!(fates(&log.on_feedback(&told(100, 1))), [(100, true)]);
        assert_eq!(log.packets.len(), 101, "a second of packets");
        log.on_sent(packet(5_000));
        assert_eq!(fates(&log.on_feedback(&told(500, 1))), [(500, true)]);
    }

    #[test]
    fn the_log_is_bounded() {
        let mut log = SentLog::new(0);
        for i in 0..40_000 {
            log.on_sent(packet(i / 10));
        }
        assert_eq!(log.packets.len(), MAX_PACKETS);
        log.on_sent(packet(60_000));
        assert_eq!(log.packets.len(), 1);
    }
}
