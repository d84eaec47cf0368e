//! One direction of a path: a rate with a drop-tail queue, then delay, jitter, loss, reordering and duplication, all from a seed.

use halloo_transport::{Bitrate, Timestamp};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::{cmp::Reverse, collections::BinaryHeap, time::Duration};

#[derive(Clone, Debug)]
pub(crate) struct LinkConfig {
    pub(crate) delay: Duration,
    /// Added to each packet, uniform from zero; keeps the order.
    pub(crate) jitter: Duration,
    pub(crate) loss: f64,
    /// Mean length of a burst of losses, in packets; 1 is independent loss.
    pub(crate) burst: f64,
    /// Share of packets that are held up, and for how long at most: these are overtaken.
    pub(crate) reorder: f64,
    pub(crate) reorder_by: Duration,
    pub(crate) duplicate: f64,
    pub(crate) rate: Option<Bitrate>,
    /// What the queue in front of the rate holds.
    pub(crate) queue_bytes: usize,
}

impl Default for LinkConfig {
    fn default() -> Self {
        Self {
            delay: Duration::from_micros(100),
            jitter: Duration::ZERO,
            loss: 0.0,
            burst: 1.0,
            reorder: 0.0,
            reorder_by: Duration::ZERO,
            duplicate: 0.0,
            rate: None,
            queue_bytes: 64_000,
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) enum Datagram {
    Rtp(bytes::Bytes),
    Rtcp(bytes::Bytes),
}

impl Datagram {
    fn size(&self) -> usize {
        match self {
            Self::Rtp(bytes) | Self::Rtcp(bytes) => bytes.len(),
        }
    }
}

struct InFlight {
    arrives_at: Timestamp,
    number: u64,
    datagram: Datagram,
}

impl PartialEq for InFlight {
    fn eq(&self, other: &Self) -> bool {
        (self.arrives_at, self.number) == (other.arrives_at, other.number)
    }
}
impl Eq for InFlight {}
impl PartialOrd for InFlight {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for InFlight {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.arrives_at, self.number).cmp(&(other.arrives_at, other.number))
    }
}

pub(crate) struct Link {
    pub(crate) config: LinkConfig,
    random: ChaCha8Rng,
    busy_until: Timestamp,
    last_in_order: Timestamp,
    losing: bool,
    sent: u64,
    in_flight: BinaryHeap<Reverse<InFlight>>,
    /// (when, how long a packet that came then waited for the link).
    pub(crate) queue_delays: Vec<(Timestamp, Duration)>,
}

impl Link {
    pub(crate) fn new(config: LinkConfig, seed: u64) -> Self {
        Self {
            config,
            random: ChaCha8Rng::seed_from_u64(seed),
            busy_until: Timestamp::ZERO,
            last_in_order: Timestamp::ZERO,
            losing: false,
            sent: 0,
            in_flight: BinaryHeap::new(),
            queue_delays: Vec::new(),
        }
    }

    pub(crate) fn send(&mut self, now: Timestamp, datagram: Datagram) {
        let mut leaves_at = now;
        if let Some(rate) = self.config.rate {
            let waits = self.busy_until.since(now);
            self.queue_delays.push((now, waits));
            if rate.bytes_in(waits) as usize > self.config.queue_bytes {
                return;
            }
            self.busy_until = self.busy_until.max(now) + rate.time_for(datagram.size());
            leaves_at = self.busy_until;
        }
        if self.is_lost() {
            return;
        }
        let copies = if self.random.random_bool(self.config.duplicate) { 2 } else { 1 };
        for _ in 0..copies {
            let arrives_at = self.arrival(leaves_at);
            self.sent += 1;
            self.in_flight.push(Reverse(InFlight { arrives_at, number: self.sent, datagram: datagram.clone() }));
        }
    }

    /// Holds up everything that would arrive in the `time` from `at` on until its end.
    pub(crate) fn stall(&mut self, at: Timestamp, time: Duration) {
        self.last_in_order = self.last_in_order.max(at + time);
    }

    pub(crate) fn next_arrival(&self) -> Option<Timestamp> {
        self.in_flight.peek().map(|p| p.0.arrives_at)
    }

    pub(crate) fn receive(&mut self, now: Timestamp) -> Option<Datagram> {
        self.next_arrival().filter(|at| *at <= now)?;
        self.in_flight.pop().map(|p| p.0.datagram)
    }

    fn arrival(&mut self, leaves_at: Timestamp) -> Timestamp {
        let jitter = self.config.jitter.mul_f64(self.random.random());
        let at = leaves_at + self.config.delay + jitter;
        if self.random.random_bool(self.config.reorder) {
            return at + self.config.reorder_by.mul_f64(self.random.random());
        }
        self.last_in_order = self.last_in_order.max(at);
        self.last_in_order
    }

    /// Two states: within a burst everything is lost.
    fn is_lost(&mut self) -> bool {
        let LinkConfig { loss, burst, .. } = self.config;
        if loss == 0.0 {
            return false;
        }
        self.losing = if burst <= 1.0 {
            self.random.random_bool(loss)
        } else if self.losing {
            self.random.random_bool(1.0 - 1.0 / burst)
        } else {
            self.random.random_bool((loss / (burst * (1.0 - loss))).min(1.0))
        };
        self.losing
    }
}
