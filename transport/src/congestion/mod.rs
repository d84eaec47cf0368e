//! How much this side may send: delay-based and loss-based control with probing (draft-ietf-rmcat-gcc-02).
//!
//! ```text
//!                        +-> throughput ------------------------------+
//!                        |     (what arrives)                         |
//!                        +-> probe results -----------------+         |
//!                        |     (what arrives in a burst)    v         v
//!  PacketResults --+-----+                              +------------------+     +-----+
//!  (twcc::SentLog) |     +-> queue delay -------------->| rate control     |---->| min |--> target
//!                  |     |     (delay above its minimum)| increase / drain |     +-----+     pacing rate
//!                  |     +-> arrival groups -> trend -->+------------------+        ^
//!                  |           (is delay growing?)                                  |
//!                  +-> loss ----------------------------------------------------- cap
//!  sent packets ---> application limited? --> rate control, probe schedule --> ProbeCluster -> pacer
//! ```
//!
//! Departures from the draft, each for what a call feels: the rate while a queue stands is chosen so that the queue empties
//! within about a second, and returns to the measured capacity once it has; packets that were overtaken tell nothing about a
//! queue, so reordering looks like nothing at all; loss that does not follow the rate is not ours and does not lower it.

mod application_limit;
mod arrival_groups;
mod loss;
mod probe;
mod queue_delay;
mod rate_control;
mod throughput;
mod trendline;

pub use application_limit::ApplicationLimit;
pub use arrival_groups::{ArrivalGroups, GroupDelta};
pub use loss::LossControl;
pub use probe::{ProbeEstimator, ProbeResult, ProbeSchedule};
pub use queue_delay::QueueDelay;
pub use rate_control::{RateControl, RateInput};
pub use throughput::Throughput;
pub use trendline::{Trendline, Usage};

use crate::{
    pacer::ProbeCluster,
    time::Timestamp,
    twcc::{PacketResult, SentPacket},
    units::Bitrate,
};
use std::time::Duration;

/// The pacing rate over the target: an encoder's larger pictures leave before the next one comes.
const PACING_FACTOR: f64 = 2.5;
/// The same while a queue stands in the path: nothing is added to it in bursts.
const DRAINING_PACING_FACTOR: f64 = 1.2;
/// Silence of the peer's feedback, while packets go out, after which the path is taken to be dead or choked.
const FEEDBACK_TIMEOUT: Duration = Duration::from_millis(600);
/// Round trip assumed until one was measured.
const DEFAULT_RTT: Duration = Duration::from_millis(100);

/// A queue longer than this is not probed into.
const PROBE_MAX_QUEUE: Duration = Duration::from_millis(40);

/// How the target grows where the path's capacity was seen.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Growth {
    /// Slowly past it, by itself: for an encoder that follows any target.
    #[default]
    ByItself,
    /// Not past it before a probe carried more: for a forwarder, whose layers come in large steps.
    ByProbes,
}

/// Bounds and start of the target.
#[derive(Clone, Copy, Debug)]
pub struct CongestionConfig {
    /// First target.
    pub start: Bitrate,
    /// Lowest target.
    pub min: Bitrate,
    /// Highest target.
    pub max: Bitrate,
    /// How it grows.
    pub growth: Growth,
}

/// The controller.
#[derive(Clone, Debug)]
pub struct CongestionController {
    config: CongestionConfig,
    throughput: Throughput,
    queue_delay: QueueDelay,
    groups: ArrivalGroups,
    trendline: Trendline,
    rate: RateControl,
    loss: LossControl,
    application: ApplicationLimit,
    schedule: ProbeSchedule,
    probes: ProbeEstimator,
    last_feedback: Option<Timestamp>,
    /// Set while packets wait for feedback that should be there by then.
    feedback_due: Option<Timestamp>,
    newest_seq: u64,
    /// Memory for [`CongestionController::feed_delay`].
    in_order: Vec<(usize, i64)>,
}

impl CongestionController {
    /// Starts at `config.start`.
    pub fn new(config: CongestionConfig) -> Self {
        let min = config.min.max(Bitrate::from_kbps(5));
        let max = config.max.max(min);
        let config = CongestionConfig { start: config.start.clamp(min, max), min, max, ..config };
        Self {
            config,
            throughput: Throughput::new(),
            queue_delay: QueueDelay::new(),
            groups: ArrivalGroups::new(),
            trendline: Trendline::new(),
            rate: RateControl::new(config),
            loss: LossControl::new(config),
            application: ApplicationLimit::new(),
            schedule: ProbeSchedule::new(config),
            probes: ProbeEstimator::new(),
            last_feedback: None,
            feedback_due: None,
            newest_seq: 0,
            in_order: Vec::new(),
        }
    }

    /// What all media together may use.
    #[inline]
    pub fn target(&self) -> Bitrate {
        self.rate.target().min(self.loss.cap()).clamp(self.config.min, self.config.max)
    }

    /// What the pacer may send at.
    #[inline]
    pub fn pacing_rate(&self) -> Bitrate {
        self.target().scale(if self.rate.is_draining() { DRAINING_PACING_FACTOR } else { PACING_FACTOR })
    }

    /// What the path carries at most, where that was seen: by a queue, or by a probe that it did not carry.
    pub fn capacity(&self) -> Option<Bitrate> {
        self.rate.capacity()
    }

    /// Whether a queue is being emptied: less is sent than the path carries.
    pub const fn is_draining(&self) -> bool {
        self.rate.is_draining()
    }

    /// Whether nothing was learned about the path yet: the target is the one to start with.
    pub const fn is_guess(&self) -> bool {
        self.rate.is_guess()
    }

    /// Whether less is sent than may be: what arrives tells nothing about the path then.
    pub fn is_application_limited(&self, now: Timestamp) -> bool {
        self.application.is_limited(now, self.target())
    }

    /// Share of packets that were lost, of those looked at last.
    pub fn loss(&self) -> f64 {
        self.loss.recent()
    }

    /// Delay that the path adds to its minimum, as far as known.
    pub fn queue_delay(&self) -> Duration {
        self.queue_delay.current()
    }

    /// Takes a packet that leaves under transport-wide feedback.
    #[inline]
    pub fn on_sent(&mut self, packet: &SentPacket) {
        self.application.on_sent(packet.sent_at, packet.size, self.target());
        if let Some(probe) = packet.probe {
            self.probes.on_sent(probe, packet);
        }
        if self.last_feedback.is_some() && self.feedback_due.is_none() {
            self.feedback_due = Some(packet.sent_at + FEEDBACK_TIMEOUT);
        }
    }

    /// Takes the fates that one feedback message settled, in the order of sending.
    pub fn on_feedback(&mut self, now: Timestamp, results: &[PacketResult], rtt: Option<Duration>) {
        self.last_feedback = Some(now);
        self.feedback_due = None;
        let rtt = rtt.unwrap_or(DEFAULT_RTT);
        for result in results {
            self.loss.on_result(result.arrived_micros.is_some());
            if let Some(arrived) = result.arrived_micros {
                self.throughput.on_arrival(arrived, result.packet.size);
                self.probes.on_arrival(&result.packet, arrived);
            }
        }
        self.feed_delay(now, results);
        let probed = self.probes.poll(now);
        if let Some(result) = probed {
            self.schedule.on_result(now, &result, self.target());
        }
        let input = RateInput {
            usage: self.trendline.usage(),
            throughput: self.throughput.rate(),
            recent_throughput: self.throughput.recent_rate(),
            queue_delay: self.queue_delay.current(),
            application_limited: self.application.is_limited(now, self.target()),
            probed,
            rtt,
        };
        if self.rate.update(now, &input) {
            self.queue_delay.rebase();
        }
        if self.rate.is_draining() {
            // What a full queue lost is answered for by emptying it: it is not held against the path once more.
            self.loss.overlook(now);
        } else {
            self.loss.update(now, rtt, self.rate.target(), self.queue_delay.current());
        }
        self.rate.limit(self.loss.cap());
    }

    /// Does what is due: a path whose feedback stopped gets half.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        if self.feedback_due.is_some_and(|due| due <= now) {
            self.rate.halve();
            self.feedback_due = Some(now + FEEDBACK_TIMEOUT);
        }
        self.schedule.handle_timeout(now);
    }

    /// When [`CongestionController::handle_timeout`] or [`CongestionController::poll_probe`] is next wanted.
    pub fn next_timeout(&self) -> Option<Timestamp> {
        [self.feedback_due, self.schedule.next_timeout()].into_iter().flatten().min()
    }

    /// A probe to start at `now`, if one is wanted.
    pub fn poll_probe(&mut self, now: Timestamp) -> Option<ProbeCluster> {
        let calm = !self.rate.is_draining()
            && self.trendline.usage() != Usage::Over
            && self.queue_delay.current() <= PROBE_MAX_QUEUE;
        self.schedule.poll(now, self.target(), calm)
    }

    /// The path changed: delays and rates measured on the old one say nothing, and probing starts again from the target.
    pub fn on_path_change(&mut self, now: Timestamp) {
        let start = self.target().min(self.config.start.max(self.target().scale(0.5)));
        let config = CongestionConfig { start, ..self.config };
        self.throughput = Throughput::new();
        self.queue_delay = QueueDelay::new();
        self.groups = ArrivalGroups::new();
        self.trendline = Trendline::new();
        self.rate = RateControl::new(config);
        self.loss = LossControl::new(config);
        self.probes = ProbeEstimator::new();
        self.schedule = ProbeSchedule::new(config);
        self.feedback_due = None;
        self.last_feedback = None;
        self.schedule.handle_timeout(now);
    }

    /// Feeds packets that nothing sent later overtook: in a queue nothing overtakes.
    fn feed_delay(&mut self, now: Timestamp, results: &[PacketResult]) {
        let mut earliest_later = i64::MAX;
        self.in_order.clear();
        for (index, result) in results.iter().enumerate().rev() {
            let Some(arrived) = result.arrived_micros else { continue };
            if arrived <= earliest_later && result.seq.0 >= self.newest_seq {
                earliest_later = arrived;
                self.in_order.push((index, arrived));
            }
        }
        while let Some((index, arrived)) = self.in_order.pop() {
            let Some(result) = results.get(index) else { continue };
            self.newest_seq = result.seq.0;
            self.queue_delay.on_packet(now, result.packet.sent_at, arrived);
            // A probe's burst is meant to build a queue: it tells nothing about what media does.
            if result.packet.probe.is_some() {
                continue;
            }
            if let Some(delta) = self.groups.on_packet(result.packet.sent_at, arrived) {
                self.trendline.on_group(&delta);
            }
        }
        self.queue_delay.end_of_feedback(now);
    }
}
