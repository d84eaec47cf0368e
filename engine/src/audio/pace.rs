//! When the next block is due: by demand of the playout device, else by a monotonic deadline.
//!
//! Invariant: over any stretch of time the number of blocks is what the leading clock says. Where a device that leads stalls,
//! deadlines take over from its last block on, and what the detection took is caught up by blocks at half the spacing; no
//! block is left out and no burst made. Pure: time is given.

use crate::media::BLOCK;
use halloo_transport::Timestamp;
use std::time::Duration;

/// A device that asks for nothing for this long has stalled.
const STALL: Duration = Duration::from_millis(30);
/// Least spacing of blocks while catching up.
const CATCH_UP: Duration = Duration::from_millis(5);
/// Behind by more than this (the process was stopped), the time is given up instead of caught up.
const GIVE_UP: Duration = Duration::from_millis(500);

/// Which clock leads.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum PacedBy {
    /// The monotonic clock.
    #[default]
    Deadline,
    /// The playout device.
    Device,
}

/// What a playout device wants.
#[cfg_attr(not(feature = "devices"), allow(dead_code, reason = "only devices play out"))]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Demand {
    /// There is no device.
    NoDevice,
    /// It has enough for now.
    Fed,
    /// It wants a block.
    Hungry,
}

/// What to do next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Pace {
    /// A block is due now.
    Block,
    /// Wait until then, or until the device asks.
    Wait(Timestamp),
}

#[derive(Debug)]
pub(crate) struct Pacer {
    by: PacedBy,
    last: Timestamp,
    due: Timestamp,
    given_up: u64,
}

impl Pacer {
    /// The first block is due at `start`.
    pub(crate) fn new(start: Timestamp) -> Self {
        Self { by: PacedBy::Deadline, last: start - BLOCK, due: start, given_up: 0 }
    }

    pub(crate) fn paced_by(&self) -> PacedBy {
        self.by
    }

    /// Blocks that were given up because the process did not run for long.
    pub(crate) fn blocks_given_up(&self) -> u64 {
        self.given_up
    }

    /// Ask again after each answer of [`Pace::Block`].
    pub(crate) fn next(&mut self, now: Timestamp, demand: Demand) -> Pace {
        match (self.by, demand) {
            (PacedBy::Device, Demand::Hungry) => self.block(now, now + BLOCK),
            (PacedBy::Device, Demand::Fed) if now < self.last + STALL => Pace::Wait(self.last + STALL),
            // The device starts to play, or plays again.
            (PacedBy::Deadline, Demand::Hungry) if now >= self.last + CATCH_UP && !self.is_behind(now) => {
                self.by = PacedBy::Device;
                self.block(now, now + BLOCK)
            }
            _ => {
                self.by = PacedBy::Deadline;
                self.by_deadline(now)
            }
        }
    }

    fn is_behind(&self, now: Timestamp) -> bool {
        now > self.due + BLOCK
    }

    fn by_deadline(&mut self, now: Timestamp) -> Pace {
        let behind = now.since(self.due);
        if behind > GIVE_UP {
            let blocks = (behind.as_micros() / BLOCK.as_micros()) as u32;
            self.given_up += u64::from(blocks);
            self.due += BLOCK * blocks;
        }
        let at = self.due.max(self.last + CATCH_UP);
        if now < at {
            return Pace::Wait(at);
        }
        self.block(now, self.due + BLOCK)
    }

    fn block(&mut self, now: Timestamp, due: Timestamp) -> Pace {
        self.last = now;
        self.due = due;
        Pace::Block
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_device_blocks_keep_to_the_clock() {
        let mut pacer = Pacer::new(Timestamp::from_millis(1_000));
        let mut blocks = Vec::new();
        for ms in 0..1_000 {
            while pacer.next(Timestamp::from_millis(1_000 + ms), Demand::NoDevice) == Pace::Block {
                blocks.push(ms);
            }
        }
        assert_eq!(blocks, (0..100).map(|i| i * 10).collect::<Vec<_>>());
    }

    #[test]
    fn late_wakes_do_not_move_the_clock() {
        let mut pacer = Pacer::new(Timestamp::from_millis(1_000));
        let (mut now, mut count) = (Timestamp::from_millis(1_000), 0);
        while now < Timestamp::from_millis(2_000) {
            match pacer.next(now, Demand::NoDevice) {
                Pace::Block => count += 1,
                Pace::Wait(until) => now = until + Duration::from_millis(count % 4 * 3),
            }
        }
        assert!((99..=101).contains(&count), "{count} blocks in a second");
    }

    #[test]
    fn a_stalled_device_leaves_neither_gap_nor_burst() {
        let mut pacer = Pacer::new(Timestamp::from_millis(1_000));
        // It holds at most two blocks and plays one each 10 ms, but for a stall of 400 ms.
        let (mut ring, mut blocks) = (2, Vec::new());
        for ms in 0..1_000_u64 {
            if ms % 10 == 3 && !(300..700).contains(&ms) {
                ring -= 1;
            }
            let demand = |ring: i32| if ring < 2 { Demand::Hungry } else { Demand::Fed };
            while pacer.next(Timestamp::from_millis(1_000 + ms), demand(ring)) == Pace::Block {
                blocks.push(ms);
                ring = (ring + 1).min(2);
            }
            assert!(ring > 0, "the device ran dry at {ms} ms");
            let expected = if (320..700).contains(&ms) { PacedBy::Deadline } else { PacedBy::Device };
            if !(0..10).contains(&ms) && !(320..330).contains(&ms) && !(700..720).contains(&ms) {
                assert_eq!(pacer.paced_by(), expected, "at {ms} ms");
            }
        }
        assert!((98..=102).contains(&blocks.len()), "{} blocks in a second", blocks.len());
        let gaps: Vec<u64> = blocks.windows(2).map(|w| w[1] - w[0]).collect();
        assert!(gaps.iter().all(|gap| (3..=30).contains(gap)), "{gaps:?}");
    }

    #[test]
    fn a_long_stop_is_given_up() {
        let mut pacer = Pacer::new(Timestamp::from_millis(1_000));
        assert_eq!(pacer.next(Timestamp::from_millis(1_000), Demand::NoDevice), Pace::Block);
        let now = Timestamp::from_millis(60_000);
        assert_eq!(pacer.next(now, Demand::NoDevice), Pace::Block);
        assert!(matches!(pacer.next(now, Demand::NoDevice), Pace::Wait(_)));
        assert!(pacer.blocks_given_up() > 5_800);
    }
}
