//! One direction of a client's path: a rate with a drop-tail queue in front, then loss, delay and jitter.

use halloo_transport::{Bitrate, Timestamp, random::Random};
use std::time::Duration;

/// How a link treats packets.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(in crate::room) struct Link {
    pub(in crate::room) loss: f64,
    pub(in crate::room) delay_ms: u64,
    /// Added to each packet, at random: packets overtake each other.
    pub(in crate::room) jitter_ms: u64,
    /// Its narrowest place; 0 for none.
    pub(in crate::room) kbps: u64,
    /// What waits there at most, as time.
    pub(in crate::room) queue_ms: u64,
}

impl Link {
    /// Nothing lost, nothing late.
    pub(in crate::room) const CLEAN: Self = Self { loss: 0.0, delay_ms: 5, jitter_ms: 0, kbps: 0, queue_ms: 0 };

    /// A link of that rate, 25 ms long, with a queue of 300 ms.
    pub(in crate::room) const fn narrow(kbps: u64) -> Self {
        Self { delay_ms: 25, kbps, queue_ms: 300, ..Self::CLEAN }
    }
}

/// A link at work.
#[derive(Debug)]
pub(in crate::room) struct Wire {
    pub(in crate::room) link: Link,
    busy_until: Timestamp,
    /// Packets that did not arrive.
    pub(in crate::room) lost: usize,
    /// How long packets waited, by when they came.
    pub(in crate::room) waits: Vec<(Timestamp, Duration)>,
}

impl Wire {
    pub(in crate::room) const fn new(link: Link) -> Self {
        Self { link, busy_until: Timestamp::ZERO, lost: 0, waits: Vec::new() }
    }

    /// When a packet of `size` bytes arrives that is sent now; `None` where it is lost.
    pub(in crate::room) fn send(&mut self, now: Timestamp, size: usize, random: &mut Random) -> Option<Timestamp> {
        let mut leaves = now;
        if self.link.kbps > 0 {
            let wait = self.busy_until.since(now);
            self.waits.push((now, wait));
            if wait > Duration::from_millis(self.link.queue_ms) {
                self.lost += 1;
                return None;
            }
            self.busy_until = self.busy_until.max(now) + Bitrate::from_kbps(self.link.kbps).time_for(size);
            leaves = self.busy_until;
        }
        if random.next_f64() < self.link.loss {
            self.lost += 1;
            return None;
        }
        let delay = self.link.delay_ms + random.next_u64() % (self.link.jitter_ms + 1);
        Some(leaves + Duration::from_millis(delay))
    }
}
