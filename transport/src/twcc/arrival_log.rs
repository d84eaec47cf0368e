//! The receiver's side: arrivals of transport-wide numbers, reported at intervals that follow the rate.
//!
//! Each message goes on where the last one ended. A packet that comes later than its report makes the next message start at
//! it again, so reordering is never reported as loss for good.

use super::encoding::{DELTA_MICROS, encode};
use crate::{
    time::Timestamp,
    units::{Bitrate, SeqUnwrapper, Ssrc},
};
use rtcp::transport_feedbacks::transport_layer_cc::TransportLayerCc;
use std::{collections::BTreeMap, time::Duration};

/// Shortest and longest interval between messages.
const MIN_INTERVAL: Duration = Duration::from_millis(50);
const MAX_INTERVAL: Duration = Duration::from_millis(100);
/// What feedback may cost of the rate that it reports on.
const BANDWIDTH_SHARE: f64 = 0.05;
/// A message with its RTCP, SRTCP, UDP and IP headers, as a guess.
const MESSAGE_BYTES: usize = 110;
/// How long a packet of the same burst is waited for after a pause.
const SETTLE: Duration = Duration::from_millis(5);
/// How long an arrival is remembered once reported, in case the report has to cover it again.
const MEMORY: Duration = Duration::from_millis(500);
/// Most numbers that are remembered or reported at once.
const MAX_SPAN: u64 = 4_096;

/// Arrivals that feedback is made from.
#[derive(Clone, Debug)]
pub struct ArrivalLog {
    seqs: SeqUnwrapper,
    arrivals: BTreeMap<u64, Timestamp>,
    /// The first number that the next message covers.
    next: u64,
    due: Option<Timestamp>,
    last_sent: Option<Timestamp>,
    bytes_since: u64,
    interval: Duration,
    fb_pkt_count: u8,
}

impl ArrivalLog {
    /// Nothing arrived.
    pub const fn new() -> Self {
        Self {
            seqs: SeqUnwrapper::new(),
            arrivals: BTreeMap::new(),
            next: 0,
            due: None,
            last_sent: None,
            bytes_since: 0,
            interval: MIN_INTERVAL,
            fb_pkt_count: 0,
        }
    }

    /// Takes the arrival of a packet of `size` bytes with transport-wide number `wire`.
    pub fn on_packet(&mut self, now: Timestamp, wire: u16, size: usize) {
        let seq = self.seqs.unwrap(u64::from(wire));
        self.bytes_since += size as u64;
        if self.arrivals.is_empty() && self.next == 0 {
            self.next = seq;
        }
        let newest = self.arrivals.last_key_value().map_or(seq, |(newest, _)| *newest);
        if seq + MAX_SPAN <= newest || self.arrivals.contains_key(&seq) {
            return;
        }
        self.arrivals.insert(seq, now);
        self.next = self.next.min(seq);
        if self.due.is_none() {
            self.due = Some(self.last_sent.map_or(now, |last| last + self.interval).max(now + SETTLE));
        }
        while self.arrivals.len() as u64 > MAX_SPAN {
            self.arrivals.pop_first();
        }
    }

    /// The feedback that is due at `now`, from `sender` about `media` (any stream of the peer's).
    pub fn poll(&mut self, now: Timestamp, sender: Ssrc, media: Ssrc) -> Vec<TransportLayerCc> {
        if self.due.is_none_or(|due| due > now) {
            return Vec::new();
        }
        self.due = None;
        let Some((&newest, _)) = self.arrivals.last_key_value() else { return Vec::new() };
        let start = self.next.max((newest + 1).saturating_sub(MAX_SPAN));
        let mut ticks = vec![None; (newest + 1).saturating_sub(start) as usize];
        for (seq, at) in self.arrivals.range(start..) {
            if let Some(slot) = ticks.get_mut((seq - start) as usize) {
                *slot = Some(at.as_micros() as i64 / DELTA_MICROS);
            }
        }
        let messages = encode(start as u16, &ticks, &mut self.fb_pkt_count, sender.0, media.0);
        self.next = newest + 1;
        while self.arrivals.first_entry().is_some_and(|e| now.since(*e.get()) > MEMORY) {
            self.arrivals.pop_first();
        }
        self.adapt(now);
        messages
    }

    /// When [`ArrivalLog::poll`] is next worth calling.
    pub const fn next_timeout(&self) -> Option<Timestamp> {
        self.due
    }

    fn adapt(&mut self, now: Timestamp) {
        if let Some(last) = self.last_sent {
            let rate = Bitrate::from_bytes_over(self.bytes_since, now.since(last)).scale(BANDWIDTH_SHARE);
            self.interval = rate.time_for(MESSAGE_BYTES).clamp(MIN_INTERVAL, MAX_INTERVAL);
        }
        self.bytes_since = 0;
        self.last_sent = Some(now);
    }
}

impl Default for ArrivalLog {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::super::decode;
    use super::*;

    const MS: fn(u64) -> Timestamp = Timestamp::from_millis;

    fn poll(log: &mut ArrivalLog) -> (Timestamp, u16, Vec<bool>) {
        let due = log.next_timeout().unwrap();
        let messages = log.poll(due, Ssrc(1), Ssrc(2));
        assert_eq!(messages.len(), 1);
        let arrivals = decode(&messages[0]);
        (due, arrivals.base, arrivals.ticks.iter().map(Option::is_some).collect())
    }

    #[test]
    fn messages_go_on_where_the_last_one_ended() {
        let mut log = ArrivalLog::new();
        assert_eq!(log.next_timeout(), None);
        log.on_packet(MS(0), 65_534, 1_000);
        log.on_packet(MS(1), 0, 1_000);
        assert_eq!(poll(&mut log), (MS(5), 65_534, vec![true, false, true]));
        assert_eq!(log.next_timeout(), None);
        log.on_packet(MS(6), 1, 1_000);
        assert_eq!(poll(&mut log), (MS(55), 1, vec![true]));
    }

    #[test]
    fn a_late_packet_is_reported_after_all() {
        let mut log = ArrivalLog::new();
        log.on_packet(MS(0), 10, 100);
        log.on_packet(MS(0), 12, 100);
        assert_eq!(poll(&mut log).2, [true, false, true]);
        log.on_packet(MS(20), 11, 100);
        log.on_packet(MS(20), 13, 100);
        assert_eq!(poll(&mut log), (MS(55), 11, vec![true, true, true]));
    }

    #[test]
    fn a_low_rate_is_reported_less_often() {
        let mut log = ArrivalLog::new();
        let mut reports = Vec::new();
        for i in 0..100 {
            if log.next_timeout().is_some_and(|due| due <= MS(20 * i)) {
                log.poll(MS(20 * i), Ssrc(1), Ssrc(2));
                reports.push(20 * i);
            }
            log.on_packet(MS(20 * i), i as u16, 80);
        }
        assert!(reports.windows(2).skip(2).all(|w| w[1] - w[0] == 100), "{reports:?}");
    }

    #[test]
    fn hostile_jumps_stay_bounded() {
        let mut log = ArrivalLog::new();
        for i in 0..50_000u32 {
            log.on_packet(MS(u64::from(i)), (i.wrapping_mul(30_011)) as u16, 100);
            assert!(log.arrivals.len() as u64 <= MAX_SPAN);
            if i % 64 == 0 {
                log.poll(MS(u64::from(i)), Ssrc(1), Ssrc(2));
            }
        }
    }
}
