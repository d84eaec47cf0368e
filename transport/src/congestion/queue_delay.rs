//! How much delay the path adds to its own minimum: the queue in front of its narrowest link.
//!
//! One-way delay needs no common clock: only its difference to the least one seen lately is used. The minimum is kept over
//! the last [`BASE_WINDOW`] to twice that, so that clock drift and a changed route are forgotten.

use crate::time::Timestamp;
use std::time::Duration;

/// How long a minimum is believed at least.
const BASE_WINDOW: Duration = Duration::from_secs(15);

/// Follows the delay above its minimum.
#[derive(Clone, Debug, Default)]
pub struct QueueDelay {
    /// The minimum of the running window and of the one before, in microseconds between unrelated clocks.
    running: Option<i64>,
    before: Option<i64>,
    window_started: Timestamp,
    /// The least of the feedback that is being read.
    batch: Option<i64>,
    last: Option<i64>,
    current: Duration,
}

impl QueueDelay {
    /// Nothing known.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a packet.
    pub fn on_packet(&mut self, now: Timestamp, sent_at: Timestamp, arrived_micros: i64) {
        if now.since(self.window_started) >= BASE_WINDOW {
            self.before = self.running.take();
            self.window_started = now;
        }
        let delay = arrived_micros.saturating_sub(sent_at.as_micros() as i64);
        self.running = Some(self.running.map_or(delay, |min| min.min(delay)));
        self.batch = Some(self.batch.map_or(delay, |min| min.min(delay)));
    }

    /// Ends a feedback message: its least delay is what the path has now, without the jitter on top.
    pub fn end_of_feedback(&mut self, _now: Timestamp) {
        let Some(delay) = self.batch.take() else { return };
        self.last = Some(delay);
        let base = self.base().unwrap_or(delay);
        self.current = Duration::from_micros(delay.saturating_sub(base).max(0) as u64);
    }

    /// The delay above the minimum.
    pub const fn current(&self) -> Duration {
        self.current
    }

    /// Takes the present delay as the path's own: sending less did not lower it.
    pub fn rebase(&mut self) {
        self.running = self.last;
        self.before = None;
        self.current = Duration::ZERO;
    }

    fn base(&self) -> Option<i64> {
        [self.running, self.before].into_iter().flatten().min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feed(delay: &mut QueueDelay, ms: u64, path_ms: i64) -> Duration {
        let at = Timestamp::from_millis(ms);
        delay.on_packet(at, at, at.as_micros() as i64 + path_ms * 1_000 - 9_000_000);
        delay.end_of_feedback(at);
        delay.current()
    }

    #[test]
    fn it_is_the_delay_above_the_least_whatever_the_clocks() {
        let mut delay = QueueDelay::new();
        assert_eq!(feed(&mut delay, 0, 50), Duration::ZERO);
        assert_eq!(feed(&mut delay, 50, 80), Duration::from_millis(30));
        assert_eq!(feed(&mut delay, 100, 40), Duration::ZERO);
        assert_eq!(feed(&mut delay, 150, 45), Duration::from_millis(5));
    }

    #[test]
    fn a_longer_route_becomes_the_minimum_in_time() {
        let mut delay = QueueDelay::new();
        feed(&mut delay, 0, 10);
        let mut last = Duration::ZERO;
        for ms in (100..40_000).step_by(100) {
            last = feed(&mut delay, ms, 60);
        }
        assert_eq!(last, Duration::ZERO);
        assert_eq!(feed(&mut delay, 40_100, 90), Duration::from_millis(30));
        delay.rebase();
        assert_eq!(feed(&mut delay, 40_200, 90), Duration::ZERO);
    }
}
