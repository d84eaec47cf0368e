//! Whether the delay grows: a line through the recent delays, against a threshold that adapts (draft-ietf-rmcat-gcc-02,
//! sections 5.3 and 5.4; the line in place of its Kalman filter).

use super::arrival_groups::GroupDelta;
use std::collections::VecDeque;

/// Groups that the line goes through.
const WINDOW: usize = 20;
/// Smoothing of the accumulated delay.
const SMOOTHING: f64 = 0.9;
/// Scale of the slope against the threshold, which is in milliseconds.
const GAIN: f64 = 4.0;
/// Groups beyond which a slope does not weigh more.
const MAX_WEIGHT: usize = 60;
/// The adaptive threshold: start, bounds, and how fast it follows a larger and a smaller trend.
const THRESHOLD: f64 = 12.5;
const THRESHOLD_BOUNDS: (f64, f64) = (6.0, 600.0);
const THRESHOLD_UP: f64 = 0.0087;
const THRESHOLD_DOWN: f64 = 0.039;
/// Trends this far above the threshold are spikes: it does not follow them.
const MAX_ADAPT_OFFSET: f64 = 15.0;
/// How long the trend has to stay above the threshold.
const OVERUSE_TIME_MS: f64 = 10.0;

/// What the trend says about the path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Usage {
    /// Delay neither grows nor falls.
    Normal,
    /// A queue builds up.
    Over,
    /// A queue empties.
    Under,
}

/// Fits the line.
#[derive(Clone, Debug)]
pub struct Trendline {
    /// (arrival time, smoothed accumulated delay), both in milliseconds.
    points: VecDeque<(f64, f64)>,
    accumulated: f64,
    smoothed: f64,
    first_at: Option<f64>,
    groups: usize,
    threshold: f64,
    last_at: f64,
    over_for: f64,
    over_count: u32,
    last_trend: f64,
    usage: Usage,
}

impl Trendline {
    /// No groups yet.
    pub const fn new() -> Self {
        Self {
            points: VecDeque::new(),
            accumulated: 0.0,
            smoothed: 0.0,
            first_at: None,
            groups: 0,
            threshold: THRESHOLD,
            last_at: 0.0,
            over_for: 0.0,
            over_count: 0,
            last_trend: 0.0,
            usage: Usage::Normal,
        }
    }

    /// What the trend says.
    pub const fn usage(&self) -> Usage {
        self.usage
    }

    /// Takes the change between two groups.
    pub fn on_group(&mut self, delta: &GroupDelta) {
        let first = *self.first_at.get_or_insert(delta.at_ms);
        self.groups = (self.groups + 1).min(MAX_WEIGHT);
        self.accumulated += delta.arrived_ms - delta.sent_ms;
        self.smoothed = SMOOTHING * self.smoothed + (1.0 - SMOOTHING) * self.accumulated;
        self.points.push_back((delta.at_ms - first, self.smoothed));
        if self.points.len() > WINDOW {
            self.points.pop_front();
        }
        // With few points a line says nothing; the last trend stands.
        let trend = if self.points.len() < WINDOW / 2 { self.last_trend } else { slope(&self.points) };
        self.detect(trend, delta);
    }

    fn detect(&mut self, trend: f64, delta: &GroupDelta) {
        let scaled = self.groups as f64 * trend * GAIN;
        if scaled > self.threshold {
            self.over_for += delta.sent_ms;
            self.over_count += 1;
            if self.over_for > OVERUSE_TIME_MS && self.over_count > 1 && trend >= self.last_trend {
                self.usage = Usage::Over;
            }
        } else {
            (self.over_for, self.over_count) = (0.0, 0);
            self.usage = if scaled < -self.threshold { Usage::Under } else { Usage::Normal };
        }
        self.last_trend = trend;
        self.adapt(scaled.abs(), delta.at_ms);
    }

    fn adapt(&mut self, trend: f64, at: f64) {
        let elapsed = (at - self.last_at).clamp(0.0, 100.0);
        self.last_at = at;
        if trend > self.threshold + MAX_ADAPT_OFFSET {
            return;
        }
        let speed = if trend < self.threshold { THRESHOLD_DOWN } else { THRESHOLD_UP };
        let (low, high) = THRESHOLD_BOUNDS;
        self.threshold = (self.threshold + speed * (trend - self.threshold) * elapsed).clamp(low, high);
    }
}

impl Default for Trendline {
    fn default() -> Self {
        Self::new()
    }
}

/// The least-squares slope; zero where all points are at one time.
fn slope(points: &VecDeque<(f64, f64)>) -> f64 {
    let n = points.len() as f64;
    let (sum_x, sum_y) = points.iter().fold((0.0, 0.0), |(x, y), p| (x + p.0, y + p.1));
    let (mean_x, mean_y) = (sum_x / n, sum_y / n);
    let (over, under) =
        points.iter().fold((0.0, 0.0), |(a, b), (x, y)| (a + (x - mean_x) * (y - mean_y), b + (x - mean_x).powi(2)));
    if under == 0.0 { 0.0 } else { over / under }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feed(trendline: &mut Trendline, groups: u32, extra: impl Fn(u32) -> f64) -> Vec<Usage> {
        let mut at = trendline.last_at;
        (0..groups)
            .map(|i| {
                let arrived_ms = 20.0 + extra(i);
                at += arrived_ms;
                trendline.on_group(&GroupDelta { sent_ms: 20.0, arrived_ms, at_ms: at });
                trendline.usage()
            })
            .collect()
    }

    #[test]
    fn a_growing_queue_is_overuse_and_an_emptying_one_underuse() {
        let mut trendline = Trendline::new();
        assert!(feed(&mut trendline, 50, |_| 0.0).iter().all(|u| *u == Usage::Normal));
        let rising = feed(&mut trendline, 20, |_| 10.0);
        assert!(rising[..8].contains(&Usage::Over), "{rising:?}");
        let falling = feed(&mut trendline, 40, |_| -8.0);
        assert!(falling.contains(&Usage::Under), "{falling:?}");
    }

    #[test]
    fn jitter_around_a_constant_delay_is_normal() {
        let mut trendline = Trendline::new();
        let usages = feed(&mut trendline, 500, |i| if i % 2 == 0 { 8.0 } else { -8.0 });
        let over = usages.iter().filter(|u| **u == Usage::Over).count();
        assert!(over < 10, "{over}");
    }
}
