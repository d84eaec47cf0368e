//! Probing: short bursts above the target that show whether the path carries more (after draft-ietf-rmcat-gcc-02,
//! section 4, and the packet-pair idea behind it).
//!
//! At the start two probes at multiples of the start rate, then each success asks for the double at once. Later a probe now
//! and then, less often after each that failed, sooner again after the target fell: capacity that returns is found in
//! seconds. A probe that the path does not carry costs a queue of a few milliseconds.

use super::CongestionConfig;
use crate::{
    pacer::ProbeCluster,
    time::Timestamp,
    twcc::{ProbeId, SentPacket},
    units::Bitrate,
};
use std::{collections::VecDeque, time::Duration};

/// Rates of the first two probes, over the start rate.
const FIRST: [f64; 2] = [3.0, 6.0];
/// Rate of the probe that follows a success, over what that one showed.
const FURTHER: f64 = 2.0;
/// A result this close to what was sent asks for more.
const SUCCESS: f64 = 0.75;
/// Rate of a later probe, over the target.
const LATER: f64 = 2.0;
/// A target that grew to this much above a failed probe's looks again at once.
const OUTGROWN: f64 = 1.2;
/// A target that fell to less than this share of what it was looks for more again soon.
const FALL: f64 = 0.7;
/// Time to the next later probe: after a fall or a success, and at most, doubling in between. Even the longest is short
/// enough that capacity which returns is used within five seconds; a small probe every three costs a hundredth of the path.
const SOON: Duration = Duration::from_millis(1_000);
const LATE: Duration = Duration::from_millis(3_000);
/// A probe that was due while a queue stood is looked at again after this.
const NOT_CALM: Duration = Duration::from_millis(250);
/// Length of a probe, and the packets it needs.
const LENGTH: Duration = Duration::from_millis(20);
const PACKETS: u32 = 5;
/// A result that did not come in this time does not come.
const RESULT_TIMEOUT: Duration = Duration::from_millis(1_000);
/// A probe that takes this much longer to arrive than to send met its narrowest link.
const STRETCH: f64 = 1.12;
const STRETCH_NOISE: Duration = Duration::from_micros(750);

/// What a probe showed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ProbeResult {
    /// The rate that arrived.
    pub rate: Bitrate,
    /// The rate that was sent.
    pub sent: Bitrate,
    /// Whether the path carried clearly less than was sent: then `rate` is about its capacity.
    pub saturated: bool,
}

/// When to probe and at which rate.
#[derive(Clone, Debug)]
pub struct ProbeSchedule {
    config: CongestionConfig,
    next_id: u32,
    queued: VecDeque<Bitrate>,
    /// A probe is out: its result is waited for until then.
    waiting_until: Option<Timestamp>,
    next_at: Option<Timestamp>,
    interval: Duration,
    last_target: Bitrate,
    /// The target at which a probe last showed no more.
    tried_at: Option<Bitrate>,
}

impl ProbeSchedule {
    /// With the first probes ready to go.
    pub fn new(config: CongestionConfig) -> Self {
        let rates = FIRST.iter().map(|factor| config.start.scale(*factor).min(config.max.scale(1.1)));
        let queued = rates.filter(|rate| *rate > config.start.scale(1.1)).collect();
        Self {
            config,
            next_id: 0,
            queued,
            waiting_until: None,
            next_at: None,
            interval: SOON,
            last_target: config.start,
            tried_at: None,
        }
    }

    /// The probe to start now, if any; `calm` is false while a queue stands.
    pub fn poll(&mut self, now: Timestamp, target: Bitrate, calm: bool) -> Option<ProbeCluster> {
        if target < self.last_target.scale(FALL) {
            self.interval = SOON;
            self.next_at = Some(now + SOON);
            self.queued.clear();
            self.tried_at = None;
        }
        self.last_target = target;
        // The target grew past where the path seemed full: it is not any more.
        if calm && self.tried_at.is_some_and(|tried| target > tried.scale(OUTGROWN)) {
            self.tried_at = None;
            self.next_at = Some(now);
        }
        if self.waiting_until.is_some() {
            return None;
        }
        if self.queued.is_empty() {
            let due = *self.next_at.get_or_insert(now + self.interval);
            if due > now {
                return None;
            }
            if !calm {
                self.next_at = Some(now + NOT_CALM);
                return None;
            }
            self.next_at = Some(now + self.interval);
            if target.scale(1.02) >= self.config.max {
                return None;
            }
            self.queued.push_back(target.scale(LATER));
        }
        if !calm {
            return None;
        }
        let rate = self.queued.pop_front()?.min(self.config.max.scale(1.1));
        if rate <= target.scale(1.05) {
            return None;
        }
        self.waiting_until = Some(now + RESULT_TIMEOUT);
        let id = ProbeId(self.next_id);
        self.next_id = self.next_id.wrapping_add(1);
        Some(ProbeCluster { id, rate, bytes: rate.bytes_in(LENGTH) as usize, packets: PACKETS })
    }

    /// Takes what a probe showed; `target` is the one before.
    pub fn on_result(&mut self, now: Timestamp, result: &ProbeResult, target: Bitrate) {
        self.waiting_until = None;
        let carried = !result.saturated && result.rate >= result.sent.scale(SUCCESS);
        if carried && result.rate < self.config.max {
            if self.queued.is_empty() {
                self.queued.push_back(result.rate.scale(FURTHER));
            }
            self.interval = SOON;
        } else {
            self.queued.clear();
            self.tried_at = Some(target.max(result.rate));
            let gained = result.rate > target.scale(1.2);
            self.interval = if gained { SOON } else { (self.interval * 2).min(LATE) };
        }
        self.next_at = Some(now + self.interval);
    }

    /// Gives up on a result that is overdue.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        if self.waiting_until.is_some_and(|until| until <= now) {
            self.waiting_until = None;
            self.queued.clear();
            self.interval = (self.interval * 2).min(LATE);
            self.next_at = Some(now + self.interval);
        }
    }

    /// When the schedule next wants something.
    pub fn next_timeout(&self) -> Option<Timestamp> {
        self.waiting_until
    }
}

#[derive(Clone, Copy, Debug)]
struct ArrivedPacket {
    sent_at: Timestamp,
    at_micros: i64,
    size: usize,
}

#[derive(Clone, Debug)]
struct Cluster {
    id: ProbeId,
    sent_packets: u32,
    last_sent: Timestamp,
    arrived: Vec<ArrivedPacket>,
}

/// Measures what arrives of a probe.
#[derive(Clone, Debug, Default)]
pub struct ProbeEstimator {
    cluster: Option<Cluster>,
}

impl ProbeEstimator {
    /// No probe out.
    pub const fn new() -> Self {
        Self { cluster: None }
    }

    /// Takes a packet of a probe; a new probe replaces the last one.
    pub fn on_sent(&mut self, id: ProbeId, packet: &SentPacket) {
        let sent_at = packet.sent_at;
        let cluster = match &mut self.cluster {
            Some(cluster) if cluster.id == id => cluster,
            slot => slot.insert(Cluster { id, sent_packets: 0, last_sent: sent_at, arrived: Vec::new() }),
        };
        cluster.sent_packets += 1;
        cluster.last_sent = sent_at;
    }

    /// Takes an arrival, in the order of sending.
    pub fn on_arrival(&mut self, packet: &SentPacket, arrived_micros: i64) {
        if let Some(cluster) = self.cluster.as_mut().filter(|c| packet.probe == Some(c.id)) {
            cluster.arrived.push(ArrivedPacket {
                sent_at: packet.sent_at,
                at_micros: arrived_micros,
                size: packet.size,
            });
        }
    }

    /// The result, once the probe is out and most of it arrived.
    pub fn poll(&mut self, now: Timestamp) -> Option<ProbeResult> {
        let cluster = self.cluster.as_ref()?;
        let is_out = now.since(cluster.last_sent) >= LENGTH / 2;
        let enough = is_out
            && cluster.sent_packets >= PACKETS
            && cluster.arrived.len() * 10 >= cluster.sent_packets as usize * 8;
        if !enough {
            return None;
        }
        let result = cluster.measure();
        self.cluster = None;
        result
    }
}

impl Cluster {
    fn measure(&self) -> Option<ProbeResult> {
        // Packets that nothing overtook: the others' arrival is not the narrowest link's doing.
        let mut earliest_later = i64::MAX;
        let mut in_order = self.arrived.iter().enumerate().rev().filter(|(_, a)| {
            let kept = a.at_micros <= earliest_later;
            earliest_later = earliest_later.min(a.at_micros);
            kept
        });
        let (last_index, last) = in_order.next()?;
        let (first_index, first) = in_order.last()?;
        // A packet's own bytes come before its arrival and after its departure: the first received and the last sent lie
        // outside of the spans.
        let bytes = |from, to| self.arrived.get(from..to).map(|a| a.iter().map(|a| a.size as u64).sum::<u64>());
        let sent_span = last.sent_at.since(first.sent_at);
        let span = Duration::from_micros(u64::try_from(last.at_micros.saturating_sub(first.at_micros)).ok()?);
        let sent = Bitrate::from_bytes_over(bytes(first_index, last_index)?, sent_span);
        let arrived = Bitrate::from_bytes_over(bytes(first_index + 1, last_index + 1)?, span);
        let saturated = span > sent_span.mul_f64(STRETCH) + STRETCH_NOISE;
        let rate = if saturated { arrived.scale(0.95).min(sent) } else { sent };
        (rate > Bitrate::ZERO).then_some(ProbeResult { rate, sent, saturated })
    }
}

#[cfg(test)]
mod tests {
    use super::{super::Growth, *};
    use crate::twcc::PacketKind;

    const CONFIG: CongestionConfig = CongestionConfig {
        start: Bitrate::from_kbps(300),
        min: Bitrate::from_kbps(50),
        max: Bitrate::from_kbps(5_000),
        growth: Growth::ByItself,
    };
    const MS: fn(u64) -> Timestamp = Timestamp::from_millis;

    /// Ten packets of 1,000 bytes, 4 ms apart (2 Mbit/s), that arrive as told.
    fn measured(arrival_ms: impl Fn(u64) -> f64) -> ProbeResult {
        let mut probes = ProbeEstimator::new();
        let packet =
            |i| SentPacket { sent_at: MS(4 * i), size: 1_000, kind: PacketKind::Padding, probe: Some(ProbeId(1)) };
        (0..10).for_each(|i| probes.on_sent(ProbeId(1), &packet(i)));
        assert_eq!(probes.poll(MS(100)), None, "nothing arrived");
        (0..10).for_each(|i| probes.on_arrival(&packet(i), (arrival_ms(i) * 1e3) as i64));
        assert_eq!(probes.poll(MS(40)), None, "may still be going out");
        probes.poll(MS(100)).unwrap()
    }

    #[test]
    fn a_path_that_keeps_up_shows_the_rate_that_was_sent() {
        let result = measured(|i| 50.0 + 4.0 * i as f64);
        assert_eq!((result.rate, result.saturated), (Bitrate::from_kbps(2_000), false));
    }

    #[test]
    fn a_narrow_link_shows_its_own_rate() {
        let result = measured(|i| 50.0 + 8.0 * i as f64);
        assert_eq!((result.rate, result.saturated), (Bitrate::from_kbps(950), true));
    }

    #[test]
    fn overtaken_packets_do_not_stretch_a_probe() {
        let late = |i| if [3, 7].contains(&i) { 30.0 } else { 0.0 };
        assert!(!measured(|i| 50.0 + 4.0 * i as f64 + late(i)).saturated);
    }

    #[test]
    fn success_asks_for_the_double_and_failure_for_patience() {
        let mut schedule = ProbeSchedule::new(CONFIG);
        let target = CONFIG.start;
        let first = schedule.poll(MS(0), target, true).unwrap();
        assert_eq!(first.rate, Bitrate::from_kbps(900));
        assert_eq!(schedule.poll(MS(1), target, true), None, "one at a time");
        let carried = |rate| ProbeResult { rate, sent: rate, saturated: false };
        schedule.on_result(MS(50), &carried(first.rate), target);
        let second = schedule.poll(MS(50), first.rate, true).unwrap();
        assert_eq!(second.rate, Bitrate::from_kbps(1_800));
        schedule.on_result(MS(100), &carried(second.rate), first.rate);
        let third = schedule.poll(MS(100), second.rate, true).unwrap();
        assert_eq!(third.rate, Bitrate::from_kbps(3_600));
        let full = ProbeResult { rate: Bitrate::from_kbps(1_900), sent: third.rate, saturated: true };
        schedule.on_result(MS(150), &full, second.rate);
        assert_eq!(schedule.poll(MS(150), full.rate, true), None);
        let waits = (150..20_000).find(|ms| schedule.poll(MS(*ms), full.rate, true).is_some()).unwrap();
        assert!((1_000..4_000).contains(&(waits - 150)), "{waits}");
    }

    #[test]
    fn a_result_that_does_not_come_is_not_waited_for() {
        let mut schedule = ProbeSchedule::new(CONFIG);
        schedule.poll(MS(0), CONFIG.start, true).unwrap();
        let due = schedule.next_timeout().unwrap();
        schedule.handle_timeout(due);
        assert_eq!(schedule.next_timeout(), None);
        let again = (0..).map(|i| due + Duration::from_millis(50 * i)).take(200);
        assert!(again.into_iter().any(|at| schedule.poll(at, CONFIG.start, true).is_some()));
    }
}
