//! The receiver's side: arrivals of transport-wide numbers, reported at intervals that follow the rate.
//!
//! Each message goes on where the last one ended. A packet that comes later than its report makes the next message start at
//! it again, so reordering is never reported as loss for good. Arrivals are kept in a ring that grows to what half a second
//! holds and stays there, so that a packet allocates nothing in steady state.

use super::encoding::{DELTA_MICROS, encode};
use crate::{
    time::Timestamp,
    units::{Bitrate, SeqUnwrapper, Ssrc},
};
use rtcp::transport_feedbacks::transport_layer_cc::TransportLayerCc;
use std::{collections::VecDeque, iter::repeat_n, time::Duration};

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
const MAX_SPAN: usize = 4_096;

/// Arrivals that feedback is made from.
#[derive(Clone, Debug)]
pub struct ArrivalLog {
    seqs: SeqUnwrapper,
    arrivals: Ring,
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
            arrivals: Ring::new(),
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
        if !self.arrivals.insert(seq, now) {
            return;
        }
        self.next = self.next.min(seq);
        if self.due.is_none() {
            self.due = Some(self.last_sent.map_or(now, |last| last + self.interval).max(now + SETTLE));
        }
    }

    /// The feedback that is due at `now`, from `sender` about `media` (any stream of the peer's).
    pub fn poll(&mut self, now: Timestamp, sender: Ssrc, media: Ssrc) -> Vec<TransportLayerCc> {
        if self.due.is_none_or(|due| due > now) {
            return Vec::new();
        }
        self.due = None;
        let Some(newest) = self.arrivals.newest() else { return Vec::new() };
        let start = self.next.max((newest + 1).saturating_sub(MAX_SPAN as u64));
        let ticks: Vec<_> =
            (start..=newest).map(|seq| self.arrivals.get(seq).map(|at| at.as_micros() as i64 / DELTA_MICROS)).collect();
        let messages = encode(start as u16, &ticks, &mut self.fb_pkt_count, sender.0, media.0);
        self.next = newest + 1;
        self.arrivals.forget_while(|at| now.since(at) > MEMORY);
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

/// Arrivals by number, the newest [`MAX_SPAN`] numbers at most. Invariant: both ends hold an arrival.
#[derive(Clone, Debug)]
struct Ring {
    first: u64,
    arrivals: VecDeque<Option<Timestamp>>,
}

impl Ring {
    const fn new() -> Self {
        Self { first: 0, arrivals: VecDeque::new() }
    }

    fn is_empty(&self) -> bool {
        self.arrivals.is_empty()
    }

    fn newest(&self) -> Option<u64> {
        self.arrivals.len().checked_sub(1).map(|back| self.first + back as u64)
    }

    fn get(&self, seq: u64) -> Option<Timestamp> {
        let at = seq.checked_sub(self.first)?;
        *self.arrivals.get(usize::try_from(at).ok()?)?
    }

    /// Records an arrival; `false` where the number is too old or was there before.
    fn insert(&mut self, seq: u64, now: Timestamp) -> bool {
        let Some(newest) = self.newest() else {
            self.restart(seq, now);
            return true;
        };
        if seq > newest {
            match usize::try_from(seq - newest) {
                Ok(step) if step < MAX_SPAN => {
                    self.arrivals
                        .drain(..(self.arrivals.len() + step).saturating_sub(MAX_SPAN).min(self.arrivals.len()));
                    self.arrivals.extend(repeat_n(None, step - 1));
                    self.arrivals.push_back(Some(now));
                    self.first = seq + 1 - self.arrivals.len() as u64;
                    self.forget_while(|_| false);
                }
                _ => self.restart(seq, now),
            }
            return true;
        }
        if seq + MAX_SPAN as u64 <= newest {
            return false;
        }
        while self.first > seq {
            self.arrivals.push_front(None);
            self.first -= 1;
        }
        match self.arrivals.get_mut((seq - self.first) as usize) {
            Some(place @ None) => {
                *place = Some(now);
                true
            }
            _ => false,
        }
    }

    /// Forgets arrivals from the oldest number on, as long as `old` says so.
    fn forget_while(&mut self, old: impl Fn(Timestamp) -> bool) {
        while self.arrivals.front().is_some_and(|at| at.is_none_or(&old)) {
            self.arrivals.pop_front();
            self.first += 1;
        }
    }

    fn restart(&mut self, seq: u64, now: Timestamp) {
        self.arrivals.clear();
        self.arrivals.push_back(Some(now));
        self.first = seq;
    }
}

#[cfg(test)]
mod tests {
    use super::super::decode;
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

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
            assert!(log.arrivals.arrivals.len() <= MAX_SPAN);
            if i % 64 == 0 {
                log.poll(MS(u64::from(i)), Ssrc(1), Ssrc(2));
            }
        }
    }
    #[test]
    fn a_steady_stream_makes_the_ring_grow_no_further() {
        let mut log = ArrivalLog::new();
        let mut capacity = 0;
        for i in 0..20_000_u64 {
            let now = MS(3 * i);
            log.on_packet(now, i as u16, 1_000);
            if log.next_timeout().is_some_and(|due| due <= now) {
                log.poll(now, Ssrc(1), Ssrc(2));
            }
            if i == 2_000 {
                capacity = log.arrivals.arrivals.capacity();
            }
        }
        assert_eq!(log.arrivals.arrivals.capacity(), capacity);
        assert!(capacity <= 512, "{capacity}");
    }

    #[derive(Clone, Debug)]
    enum Step {
        Insert(i64),
        Forget(u64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let jump = prop_oneof![8 => -3i64..4, 2 => -300i64..300, 1 => -5_000i64..9_000];
        prop::collection::vec(
            prop_oneof![9 => jump.prop_map(Step::Insert), 1 => (0u64..400).prop_map(Step::Forget)],
            1..300,
        )
    }

    proptest! {
        #[test]
        fn the_ring_agrees_with_a_map_of_the_newest_numbers(steps in steps()) {
            let mut ring = Ring::new();
            let mut map = BTreeMap::new();
            let mut at = 100_000_i64;
            for (i, step) in steps.into_iter().enumerate() {
                let now = MS(i as u64);
                match step {
                    Step::Insert(jump) => {
                        at = (at + jump).max(0);
                        let seq = at as u64;
                        let newest = map.last_key_value().map_or(seq, |(newest, _)| *newest);
                        let new = seq + MAX_SPAN as u64 > newest && !map.contains_key(&seq);
                        prop_assert_eq!(ring.insert(seq, now), new);
                        if new {
                            map.insert(seq, now);
                            let newest = newest.max(seq);
                            map.retain(|seq, _| seq + MAX_SPAN as u64 > newest);
                        }
                    }
                    Step::Forget(age) => {
                        let age = Duration::from_millis(age);
                        ring.forget_while(|at| now.since(at) > age);
                        while map.first_entry().is_some_and(|e| now.since(*e.get()) > age) {
                            map.pop_first();
                        }
                    }
                }
                prop_assert!(ring.arrivals.len() <= MAX_SPAN);
                prop_assert_eq!(ring.newest(), map.last_key_value().map(|(newest, _)| *newest));
                let low = map.first_key_value().map_or(0, |(first, _)| first.saturating_sub(2));
                let held: Vec<_> = (low..=ring.newest().unwrap_or(0).min(low + 20_000))
                    .filter_map(|seq| ring.get(seq).map(|at| (seq, at)))
                    .collect();
                prop_assert_eq!(held, map.iter().map(|(seq, at)| (*seq, *at)).collect::<Vec<_>>());
            }
        }
    }
}
