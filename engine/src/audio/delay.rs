//! How late packets come, and so how long the jitter buffer should hold them.
//!
//! A packet's *transit* is its arrival less its RTP time: absolute it means nothing (the clocks have no common origin), but
//! the smallest transit of the last seconds is the path at its best, and what others have above it is jitter. The target is
//! the jitter that all but a few packets stay under. Two windows decide: a long one that remembers rare spikes and a short
//! one that follows a sudden change within a few packets. Because the base is a windowed minimum, drift between the two
//! clocks moves it along.

use halloo_transport::Timestamp;
use std::{collections::VecDeque, time::Duration};

/// Packets that the long window holds at most, and for how long.
const LONG_PACKETS: usize = 400;
const LONG_TIME: Duration = Duration::from_secs(8);
/// Share of packets of the long window that should arrive in time.
const LONG_QUANTILE: f64 = 0.97;
/// Packets of the short window, and the share of them that should arrive in time.
const SHORT_PACKETS: usize = 16;
const SHORT_QUANTILE: f64 = 0.9;
/// Packets closer together than this, whose transit falls by more than this, waited for the same stall; of those at most one in
/// so many of the window is counted.
const BUNCHED: Duration = Duration::from_millis(8);
const BUNCH_SHARE: usize = 50;
/// What is added for the two sides' own scheduling, and the least there is.
const MARGIN_US: i64 = 3_000;
const MIN_TARGET_US: i64 = 5_000;
const MAX_TARGET_US: i64 = 1_000_000;

/// Arrival less RTP time, in microseconds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Transit(pub(crate) i64);

impl Transit {
    /// Of a packet that came at `arrival` with a timestamp of `ticks` at 48 kHz.
    pub(crate) fn new(arrival: Timestamp, ticks: u64) -> Self {
        let media_us = u128::from(ticks) * 125 / 6;
        Self((i128::from(arrival.as_micros()) - media_us as i128) as i64)
    }
}

/// The windows and what follows from them.
#[derive(Debug, Default)]
pub(crate) struct DelayEstimator {
    window: VecDeque<(Timestamp, i64)>,
    scratch: Vec<i64>,
    last: Option<(Timestamp, i64)>,
    bunched: usize,
    base: Option<i64>,
    target_us: i64,
}

impl DelayEstimator {
    /// Takes the transit of a packet, or of the moment at which a lost one could be rebuilt.
    pub(crate) fn record(&mut self, arrival: Timestamp, transit: Transit) {
        if self.repeats_a_stall(arrival, transit) {
            return;
        }
        self.window.push_back((arrival, transit.0));
        while self.window.len() > LONG_PACKETS
            || self.window.front().is_some_and(|(at, _)| arrival.since(*at) > LONG_TIME)
        {
            self.window.pop_front();
        }
        self.update();
    }

    /// Forgets everything: another stream, or the same with another clock.
    pub(crate) fn reset(&mut self) {
        self.window.clear();
        self.last = None;
        self.bunched = 0;
        self.base = None;
        self.target_us = 0;
    }

    /// The transit of the path at its best; `None` before the first packet.
    pub(crate) fn base(&self) -> Option<Transit> {
        self.base.map(Transit)
    }

    /// How far above the base packets should be played.
    pub(crate) fn target(&self) -> Duration {
        Duration::from_micros(self.target_us.clamp(MIN_TARGET_US, MAX_TARGET_US) as u64)
    }

    /// Whether this packet came bunched behind another after a stall and enough of its bunch are counted. One stall makes all
    /// packets of its length late; counted in full, a single one would hold the delay up for as long as the window is.
    fn repeats_a_stall(&mut self, arrival: Timestamp, transit: Transit) -> bool {
        let bunched = self
            .last
            .is_some_and(|(at, before)| arrival.since(at) < BUNCHED && before - transit.0 > BUNCHED.as_micros() as i64);
        self.last = Some((arrival, transit.0));
        self.bunched = if bunched { self.bunched + 1 } else { 0 };
        self.bunched > self.window.len() / BUNCH_SHARE
    }

    fn update(&mut self) {
        let Some(base) = self.window.iter().map(|(_, t)| *t).min() else { return };
        let long = quantile(&mut self.scratch, self.window.iter(), LONG_QUANTILE);
        let short_from = self.window.len().saturating_sub(SHORT_PACKETS);
        let short = quantile(&mut self.scratch, self.window.range(short_from..), SHORT_QUANTILE);
        self.base = Some(base);
        self.target_us = long.max(short) - base + MARGIN_US;
    }
}

/// The value that a share of `quantile` does not exceed, rounded down, so that one outlier among few packets is left out.
fn quantile<'a>(scratch: &mut Vec<i64>, values: impl Iterator<Item = &'a (Timestamp, i64)>, quantile: f64) -> i64 {
    scratch.clear();
    scratch.extend(values.map(|(_, t)| *t));
    let index = (scratch.len().saturating_sub(1) as f64 * quantile).floor() as usize;
    if index >= scratch.len() {
        return 0;
    }
    *scratch.select_nth_unstable(index).1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feed(estimator: &mut DelayEstimator, from: u64, count: u64, jitter_ms: impl Fn(u64) -> u64) {
        for i in from..from + count {
            let arrival = Timestamp::from_millis(1_000 + i * 20 + jitter_ms(i));
            estimator.record(arrival, Transit::new(arrival, (1 << 32) + i * 960));
        }
    }

    #[test]
    fn a_clean_path_asks_for_the_least() {
        let mut estimator = DelayEstimator::default();
        feed(&mut estimator, 0, 500, |_| 0);
        assert_eq!(estimator.target(), Duration::from_millis(5));
    }

    #[test]
    fn target_covers_steady_jitter() {
        let mut estimator = DelayEstimator::default();
        feed(&mut estimator, 0, 500, |i| (i * 8) % 21);
        let target = estimator.target().as_millis();
        assert!((20..=24).contains(&target), "{target}");
    }

    #[test]
    fn one_late_packet_changes_nothing_and_three_in_a_row_do() {
        let mut estimator = DelayEstimator::default();
        feed(&mut estimator, 0, 200, |_| 0);
        feed(&mut estimator, 200, 1, |_| 60);
        assert_eq!(estimator.target(), Duration::from_millis(5));
        feed(&mut estimator, 201, 2, |_| 60);
        assert_eq!(estimator.target(), Duration::from_millis(63));
    }

    #[test]
    fn one_stall_is_forgiven_and_repeated_stalls_are_not() {
        let stall = |i: u64| if (200..220).contains(&i) { (220 - i) * 20 } else { 0 };
        let mut estimator = DelayEstimator::default();
        feed(&mut estimator, 0, 300, stall);
        assert_eq!(estimator.target(), Duration::from_millis(5));
        let mut estimator = DelayEstimator::default();
        feed(&mut estimator, 0, 400, |i| if i % 50 < 10 { (10 - i % 50) * 20 } else { 0 });
        assert!(estimator.target() > Duration::from_millis(80), "{:?}", estimator.target());
    }

    #[test]
    fn a_longer_path_becomes_the_base_in_time() {
        let mut estimator = DelayEstimator::default();
        feed(&mut estimator, 0, 200, |_| 0);
        feed(&mut estimator, 200, 420, |_| 80);
        assert_eq!(estimator.target(), Duration::from_millis(5));
    }

    #[test]
    fn drift_of_500_ppm_is_followed() {
        let mut estimator = DelayEstimator::default();
        feed(&mut estimator, 0, 3_000, |i| i / 100);
        assert!(estimator.target() <= Duration::from_millis(8), "{:?}", estimator.target());
    }
}
